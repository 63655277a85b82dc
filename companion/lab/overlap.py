"""A rule that knows nothing but which words two texts share, for next sentence prediction."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from math import log, sqrt

import torch

from companion.bert_inputs import sentence_pairs
from companion.bert_words import words
from companion.lab.reading import documents

Pair = tuple[str, str, int]  # two texts; 0 where the second follows the first, else 1


def overlap_rule(known: Sequence[Pair], held_out: Sequence[Pair]) -> float:
    """The share of held-out pairs that the words which both texts have tell rightly.

    The words of both are added up, rare ones counting more (by how few of the known texts have
    them), relative to the size of the two texts; above a threshold the second is said to follow.
    The threshold is the one that is best on the known pairs.
    """
    texts = [_bag(text) for pair in known for text in pair[:2]]
    occurs = Counter(word for text in texts for word in text)

    def weight(some: set[str]) -> float:
        return sum(log((1 + len(texts)) / (1 + occurs[word])) for word in some)

    def score(pair: Pair) -> float:
        first, second = _bag(pair[0]), _bag(pair[1])
        size = weight(first) * weight(second)
        return weight(first & second) / sqrt(size) if size > 0 else 0.0

    def right(scored: list[tuple[float, int]], least: float) -> float:
        return sum((x < least) == (label == 1) for x, label in scored) / len(scored)

    learned, asked = ([(score(pair), pair[2]) for pair in part] for part in (known, held_out))
    best = max((n / 100 for n in range(101)), key=lambda least: right(learned, least))
    return right(asked, best)


def shared_words(seed: int, sentences: tuple[int, ...]) -> dict[str, list[float]]:
    """The share of held-out pairs of Python's reference that `overlap_rule` gets right, by task.

    Half of the documents, drawn by `seed`, are known and half held out. One number for each
    number of `sentences` in a segment. Reversed pairs are the true ones and the same turned round.
    """
    generator = torch.Generator().manual_seed(seed)
    texts = documents()
    order = torch.randperm(len(texts), generator=generator).tolist()
    half = len(order) // 2
    parts = [[texts[n] for n in some] for some in (order[:half], order[half:])]

    def pairs(part: list[list[str]], n: int, same_document: bool = False) -> list[Pair]:
        drawn = sentence_pairs(part, sentences=n, same_document=same_document, generator=generator)
        return [tuple(pair) for pair in drawn]

    def reversed_too(part: list[list[str]], n: int) -> list[Pair]:
        nexts = [pair[:2] for _ in range(2) for pair in pairs(part, n) if pair[2] == 0]
        return [(*two, 0) for two in nexts] + [(*two[::-1], 1) for two in nexts]

    tasks = {
        "another document": pairs,
        "the same document": partial(pairs, same_document=True),
        "the same two, reversed": reversed_too,
    }
    return {
        task: [overlap_rule(*(make(part, n) for part in parts)) for n in sentences]
        for task, make in tasks.items()
    }


def _bag(text: str) -> set[str]:
    return {"".join(char for char, _ in word) for word in words(text)}
