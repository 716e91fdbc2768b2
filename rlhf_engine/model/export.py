"""Outputs that other programs load: PEFT adapters with head and tokenizer, merged models."""

import copy
from pathlib import Path

from safetensors.torch import save_file

from rlhf_engine.job.errors import SpecError
from rlhf_engine.model.roles import Role, Roles


def write_adapter(roles: Roles, role: Role, folder: Path) -> None:
    """Write a role as a PEFT folder with its tokenizer and chat template.

    A role with a head becomes a sequence classifier's adapter, whose `score` is the head:
    `PeftModel` on `AutoModelForSequenceClassification(num_labels=1)` gives the same scores.
    """
    if role not in roles.configs:
        raise SpecError(f"the {role} role has no adapter to write")
    config = copy.copy(roles.configs[role])
    config.base_model_name_or_path = roles.base.name
    config.inference_mode = True
    weights = {
        f"base_model.model.{name}": tensor.detach().contiguous().cpu()
        for name, tensor in roles.state(role).items()
    }
    if role in roles.heads:
        config.task_type = "SEQ_CLS"
        config.modules_to_save = ["score"]
    config.save_pretrained(str(folder))
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    roles.base.tokenizer.save_pretrained(folder)
