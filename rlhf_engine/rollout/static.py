"""Sampling with key-value buffers of fixed shape, on CUDA as captured graphs.

A token of a small model is a thousand kernel launches, which cost more than the kernels: a graph
replays them as one. What a graph reads and writes must stay where it was captured, so that
everything a step needs lives in buffers that are changed in place.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from rlhf_engine.data.batches import pad_left, position_ids
from rlhf_engine.job.footprint import COLUMNS
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
from rlhf_engine.rollout.graphs import StepGraphs

# Tokens between two looks at which rows have ended.
LOOK_EVERY = 8

Shape = tuple[int, int, int]


class StaticRollout:
    """Left-padded batches in fixed buffers; the batch shrinks to powers of two as rows end.

    The buffers and their graphs are kept between rollouts, and hold on to their memory: the
    weights that a graph reads are trained, or merged, in place.
    """

    def __init__(
        self, roles: Roles, batch_size: int, merge: bool, merged: MergedCopy | None = None
    ) -> None:
        self._roles = roles
        self.batch_size = batch_size
        self._weights = (merged or MergedCopy(roles)) if merge else roles
        self._buffers: _Buffers | None = None

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
        model, device = self._roles.base.model, self._roles.device
        # Streams, events and graphs belong to the current device.
        current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        with protected(model), current, self._weights.using(role):
            buffers = self._fitting(self.shape(prompts, noise))
            for rows in by_length(prompts, self.batch_size):
                batch = [prompts[row] for row in rows]
                answers = self._batch(buffers, role, batch, noise[rows], temperature)
                found |= dict(zip(rows, answers, strict=True))
                progress(len(found), len(prompts))
        return [found[row] for row in range(len(prompts))]

    def shape(self, prompts: Sequence[list[int]], noise: Tensor) -> Shape:
        """Rows, columns and new tokens that the buffers need, or more if there are more."""
        columns = max(map(len, prompts)) + noise.shape[1]
        needed = min(len(prompts), self.batch_size), -(-columns // COLUMNS) * COLUMNS
        if self._buffers is None or self._buffers.shape[2] != noise.shape[1]:
            return *needed, noise.shape[1]
        rows, columns, turns = self._buffers.shape
        # Not more rows than a batch has now: it is made smaller where memory ran out.
        return min(max(needed[0], rows), self.batch_size), max(needed[1], columns), turns

    def bytes_to_add(self, prompts: Sequence[list[int]], noise: Tensor) -> int:
        """What the key-value buffers for these prompts take beyond those that are there."""
        held = self._buffers.shape if self._buffers is not None else (0, 0, 0)
        return self._key_bytes(self.shape(prompts, noise)) - self._key_bytes(held)

    def _key_bytes(self, shape: Shape) -> int:
        return sum(2 * keys.nbytes for keys in _Keys(self._roles, shape, "meta").keys)

    def release(self) -> None:
        """Let go of the buffers and their graphs."""
        self._buffers = None

    def _fitting(self, shape: Shape) -> "_Buffers":
        if self._buffers is None or self._buffers.shape != shape:
            # The old ones go first: both together may not fit.
            self._buffers = None
            self._buffers = _Buffers(self._roles, shape)
        return self._buffers

    def _batch(
        self,
        buffers: "_Buffers",
        role: Role,
        prompts: list[list[int]],
        noise: Tensor,
        temperature: float,
    ) -> list[Response]:
        buffers.start(prompts, noise, temperature)
        size = len(prompts)
        for turn in range(1, noise.shape[1]):
            if turn % LOOK_EVERY == 0:
                ended = buffers.look(size)
                going = [row for row, end in enumerate(ended) if not end]
                if not going:
                    break
                smaller = 1 << (len(going) - 1).bit_length()
                if smaller < size:
                    spare = [row for row, end in enumerate(ended) if end]
                    buffers.keep((going + spare)[:smaller])
                    size = smaller
            buffers.run(role, size)
        tokens, logps = (drawn[: len(prompts)].cpu() for drawn in (buffers.tokens, buffers.logps))
        return responses(prompts, tokens, logps, self._roles.base.eos_ids)


class _Keys(Cache):
    """Keys and values of every layer, (rows, heads, columns, head size), written at one column."""

    def __init__(self, roles: Roles, shape: Shape, device: torch.device | str) -> None:
        super().__init__(layers=[])
        config = roles.base.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        full = (shape[0], heads, shape[1], size)
        dtype = roles.base.model.dtype
        layers = range(config.num_hidden_layers)
        self.keys = [torch.zeros(full, dtype=dtype, device=device) for _ in layers]
        self.values = [torch.zeros(full, dtype=dtype, device=device) for _ in layers]
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        self.prompting = False

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write a prompt from the first column on, or one token at the current column."""
        rows, width = key_states.shape[0], key_states.shape[2]
        found = []
        for buffers, states in ((self.keys, key_states), (self.values, value_states)):
            buffer = buffers[layer_idx][:rows]
            if self.prompting:
                buffer[:, :, :width] = states
                found.append(states)
            else:
                found.append(buffer.index_copy_(2, self.column, states))
        return found[0], found[1]

    def keep(self, rows: Tensor) -> None:
        """Move these rows to the front."""
        for buffer in (*self.keys, *self.values):
            buffer[: len(rows)] = buffer[rows]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Unknown to the host, and asked for by nobody who is given positions and a full mask."""
        raise RuntimeError("this model asks its cache for a length; use sampling.backend = cached")


class _Buffers:
    """All that a step reads and writes; rows of `noise` and of what is drawn never move."""

    def __init__(self, roles: Roles, shape: Shape) -> None:
        self._roles = roles
        self.shape = shape
        rows, columns, turns = shape
        device = roles.device
        zeros = partial(torch.zeros, device=device)
        self._keys = _Keys(roles, shape, device)
        self._ids = zeros((rows, 1), dtype=torch.long)
        self._positions = zeros((rows, 1), dtype=torch.long)
        self._masks = _Masks(roles)
        self._mask = self._masks.of(zeros((rows, 1, 1, columns), dtype=torch.bool))
        self._rows = zeros(rows, dtype=torch.long)
        self._order: list[int] = []
        self._turn = zeros(1, dtype=torch.long)
        self._noise = zeros((rows, turns))
        self._temperature = zeros(())
        self._ends = torch.tensor(roles.base.eos_ids, device=device)
        self._ended = zeros(rows, dtype=torch.bool)
        self.tokens = zeros((rows, turns), dtype=torch.long)
        self.logps = zeros((rows, turns))
        on_cuda = device.type == "cuda"
        self._seen = torch.zeros(rows, dtype=torch.bool, pin_memory=on_cuda)
        self._copied = torch.cuda.Event() if on_cuda else None
        self._graphs = StepGraphs(device) if on_cuda else None

    def start(self, prompts: list[list[int]], noise: Tensor, temperature: float) -> None:
        """Read the prompts and draw their first tokens."""
        device, count = self._roles.device, len(prompts)
        ids, real = (part.to(device) for part in pad_left(prompts, self._roles.base.pad_id))
        width = ids.shape[1]
        self._order = list(range(count))
        self._rows[:count] = torch.arange(count, device=device)
        self._turn.zero_()
        self._noise[:count] = noise.to(device)
        self._temperature.fill_(temperature)
        self._ended.zero_()
        self._note_ended()
        self._keys.column.fill_(width)
        self._positions[:count] = real.sum(-1, keepdim=True)
        self._mask.fill_(self._masks.hidden)
        self._mask[:count, 0, 0, :width] = self._masks.of(real.bool())
        # Padding sees itself: a row of nothing but masked columns has no softmax.
        ones = torch.ones((width, width), dtype=torch.bool, device=device)
        seen = (ones.tril() & real[:, None].bool()) | ones.tril().triu()
        inputs = {
            "input_ids": ids,
            "attention_mask": self._masks.of(seen[:, None]),
            "position_ids": position_ids(real),
            "past_key_values": self._keys,
        }
        self._keys.prompting = True
        try:
            logits = next_logits(self._roles, inputs)
        finally:
            self._keys.prompting = False
        self._take(logits)

    def run(self, role: Role, size: int) -> None:
        """One more token for the first `size` rows that are still here."""
        if self._graphs is None:
            self._step(size)
        else:
            self._graphs.run((role, size), partial(self._step, size))

    def _step(self, size: int) -> None:
        self._mask[:size].index_fill_(3, self._keys.column, self._masks.seen)
        inputs = {
            "input_ids": self._ids[:size],
            "attention_mask": self._mask[:size],
            "position_ids": self._positions[:size],
            "past_key_values": self._keys,
        }
        logits = next_logits(self._roles, inputs)
        self._keys.column.add_(1)
        self._positions[:size].add_(1)
        self._take(logits)

    def _take(self, logits: Tensor) -> None:
        size = len(logits)
        rows, turn = self._rows[:size], self._turn
        chosen, logp = draw(logits, self._noise[rows, turn], self._temperature)
        self.tokens[rows, turn], self.logps[rows, turn] = chosen, logp
        self._ended[rows] |= (chosen[:, None] == self._ends).any(-1)
        self._ids[:size, 0] = chosen
        turn.add_(1)

    def look(self, size: int) -> list[bool]:
        """Which of the first `size` rows had ended when this was last called.

        The answer is late so that the host never waits for a step that is still running.
        """
        if self._copied is not None:
            self._copied.synchronize()
        seen = self._seen.tolist()
        self._note_ended()
        return [seen[row] for row in self._order[:size]]

    def _note_ended(self) -> None:
        self._seen.copy_(self._ended, non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def keep(self, places: list[int]) -> None:
        """Move the rows at these places to the front."""
        self._order = [self._order[place] for place in places]
        kept = torch.tensor(places, device=self._roles.device)
        self._keys.keep(kept)
        for buffer in (self._ids, self._positions, self._mask, self._rows):
            buffer[: len(places)] = buffer[kept]


class _Masks:
    """Attention masks as the model takes them: added to the scores if eager, else true or false."""

    def __init__(self, roles: Roles) -> None:
        eager = roles.base.model.config._attn_implementation == "eager"
        self._dtype: torch.dtype = roles.base.model.dtype if eager else torch.bool
        self.hidden = torch.finfo(self._dtype).min if eager else False
        self.seen = 0.0 if eager else True

    def of(self, seen: Tensor) -> Tensor:
        """A mask that shows what is true in `seen`, of the same shape."""
        mask = torch.full(seen.shape, self.seen, dtype=self._dtype, device=seen.device)
        return mask.masked_fill_(~seen, self.hidden)
