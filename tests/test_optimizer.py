"""AdamW on adapters: its state in a checkpoint, 8-bit moments, and gradients of failed updates."""

from pathlib import Path

import pytest
import torch
from torch import nn

from rlhf_engine import checkpoint, optimizer
from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Optimizer
from rlhf_engine.optimizer import AdapterOptimizer, check_eight_bit

SHAPES = ((64, 128), (16, 576), (1, 576))


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def train(owned: list[nn.Parameter], adam: AdapterOptimizer, first: int, last: int) -> None:
    """Updates on a least-squares loss that pulls every parameter to 1."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for p in owned:
            noise = torch.randn(p.shape, generator=generator)
            (0.5 * (p - 1.0 + 0.1 * noise).pow(2).sum()).backward()
        adam.update(0.05, 1e6)


@pytest.mark.parametrize("eight_bit", [False, True])
def test_a_saved_state_goes_on_bit_for_bit(tmp_path: Path, eight_bit: bool) -> None:
    spec = Optimizer(eight_bit=eight_bit, weight_decay=0.01)
    undisturbed = parameters()
    train(undisturbed, AdapterOptimizer(spec, [undisturbed]), 0, 12)

    before = parameters()
    adam = AdapterOptimizer(spec, [before])
    train(before, adam, 0, 5)
    checkpoint.save(tmp_path, 5, checkpoint.State({"optimizer": adam.state()}))
    after = [nn.Parameter(p.detach().clone()) for p in before]
    resumed = AdapterOptimizer(spec, [after])
    resumed.load_state(checkpoint.load(tmp_path / "step-000005").tensors["optimizer"])
    train(after, resumed, 5, 12)
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, after, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_eight_bits_learn_as_thirty_two_do_in_a_quarter_of_the_memory() -> None:
    found, sizes = [], []
    for eight_bit in (False, True):
        owned = parameters()
        adam = AdapterOptimizer(Optimizer(eight_bit=eight_bit), [owned])
        train(owned, adam, 0, 60)
        found.append(torch.cat([p.detach().flatten() for p in owned]))
        large = [v for k, v in adam.state().items() if k.startswith(("0.", "1."))]
        sizes.append(sum(v.numel() * v.element_size() for v in large))
    start = torch.cat([p.detach().flatten() for p in parameters()])
    moved = (found[0] - start).abs().mean()
    assert moved > 0.5
    assert (found[1] - found[0]).abs().mean() < 0.05 * moved
    assert not torch.equal(found[0], found[1])
    assert sizes[1] < 0.27 * sizes[0]


def test_an_old_bitsandbytes_is_refused_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "version", lambda _: "0.49.2")
    check_eight_bit(Optimizer(eight_bit=True), "cuda:0")
    check_eight_bit(Optimizer(), "cpu")
    with pytest.raises(SpecError, match=r"bitsandbytes 0.49.2 has no 8-bit AdamW for the CPU"):
        check_eight_bit(Optimizer(eight_bit=True), "cpu")


def test_no_gradient_of_a_failed_update_is_left() -> None:
    owned = parameters()
    adam = AdapterOptimizer(Optimizer(), [owned])

    def fail() -> None:
        owned[0].sum().backward()
        raise MemoryError

    with pytest.raises(MemoryError), adam.accumulating():
        fail()
    assert all(p.grad is None for p in owned)
