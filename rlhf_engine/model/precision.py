"""The number format of matrix products on a device, and bf16 weights with products in fp32.

A CPU with AMX or AVX512-BF16 multiplies bf16 matrices at twice its fp32 speed or more, others at
half of it. There a bf16 base keeps its large matrices in bf16 and widens each one when it is used:
products, activations and everything small are fp32, which is also the more exact way.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


def product_dtype(storage: torch.dtype, device: torch.device) -> torch.dtype:
    """The format that products of weights in `storage` run in on this device."""
    if storage is not torch.bfloat16 or device.type != "cpu" or _multiplies_bf16():
        return storage
    return torch.float32


def _multiplies_bf16() -> bool:
    """Whether this CPU has instructions for products of bf16 numbers."""
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


class _Widened(torch.autograd.Function):
    """x W^T for a frozen W in a narrower format, x (N, in), W (out, in)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(x, weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return grad @ weight.to(grad.dtype), None


class WidenedLinear(nn.Linear):
    """A frozen layer whose weight is stored narrower than its products are."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = _Widened.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return output if self.bias is None else output + self.bias


def widen_products(model: nn.Module, head: nn.Module) -> None:
    """Let a bf16 model compute in fp32; the matrices inside its layers stay in bf16.

    The vocabulary head, and the embeddings that may share its weight, are used in blocks many
    times a step, so they become fp32 too.
    """
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            module.__class__ = WidenedLinear
            if module.bias is not None:
                module.bias.data = module.bias.data.float()
        elif not isinstance(module, WidenedLinear):
            for parameter in module.parameters(recurse=False):
                if parameter.is_floating_point():
                    parameter.data = parameter.data.float()
