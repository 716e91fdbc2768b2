"""8-bit AdamW on CUDA, where its large moments are paged."""

from pathlib import Path

import pytest
import torch
from torch import nn

from rlhf_engine import checkpoint
from rlhf_engine.job.sections import Optimizer
from rlhf_engine.optimizer import AdapterOptimizer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# The first is large enough to be paged (100,000 elements), the last stays in 32 bits.
SHAPES = ((512, 512), (16, 576), (1, 576))


def owned_by_cuda() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).cuda()) for shape in SHAPES]


def train(owned: list[nn.Parameter], adam: AdapterOptimizer, first: int, last: int) -> None:
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        for p in owned:
            p.grad = p.detach() - 1.0 + 0.1 * torch.randn(p.shape, generator=generator).cuda()
        adam.update(0.05, 1e6)


def test_paged_moments_go_through_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    spec = Optimizer(eight_bit=True)
    undisturbed = owned_by_cuda()
    train(undisturbed, AdapterOptimizer(spec, [undisturbed]), 0, 12)

    before = owned_by_cuda()
    adam = AdapterOptimizer(spec, [before])
    train(before, adam, 0, 5)
    checkpoint.save(tmp_path, 5, checkpoint.State({"optimizer": adam.state()}))
    after = [nn.Parameter(p.detach().clone()) for p in before]
    resumed = AdapterOptimizer(spec, [after])
    resumed.load_state(checkpoint.load(tmp_path / "step-000005").tensors["optimizer"])
    train(after, resumed, 5, 12)
    assert all(torch.equal(a, b) for a, b in zip(undisturbed, after, strict=True))
