"""The modest rivals: how well does counting guess the next id? (Lessons 07 and 14.)"""

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


def counted_loss(
    train: Sequence[int] | Tensor,
    val: Sequence[int] | Tensor,
    vocab_size: int,
    *,
    context: int,
    trust: float = 4.0,
) -> float:
    """Held-out loss, in nats an id, of what followed each `context` ids in the training text.

    What a shorter context says stands in front of the counts, as if it had been seen `trust`
    times; below the shortest, every id is as likely as any other. ValueError for texts of no more
    than `context` ids, and where vocab_size ** (context + 1) is over 2**63.
    """
    train, val = np.asarray(train, dtype=np.int64), np.asarray(val, dtype=np.int64)
    if min(len(train), len(val)) <= context:
        raise ValueError(f"context={context} needs texts of more than {context} ids")
    if vocab_size ** (context + 1) > 2**63:
        raise ValueError(f"context={context} of {vocab_size} ids does not fit in 64 bits")
    p = np.full(len(val) - context, 1 / vocab_size)
    for k in range(context + 1):
        came = _occurrences(_windows(train, k + 1, vocab_size), _windows(val, k + 1, vocab_size))
        seen = _occurrences(_windows(train[:-1], k, vocab_size), _windows(val[:-1], k, vocab_size))
        came, seen = (count[context - k :] for count in (came, seen))
        p = (came + trust * p) / (seen + trust)
    return float(-np.log(p).mean())


def _windows(ids: np.ndarray, length: int, vocab_size: int) -> np.ndarray:
    """Each stretch of so many ids as one number, by where it begins."""
    count = len(ids) - length + 1
    whole = np.zeros(count, dtype=np.int64)
    for k in range(length):
        whole = whole * vocab_size + ids[k : k + count]
    return whole


def _occurrences(inside: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each number that is asked for stands inside."""
    kept, times = np.unique(inside, return_counts=True)
    at = np.searchsorted(kept, asked).clip(max=len(kept) - 1)
    return np.where(kept[at] == asked, times[at], 0)
