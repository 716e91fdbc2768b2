"""Checks that need a GPU; elsewhere each is skipped and says so."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_engine.job.sections import Lora
from rlhf_engine.model.roles import Roles
from tests.engine.conftest import lab, nursery
from tests.model.test_roles import stir
from tests.tiny import tiny_base

__all__ = ["lab", "nursery"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def exact() -> Iterator[None]:
    """Without TF32, which would round what is compared."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


def cuda_roles(folder: Path, kind: str = "llama", quantization: str = "none") -> Roles:
    """A tiny model in fp32 on the GPU with two adapters that have weights of their own."""
    roles = Roles(tiny_base(folder, kind, quantization, "cuda"))
    for index, role in enumerate(("policy", "other")):
        roles.add_new(role, Lora(r=4, alpha=8), index)
    stir(roles)
    return roles
