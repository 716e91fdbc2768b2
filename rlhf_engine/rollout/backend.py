"""What every way to sample shares: the protocol, the draw, the state a model must be in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rl.responses import lengths, response_mask

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Response:
    """What was sampled for one prompt: tokens up to and with the end token, if one came.

    `sampled_logp` are the log-probs seen while sampling, one a token.
    """

    prompt: list[int]
    tokens: list[int]
    finished: bool
    sampled_logp: list[float]


class RolloutBackend(Protocol):
    """Anything that samples responses for tokenised prompts, `batch_size` of them at once.

    Row i draws its tokens from `noise[i]` alone, so that a response depends on its prompt, its
    noise and the weights, and not on its neighbours; backends differ by rounding only.
    """

    batch_size: int

    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]:
        """Sample one response a prompt; `noise` is uniform in [0, 1), (prompts, new tokens)."""
        ...


@contextmanager
def protected(model: nn.Module) -> Iterator[None]:
    """Sample inside this: refuses train(), and keeps gradient checkpointing off meanwhile.

    Under either a layer may drop its key-value cache without a word, and tokens come out wrong.
    """
    if model.training:
        raise RuntimeError("sampling needs eval(): in train() layers drop their cache")
    checkpointed = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    _set_checkpointing(checkpointed, False)
    try:
        yield
    finally:
        _set_checkpointing(checkpointed, True)


def _set_checkpointing(modules: Sequence[nn.Module], on: bool) -> None:
    for module in modules:
        setattr(module, "gradient_checkpointing", on)  # noqa: B010 -- unknown to nn.Module's types


def by_length(prompts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    """Rows in groups of similar prompt length, shortest first, so that little is padding."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def next_logits(roles: Roles, inputs: Mapping[str, Any]) -> Tensor:
    """Logits of the token after the last one, in fp32. (B, V).

    A contiguous two-dimensional product: on the CPU a slice of (B, T, H) makes torch copy
    the head once a row.
    """
    output = roles.backbone(**inputs, use_cache=True)
    hidden = output.last_hidden_state[:, -1].contiguous()
    head = roles.vocabulary_head
    return linear(hidden, head.weight, head.bias).float()


def draw(logits: Tensor, noise: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """Sample by inverting the cumulative distribution at `noise`. (B, V), (B,) -> (B,), (B,).

    Returns the tokens and their log-probs under softmax(logits / temperature).
    """
    log_probs = torch.log_softmax(logits / temperature, dim=-1)
    cumulative = log_probs.exp().cumsum(dim=-1)
    # The last entry is 1 up to rounding: scaling the noise by it keeps every draw inside.
    target = noise.to(cumulative.device, cumulative.dtype)[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[:, 0], log_probs.gather(-1, tokens)[:, 0]


def responses(
    prompts: Sequence[list[int]], tokens: Tensor, logps: Tensor, eos_ids: Sequence[int]
) -> list[Response]:
    """Cut what was drawn at each row's end. Tokens and log-probs (B, T)."""
    mask, finished = response_mask(tokens, eos_ids)
    spoken = lengths(mask).tolist()
    rows = zip(prompts, tokens.tolist(), logps.tolist(), spoken, finished.tolist(), strict=True)
    return [
        Response(prompt, row[:length], end, logp[:length])
        for prompt, row, logp, length, end in rows
    ]
