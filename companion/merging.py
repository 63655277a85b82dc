"""Byte pair encoding, applied: the merges that are made in a word, by ranks."""

# Exported from lessons/06_bpe_tokenizer.md: edit that, then run `make lessons`.

__all__ = ["encode_word", "encode_word_plainly", "merge_steps"]

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise


def merge_steps(word: bytes, ranks: Mapping[bytes, int]) -> Iterator[list[bytes]]:
    """The parts of a word: its single bytes, then after each merge, to the last one.

    Of all neighbours that are a token together, those with the lowest id are merged;
    of several, the leftmost.
    """
    parts = [word[at : at + 1] for at in range(len(word))]
    yield parts
    while True:
        found = [
            (ranks[left + right], at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left + right in ranks
        ]
        if not found:
            return
        _, at = min(found)
        parts = [*parts[:at], parts[at] + parts[at + 1], *parts[at + 2 :]]
        yield parts


def encode_word_plainly(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The ids of a word, every pair looked up anew for each merge."""
    *_, parts = merge_steps(word, ranks)
    return [ranks[part] for part in parts]


def encode_word(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """What `encode_word_plainly` gives, with no part of a long word looked at in vain.

    A part is known by where it starts, and `ends` says where it ends. `places` keeps
    the starts of the pairs that wait for their merge, by rank.
    """
    size, rank_of = len(word), ranks.get
    ends = list(range(1, size + 1))  # 0 where no part starts any more
    before = list(range(-1, size))  # the start of the part in front
    places: dict[int, list[int]] = {}
    for at in range(size - 1):
        if (rank := rank_of(word[at : at + 2])) is not None:
            places.setdefault(rank, []).append(at)
    heap = list(places)
    heapify(heap)
    while heap:
        rank = heappop(heap)
        waiting = sorted(places.pop(rank), reverse=True)  # the leftmost is last
        while waiting:
            at = waiting.pop()
            middle = ends[at]
            if middle in (0, size) or rank_of(word[at : ends[middle]]) != rank:
                continue  # one of the two has been merged with another
            end = ends[at] = ends[middle]
            ends[middle], before[end] = 0, at
            for start, stop in (
                (before[at], end),
                (at, ends[end] if end < size else 0),
            ):
                new = rank_of(word[start:stop]) if start >= 0 else None
                if stop and new is not None:
                    if new not in places:
                        places[new] = []
                        heappush(heap, new)
                    places[new].append(start)
            if heap and heap[0] < rank:  # never, where ids are in order of learning
                places[rank] = waiting
                heappush(heap, rank)
                break
    ids, at = [], 0
    while at < size:
        ids.append(ranks[word[at : ends[at]]])
        at = ends[at]
    return ids
