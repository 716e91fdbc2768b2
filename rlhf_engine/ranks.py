"""Several processes that train one run together (data parallel), each on its share of the rows.

All hold the same weights and draw the same numbers; the first one alone reads commands and writes
the store. `torchrun` and `accelerate launch` say in the environment which process this is.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

Item = TypeVar("Item")
# A rank waits for the first one as long as that waits for its parents or for its device.
PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class Ranks:
    """This process's number and how many there are."""

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's items; every one is in exactly one process's share."""
        return list(items[self.rank :: self.size])

    def rows_at_once(self, limit: int, rows: int) -> int:
        """The largest micro-batch, at most `limit`, that leaves no process without rows."""
        return max(1, min(limit, -(-rows // self.size)))

    def gather(self, items: Sequence[Item], total: int) -> list[Item]:
        """The shares of all processes in their first order; `total` items."""
        if self.size == 1:
            return list(items)
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        distributed.all_gather_object(parts, list(items))
        return [parts[place % self.size][place // self.size] for place in range(total)]

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sums over all processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def sums(self, values: Sequence[float]) -> list[float]:
        """Sums of plain numbers over all processes."""
        found = torch.tensor(values, dtype=torch.float64)
        self.sum([found])
        return cast(list[float], found.tolist())

    def tell(self, message: Any) -> Any:
        """Send the first process's message to all; the others pass None and are given it."""
        if self.size == 1:
            return message
        box = [message]
        distributed.broadcast_object_list(box, src=0)
        return box[0]


def join() -> Ranks:
    """Connect this process with those that the launcher started beside it, if any.

    Over gloo: all that travels is small, the gradients of adapters included.
    """
    ranks = Ranks(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if ranks.size > 1:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    return ranks
