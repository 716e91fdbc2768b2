"""Log-probs of tokens from hidden states, without logits of the whole batch."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import linear

CHUNK_ROWS = 128


class TokenLogProbs(NamedTuple):
    """Log-prob of each target, and entropy of the distribution it comes from; both fp32 (N,)."""

    logp: Tensor
    entropy: Tensor


def token_logprobs(
    hidden: Tensor,
    head_weight: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
    chunk: int = CHUNK_ROWS,
    bias: Tensor | None = None,
) -> TokenLogProbs:
    """Log-probs of `targets` under softmax((hidden @ weight.T + bias) / temperature).

    hidden (N, H), head_weight (V, H), targets (N,). Logits live in blocks of `chunk` rows, in
    fp32 from the product on, and are made again for the backward pass; gradients reach `hidden`
    alone, through the log-probs. Raises ValueError if the head's weight or bias is trained.
    """
    if head_weight.requires_grad or (bias is not None and bias.requires_grad):
        raise ValueError("token_logprobs gives the vocabulary head no gradient: freeze it")
    apply = cast(Callable[..., tuple[Tensor, Tensor]], _ChunkedLogProbs.apply)
    logp, entropy = apply(hidden, head_weight, bias, targets, temperature, chunk)
    return TokenLogProbs(logp, entropy)


class _ChunkedLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        logp, entropy = (hidden.new_empty(len(hidden), dtype=precise) for _ in range(2))
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            logs = _logits(hidden[part], weight, bias, temperature).log_softmax(-1)
            logp[part] = logs.gather(-1, targets[part, None])[:, 0]
            entropy[part] = -torch.linalg.vecdot(logs.exp(), logs)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    def backward(ctx: Any, grad_logp: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        for start in range(0, len(hidden), ctx.chunk):
            part = slice(start, start + ctx.chunk)
            logits = _logits(hidden[part], weight, bias, ctx.temperature)
            scale = grad_logp[part, None] / ctx.temperature
            grad = torch.softmax(logits, -1).mul_(-scale)
            grad.scatter_add_(-1, targets[part, None], scale.to(grad.dtype))
            grad_hidden[part] = grad.to(weight.dtype) @ weight
        return grad_hidden, None, None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    logits = linear(hidden, weight, bias)
    precise = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(precise).div_(temperature) if temperature != 1.0 else logits.to(precise)


@torch.no_grad()
def best_tokens(
    hidden: Tensor, head_weight: Tensor, bias: Tensor | None = None, chunk: int = CHUNK_ROWS
) -> Tensor:
    """The likeliest token of each hidden state, in blocks of `chunk` rows. (N, H) -> (N,)."""
    parts = [linear(part, head_weight, bias).argmax(-1) for part in hidden.split(chunk)]
    return torch.cat(parts) if parts else hidden.new_empty(0, dtype=torch.long)
