"""Memory that runs out at any point of a step: the run goes on as if it had begun smaller."""

import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_engine.fitting import Sizes, out_of_memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.presets import load_preset
from rlhf_engine.memory import peak_memory
from rlhf_engine.progress import Reporter
from rlhf_engine.runs.checkpoints import folder_of
from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.state import run_state
from rlhf_engine.runs.writer import StoreWriter
from tests.stages.inside import (
    Chosen,
    Inside,
    failing_generation,
    failing_paged_cache,
    failing_pass,
)

CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 1 bytes. Error code 12 (Cannot allocate memory)"
)

REWARD = """
stage = "reward"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "PAIRS"
eval_rows = 6
[lora]
r = 4
[reward.batches]
batch_size = 8
micro_batch_size = 4
max_steps = 3
eval_every = 1
[reward.optimizer]
lr = 0.01
"""
DPO = REWARD.replace("reward", "dpo") + "[dpo]\nsample_prompts = 0\n"
SFT = """
stage = "sft"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "builtin:demo-demonstrations"
max_rows = 30
eval_rows = 6
max_tokens = 96
[lora]
r = 4
[sft.batches]
batch_size = 8
micro_batch_size = 4
max_steps = 3
eval_every = 1
[sft.optimizer]
lr = 0.01
"""
PPO = """
stage = "ppo"
policy = "builtin:tiny-llama"
device = "cpu"
threads = 1
[model]
dtype = "fp32"
[data]
path = "builtin:demo-prompts"
max_rows = 40
eval_rows = 4
max_prompt_tokens = 24
[reward]
score = "REWARD"
[lora]
r = 4
[ppo]
steps = 3
batch_size = 8
epochs = 2
minibatches = 2
micro_batch_size = 2
missing_eos = "none"
eval_every = 1
[ppo.sampling]
max_new_tokens = 10
batch_size = 4
[ppo.optimizer]
lr = 0.005
[ppo.ptx]
coef = 0.2
batch_size = 4
[ppo.ptx.data]
path = "builtin:demo-demonstrations"
max_rows = 20
max_tokens = 64
"""


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    return Inside(tmp_path_factory.mktemp("fitting") / "home")


@pytest.fixture(scope="module")
def presets(inside: Inside) -> dict[str, Path]:
    """A preset of every training stage; the PPO run reads the reward run made here."""
    letters = "abcdefghijklmnop"
    lines = [
        f'{{"prompt": "say {c}", "chosen": "{c * 9} yes", "rejected": "no {c * (3 + i)}"}}'
        for i, c in enumerate(letters)
    ]
    pairs = inside.home / "pairs.jsonl"
    pairs.write_text("\n".join(lines))
    found = {name: inside.home / f"{name}.toml" for name in ("reward", "dpo", "sft", "ppo")}
    found["reward"].write_text(REWARD.replace("PAIRS", str(pairs)))
    found["dpo"].write_text(DPO.replace("PAIRS", str(pairs)))
    found["sft"].write_text(SFT)
    reward = inside.run(found["reward"])
    assert run_state(reward).word == "done", run_state(reward).detail
    found["ppo"].write_text(PPO.replace("REWARD", f"run:{reward.id}"))
    return found


@pytest.fixture(scope="module")
def calm(inside: Inside, presets: dict[str, Path]) -> dict[str, RunDir]:
    return {stage: inside.run(preset) for stage, preset in presets.items()}


def trains(*roles: str) -> Chosen:
    return lambda role, _: role in roles and torch.is_grad_enabled()


def scores(*roles: str) -> Chosen:
    return lambda role, _: role in roles and not torch.is_grad_enabled()


def same(inside: Inside, run: RunDir, calm: RunDir) -> None:
    """Metrics and final weights, but for the rounding of other micro-batches."""
    assert run_state(run).word == "done", run_state(run).detail
    for found, expected in zip(inside.figures(run), inside.figures(calm), strict=True):
        for figures in (found, expected):
            # Counts the tokens where rounding alone puts the clipped error above the plain one.
            figures.pop("value_clip_fraction", None)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    weights, expected_weights = inside.weights(run), inside.weights(calm)
    assert weights.keys() == expected_weights.keys()
    for name, tensor in expected_weights.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-3, atol=1e-5)


# In each step of this PPO run 8 rows make 4 micro-batches of scoring, and 2 epochs of 2
# minibatches with 2 micro-batches each make 8 of training.
POINTS = {
    "generate": (failing_generation(CUDA, 1), "generate of step 1 redone with 2"),
    "judge": (failing_pass(CUDA, scores("reward"), 2), "judge of step 1 redone with 1"),
    "measure": (failing_pass(CPU, scores("reference"), 3), "measure of step 1 redone with 1"),
    "first minibatch": (
        failing_pass(CUDA, trains("value"), 8 + 1),
        "update of step 2 redone with 1",
    ),
    "later minibatch": (
        failing_pass(MemoryError(), trains("value"), 8 + 5),
        "update of step 2 redone with 1",
    ),
    "held-out generation": (failing_generation(CUDA, 2), "generate of step 1 redone with 2"),
}


