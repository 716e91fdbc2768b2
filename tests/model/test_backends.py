"""Every way to sample gives the same responses, and leaves nothing behind."""

import gc
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.generation.continuous_batching.cache import PagedAttentionCache

from rlhf_engine import memory
from rlhf_engine.fitting import out_of_memory
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.footprint import COLUMNS
from rlhf_engine.job.sections import Lora, Sampling
from rlhf_engine.model.roles import Roles
from rlhf_engine.rollout import (
    CachedRollout,
    Response,
    RolloutBackend,
    continuous,
    make_backend,
)
from rlhf_engine.rollout.choice import StaticWhereItFits
from rlhf_engine.rollout.continuous import ContinuousRollout
from rlhf_engine.rollout.static import LOOK_EVERY, StaticRollout
from tests.model.test_roles import stir
from tests.model.test_rollout import PROMPTS, quiet
from tests.tiny import KINDS, tiny_base

Make = Callable[[Roles, int, bool], RolloutBackend]
BACKENDS: list[Make] = [CachedRollout, StaticRollout, ContinuousRollout]
OTHERS = BACKENDS[1:]
NOISE = torch.rand((len(PROMPTS), 40), generator=torch.Generator().manual_seed(1))


def ragged_roles(folder: Path, kind: str = "llama") -> Roles:
    """One token in eight ends a response."""
    base = tiny_base(folder, kind)
    roles = Roles(replace(base, eos_ids=(*base.eos_ids, *range(64, 96))))
    for role in ("policy", "other"):
        roles.add_new(role, Lora(r=4, alpha=8), 0)
    stir(roles)
    return roles


def sampled(backend: RolloutBackend, role: str = "policy", heat: float = 1.3) -> list[Response]:
    return backend.sample(role, PROMPTS, NOISE, heat, quiet)


