"""A rule that knows nothing but which words two texts share, for next sentence prediction."""

from collections import Counter
from collections.abc import Sequence
from math import log, sqrt

from companion.bert_words import words

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


def _bag(text: str) -> set[str]:
    return {"".join(char for char, _ in word) for word in words(text)}