@pytest.mark.parametrize("point", POINTS)
def test_ppo_goes_on_where_memory_ran_out(
    inside: Inside, presets: dict[str, Path], calm: dict[str, RunDir], point: str
) -> None:
    failing, text = POINTS[point]
    with failing:
        run = inside.run(presets["ppo"])
    (warning,) = inside.warnings(run)
    assert text in warning
    same(inside, run, calm["ppo"])
    assert all(figures["first_ratio_error"] <= 1e-5 for figures in inside.figures(run))


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
@pytest.mark.parametrize("held_out", [False, True])
def test_training_goes_on_where_memory_ran_out(
    inside: Inside,
    presets: dict[str, Path],
    calm: dict[str, RunDir],
    stage: str,
    held_out: bool,
) -> None:
    """In the second micro-batch: the first has left gradients that must not count twice."""
    role = "reward" if stage == "reward" else "policy"
    chosen = scores(role) if held_out else trains(role)
    with failing_pass(CUDA, chosen, 1):
        run = inside.run(presets[stage])
    phase = "evaluate" if held_out else "train"
    assert inside.warnings(run) == [
        f"out of memory with micro_batch_size 4: {phase} of step 1 redone with 2; set "
        f"{stage}.batches.micro_batch_size=2 to start with it"
    ]
    same(inside, run, calm[stage])


def test_the_first_ratio_stays_one_in_bf16(inside: Inside, presets: dict[str, Path]) -> None:
    with failing_pass(CUDA, trains("policy"), 1):
        run = inside.run(presets["ppo"], "model.dtype=bf16", "ppo.micro_batch_size=4")
    (warning,) = inside.warnings(run)
    assert "update of step 1 redone with 2" in warning
    assert [figures["first_ratio_error"] for figures in inside.figures(run)] == [0.0] * 3


def test_sizes_shrink_as_far_as_it_takes(
    inside: Inside, presets: dict[str, Path], calm: dict[str, RunDir]
) -> None:
    """A device that holds two rows at once, whatever is done with them."""

    def too_large(_: str, ids: Tensor) -> bool:
        return len(ids) > 2

    with failing_pass(CUDA, too_large, 0, times=1000):
        run = inside.run(presets["ppo"], "ppo.micro_batch_size=16")
    assert [text.split(":")[0] for text in inside.warnings(run)] == [
        f"out of memory with micro_batch_size {rows}" for rows in (16, 8, 4)
    ]
    same(inside, run, calm["ppo"])


def test_one_row_that_does_not_fit_ends_the_run_with_remedies(
    inside: Inside, presets: dict[str, Path]
) -> None:
    with failing_pass(CUDA, trains("policy"), 0, times=1000):
        run = inside.run(presets["sft"], "model.gradient_checkpointing=true")
    state = run_state(run)
    assert state.word == "failed"
    assert state.detail == (
        "out of memory in step 1 (train) with sft.batches.micro_batch_size=1; the cheapest "
        "remedies: model.dtype=bf16 (coarser rounding), sft.optimizer.eight_bit=true (coarser "
        "moments), model.quantization=nf4 (a coarser base)"
    )


def test_a_paged_cache_shrinks_too(
    inside: Inside, presets: dict[str, Path], calm: dict[str, RunDir]
) -> None:
    with failing_paged_cache(0):
        run = inside.run(presets["ppo"], "ppo.sampling.backend=continuous")
    (warning,) = inside.warnings(run)
    assert "out of memory with sampling.batch_size 4: generate of step 1 redone with 2" in warning
    same(inside, run, calm["ppo"])


def test_a_paged_cache_that_holds_not_one_row_ends_the_run_with_remedies(
    inside: Inside, presets: dict[str, Path]
) -> None:
    with failing_paged_cache(0, times=1000):
        run = inside.run(presets["ppo"], "ppo.sampling.backend=continuous")
    detail = run_state(run).detail
    assert "with ppo.sampling.batch_size=1; the cheapest remedies: " in detail
    assert "model.dtype=bf16" in detail


