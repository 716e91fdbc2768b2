"""The adapter's share of a layer, in the layer's own number format.

PEFT's forward casts every activation to fp32, multiplies by the scale, and casts back: on a bf16
base these element-wise passes cost more than the adapter's products. Here the small matrices
are cast instead, the scale goes into B, and the products run in the base's format; master
weights and their gradients stay fp32.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear

from rlhf_engine.model.precision import WidenedLinear


class _Adapted(torch.autograd.Function):
    """x W^T + bias + (x A^T) (scale B)^T with a frozen W; x (N, in), A (r, in), B (out, r).

    Where the base is quantized, W stays with its own layer: `output` (N, out) is what that layer
    gave, and `weight` and `bias` are None.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        output: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        narrow_a, narrow_b = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = x @ narrow_a.T
        ctx.save_for_backward(x, inner, weight, narrow_a, narrow_b)
        ctx.scale = scale
        if weight is None:
            return torch.addmm(cast(Tensor, output), inner, narrow_b.T)
        return linear(x, weight.to(x.dtype), bias).addmm_(inner, narrow_b.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, weight, a, b = ctx.saved_tensors
        wants_x, wants_output, _, _, wants_a, wants_b, _ = ctx.needs_input_grad
        grad_inner = grad @ b
        grad_x = None
        if wants_x:
            grad_x = grad_inner @ a if weight is None else grad @ weight.to(grad.dtype)
            if weight is not None:
                grad_x.addmm_(grad_inner, a)
        return (
            grad_x,
            grad if wants_output else None,
            None,
            None,
            (grad_inner.T @ x).float() if wants_a else None,
            (grad.T @ inner).float() * ctx.scale if wants_b else None,
            None,
        )


def _forward(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    base = self.base_layer
    (name,) = self._active_adapter
    # Roles may adapt different layers.
    if self._disable_adapters or name not in self.lora_A:
        return base(x)  # type: ignore[no-any-return]
    a, b, scale = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
    flat = x.reshape(-1, x.shape[-1])
    apply = cast(Callable[..., Tensor], _Adapted.apply)
    if type(base) in (nn.Linear, WidenedLinear):
        found = apply(flat, None, base.weight, base.bias, a, b, scale)
    else:
        found = apply(flat, base(flat), None, None, a, b, scale)
    return found.view(*x.shape[:-1], found.shape[-1])


def use_own_branch(layer: LoraLayer) -> None:
    """Let a LoRA layer compute its adapters' share as above; PEFT keeps weights and names."""
    setattr(layer, "forward", MethodType(_forward, layer))  # noqa: B010 -- LoraLayer is a mixin without it
