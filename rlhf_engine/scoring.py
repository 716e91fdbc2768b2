"""Figures of response tokens under a role: packed sequences, log-probs, values, rewards."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_engine.data.batches import pad_right
from rlhf_engine.model.roles import Role, Roles
from rlhf_engine.rl.logprobs import TokenLogProbs, token_logprobs


@dataclass(frozen=True)
class Pack:
    """Sequences padded on the right, with the places of their response tokens.

    `rows` are their numbers in the whole batch; `before` are flat places in (b * L) of the
    hidden states that predict the response tokens `targets`; `cells` are those tokens' flat
    places in (B, T); `last` are flat places of each sequence's last token.
    """

    rows: list[int]
    ids: Tensor
    before: Tensor
    targets: Tensor
    cells: tuple[Tensor, Tensor]
    last: Tensor


def pack(
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    rows: list[int],
    pad_id: int,
    device: torch.device,
) -> Pack:
    """Put some rows of a batch into one padded block, no longer than its longest sequence."""
    sequences = [prompts[row] + responses[row] for row in rows]
    ids, _ = pad_right(sequences, pad_id)
    width = ids.shape[1]
    before: list[int] = []
    targets: list[int] = []
    cell_rows: list[int] = []
    cell_columns: list[int] = []
    last: list[int] = []
    for index, row in enumerate(rows):
        start = index * width + len(prompts[row]) - 1
        length = len(responses[row])
        before += range(start, start + length)
        targets += responses[row]
        cell_rows += [row] * length
        cell_columns += range(length)
        last.append(index * width + len(sequences[index]) - 1)
    places = [torch.tensor(values, device=device) for values in (before, targets, last)]
    cells = (torch.tensor(cell_rows, device=device), torch.tensor(cell_columns, device=device))
    return Pack(rows, ids.to(device), places[0], places[1], cells, places[2])


def micro_batches(lengths: Sequence[int], rows: Sequence[int], size: int) -> Iterator[list[int]]:
    """Rows in groups of similar length, longest first, so that little is padding."""
    ordered = sorted(rows, key=lambda row: (-lengths[row], row))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def hidden_states(roles: Roles, role: Role, block: Pack) -> Tensor:
    """Last hidden states of a block under a role. (b * L, H)."""
    return roles.hidden(role, block.ids).flatten(0, 1)


def response_logprobs(
    roles: Roles, hidden: Tensor, block: Pack, temperature: float
) -> TokenLogProbs:
    """Log-probs and entropies of a block's response tokens, flat, from its hidden states."""
    head = roles.vocabulary_head
    return token_logprobs(
        hidden[block.before], head.weight, block.targets, temperature, bias=head.bias
    )


def token_values(roles: Roles, role: Role, hidden: Tensor, block: Pack) -> Tensor:
    """The value of the state before each response token, flat."""
    return roles.scalar(role, hidden[block.before])


def sequence_scores(roles: Roles, role: Role, hidden: Tensor, block: Pack) -> Tensor:
    """The reward head on each sequence's last token. (b,)."""
    return roles.scalar(role, hidden[block.last])
