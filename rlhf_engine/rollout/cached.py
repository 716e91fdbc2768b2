"""Sampling with a growing key-value cache: works for every model on every device."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_engine.data.batches import pad_left, position_ids
from rlhf_engine.model.merged import MergedCopy
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rollout.backend import (
    Progress,
    Response,
    by_length,
    draw,
    next_logits,
    protected,
    responses,
)

# Below this share of unfinished rows the batch shrinks to them.
SHRINK_AT = 0.75


class CachedRollout:
    """Left-padded batches of similar length, sampled in fp32, finished rows dropped."""

    def __init__(
        self, roles: Roles, batch_size: int, merge: bool, merged: MergedCopy | None = None
    ) -> None:
        self._roles = roles
        self.batch_size = batch_size
        self._weights = (merged or MergedCopy(roles)) if merge else roles

    @torch.inference_mode()
    def sample(
        self,
        role: Role,
        prompts: Sequence[list[int]],
        noise: Tensor,
        temperature: float,
        progress: Progress,
    ) -> list[Response]:
        found: dict[int, Response] = {}
        with protected(self._roles.base.model), self._weights.using(role):
            for rows in by_length(prompts, self.batch_size):
                batch = [prompts[row] for row in rows]
                found |= dict(zip(rows, self._batch(batch, noise[rows], temperature), strict=True))
                progress(len(found), len(prompts))
        return [found[row] for row in range(len(prompts))]

    def _batch(self, prompts: list[list[int]], noise: Tensor, temperature: float) -> list[Response]:
        base = self._roles.base
        ids, mask = (part.to(self._roles.device) for part in pad_left(prompts, base.pad_id))
        state = _Decoding(ids, mask.long(), DynamicCache(config=base.model.config))
        tokens = torch.full(noise.shape, base.eos_ids[0], device=ids.device)
        logps = torch.zeros(noise.shape, device=ids.device)
        rows = torch.arange(len(prompts), device=ids.device)
        noise = noise.to(ids.device)
        ended = torch.zeros(len(prompts), dtype=torch.bool, device=ids.device)
        ends = torch.tensor(base.eos_ids, device=ids.device)
        for position in range(noise.shape[1]):
            logits = next_logits(self._roles, state.inputs())
            chosen, logp = draw(logits, noise[rows, position], temperature)
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
        return responses(prompts, tokens, logps, base.eos_ids)


class _Decoding:
    """Where a batch stands: the tokens to feed next, the mask so far, the cache."""

    def __init__(self, ids: Tensor, mask: Tensor, cache: Any) -> None:
        self.step_ids = ids
        self.step_positions = position_ids(mask)
        self.mask = mask
        self.cache = cache

    def inputs(self) -> dict[str, Any]:
        return {
            "input_ids": self.step_ids,
            "attention_mask": self.mask,
            "position_ids": self.step_positions,
            "past_key_values": self.cache,
        }

    def append(self, tokens: Tensor) -> None:
        self.step_ids = tokens[:, None]
        self.step_positions = self.step_positions[:, -1:] + 1
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)

    def keep(self, rows: Tensor) -> None:
        self.step_ids = self.step_ids[rows]
        self.step_positions = self.step_positions[rows]
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)