def assert_same(found: list[Response], expected: list[Response]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert (a.prompt, a.tokens, a.finished) == (b.prompt, b.tokens, b.finished)
        assert a.sampled_logp == pytest.approx(b.sampled_logp, abs=1e-5)


@pytest.mark.parametrize("make", OTHERS)
@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree(tmp_path: Path, kind: str, make: Make) -> None:
    roles = ragged_roles(tmp_path, kind)
    for role in ("policy", "bare"):
        expected = sampled(CachedRollout(roles, 6, True), role)
        assert_same(sampled(make(roles, 6, True), role), expected)
        # Adapters beside the base, more prompts than places: refilled, or batch after batch.
        assert_same(sampled(make(roles, 4, False), role), expected)


def test_the_comparison_has_ragged_ends(tmp_path: Path) -> None:
    found = sampled(CachedRollout(ragged_roles(tmp_path), 6, True))
    spoken = sorted(len(response.tokens) for response in found)
    assert spoken[0] < LOOK_EVERY < spoken[-1]
    assert any(response.finished for response in found)


@pytest.mark.parametrize("make", BACKENDS)
def test_a_rollout_repeats_itself_bit_for_bit(tmp_path: Path, make: Make) -> None:
    roles = ragged_roles(tmp_path)
    backend = make(roles, 4, True)
    first = sampled(backend)
    sampled(backend, "other")
    assert sampled(backend) == first
    assert sampled(make(roles, 4, True)) == first


@pytest.mark.parametrize("make", BACKENDS)
@pytest.mark.parametrize("merge", [True, False])
def test_a_backend_follows_the_weights_the_role_and_the_heat(
    tmp_path: Path, make: Make, merge: bool
) -> None:
    roles = ragged_roles(tmp_path)
    backend = make(roles, 6, merge)
    seen = [sampled(backend), sampled(backend, "other"), sampled(backend, heat=0.5)]
    stir(roles, seed=1)
    assert_same(sampled(backend), sampled(CachedRollout(roles, 6, False)))
    seen.append(sampled(backend))
    tokens = [[response.tokens for response in responses] for responses in seen]
    assert all(a != b for i, a in enumerate(tokens) for b in tokens[:i])


@pytest.mark.parametrize("make", BACKENDS)
def test_gradient_checkpointing_is_off_while_sampling_and_on_again_after(
    tmp_path: Path, make: Make
) -> None:
    roles = ragged_roles(tmp_path)
    expected = sampled(make(roles, 6, True))
    roles.base.model.gradient_checkpointing_enable()
    marked = [m for m in roles.base.model.modules() if getattr(m, "gradient_checkpointing", False)]
    during: set[bool] = set()
    roles.backbone.register_forward_pre_hook(
        lambda *_: during.update(bool(m.gradient_checkpointing) for m in marked)
    )
    assert sampled(make(roles, 6, True)) == expected
    assert during == {False}
    assert marked
    assert all(m.gradient_checkpointing for m in marked)


@pytest.mark.parametrize("make", BACKENDS)
def test_every_backend_refuses_training_mode(tmp_path: Path, make: Make) -> None:
    roles = ragged_roles(tmp_path)
    roles.base.model.train()
    with pytest.raises(RuntimeError, match="eval"):
        sampled(make(roles, 6, True))


def test_continuous_batching_leaves_nothing_behind(tmp_path: Path) -> None:
    roles = ragged_roles(tmp_path)
    before = set(threading.enumerate()), torch.get_rng_state()
    sampled(ContinuousRollout(roles, 4, True))
    assert set(threading.enumerate()) <= before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert roles.base.model.config._attn_implementation == "eager"
    assert not roles.base.model.training
    assert not [found for found in gc.get_objects() if isinstance(found, PagedAttentionCache)]


def test_an_error_in_the_librarys_thread_comes_out_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = ragged_roles(tmp_path)
    backend = ContinuousRollout(roles, 4, True)
    expected, before = sampled(backend), set(threading.enumerate())

    def broken(*_: object) -> None:
        raise torch.OutOfMemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(continuous, "draw", broken)
        with pytest.raises(torch.OutOfMemoryError, match="no room"):
            sampled(backend)
    assert set(threading.enumerate()) <= before
    assert roles.base.model.config._attn_implementation == "eager"
    assert sampled(backend) == expected


def test_a_paged_cache_that_cannot_fit_counts_as_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the step is done again with fewer rows; the rollout after it is as ever."""
    roles = ragged_roles(tmp_path)
    backend = ContinuousRollout(roles, 4, True)
    expected, before = sampled(backend), set(threading.enumerate())
    with monkeypatch.context() as patch:
        patch.setattr(PagedAttentionCache, "__init__", _no_memory)
        with pytest.raises(MemoryError) as caught:
            sampled(backend)
    assert out_of_memory(caught.value)
    assert set(threading.enumerate()) <= before
    backend.batch_size = 2
    assert_same(sampled(backend), expected)


def _no_memory(*_: object, **__: object) -> None:
    raise MemoryError("more than available memory")


def test_static_buffers_shrink_to_powers_of_two_and_stay_where_they_are(tmp_path: Path) -> None:
    roles = ragged_roles(tmp_path)
    backend = StaticRollout(roles, 6, True)
    sizes: list[int] = []
    roles.backbone.register_forward_pre_hook(
        lambda _, __, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True
    )
    sampled(backend)
    assert sizes == sorted(sizes, reverse=True)
    assert set(sizes) <= {6, 4, 2, 1}
    assert len(set(sizes)) > 1
    places = _places(backend)
    stir(roles, seed=1)
    sampled(backend)
    moved = [a is not b for a, b in zip(places, _places(backend), strict=True)]
    assert not any(moved), "a captured graph would read and write the old memory"


def _places(backend: StaticRollout) -> list[torch.Tensor]:
    keys = backend._buffers._keys  # type: ignore[union-attr]
    merged = backend._weights._layers.values()  # type: ignore[union-attr]
    return [*keys.keys, *keys.values, *(layer.weight for layer in merged)]


def test_static_buffers_grow_for_longer_prompts_and_follow_the_batch_size(tmp_path: Path) -> None:
    roles = ragged_roles(tmp_path)
    backend = StaticRollout(roles, 6, True)
    expected = sampled(backend)
    assert backend.bytes_to_add(PROMPTS, NOISE) == 0
    longer = [*PROMPTS[:-1], [7] * COLUMNS]
    assert backend.bytes_to_add(longer, NOISE) > 0
    found = backend.sample("policy", longer, NOISE, 1.3, quiet)
    assert_same(found, CachedRollout(roles, 6, True).sample("policy", longer, NOISE, 1.3, quiet))
    backend.batch_size = 2
    assert_same(sampled(backend), expected)
    assert len(backend._buffers._rows) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("make", OTHERS)
def test_many_rows_that_end_one_after_another(tmp_path: Path, make: Make) -> None:
    """Several shrinkings of the batch, in an order that is not that of the prompts."""
    roles = ragged_roles(tmp_path)
    prompts = [[5 + row] * (1 + 7 * row % 11) for row in range(24)]
    noise = torch.rand((24, 60), generator=torch.Generator().manual_seed(5))
    arms = [kind(roles, 24, True) for kind in (make, CachedRollout)]
    assert_same(*(arm.sample("policy", prompts, noise, 1.0, quiet) for arm in arms))


def test_prompts_that_enter_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = ragged_roles(tmp_path)
    expected = sampled(CachedRollout(roles, 6, True))
    monkeypatch.setattr(continuous, "FORWARD_TOKENS", 4)
    backend = ContinuousRollout(roles, 4, True)
    assert_same(sampled(backend), expected)


def test_auto_is_cached_on_a_cpu(tmp_path: Path) -> None:
    roles = ragged_roles(tmp_path)
    assert isinstance(make_backend(roles, Sampling()), CachedRollout)
    asked = {"cached": CachedRollout, "static": StaticRollout, "continuous": ContinuousRollout}
    for name, kind in asked.items():
        assert isinstance(make_backend(roles, Sampling.model_validate({"backend": name})), kind)


def test_fixed_buffers_are_kept_where_they_fit_and_let_go_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `auto` is on a GPU; a growing cache beside idle buffers would take both."""
    roles = ragged_roles(tmp_path)
    expected, longer = sampled(CachedRollout(roles, 6, True)), [*PROMPTS[:-1], [7] * COLUMNS]
    backend, free = StaticWhereItFits(roles, 6, True), 2**40
    assert backend._static._weights is backend._cached._weights, "one merged copy serves both"
    monkeypatch.setattr(memory, "free_bytes", lambda _: free)
    assert_same(sampled(backend), expected)
    free = 0
    assert_same(sampled(backend), expected)
    assert backend._static._buffers is not None
    found = backend.sample("policy", longer, NOISE, 1.3, quiet)
    assert backend._static._buffers is None
    assert_same(found, CachedRollout(roles, 6, True).sample("policy", longer, NOISE, 1.3, quiet))
    assert_same(sampled(backend), expected)
    assert backend._static._buffers is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sliding_window": 8}, "full key-value cache"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "full key-value cache"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "positions"),
        ({"_attn_implementation_internal": "flash_attention_2"}, "attention"),
    ],
)
def test_a_model_that_cannot_use_fixed_buffers_is_told_why(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    roles = ragged_roles(tmp_path)
    for name, value in change.items():
        setattr(roles.base.model.config, name, value)
    with pytest.raises(SpecError, match=reason):
        make_backend(roles, Sampling(backend="static"))


def test_a_model_whose_cache_cannot_be_paged_is_told_so(tmp_path: Path) -> None:
    roles = ragged_roles(tmp_path)
    roles.base.model._supports_attention_backend = False
    with pytest.raises(SpecError, match="page the cache of llama"):
        make_backend(roles, Sampling(backend="continuous"))