def test_a_base_that_does_not_fit_ends_the_run_with_what_shrinks_it(
    inside: Inside, presets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smaller batches, checkpointing or a smaller optimizer would not."""

    def load(*_: object) -> None:
        raise CUDA

    monkeypatch.setattr("rlhf_engine.stages.build.load_base", load)
    run = inside.run(presets["ppo"])
    state = run_state(run)
    assert state.word == "failed"
    assert state.detail.startswith("out of memory while loading ")
    assert state.detail.endswith(
        "; the cheapest remedies: model.dtype=bf16 (coarser rounding), model.quantization=int8 "
        "(a slightly coarser base), model.quantization=nf4 (a coarser base), a smaller base model"
    )


def test_other_errors_are_not_tried_again(inside: Inside, presets: dict[str, Path]) -> None:
    with failing_pass(RuntimeError("shapes differ"), trains("policy"), 0, times=1):
        run = inside.run(presets["sft"])
    assert run_state(run).word == "failed"
    assert "shapes differ" in run_state(run).detail
    assert inside.warnings(run) == []


def sizes_of(path: Path) -> Sizes:
    store = StoreWriter(path)
    return Sizes(
        load_preset("smoke").stages[0], store, Reporter(store, lambda: False, peak_memory("cpu"))
    )


def test_a_resumed_run_has_the_sizes_that_it_had_at_each_step(tmp_path: Path) -> None:
    first = sizes_of(tmp_path / "run.db")
    attempts: list[int] = []

    def work() -> int:
        attempts.append(first.micro_batch)
        if first.micro_batch > 4:
            raise MemoryError
        return first.micro_batch

    assert first.fit_step(7, work) == 4
    assert attempts == [16, 8, 4]
    resumed = sizes_of(tmp_path / "run.db")
    for step, rows in ((0, 16), (6, 16), (7, 4), (30, 4)):
        resumed.begin(step)
        assert (resumed.micro_batch, resumed.sampling) == (rows, 64)


def test_a_part_that_lacked_memory_leaves_the_parts_before_it_as_they_were(tmp_path: Path) -> None:
    """Done again after a kill, each part of the step has the rows that it had."""
    room = [16, 16, 8, 8]

    def step(sizes: Sizes) -> list[int]:
        """Four parts; the third one first finds that there is no more room for 16 rows."""

        def part(limit: int) -> int:
            if sizes.micro_batch > limit:
                raise MemoryError
            return sizes.micro_batch

        return [sizes.fit(lambda limit=limit: part(limit)) for limit in room]

    first = sizes_of(tmp_path / "run.db")
    assert first.fit_step(5, lambda: step(first)) == room
    room = [16, 16, 16, 16]
    again = sizes_of(tmp_path / "run.db")
    assert again.fit_step(5, lambda: step(again)) == [16, 16, 8, 8]
    assert again.fit_step(6, lambda: step(again)) == [8, 8, 8, 8]


def test_what_a_question_lacks_in_memory_changes_no_step(tmp_path: Path) -> None:
    sizes = sizes_of(tmp_path / "run.db")

    def work() -> int:
        if sizes.micro_batch > 4:
            raise MemoryError
        return sizes.micro_batch

    sizes.begin(3)
    with sizes.apart():
        assert sizes.fit(work) == 4
    assert sizes.micro_batch == 16
    assert sizes_of(tmp_path / "run.db").fit_step(4, lambda: sizes.micro_batch) == 16


def test_a_step_done_again_after_a_lack_of_memory_is_the_same_bit_for_bit(
    inside: Inside, presets: dict[str, Path]
) -> None:
    with failing_pass(MemoryError(), trains("value"), 8 + 5):
        run = inside.run(presets["ppo"], "checkpoints.every=1")
    figures, weights = inside.figures(run), inside.weights(run)
    for step in (2, 3):
        shutil.rmtree(folder_of(run.checkpoints, step))
    inside.go_on(run)
    assert "step-000003: its folder is missing; going on from step 1" in inside.warnings(run)[1]
    assert inside.figures(run) == figures
    again = inside.weights(run)
    assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_a_failed_attempt_is_gone_before_the_next_one(tmp_path: Path) -> None:
    """What the failed attempt held must not be alive while the smaller one is tried."""

    class Holder:
        pass

    sizes = sizes_of(tmp_path / "run.db")
    held: list[weakref.ref[Holder]] = []

    def work() -> None:
        assert all(ref() is None for ref in held)
        large = Holder()
        held.append(weakref.ref(large))
        if len(held) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    sizes.fit_step(1, work)
    assert len(held) == 3


def test_what_counts_as_out_of_memory() -> None:
    for fault in (CUDA, CPU, MemoryError(), RuntimeError("std::bad_alloc")):
        assert out_of_memory(fault)
    for fault in (RuntimeError("size mismatch"), ValueError("memory"), SpecError("memory")):
        assert not out_of_memory(fault)


def test_what_fails_because_memory_ran_out_counts_too() -> None:
    """Such as the end of a CUDA graph's capture, which is raised over the cause."""
    with pytest.raises(RuntimeError) as caught, ends_badly():
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught, ends_badly():
        raise ValueError("shapes differ")
    assert not out_of_memory(caught.value)


@contextmanager
def ends_badly() -> Iterator[None]:
    try:
        yield
    finally:
        raise RuntimeError("operation failed due to a previous error during capture")
