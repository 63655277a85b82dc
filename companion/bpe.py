"""Byte pair encoding, learned: which pairs to merge, from words and their counts."""

# Exported from lessons/06_bpe_tokenizer.md: edit that, then run `make lessons`.

__all__ = [
    "BYTE_ORDER",
    "PRINTABLE",
    "TO_IDS",
    "Pair",
    "best_pair",
    "learn",
    "learn_plainly",
    "merge_pair",
    "pair_counts",
]

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from operator import add

Pair = tuple[int, int]

# GPT-2's order of the bytes: those that print as a character first, then the others.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = bytes(PRINTABLE + [b for b in range(256) if b not in PRINTABLE])


def pair_counts(words: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbours occurs, in words of ids that occur so often."""
    counts: Counter[Pair] = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return counts


def best_pair(counts: Mapping[Pair, int]) -> Pair:
    """The pair to merge: the most frequent; of several, the one with smaller ids."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def merge_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The ids with each occurrence of the pair, taken from the left, become `new`."""
    merged, at = [], 0
    while at < len(ids):
        if tuple(ids[at : at + 2]) == pair:
            merged.append(new)
            at += 2
        else:
            merged.append(ids[at])
            at += 1
    return merged


def learn_plainly(
    words: Mapping[bytes, int],
    merges: int,
    best: Callable[[Mapping[Pair, int]], Pair] = best_pair,
) -> list[Pair]:
    """The pairs to merge, in order, for words that occur so often; every count anew.

    Id n is byte `BYTE_ORDER[n]` for n under 256, and then the result of merge n - 256.
    Fewer than `merges` where no word has two neighbours left.
    """
    in_ids = {
        tuple(BYTE_ORDER.index(byte) for byte in word): times for word, times in words.items()
    }
    learned = []
    for new in range(256, 256 + merges):
        counts = pair_counts(in_ids)
        if not counts:
            break
        pair = best(counts)
        learned.append(pair)
        in_ids = {tuple(merge_pair(word, pair, new)): times for word, times in in_ids.items()}
    return learned


TO_IDS = bytes(BYTE_ORDER.index(byte) for byte in range(256))


def learn(
    words: Mapping[bytes, int],
    merges: int,
    bar: Callable[[Iterable[int], str], Iterable[int]] = lambda steps, what: steps,
) -> list[Pair]:
    """What `learn_plainly` learns, by mending the counts that a merge changes.

    A word is a string here, one character an id. Splitting it at a pair shows all
    places of the pair, from the left, and what stands beside them.
    """
    times = list(words.values())
    texts = [word.translate(TO_IDS).decode("latin-1") for word in words]
    counts: dict[str, int] = defaultdict(int)
    places: dict[str, list[int]] = defaultdict(list)  # the words that a pair occurs in
    for place, text in enumerate(texts):
        for pair in map(add, text, text[1:]):
            counts[pair] += times[place]
            places[pair].append(place)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    learned = []
    for new in bar(range(256, 256 + merges), "merging"):
        pair = _pop_best(heap, counts)
        if pair is None:
            break
        (first, second), merged = pair, chr(new)
        learned.append((ord(first), ord(second)))
        born: dict[str, int] = defaultdict(int)
        for place in set(places.pop(pair)):
            parts = texts[place].split(pair)
            texts[place] = merged.join(parts)
            for at, (left, right) in enumerate(pairwise(parts)):
                if left or at:  # with nothing between, another such pair is in front
                    counts[(left or second)[-1] + first] -= times[place]
                    fresh = (left or merged)[-1] + merged
                    born[fresh] += times[place]
                    places[fresh].append(place)
                if right:
                    counts[second + right[0]] -= times[place]
                    fresh = merged + right[0]
                    born[fresh] += times[place]
                    places[fresh].append(place)
        counts.pop(pair)
        counts.update(born)
        for fresh, count in born.items():
            heappush(heap, (-count, fresh))
    return learned


def _pop_best(heap: list[tuple[int, str]], counts: Mapping[str, int]) -> str | None:
    """The best pair. Counts only fall once pushed: one that fell is put back lower."""
    while heap:
        count, pair = heappop(heap)
        if -count == counts[pair]:
            return pair
        if counts[pair]:
            heappush(heap, (-counts[pair], pair))
    return None
