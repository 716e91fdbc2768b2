"""The numbers of a model and its adapters, read from its config: no weights are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.footprint import Shape
from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model.base import Base
from rlhf_engine.model.roles import Roles


@dataclass(frozen=True)
class Adapters:
    """The adapters that a stage puts on its base; None and nothing where there is none.

    `inherited` says that an earlier run made the policy's.
    """

    policy: Lora | None
    inherited: bool = False
    reward: Lora | None = None
    against: tuple[Lora, ...] = ()


def lora_of(folder: Path) -> Lora:
    """The spec of the adapter in a PEFT folder."""
    config = LoraConfig.from_pretrained(str(folder))
    targets = config.target_modules
    names = targets if isinstance(targets, str) else ",".join(sorted(targets or ()))
    return Lora(r=config.r, alpha=config.lora_alpha, targets=names)


def read_shape(name: str, spec: Model, adapters: Adapters) -> Shape:
    """Build the model behind a name without storage and count.

    Raises SpecError if there is no causal model of that name, or the targets do not fit it.
    """
    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(name, revision=spec.revision or "main", **options)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **options)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise SpecError(
            f"model {name}: {first}; check the id or path (gated models need HF_TOKEN)"
        ) from None
    text = config.get_text_config()
    hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
    heads = int(text.num_attention_heads)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    intermediate = int(inner or 4 * hidden)
    head = model.get_output_embeddings()
    linear = [m.weight for m in model.modules() if _is_linear(m) and m is not head]
    feed = sum(w.numel() for w in linear if set(w.shape) & {intermediate, 2 * intermediate})
    total = sum(p.numel() for p in model.parameters())
    packed = sum(w.numel() for w in linear)
    counts = _adapted(model, adapters)
    return Shape(
        linear=packed,
        largest=max(w.numel() for w in linear),
        other=total - packed,
        inherited=adapters.inherited,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        projections=round(feed / (layers * hidden * intermediate)),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(text, "head_dim", None) or hidden // heads),
        vocabulary=head.weight.shape[0],
        stored_bytes=(config.dtype or torch.float32).itemsize,
        **counts,
    )


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _adapted(model: Any, adapters: Adapters) -> dict[str, int]:
    """What the adapters count, put on the model as the engine puts them."""
    roles = Roles(Base("", model, cast(Any, None), (), 0))
    named = {"policy": adapters.policy, "reward": adapters.reward}
    named |= {f"against {n}": lora for n, lora in enumerate(adapters.against)}
    for role, lora in named.items():
        if lora is not None:
            roles.add_new(role, lora, seed=0)
    sizes = {role: sum(p.numel() for p in roles.trained(role)) for role in named}
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    trained = "policy" if adapters.policy else "reward"
    return {
        "adapted": sum(cast(nn.Linear, m.get_base_layer()).weight.numel() for m in layers),
        "ranks": sum(m.r[trained] for m in layers if trained in m.r),
        "policy_lora": sizes.pop("policy"),
        "reward_lora": sizes.pop("reward"),
        "against_lora": sum(sizes.values()),
    }
