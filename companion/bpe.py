"""Byte pair encoding as GPT-2 has it, the plain way: written to be read, slow on long texts."""

# Exported from lessons/06_bpe_tokenizer.md: edit that, then run `make lessons`.

__all__ = [
    "BYTE_ORDER",
    "GPT2_PATTERN",
    "PRINTABLE",
    "Pair",
    "best_pair",
    "decode",
    "encode",
    "encode_special",
    "encode_word",
    "learn",
    "merge_pair",
    "pair_counts",
    "tokens_of",
    "train",
    "word_counts",
]

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import regex


def merge_pair(ids: Sequence[int], pair: tuple[int, int], new: int) -> list[int]:
    """The ids with each occurrence of the pair, taken from the left, become `new`."""
    merged, at = [], 0
    while at < len(ids):
        is_pair = tuple(ids[at : at + 2]) == pair
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


Pair = tuple[int, int]

# GPT-2's order of the bytes: those that print as a character first, then the others.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = bytes(PRINTABLE + [b for b in range(256) if b not in PRINTABLE])


def pair_counts(words: Mapping[tuple[int, ...], int]) -> Counter[Pair]:
    """How often each pair of neighbours occurs, in words (of ids) with their counts."""
    counts: Counter[Pair] = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return counts


def best_pair(counts: Mapping[Pair, int]) -> Pair:
    """The pair to merge: the most frequent; of several, the one with smaller ids."""
    return min(counts, key=lambda pair: (-counts[pair], pair))


def learn(
    words: Mapping[bytes, int],
    merges: int,
    best: Callable[[Mapping[Pair, int]], Pair] = best_pair,
) -> list[Pair]:
    """The pairs to merge, in order, for words with their counts.

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


def tokens_of(pairs: Iterable[Pair]) -> list[bytes]:
    """The bytes of each id: 256 single ones, then what each merge joined."""
    tokens = [bytes([byte]) for byte in BYTE_ORDER]
    for left, right in pairs:
        tokens.append(tokens[left] + tokens[right])
    return tokens


GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++"
    r"|\s++$|\s+(?!\S)|\s"
)


def word_counts(text: str, pattern: str = GPT2_PATTERN) -> Counter[bytes]:
    """How often each word occurs, as bytes."""
    return Counter(word.encode() for word in regex.findall(pattern, text))


def encode_word(word: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The ids of a word: of all neighbours that are a token, the lowest id is merged.

    Of several, the leftmost. Every pair is looked up anew for each merge.
    """
    parts = [word[at : at + 1] for at in range(len(word))]
    while True:
        found = [
            (ranks[left + right], at)
            for at, (left, right) in enumerate(pairwise(parts))
            if left + right in ranks
        ]
        if not found:
            return [ranks[part] for part in parts]
        _, at = min(found)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def train(text: str, vocab_size: int) -> dict[bytes, int]:
    """The ranks, learned from a text: each token's bytes, and its id."""
    pairs = learn(word_counts(text), vocab_size - 256)
    return {token: id for id, token in enumerate(tokens_of(pairs))}


def encode(text: str, ranks: Mapping[bytes, int]) -> list[int]:
    """The ids of a text, word by word."""
    words = regex.findall(GPT2_PATTERN, text)
    return [id for word in words for id in encode_word(word.encode(), ranks)]


def decode(ids: Iterable[int], ranks: Mapping[bytes, int]) -> str:
    """The text of ids; bytes that are no whole character become U+FFFD, as �."""
    token_of = {id: token for token, id in ranks.items()}
    return b"".join(token_of[id] for id in ids).decode("utf-8", errors="replace")


def encode_special(text: str, ranks: Mapping[bytes, int], special: Mapping[str, int]) -> list[int]:
    """The ids of a text in which special tokens (one or more) become their id."""
    names = "|".join(map(regex.escape, special))
    ids = []
    for part in regex.split(f"({names})", text):  # the group keeps what is cut at
        ids += [special[part]] if part in special else encode(part, ranks)
    return ids
