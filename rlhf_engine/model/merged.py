"""A merged copy of the adapted layers, for sampling without the adapters' overhead."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from rlhf_engine.job.footprint import MERGED_SHARE
from rlhf_engine.memory import free_bytes
from rlhf_engine.model.precision import WidenedLinear
from rlhf_engine.model.roles import Role, Roles, adapter_name


class MergedCopy:
    """Plain layers holding base + adapter, put in the adapted layers' place while sampling.

    The base is never written to, so nothing drifts however often the copy is renewed. Costs the
    memory of the adapted layers once more: on a GPU for good, so that captured graphs stay valid,
    on a CPU while it is in use. Where a GPU has no room for it, the role itself is used.
    """

    def __init__(self, roles: Roles) -> None:
        self._roles = roles
        self._layers: dict[str, nn.Module] = {}
        self._fits: bool | None = None

    @contextmanager
    def using(self, role: Role) -> Iterator[None]:
        """Sample as `role` inside this context."""
        places = list(_adapted(self._roles.base.model))
        dtype = self._roles.base.model.dtype
        if role not in self._roles.configs or not self._affordable(places, dtype):
            with self._roles.using(role):
                yield
            return
        self._layers = self._layers or _buffers(places, dtype)
        for name, _, _, layer in places:
            _merge(layer, adapter_name(role), self._layers[name], dtype)
        for name, parent, attribute, _ in places:
            setattr(parent, attribute, self._layers[name])
        try:
            yield
        finally:
            for _, parent, attribute, layer in places:
                setattr(parent, attribute, layer)
            if self._roles.device.type == "cpu":
                self._layers = {}

    def _affordable(self, places: "list[Place]", dtype: torch.dtype) -> bool:
        """Decided once: what graphs have captured must not change."""
        if self._fits is None:
            device = self._roles.device
            self._fits = device.type == "cpu" or (
                _bytes(places, dtype) <= MERGED_SHARE * free_bytes(str(device))
            )
        return self._fits


Place = tuple[str, nn.Module, str, Any]


def _adapted(model: nn.Module) -> Iterator[Place]:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parent, _, attribute = name.rpartition(".")
            yield name, model.get_submodule(parent), attribute, module


def _buffers(places: list[Place], dtype: torch.dtype) -> dict[str, nn.Module]:
    """A plain layer for each place. Their weights share one storage, which an allocator gives
    back whole when they go."""
    shapes = {name: _shape(layer.base_layer) for name, _, _, layer in places}
    _, _, _, first = places[0]
    like = _plain_weight(first.base_layer, dtype)
    flat = like.new_empty(sum(shape.numel() for shape in shapes.values()))
    parts = flat.split([shape.numel() for shape in shapes.values()])
    return {
        name: _like(layer.base_layer, part.view(shapes[name]))
        for (name, _, _, layer), part in zip(places, parts, strict=True)
    }


def _bytes(places: list[Place], dtype: torch.dtype) -> int:
    """What a copy of these layers takes."""
    size = 0
    for _, _, _, layer in places:
        wide = _plain_dtype(layer.base_layer, dtype)
        size += _shape(layer.base_layer).numel() * wide.itemsize
    return size


def _shape(layer: Any) -> torch.Size:
    if isinstance(layer, nn.Linear):
        return torch.Size((layer.out_features, layer.in_features))
    return layer.weight.shape  # type: ignore[no-any-return]


@torch.no_grad()
def _merge(layer: Any, adapter: str, buffer: Any, dtype: torch.dtype) -> None:
    weight = _plain_weight(layer.base_layer, dtype)
    if adapter in layer.lora_A:
        weight = weight.float().add_(layer.get_delta_weight(adapter).float())
    buffer.weight.data.copy_(weight)


def _plain_dtype(layer: Any, dtype: torch.dtype) -> torch.dtype:
    """The number format of `_plain_weight`."""
    kind = type(layer.weight).__name__
    if kind == "Params4bit":
        return layer.compute_dtype  # type: ignore[no-any-return]
    if kind == "Int8Params":
        return dtype
    return torch.float32 if isinstance(layer, WidenedLinear) else layer.weight.dtype


def _plain_weight(layer: Any, dtype: torch.dtype) -> Tensor:
    """The weight as one matrix, from 8 bits in `dtype`, else in the layer's compute format."""
    weight = layer.weight
    if type(weight).__name__ == "Params4bit":
        from bitsandbytes.functional import dequantize_4bit

        plain: Tensor = dequantize_4bit(weight.data, weight.quant_state).to(layer.compute_dtype)
        return plain
    if type(weight).__name__ == "Int8Params":
        from bitsandbytes.functional import int8_vectorwise_dequant

        scale = weight.SCB if weight.SCB is not None else layer.state.SCB
        plain = int8_vectorwise_dequant(weight.data, scale).to(dtype)
        return plain
    if isinstance(layer, WidenedLinear):
        widened: Tensor = weight.detach().float()
        return widened
    return weight.detach().clone()  # type: ignore[no-any-return]


def _like(layer: Any, weight: Tensor) -> nn.Module:
    """A layer of the same kind around a weight."""
    if isinstance(layer, nn.Linear) and type(layer) is not nn.Linear:
        plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        plain.bias = layer.bias
    else:
        plain = copy.copy(layer)
        plain._parameters = dict(layer._parameters)
    plain._parameters["weight"] = nn.Parameter(weight, requires_grad=False)
    return plain
