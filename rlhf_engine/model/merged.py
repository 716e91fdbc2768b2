"""A merged copy of the adapted layers, for sampling without the adapters' overhead."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from rlhf_engine.model.roles import Role, Roles


class MergedCopy:
    """Plain layers holding base + adapter, put in the adapted layers' place while sampling.

    The base is never written to, so nothing drifts however often the copy is renewed; the
    buffers are kept between uses. Costs the memory of the adapted layers once more.
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._layers: dict[str, nn.Module] = {}

    @contextmanager
    def using(self, role: Role) -> Iterator[None]:
        """Sample as `role` inside this context."""
        if role not in self._roles.configs:
            with self._roles.using(role):
                yield
            return
        places = list(_adapted(self._roles.base.model))
        for name, _, _, layer in places:
            self._layers[name] = self._merge(layer, role, self._layers.get(name))
        for name, parent, attribute, _ in places:
            setattr(parent, attribute, self._layers[name])
        try:
            yield
        finally:
            for _, parent, attribute, layer in places:
                setattr(parent, attribute, layer)

    @torch.no_grad()
    def _merge(self, layer: Any, role: Role, buffer: nn.Module | None) -> nn.Module:
        weight = _plain_weight(layer.base_layer, self._roles.base.model.dtype)
        merged = weight.float().add_(layer.get_delta_weight(role).float())
        if buffer is None:
            buffer = _like(layer.base_layer, weight)
        buffer.weight.data.copy_(merged)  # type: ignore[operator]
        return buffer


def _adapted(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, LoraLayer]]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parent, _, attribute = name.rpartition(".")
            yield name, model.get_submodule(parent), attribute, module


def _plain_weight(layer: Any, dtype: torch.dtype) -> Tensor:
    """The weight as one matrix in the format of the base's products, dequantized if need be."""
    weight = layer.weight
    if type(weight).__name__ == "Params4bit":
        from bitsandbytes.functional import dequantize_4bit

        plain: Tensor = dequantize_4bit(weight.data, weight.quant_state).to(dtype)
        return plain
    if type(weight).__name__ == "Int8Params":
        from bitsandbytes.functional import int8_vectorwise_dequant

        scale = weight.SCB if weight.SCB is not None else layer.state.SCB
        plain = int8_vectorwise_dequant(weight.data, scale).to(dtype)
        return plain
    return weight.detach().clone()  # type: ignore[no-any-return]


def _like(layer: Any, weight: Tensor) -> nn.Module:
    """A layer of the same kind with storage of its own for the weight."""
    if isinstance(layer, nn.Linear) and type(layer) is not nn.Linear:
        plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        plain.bias = layer.bias
    else:
        plain = copy.copy(layer)
        plain._parameters = dict(layer._parameters)
    plain._parameters["weight"] = nn.Parameter(torch.empty_like(weight), requires_grad=False)
    return plain
