"""What each process reads of the shards: every token once in an epoch, whoever reads it.

The shards are one circle of N tokens, end to end and back to the start. On it stand `lanes`
readers, N / lanes tokens apart. Rows of T tokens are handed to them in turn, and each reads on from
where it stopped. So the rows of a step come from all over the text, not from one page of it; when
a reader comes to where the next one began, everything has been read once, and it reads on.

Which process takes which row does not change what is read. So an epoch's end needs no rule, a run
may go on with another number of processes, and the position is one number: how many tokens have
been read since the start.
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

    Each call moves on by world * B rows: rank r reads rows r * B to r * B + B - 1 of them.
    Row n is the next of reader n % lanes; let `lanes` be the rows of a step. After every step, no
    token has been read more than once more than another.
    `position` counts the tokens that all processes together have read; set it to go on from there.
    ValueError for sizes that make no sense, or fewer tokens than one row.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        B: int,
        T: int,
        *,
        rank: int = 0,
        world: int = 1,
        lanes: int = 1,
    ) -> None:
        if B < 1 or T < 1 or lanes < 1 or not 0 <= rank < world:
            raise ValueError(f"{B=}, {T=}, {lanes=}, {rank=} of {world=} make no batches")
        self.B, self.T, self.rank, self.world, self.lanes = B, T, rank, world, lanes
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
        first = self.position // self.T + self.rank * self.B
        rows = [self.read(self.place(first + n), self.T + 1) for n in range(self.B)]
        self.position += self.world * self.B * self.T
        window = torch.from_numpy(np.stack(rows).astype(np.int64))  # (B, T + 1)
        return window[:, :-1].contiguous(), window[:, 1:].contiguous()

    def place(self, row: int) -> int:
        """Where on the circle the run's row of this number begins, from 0 to N - 1."""
        turn, lane = divmod(row, self.lanes)
        return (lane * self.tokens // self.lanes + turn * self.T) % self.tokens

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
