"""The numbers of a model and its adapters, read from its config: no weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from rlhf_engine.job.footprint import Shape
from rlhf_engine.job.sections import Lora, Model
from rlhf_engine.model.base import DTYPES, Base, unloadable
from rlhf_engine.model.roles import Roles

# What is passed through a model without storage: several sequences, since a single one takes other
# ways through torch; and the tokens of the shortest.
SEQUENCES, LENGTH = 4, 64
INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class Adapters:
    """The adapters that a stage puts on its base; None and nothing where there is none.

    `inherited` says that an earlier run made the policy's; `gold` are those that are watched.
    """

    policy: Lora | None
    inherited: bool = False
    reward: Lora | None = None
    gold: tuple[Lora, ...] = ()
    against: tuple[Lora, ...] = ()


def lora_of(folder: Path) -> Lora:
    """The spec of the adapter in a PEFT folder."""
    config = LoraConfig.from_pretrained(str(folder))
    targets = config.target_modules
    names = targets if isinstance(targets, str) else ",".join(sorted(targets or ()))
    return Lora(r=config.r, alpha=config.lora_alpha, targets=names)


def read_shape(name: str, spec: Model, adapters: Adapters) -> Shape:
    """Build the model behind a name without storage, and count.

    Raises SpecError if there is no causal model of that name, or the targets do not fit it.
    """
    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(name, revision=spec.revision or "main", **options)
        with torch.device("meta"):
            model = _hollow(config, spec)
    except (OSError, ValueError, ImportError) as error:
        raise unloadable(name, error) from None
    text = config.get_text_config()
    hidden, heads = int(text.hidden_size), int(text.num_attention_heads)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    head = model.get_output_embeddings()
    linear = [m.weight for m in model.modules() if _is_linear(m) and m is not head]
    packed = sum(weight.numel() for weight in linear)
    total = sum(parameter.numel() for parameter in model.parameters())
    return Shape(
        linear=packed,
        largest=max(weight.numel() for weight in linear),
        other=total - packed,
        inherited=adapters.inherited,
        layers=int(text.num_hidden_layers),
        hidden=hidden,
        intermediate=int(inner or 4 * hidden),
        heads=heads,
        kv_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_dim=int(getattr(text, "head_dim", None) or hidden // heads),
        vocabulary=head.weight.shape[0],
        stored_bytes=(config.dtype or torch.float32).itemsize,
        saved={name: _saved(config, spec, name, adapters.policy) for name in DTYPES},
        **_adapted(model, adapters),
    )


def _hollow(config: Any, spec: Model, dtype: torch.dtype = torch.float32) -> Any:
    """The model, in a context in which tensors have no storage."""
    return AutoModelForCausalLM.from_config(
        config,
        dtype=dtype,
        attn_implementation="eager",
        trust_remote_code=spec.trust_remote_code,
    )


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _adapted(model: Any, adapters: Adapters) -> dict[str, int]:
    """What the adapters count, put on the model as the engine puts them."""
    named = {"policy": adapters.policy, "reward": adapters.reward}
    gold = {f"gold {n}": lora for n, lora in enumerate(adapters.gold)}
    named |= gold | {f"against {n}": lora for n, lora in enumerate(adapters.against)}
    roles = _roles(model, {role: lora for role, lora in named.items() if lora is not None})
    sizes = {role: sum(p.numel() for p in roles.trained(role)) for role in named}
    layers = [m for m in model.modules() if isinstance(m, LoraLayer)]
    return {
        "adapted": sum(cast(nn.Linear, m.get_base_layer()).weight.numel() for m in layers),
        "policy_lora": sizes.pop("policy"),
        "reward_lora": sizes.pop("reward"),
        "gold_lora": sum(sizes.pop(role) for role in gold),
        "against_lora": sum(sizes.values()),
    }


def _roles(model: Any, adapters: Mapping[str, Lora]) -> Roles:
    roles = Roles(Base("", model, cast(Any, None), (), 0))
    for role, lora in adapters.items():
        roles.add_new(role, lora, seed=0)
    return roles


def _saved(config: Any, spec: Model, dtype: str, lora: Lora | None) -> tuple[int, int, int]:
    """Bytes kept for the backward pass: always, for each token, for each pair of tokens.

    Three lengths n give the three unknowns of a + b * n + c * n^2.
    """
    if lora is None:
        return 0, 0, 0
    with torch.device("meta"):
        model = _hollow(config, spec, DTYPES[dtype]).eval().requires_grad_(False)
        roles = _roles(model, {"policy": lora})
        roles.freeze("policy")
        one, two, three = (_kept(roles, n * LENGTH) for n in (1, 2, 3))
    pair = (three - 2 * two + one) // (2 * LENGTH**2)
    token = (two - one) // LENGTH - 3 * LENGTH * pair
    always = one - token * LENGTH - pair * LENGTH**2
    return always, token // SEQUENCES, pair // SEQUENCES


def _kept(roles: Roles, length: int) -> int:
    """Bytes of the tensors that autograd keeps of a few sequences, weights left out."""
    frozen = {_storage(parameter) for parameter in roles.base.model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in frozen:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    # With a mask, transformers asks nothing of the positions, which have no values here.
    inputs = {name: torch.zeros((SEQUENCES, length), dtype=torch.long) for name in INPUTS}
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, roles.using("policy"):
        output = roles.backbone(**inputs, use_cache=False)
    del output  # until here it keeps every storage alive, so that each has an address of its own
    return sum(kept.values())


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
