"""What must not matter: how rows are cut, padded, ordered and sorted within a step."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlhf_engine import scoring
from rlhf_engine.rollout import cached
from rlhf_engine.stages import dpo, masked_tokens, own_answers, ppo_batch, reward, sft
from rlhf_engine.stages.asking import Respondent
from tests.stages.inputs import Done, Inputs, make_inputs, make_spec, run, same_weights

# fp32 rounding of figures.
FIGURE = 1e-4
CLOCKED = "tokens_per_second"
# Learned absolute positions: a token that moved with its padding would be seen at once.
KIND = "gpt2"

Patch = Callable[[pytest.MonkeyPatch], None]


def pad_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five more columns of padding everywhere, of a token that means something."""

    def right(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
        return padded(sequences, pad_id, left=False)

    def left(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
        return padded(sequences, pad_id, left=True)

    monkeypatch.setattr(cached, "pad_left", left)
    for module in (scoring, masked_tokens, reward):
        monkeypatch.setattr(module, "pad_right", right)


def padded(sequences: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    width = max(len(s) for s in sequences) + 5
    # A mask of zeros says that these are padding; as marks of a loss they say that none counts.
    junk = 77 if pad_id else 0
    rows, masks = [], []
    for s in sequences:
        space = [junk] * (width - len(s))
        rows.append([*space, *s] if left else [*s, *space])
        blank, real = [0] * (width - len(s)), [1] * len(s)
        masks.append(blank + real if left else real + blank)
    return torch.tensor(rows), torch.tensor(masks)


def keep_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sorting by length before the cut into micro-batches."""

    def unsorted(lengths: Sequence[int], rows: Sequence[int], size: int) -> Iterator[list[int]]:
        for start in range(0, len(rows), size):
            yield list(rows[start : start + size])

    for module in (ppo_batch, sft, reward, dpo, own_answers):
        monkeypatch.setattr(module, "micro_batches", unsorted)


def shrink_at(share: float) -> Patch:
    return lambda monkeypatch: monkeypatch.setattr(cached, "SHRINK_AT", share)


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pass


def same(ours: Done, theirs: Done) -> None:
    for a, b in zip(ours.metrics, theirs.metrics, strict=True):
        plain = [{k: v for k, v in x.items() if k != CLOCKED} for x in (a, b)]
        assert plain[0] == pytest.approx(plain[1], rel=FIGURE, abs=1e-5)
    for ours_then, theirs_then in zip(ours.samples, theirs.samples, strict=True):
        by_prompt = [sorted(s, key=lambda x: x.prompt) for s in (ours_then, theirs_then)]
        for x, y in zip(*by_prompt, strict=True):
            assert x.tokens == y.tokens
            for name in ("logp", "ref_logp", "value", "advantage"):
                assert list(getattr(x, name)) == pytest.approx(list(getattr(y, name)), abs=FIGURE)
    same_weights(ours.weights, theirs.weights)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("inputs"), KIND)


@pytest.fixture(scope="module")
def usual(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Done]:
    """Two steps of a stage as its spec says, done once."""
    found: dict[str, Done] = {}

    def done(stage: str, **changes: Any) -> Done:
        key = f"{stage} {changes}"
        if key not in found:
            spec = make_spec(stage, inputs, **changes)
            found[key] = run(spec, tmp_path_factory.mktemp("usual"))
        return found[key]

    return done


@pytest.mark.parametrize(
    ("changes", "patch"),
    [
        pytest.param({"micro_batch_size": 1}, nothing, id="one row at once"),
        pytest.param({"micro_batch_size": 3}, nothing, id="three rows at once"),
        pytest.param({"micro_batch_size": 6}, nothing, id="all rows at once"),
        pytest.param({"sampling": {"batch_size": 1}}, nothing, id="one response sampled at once"),
        pytest.param({"sampling": {"batch_size": 6}}, nothing, id="all responses sampled at once"),
        pytest.param({"sampling": {"merge": False}}, nothing, id="sampled from the adapters"),
        pytest.param({}, shrink_at(0.0), id="finished rows stay"),
        pytest.param(
            {"sampling": {"batch_size": 6}}, shrink_at(1.0), id="finished rows go at once"
        ),
        pytest.param({}, pad_more, id="more padding"),
        pytest.param({}, keep_order, id="not sorted by length"),
    ],
)
def test_ppo_does_not_depend_on_how_its_rows_are_cut_and_padded(
    inputs: Inputs,
    usual: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    patch: Patch,
) -> None:
    expected = usual("ppo")
    assert len({len(sample.tokens) for sample in expected.samples[0]}) >= 3
    patch(monkeypatch)
    same(run(make_spec("ppo", inputs, **changes), tmp_path), expected)


def test_ppo_does_not_depend_on_the_order_of_its_rows(
    inputs: Inputs, usual: Callable[..., Done], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One minibatch, since the seed deals rows to several by their place."""
    expected = usual("ppo", minibatches=1)
    answer = Respondent.answer
    monkeypatch.setattr(Respondent, "answer", lambda *given: answer(*given)[::-1])
    found = run(make_spec("ppo", inputs, minibatches=1), tmp_path)
    assert found.samples[0][0].prompt == expected.samples[0][-1].prompt
    same(found, expected)


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
@pytest.mark.parametrize(
    ("size", "patch"),
    [
        pytest.param(1, nothing, id="one row at once"),
        pytest.param(3, nothing, id="three rows at once"),
        pytest.param(5, nothing, id="all rows at once"),
        pytest.param(2, pad_more, id="more padding"),
        pytest.param(2, keep_order, id="not sorted by length"),
    ],
)
def test_tuning_does_not_depend_on_how_its_rows_are_cut_and_padded(
    inputs: Inputs,
    usual: Callable[..., Done],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    size: int,
    patch: Patch,
) -> None:
    expected = usual(stage, eval_rows=1)
    patch(monkeypatch)
    spec = make_spec(stage, inputs, eval_rows=1, batches={"micro_batch_size": size})
    same(run(spec, tmp_path), expected)
