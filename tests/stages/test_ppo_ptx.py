"""PPO-ptx: PPO's gradient plus that of supervised fine-tuning, and nothing where it is off."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_engine.data.formats import conversations
from rlhf_engine.data.sources import read_rows
from rlhf_engine.data.tokens import Encoded, encode_conversation
from rlhf_engine.model.base import load_base, resolve_source
from rlhf_engine.model.roles import Roles
from rlhf_engine.optimizer import AdapterOptimizer
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state
from rlhf_engine.stages import ppo_ptx
from rlhf_engine.stages.rows import data_path
from tests.stages.inside import Inside, failing_pass

ROWS = 10
SFT = """
stage = "sft"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "builtin:demo-demonstrations"
max_rows = 16
max_tokens = 96
[lora]
r = 4
[sft.batches]
batch_size = 8
max_steps = 2
[sft.optimizer]
lr = 0.05
"""
PPO = """
stage = "ppo"
policy = "run:SFT"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "builtin:demo-prompts"
max_rows = 40
max_prompt_tokens = 24
[reward]
score = "rule:vowels"
[checkpoints]
every = 2
[ppo]
steps = 4
batch_size = 8
epochs = 2
minibatches = 2
micro_batch_size = 3
missing_eos = "none"
[ppo.sampling]
max_new_tokens = 10
[ppo.optimizer]
lr = 0.005
"""
PTX = [
    "ppo.ptx.data.path=builtin:demo-demonstrations",
    f"ppo.ptx.data.max_rows={ROWS}",
    "ppo.ptx.data.max_tokens=240",
    "ppo.ptx.batch_size=4",
]
COEF = 0.7


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    return Inside(tmp_path_factory.mktemp("ptx") / "home")


@pytest.fixture(scope="module")
def sft(inside: Inside) -> RunDir:
    preset = inside.home / "sft.toml"
    preset.write_text(SFT)
    return inside.run(preset)


@pytest.fixture(scope="module")
def ppo(inside: Inside, sft: RunDir) -> Path:
    preset = inside.home / "ppo.toml"
    preset.write_text(PPO.replace("SFT", sft.id))
    return preset


def finished(inside: Inside, run: RunDir) -> RunDir:
    assert run_state(run).word == "done", run_state(run).detail
    assert inside.warnings(run) == []
    return run


def equal(inside: Inside, a: RunDir, b: RunDir) -> bool:
    ours, theirs = inside.weights(a), inside.weights(b)
    return all(torch.equal(ours[name], theirs[name]) for name in theirs | ours)


def test_a_coefficient_of_zero_changes_nothing(inside: Inside, ppo: Path) -> None:
    plain = finished(inside, inside.run(ppo))
    off = finished(inside, inside.run(ppo, *PTX))
    on = finished(inside, inside.run(ppo, *PTX, f"ppo.ptx_coef={COEF}"))
    assert inside.figures(off) == inside.figures(plain)
    assert equal(inside, off, plain)
    assert not equal(inside, on, plain)
    assert all("ptx_loss" in figures for figures in inside.figures(on))


def first_gradients(
    inside: Inside, preset: Path, *overrides: str
) -> tuple[dict[str, list[Tensor]], RunDir]:
    """Gradients of policy and value in the first update of a run, and the run."""
    found: dict[str, list[Tensor]] = {}

    def update(self: AdapterOptimizer, lr: float, max_grad_norm: float) -> float:
        if not found:
            for role, group in zip(("policy", "value"), self._groups, strict=True):
                found[role] = [p.grad.clone() for p in group if p.grad is not None]
        return plain(self, lr, max_grad_norm)

    plain = AdapterOptimizer.update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AdapterOptimizer, "update", update)
        run = finished(inside, inside.run(preset, *overrides))
    return found, run


def all_conversations(roles: Roles, home: Path) -> list[Encoded]:
    path = data_path("builtin:demo-demonstrations", home)
    items, _ = conversations(read_rows(path, split="train", limit=ROWS), "auto")
    rows = [encode_conversation(roles.base.tokenizer, i.messages, 240, 512) for i in items]
    assert len({tuple(row.ids) for row in rows if any(row.loss_mask)}) == ROWS
    return rows


def cross_entropy(roles: Roles, rows: list[Encoded]) -> Tensor:
    """Token by token from whole logits: the mean over every token the assistant said."""
    losses: list[Tensor] = []
    for row in rows:
        with roles.using("policy"):
            logits = roles.base.model(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0]
        losses += [
            -torch.log_softmax(logits[place - 1], -1)[row.ids[place]]
            for place in range(1, len(row.ids))
            if row.loss_mask[place]
        ]
    return torch.stack(losses).mean()


def test_the_gradient_is_ppos_plus_the_coefficient_times_that_of_sft(
    inside: Inside, ppo: Path, sft: RunDir
) -> None:
    """All rows in one update, so that which rows it takes does not matter here."""
    short = ["ppo.steps=1", "ppo.epochs=1", "ppo.minibatches=1", *PTX[:3]]
    plain, _ = first_gradients(inside, ppo, *short)
    extra = (f"ppo.ptx.batch_size={ROWS}", f"ppo.ptx_coef={COEF}")
    mixed, run = first_gradients(inside, ppo, *short, *extra)

    spec = sft.spec()
    source = resolve_source(f"run:{sft.id}", inside.home, lambda _: None)
    roles = Roles(load_base(source, spec.model, torch.device("cpu")))
    assert source.adapter is not None
    roles.add_from("policy", source.adapter)
    roles.freeze("policy")
    loss = cross_entropy(roles, all_conversations(roles, inside.home))
    loss.backward()
    expected = [p.grad for p in roles.trained("policy")]
    assert len(expected) == len(mixed["policy"])
    for ours, before, added in zip(mixed["policy"], plain["policy"], expected, strict=True):
        assert added is not None
        assert added.any()
        torch.testing.assert_close(ours, before + COEF * added, rtol=1e-4, atol=1e-6)
    assert all(map(torch.equal, mixed["value"], plain["value"]))
    assert inside.figures(run)[0]["ptx_loss"] == pytest.approx(float(loss), rel=1e-5)


def test_a_resumed_run_takes_the_same_rows(inside: Inside, ppo: Path) -> None:
    on = (*PTX, f"ppo.ptx_coef={COEF}", "ppo.ptx.batch_size=3")
    undisturbed = finished(inside, inside.run(ppo, *on))

    def ends(role: str, _: Tensor) -> bool:
        return role == "reference"

    with failing_pass(RuntimeError("the power went"), ends, 11):
        run = inside.run(ppo, *on)
    assert run_state(run).word == "failed"
    assert 2 <= run_state(run).step < 4
    inside.go_on(run)
    assert run_state(run).word == "done", run_state(run).detail
    assert inside.figures(run) == inside.figures(undisturbed)
    assert equal(inside, run, undisturbed)


def test_every_row_has_its_turn_before_one_comes_again(
    inside: Inside, ppo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 updates of 5 rows out of 10: eight times each, in another order every time."""
    taken: list[tuple[int, ...]] = []

    def noted(roles: Roles, batch: list[Encoded]) -> Tensor:
        taken.extend(tuple(item.ids) for item in batch)
        return plain(roles, batch)

    plain = ppo_ptx.log_likelihood
    monkeypatch.setattr(ppo_ptx, "log_likelihood", noted)
    on = (*PTX, f"ppo.ptx_coef={COEF}", "ppo.ptx.batch_size=5", "ppo.micro_batch_size=1")
    finished(inside, inside.run(ppo, *on))
    assert len(taken) == 16 * 5
    passes = [taken[i : i + ROWS] for i in range(0, len(taken), ROWS)]
    assert all(len(set(rows)) == ROWS for rows in passes)
    halves = {frozenset(rows[: ROWS // 2]) for rows in passes}
    assert len(halves) > 4
