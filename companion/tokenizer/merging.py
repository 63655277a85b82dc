"""Byte pair encoding, fast: what companion/bpe.py does plainly; the tests hold them equal.

A merge changes only the words that have the pair, so `learn` keeps for each pair the words it
occurs in, and after a merge mends the counts of those. The best pair comes from a heap, a list
whose smallest entry is found at once. The count of a pair in it can be out of date in one way: it
fell, as other merges used up its tokens. Such an entry is put back lower when it comes up.

`encode_word` goes through the ranks, the lowest first, and looks only at the pairs that wait for
it. The two neighbours of a fresh token make new pairs, and these are put in the queue.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from itertools import pairwise
from operator import add

from companion.bpe import BYTE_ORDER, Pair

TO_IDS = bytes(BYTE_ORDER.index(byte) for byte in range(256))


def learn(
    words: Mapping[bytes, int],
    merges: int,
    bar: Callable[[Iterable[int], str], Iterable[int]] = lambda steps, what: steps,
) -> list[Pair]:
    """What `companion.bpe.learn` learns, by mending the counts that a merge changes.

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


def encode_word(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """What `companion.bpe.encode_word` gives, in time that grows with the word, not its square.

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
