"""The modest rival of lesson 07: how well does counting guess the next id?"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def trigram_loss(
    train: Sequence[int] | Tensor,
    val: Sequence[int] | Tensor,
    vocab_size: int,
    *,
    start_count: float = 0.05,
) -> float:
    """Held-out loss, in nats an id, of what followed each pair of ids in the training text.

    Counts begin at `start_count`, so that nothing is impossible. ValueError for texts of fewer
    than three ids.
    """
    train, val = np.asarray(train, dtype=np.int64), np.asarray(val, dtype=np.int64)
    if min(len(train), len(val)) < 3:
        raise ValueError("a trigram needs three ids, in the training text and in the held-out one")
    V = vocab_size
    counts = np.bincount((train[:-2] * V + train[1:-1]) * V + train[2:], minlength=V**3)
    p = counts.reshape(V, V, V) + start_count
    p /= p.sum(axis=-1, keepdims=True)
    return float(-np.log(p[val[:-2], val[1:-1], val[2:]]).mean())
