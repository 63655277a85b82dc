"""What each process reads of the shards: every token once in an epoch, whoever reads it.

The shards are one circle of N tokens, end to end and back to the start. A step reads the next
`rows` of T tokens of it, row after row; which process reads which row does not change what is read.
So an epoch's end needs no rule, a run may go on with another number of processes, and the
position is one number: how many tokens have been read since the start.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from companion.pretrain.shards import Shard

__all__ = ["ShardLoader"]


class ShardLoader:
    """Batches for process `rank` of `world`: B rows of T tokens, and the tokens one later.

    Each call moves on by world * B * T tokens: rank r reads rows r * B to r * B + B - 1 of them.
    `position` counts the tokens that all processes together have read; set it to go on from there.
    ValueError for sizes that make no sense, or fewer tokens than one row.
    """

    def __init__(
        self, shards: Sequence[Shard], B: int, T: int, *, rank: int = 0, world: int = 1
    ) -> None:
        if B < 1 or T < 1 or not 0 <= rank < world:
            raise ValueError(f"{B=}, {T=}, {rank=} of {world=} make no batches")
        self.B, self.T, self.rank, self.world = B, T, rank, world
        self.position = 0
        self._shards = [shard.ids for shard in shards]
        self._ends = np.cumsum([len(ids) for ids in self._shards])
        self.tokens = int(self._ends[-1]) if shards else 0
        if self.tokens < T + 1:
            raise ValueError(f"{self.tokens} tokens are fewer than one row of {T=} and a successor")

    @property
    def epoch(self) -> float:
        """How many times over all tokens have been read."""
        return self.position / self.tokens

    def next_batch(self) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """The next ids of this process, and their targets."""
        start = self.position + self.rank * self.B * self.T
        window = torch.from_numpy(self.read(start, self.B * self.T + 1).astype(np.int64))
        self.position += self.world * self.B * self.T
        return window[:-1].view(self.B, self.T), window[1:].view(self.B, self.T)

    def read(self, start: int, count: int) -> np.ndarray:
        """`count` ids of the circle from place `start` on."""
        parts = []
        while count:
            place = start % self.tokens
            shard = int(np.searchsorted(self._ends, place, side="right"))
            first = place - (self._ends[shard] - len(self._shards[shard]))
            part = self._shards[shard][first : first + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return np.concatenate(parts)
