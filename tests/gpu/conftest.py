"""Checks that need a GPU; elsewhere each is skipped and says so."""

from pathlib import Path

import pytest
import torch

from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model.base import Source, load_base
from rlhf_engine.model.roles import Roles
from tests.model.test_roles import stir
from tests.tiny import save_tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


def cuda_roles(folder: Path, kind: str = "llama", quantization: str = "none") -> Roles:
    """A tiny model in fp32 on the GPU with two adapters that have weights of their own."""
    spec = Model.model_validate({"dtype": "fp32", "quantization": quantization})
    roles = Roles(load_base(Source(str(save_tiny(folder, kind)), None), spec, torch.device("cuda")))
    for index, role in enumerate(("policy", "other")):
        roles.add_new(role, Lora(r=4, alpha=8), index)
    stir(roles)
    return roles
