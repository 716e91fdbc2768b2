"""No stage ever makes a tensor of all its tokens times the vocabulary."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlhf_engine.job.knobs import knob_values
from rlhf_engine.model.roles import Roles
from rlhf_engine.progress import Reporter
from rlhf_engine.rl.logprobs import CHUNK_ROWS, TokenLogProbs
from rlhf_engine.scoring import Pack
from rlhf_engine.stages import masked_tokens, ppo_update
from tests.stages.inputs import Inputs, build, make_inputs, make_spec

# A prime, and no other size in these models: a tensor whose elements are a multiple of it ranges
# over the vocabulary, flattened or not.
VOCABULARY = 263
SAMPLED_AT_ONCE = 12


class Phases(Reporter):
    """Knows which phase a stage is in."""

    now = "outside"

    @contextmanager
    def phase(
        self, name: str, total: float | None = None, unit: str = ""
    ) -> Iterator[Callable[[float], None]]:
        with super().phase(name, total, unit) as progress:
            Phases.now = name
            try:
                yield progress
            finally:
                Phases.now = "outside"


class VocabularyRows(TorchDispatchMode):
    """Counts, by phase, the rows of the largest new tensor that ranges over the vocabulary."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: dict[str, int] = defaultdict(int)
        self._weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if not isinstance(leaf, Tensor) or self._is_weight(leaf):
                continue
            rows, rest = divmod(leaf.numel(), VOCABULARY)
            if rows and not rest:
                self.rows[Phases.now] = max(self.rows[Phases.now], rows)
        return result

    def _is_weight(self, tensor: Tensor) -> bool:
        """Views of the head and the embedding are the base itself."""
        return tensor.untyped_storage().data_ptr() in self._weights


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Responses run to their full length: no end token but the tokenizer's own."""
    folder = tmp_path_factory.mktemp("inputs")
    return make_inputs(folder, ends=(), vocabulary=VOCABULARY)


def rows_of_a_step(stage: str, inputs: Inputs, home: Path, **changes: Any) -> dict[str, int]:
    return rows_and_metrics(stage, inputs, home, **changes)[0]


def rows_and_metrics(
    stage: str, inputs: Inputs, home: Path, **changes: Any
) -> tuple[dict[str, int], Mapping[str, float]]:
    spec = make_spec(stage, inputs, **changes)
    built = build(spec, home, Phases)
    with VocabularyRows(built._roles.base.model) as seen:  # type: ignore[attr-defined]
        record = built.step(1, knob_values(spec))
    return dict(seen.rows), record.metrics


BIG_PPO = {
    "batch_size": 16,
    "epochs": 1,
    "minibatches": 1,
    "micro_batch_size": 16,
    "sampling": {"max_new_tokens": 16, "batch_size": SAMPLED_AT_ONCE},
}


@pytest.mark.parametrize("more", [{}, {"value": "shared"}, {"advantage": "rloo"}])
def test_ppo(inputs: Inputs, tmp_path: Path, more: dict[str, Any]) -> None:
    rows = rows_of_a_step("ppo", inputs, tmp_path, **BIG_PPO, **more)
    chunks = {"measure": CHUNK_ROWS, "update": CHUNK_ROWS}
    assert rows == {"generate": SAMPLED_AT_ONCE, **chunks}


@pytest.mark.parametrize("backend", ["cached", "static"])
def test_ppo_with_conversations_and_held_out_prompts(
    inputs: Inputs, tmp_path: Path, backend: str
) -> None:
    ptx = {"coef": 0.5, "batch_size": 40, "data": {"path": str(inputs.rows)}}
    sampling = {**BIG_PPO["sampling"], "backend": backend}
    changes = {**BIG_PPO, "sampling": sampling, "ptx": ptx, "eval_every": 1}
    rows, metrics = rows_and_metrics("ppo", inputs, tmp_path, eval_rows=2, **changes)
    assert {"ptx_loss", "eval_score"} <= metrics.keys()
    chunks = {"measure": CHUNK_ROWS, "update": CHUNK_ROWS}
    assert rows == {"generate": SAMPLED_AT_ONCE, **chunks}


def test_sft(inputs: Inputs, tmp_path: Path) -> None:
    batches = {"batch_size": 40, "micro_batch_size": 40}
    rows = rows_of_a_step("sft", inputs, tmp_path, eval_rows=1, batches=batches)
    assert rows.keys() == {"train", "evaluate"}
    assert rows["train"] == CHUNK_ROWS
    assert rows["evaluate"] <= CHUNK_ROWS


def test_reward(inputs: Inputs, tmp_path: Path) -> None:
    assert rows_of_a_step("reward", inputs, tmp_path, eval_rows=1) == {}


def test_dpo(inputs: Inputs, tmp_path: Path) -> None:
    batches = {"batch_size": 12, "micro_batch_size": 12}
    rows = rows_of_a_step("dpo", inputs, tmp_path, eval_rows=1, batches=batches)
    assert rows.keys() == {"generate", "measure", "train", "evaluate"}
    assert rows["train"] == CHUNK_ROWS
    assert max(rows.values()) == CHUNK_ROWS


def whole_logits(roles: Roles, hidden: Tensor, block: Pack, temperature: float) -> TokenLogProbs:
    """The usual way: logits of every position of every row."""
    with roles.using("policy"):
        logits = roles.base.model(input_ids=block.ids, use_cache=False).logits
    logp = (logits / temperature).log_softmax(-1).flatten(0, 1)[block.before]
    entropy = -(logp.exp() * logp).sum(-1)
    return TokenLogProbs(logp.gather(-1, block.targets[:, None])[:, 0], entropy.detach())


def flat_logits(roles: Roles, hidden: Tensor, block: Pack, temperature: float) -> TokenLogProbs:
    """A fused kernel's way: one long row of all tokens' logits; nothing has the vocabulary's size.

    Only what it allocates matters here, so that its numbers are right for a head of zeros alone.
    """
    count = len(block.targets)
    flat = torch.zeros(count * VOCABULARY)
    logp = hidden.sum() * 0 - flat.exp().sum().div(count).log()
    return TokenLogProbs(logp.expand(count), torch.zeros(count))


@pytest.mark.parametrize("way", [whole_logits, flat_logits])
def test_the_usual_way_would_be_seen(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Callable[..., Any]
) -> None:
    monkeypatch.setattr(ppo_update, "response_logprobs", way)
    rows = rows_of_a_step("ppo", inputs, tmp_path, **BIG_PPO)
    assert rows["measure"] == CHUNK_ROWS
    assert rows["update"] >= 16 * 16


def test_a_backward_pass_is_watched_too(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunked forward pass whose backward pass is not chunked."""

    class Sly(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logp: Tensor) -> Tensor:
            return logp.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad[:, None].expand(-1, VOCABULARY).contiguous()[:, 0]

    honest = masked_tokens.token_logprobs

    def sly(*args: Any, **options: Any) -> TokenLogProbs:
        found = honest(*args, **options)
        return TokenLogProbs(Sly.apply(found.logp), found.entropy)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(masked_tokens, "token_logprobs", sly)
    batches = {"batch_size": 40, "micro_batch_size": 40}
    assert (
        rows_of_a_step("sft", inputs, tmp_path, eval_rows=1, batches=batches)["train"] > CHUNK_ROWS
    )
