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
from torch import Tensor


class _Branch(torch.autograd.Function):
    """output + (x A^T) (scale B)^T, with x (N, in), output (N, out), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, output: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
        narrow_a, narrow_b = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = x @ narrow_a.T
        ctx.save_for_backward(x, inner, narrow_a, narrow_b)
        ctx.scale = scale
        return torch.addmm(output, inner, narrow_b.T)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, a, b = ctx.saved_tensors
        wants_x, wants_output, wants_a, wants_b, _ = ctx.needs_input_grad
        grad_inner = grad @ b
        return (
            grad_inner @ a if wants_x else None,
            grad if wants_output else None,
            (grad_inner.T @ x).float() if wants_a else None,
            (grad.T @ inner).float() * ctx.scale if wants_b else None,
            None,
        )


def _forward(self: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    output: Tensor = self.base_layer(x)
    if self._disable_adapters:
        return output
    apply = cast(Callable[..., Tensor], _Branch.apply)
    for name in self._active_adapter:
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        flat = apply(
            x.reshape(-1, x.shape[-1]),
            output.reshape(-1, output.shape[-1]),
            a,
            b,
            self.scaling[name],
        )
        output = flat.view(output.shape)
    return output


def use_own_branch(layer: LoraLayer) -> None:
    """Let a LoRA layer compute its adapters' share as above; PEFT keeps weights and names."""
    setattr(layer, "forward", MethodType(_forward, layer))  # noqa: B010 -- LoraLayer is a mixin without it
