"""Sampling responses with a key-value cache of our own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_engine.data.batches import pad_left, position_ids
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rl.responses import lengths, response_mask

# Below this share of unfinished rows the batch shrinks to them.
SHRINK_AT = 0.75

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
    """Anything that samples responses for tokenised prompts, `batch_size` of them at once."""

    batch_size: int

    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]: ...


class CachedRollout:
    """Left-padded batches of similar length, sampled in fp32, finished rows dropped.

    Row i draws its tokens from `noise[i]` alone, so that a response depends on its prompt, its
    noise and the weights, and not on its neighbours.
    """

    def __init__(self, roles: Roles, batch_size: int, merge: bool) -> None:
        self._roles = roles
        self.batch_size = batch_size
        self._weights = MergedCopy(roles) if merge else roles

    @torch.inference_mode()
    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]:
        """Sample one response a prompt; `noise` is uniform in [0, 1), (prompts, new tokens)."""
        if self._roles.base.model.training:
            raise RuntimeError("sampling needs eval(): in train() layers drop their cache")
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
        found: dict[int, Response] = {}
        with self._weights.using(role):
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                batch = [prompts[row] for row in rows]
                responses = self._batch(batch, noise[rows], temperature)
                found |= dict(zip(rows, responses, strict=True))
                progress(len(found), len(prompts))
        return [found[row] for row in range(len(prompts))]

    def _batch(self, prompts: list[list[int]], noise: Tensor, temperature: float) -> list[Response]:
        base = self._roles.base
        ids, mask = (part.to(self._roles.device) for part in pad_left(prompts, base.pad_id))
        state = _Decoding(ids, mask.long(), DynamicCache(config=base.model.config))
        tokens = torch.full(noise.shape, base.eos_ids[0], device=ids.device)
        logps = torch.zeros(noise.shape, device=ids.device)
        rows = torch.arange(len(prompts), device=ids.device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=ids.device)
        ends = torch.tensor(base.eos_ids, device=ids.device)
        for position in range(noise.shape[1]):
            logits = self._next_logits(state)
            chosen, logp = draw(logits, noise[rows.cpu(), position], temperature)
            tokens[rows, position], logps[rows, position] = chosen, logp
            ended[rows] |= torch.isin(chosen, ends)
            going = (~ended[rows]).nonzero()[:, 0]
            if not len(going):
                break
            state.append(chosen)
            if len(going) <= SHRINK_AT * len(rows):
                state.keep(going)
                rows = rows[going]
        # What was drawn for a row after its end, and what was not drawn at all, falls away here.
        mask, finished = response_mask(tokens, base.eos_ids)
        spoken = lengths(mask).tolist()
        return [
            Response(prompt, tokens[row, :length].tolist(), end, logps[row, :length].tolist())
            for row, (prompt, length, end) in enumerate(
                zip(prompts, spoken, finished.tolist(), strict=True)
            )
        ]

    def _next_logits(self, state: "_Decoding") -> Tensor:
        """Logits of the next token in fp32. (B, V).

        A contiguous two-dimensional product: on the CPU a slice of (B, T, H) makes torch copy
        the head once a row.
        """
        output = self._roles.backbone(
            input_ids=state.step_ids,
            attention_mask=state.mask,
            position_ids=state.step_positions,
            past_key_values=state.cache,
            use_cache=True,
        )
        hidden = output.last_hidden_state[:, -1].contiguous()
        head = self._roles.vocabulary_head
        return torch.nn.functional.linear(hidden, head.weight, head.bias).float()


class _Decoding:
    """Where a batch stands: the tokens to feed next, the mask so far, the cache."""

    def __init__(self, ids: Tensor, mask: Tensor, cache: Any) -> None:
        self.step_ids = ids
        self.step_positions = position_ids(mask)
        self.mask = mask
        self.cache = cache

    def append(self, tokens: Tensor) -> None:
        self.step_ids = tokens[:, None]
        self.step_positions = self.step_positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)

    def keep(self, rows: Tensor) -> None:
        self.step_ids = self.step_ids[rows]
        self.step_positions = self.step_positions[rows]
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)


def draw(logits: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample by inverting the cumulative distribution at `noise`. (B, V), (B,) -> (B,), (B,).

    Returns the tokens and their log-probs under softmax(logits / temperature).
    """
    log_probs = torch.log_softmax(logits / temperature, dim=-1)
    cumulative = log_probs.exp().cumsum(dim=-1)
    # The last entry is 1 up to rounding: scaling the noise by it keeps every draw inside.
    target = noise.to(cumulative.device, cumulative.dtype)[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, target, right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[:, 0], log_probs.gather(-1, tokens)[:, 0]
