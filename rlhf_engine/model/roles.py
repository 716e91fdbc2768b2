"""Policy, reference, reward and value: adapters and heads on one frozen base."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Lora
from rlhf_engine.model.base import Base
from rlhf_engine.model.branch import use_own_branch
from rlhf_engine.model.checkpointing import checkpoint_layers

Role = str


def adapter_name(role: Role) -> str:
    """PEFT's name for a role, which may hold no dot: torch divides the names of modules there."""
    return role.replace(".", "\N{ONE DOT LEADER}")


class Roles:
    """One base in several roles; a role is in force inside `using` alone.

    Adapters are fp32 whatever the base is. A role without an adapter is the bare base.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.peft: PeftModel | None = None
        self.heads: dict[Role, nn.Linear] = {}
        self.configs: dict[str, LoraConfig] = {}
        self.fresh: set[Role] = set()
        self._layers: list[LoraLayer] = []
        self._role: Role = ""
        self.device = next(base.model.parameters()).device

    @property
    def backbone(self) -> nn.Module:
        """The transformer without its vocabulary head."""
        model = self.base.model
        return getattr(model, model.base_model_prefix)  # type: ignore[no-any-return]

    @property
    def vocabulary_head(self) -> nn.Linear:
        head = self.base.model.get_output_embeddings()
        return head  # type: ignore[no-any-return]

    @property
    def hidden_size(self) -> int:
        return int(self.base.model.config.get_text_config().hidden_size)

    def add_new(self, role: Role, lora: Lora, seed: int) -> None:
        """Give a role a fresh adapter: A random, B zero, so that it starts as the base."""
        targets: Any = lora.targets
        if targets != "all-linear":
            targets = [name.strip() for name in targets.split(",")]
        config = LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]
            target_modules=targets,
            lora_dropout=0.0,
            task_type="CAUSAL_LM",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._add(role, config)
        self.fresh.add(role)

    def add_from(self, role: Role, folder: Path) -> None:
        """Give a role the adapter of a PEFT folder, and its head if it has one.

        Raises SpecError if the folder's adapter does not fit this base.
        """
        config = LoraConfig.from_pretrained(str(folder))
        if not isinstance(config, LoraConfig):
            raise SpecError(f"{folder}: not a LoRA adapter; only LoRA adapters can be used")
        config.lora_dropout = 0.0
        self._add(role, config)
        weights = load_file(folder / "adapter_model.safetensors")
        head = {k: v for k, v in weights.items() if k.endswith("score.weight")}
        for key, value in head.items():
            self.add_head(role).weight.data.copy_(value)
            del weights[key]
        self.load_adapter(
            role, {k.removeprefix("base_model.model."): v for k, v in weights.items()}
        )

    def add_copy(self, role: Role, of: Role) -> None:
        """Give a role a copy of another's adapter and head, independent from then on."""
        if of in self.configs:
            self._add(role, self.configs[of])
            self.load_adapter(role, self.adapter(of))
        if of in self.heads:
            self.add_head(role).weight.data.copy_(self.heads[of].weight)

    def add_head(self, role: Role) -> nn.Linear:
        """Give a role a scalar head in fp32 that starts at zero."""
        head = nn.Linear(self.hidden_size, 1, bias=False, dtype=torch.float32, device=self.device)
        nn.init.zeros_(head.weight)
        self.heads[role] = head
        return head

    def _add(self, role: Role, config: LoraConfig) -> None:
        try:
            if self.peft is None:
                self.peft = get_peft_model(
                    self.base.model,
                    config,
                    adapter_name=adapter_name(role),
                    autocast_adapter_dtype=True,
                )
            else:
                self.peft.add_adapter(adapter_name(role), config)
        except ValueError as error:
            raise SpecError(f"lora.targets: {str(error).splitlines()[0]}") from None
        self.configs[role] = config
        self._layers = [m for m in self.peft.modules() if isinstance(m, LoraLayer)]
        for layer in self._layers:
            use_own_branch(layer)
        self.freeze()

    def freeze(self, *trained: Role) -> None:
        """Let gradients reach the adapters and heads of these roles and nothing else."""
        for role in self.configs:
            for parameter in self._parameters(role):
                parameter.requires_grad_(role in trained)
        for role, head in self.heads.items():
            head.requires_grad_(role in trained)

    def _parameters(self, role: Role) -> list[nn.Parameter]:
        name = adapter_name(role)
        return [
            cast(nn.Parameter, matrix[name].weight)
            for layer in self._layers
            if name in layer.lora_A
            for matrix in (layer.lora_A, layer.lora_B)
        ]

    def trained(self, role: Role) -> list[nn.Parameter]:
        """The parameters an optimiser updates for a role: its adapter and its head."""
        head = [cast(nn.Parameter, self.heads[role].weight)] if role in self.heads else []
        return [*self._parameters(role), *head] if role in self.configs else head

    @contextmanager
    def using(self, role: Role) -> Iterator[None]:
        """Put a role in force; what was in force before comes back, also after an error."""
        before = [(layer._active_adapter, layer._disable_adapters) for layer in self._layers]
        role_before, self._role = self._role, role
        for layer in self._layers:
            layer._active_adapter = [adapter_name(role)]
            layer._disable_adapters = role not in self.configs
        try:
            yield
        finally:
            for layer, (active, disabled) in zip(self._layers, before, strict=True):
                layer._active_adapter, layer._disable_adapters = active, disabled
            self._role = role_before

    def save_activation_memory(self) -> None:
        """Keep only the inputs of the base's layers for the backward pass, in every role.

        Raises SpecError if the base has no layers that can be run again.
        """
        if not checkpoint_layers(self.backbone, lambda: partial(self.using, self._role)):
            raise SpecError(
                f"model.gradient_checkpointing: {type(self.base.model).__name__} has no layers "
                "that can be checkpointed; turn it off"
            )

    def hidden(self, role: Role, ids: Tensor) -> Tensor:
        """Last hidden states of right-padded sequences. (B, T) -> (B, T, H).

        A causal model never looks right, so padding needs no mask.
        """
        with self.using(role):
            output = self.backbone(input_ids=ids, use_cache=False)
        return output.last_hidden_state  # type: ignore[no-any-return]

    def scalar(self, role: Role, hidden: Tensor) -> Tensor:
        """The role's head on hidden states, in fp32. (..., H) -> (...)."""
        return self.heads[role](hidden.float()).squeeze(-1)  # type: ignore[no-any-return]

    def adapter(self, role: Role) -> dict[str, Tensor]:
        """A role's adapter by its PEFT names, without the role's own name in them."""
        found: dict[str, Tensor] = {}
        own = adapter_name(role)
        for name, layer in self.base.model.named_modules():
            if isinstance(layer, LoraLayer) and own in layer.lora_A:
                found[f"{name}.lora_A.weight"] = layer.lora_A[own].weight  # type: ignore[assignment]
                found[f"{name}.lora_B.weight"] = layer.lora_B[own].weight  # type: ignore[assignment]
        return found

    def load_adapter(self, role: Role, weights: dict[str, Tensor]) -> None:
        """Copy weights into a role's adapter; SpecError if a name or shape differs."""
        own = self.adapter(role)
        if own.keys() != weights.keys():
            odd = sorted(own.keys() ^ weights.keys())[0]
            raise SpecError(f"the {role} adapter does not fit this base: {odd}")
        with torch.no_grad():
            for name, parameter in own.items():
                if parameter.shape != weights[name].shape:
                    raise SpecError(f"the {role} adapter does not fit this base: shape of {name}")
                parameter.copy_(weights[name])

    def state(self, role: Role) -> dict[str, Tensor]:
        """Adapter and head of a role for a checkpoint."""
        head = {"score.weight": self.heads[role].weight} if role in self.heads else {}
        adapter = self.adapter(role) if role in self.configs else {}
        return {k: v.detach() for k, v in {**adapter, **head}.items()}

    def load_state(self, role: Role, state: dict[str, Tensor]) -> None:
        head = state.get("score.weight")
        if head is not None:
            with torch.no_grad():
                self.heads[role].weight.copy_(head)
        if role in self.configs:
            self.load_adapter(role, {k: v for k, v in state.items() if k != "score.weight"})
