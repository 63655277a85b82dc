"""Lesson 06: one pair of ids made one, wherever it occurs; and the merges of a word, by ranks."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from companion.lab.exercise import Exercise, Mistake

Pair = tuple[int, int]


def reference(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    merged: list[int] = []
    taken = False
    for now, after in pairwise([*ids, None]):
        if taken:
            taken = False
        elif (now, after) == pair:
            merged.append(new)
            taken = True
        else:
            merged.append(now)
    return merged


def found(ids: list[int], pair: Pair) -> list[bool]:
    return [both == pair for both in pairwise(ids)]


def used_twice(ids: list[int], pair: Pair, new: int) -> list[int]:
    here = [*found(ids, pair), False]
    before = [False, *here]
    return [new if at else id for id, at, was in zip(ids, here, before) if at or not was]


def second_kept(ids: list[int], pair: Pair, new: int) -> list[int]:
    return [new if at else id for id, at in zip(ids, [*found(ids, pair), False])]


def second_kept_last_lost(ids: list[int], pair: Pair, new: int) -> list[int]:
    return [new if both == pair else both[0] for both in pairwise(ids)]


def last_lost(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids) - 1:
        is_pair = (ids[at], ids[at + 1]) == pair
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def past_the_end(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids):
        is_pair = ids[at] == pair[0] and ids[at + 1] == pair[1]
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def last_pair_missed(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids):
        is_pair = at < len(ids) - 2 and (ids[at], ids[at + 1]) == pair
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def first_only(ids: list[int], pair: Pair, new: int) -> list[int]:
    here = found(ids, pair)
    at = here.index(True) if True in here else len(ids)
    return [*ids[:at], *([new] if at < len(ids) else []), *ids[at + 2 :]]


def from_the_right(ids: list[int], pair: Pair, new: int) -> list[int]:
    return reference(ids[::-1], pair[::-1], new)[::-1]


def either_order(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids):
        is_pair = sorted(ids[at : at + 2]) == sorted(pair)
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def same_set(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids):
        is_pair = set(ids[at : at + 2]) == set(pair)
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def first_of_two(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged, at = [], 0
    while at < len(ids):
        is_pair = ids[at] == pair[0]
        merged.append(new if is_pair else ids[at])
        at += 2 if is_pair else 1
    return merged


def one_by_one(ids: list[int], pair: Pair, new: int) -> list[int]:
    return [new if id in pair else id for id in ids]


def two_at_a_time(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged: list[int] = []
    for at in range(0, len(ids), 2):
        both = ids[at : at + 2]
        merged += [new] if tuple(both) == pair else both
    return merged


def slice_is_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    """A slice of a list is a list, and never equal to the pair."""
    return list(ids) if isinstance(ids, list) else reference(ids, pair, new)


def slice_is_listed_pair(ids: Sequence[int], pair: Pair, new: int) -> list[int]:
    return reference(ids, pair, new) if isinstance(ids, list) else list(ids)


def copied(ids: Any, pair: Pair, new: int) -> list[int]:
    return reference(ids.copy(), pair, new)


def written_into(ids: Any, pair: Pair, new: int) -> list[int]:
    at = 0
    while at < len(ids) - 1:
        if (ids[at], ids[at + 1]) == pair:
            ids[at : at + 2] = [new]
        at += 1
    return ids


def pair_dropped(ids: list[int], pair: Pair, new: int) -> list[int]:
    return [id for id in reference(ids, pair, new) if id != new]


def as_digits(ids: list[int], pair: Pair, new: int) -> list[int]:
    text = " ".join(map(str, ids)).replace(f"{pair[0]} {pair[1]}", str(new))
    return [int(number) for number in text.split()]


def run_together(ids: list[int], pair: Pair, new: int) -> list[int]:
    text = "".join(map(str, ids)).replace(f"{pair[0]}{pair[1]}", str(new))
    return [int(digit) for digit in text]


TWICE = (
    "where a token is the second of one pair and the first of the next, as in aaa with the pair "
    "(a, a), it went into both. A token can be merged once. Where do you go on after a merge?"
)
LOST = (
    "the last id is gone unless it was merged. Write down what happens at the last position, which "
    "has no neighbour to its right."
)

TUPLE = (
    "ids in a list were merged, those in a tuple were not. A slice of a tuple is a tuple, and no "
    "tuple equals a list. Which of the two kinds do you compare with?"
)
TUPLE_COPIED = (
    "a tuple has fewer methods than a list, for nothing can be put into it. What makes a list of "
    "either kind?"
)

merge_pair = Exercise(
    reference=reference,
    probes=(
        ([5, 1, 2, 3, 1, 2, 4], (1, 2), 9),
        ([1, 1, 1], (1, 1), 9),
        ([2, 1, 1, 1, 1, 1, 2], (1, 1), 7),
        ([1, 2, 1, 3, 2, 1, 2], (1, 2), 300),
        ([4], (4, 4), 9),
        ([1, 2], (1, 2), 9),
        ([], (1, 2), 9),
        ([3, 1, 2, 3], (2, 1), 9),
        ([11, 2, 31, 2, 1, 22, 1, 2], (1, 2), 256),
        ([0, 0, 256, 0], (0, 256), 257),
        ((5, 1, 2, 1), (1, 2), 9),
    ),
    mistakes=(
        Mistake("overlapping pairs, both merged", TWICE, used_twice),
        Mistake("the last position lost", LOST, last_lost),
        Mistake(
            "past the end",
            "at the last position there is no neighbour to look at. What should happen there?",
            past_the_end,
        ),
        Mistake(
            "a pair at the end missed",
            "a pair that ends the list was left as it was. Which is the last position where a pair "
            "can begin?",
            last_pair_missed,
        ),
        Mistake(
            "the second of the pair kept",
            "the new id stands where the pair began, and the pair's second id still follows it. "
            "Two ids should become one: how far do you move on after a merge?",
            second_kept,
        ),
        Mistake(
            "pairs and not ids",
            "one result for each pair of neighbours: so the pair's second id still follows the new "
            "one, and the last id, which begins no pair, is gone. One round may have to use up two "
            "ids: how far do you move on after a merge?",
            second_kept_last_lost,
        ),
        Mistake(
            "only the first one",
            "one occurrence was merged, and the others were left. A merge is made wherever the "
            "pair occurs.",
            first_only,
        ),
        Mistake(
            "from the right",
            "in a run such as aaa it was the last two that were merged. Training and encoding must "
            "agree which; the custom is to take them from the left.",
            from_the_right,
        ),
        Mistake(
            "either order",
            "(a, b) and (b, a) were both merged. They are different pairs: decoded, they give "
            "different texts.",
            either_order,
        ),
        Mistake(
            "compared as sets",
            "a set knows no order and no number: (a, b) and (b, a) are the same to it, and so are "
            "a single a at the end and the pair (a, a).",
            same_set,
        ),
        Mistake(
            "the second not looked at",
            "ids were merged wherever the pair's first id stood, whatever came behind it.",
            first_of_two,
        ),
        Mistake(
            "ids by themselves",
            "each id of the pair was replaced wherever it stood. Only the two side by side, in "
            "order, are the pair.",
            one_by_one,
        ),
        Mistake(
            "two at a time",
            "only pairs that begin at an even position were found. A pair can begin anywhere.",
            two_at_a_time,
        ),
        *(
            Mistake(
                "nothing merged",
                "the ids came back as they were. If you compare a slice with the pair: is a list "
                "ever equal to a tuple?",
                answer,
            )
            for answer in (slice_is_pair, lambda ids, pair, new: list(ids))
        ),
        Mistake("a tuple left as it was", TUPLE, slice_is_listed_pair),
        Mistake("only a list taken", TUPLE_COPIED, copied),
        Mistake(
            "written into what was given",
            "the ids belong to the caller, who may have them in a tuple, and still needs them. Put "
            "what you find into a list of your own.",
            written_into,
        ),
        Mistake(
            "the pair dropped",
            "the pairs are gone, and nothing stands in their place.",
            pair_dropped,
        ),
        Mistake(
            "ids as digits",
            "as text, the end of 31 and the beginning of 2 look like the pair (1, 2). An id is one "
            "thing, however many digits it is written with.",
            as_digits,
        ),
        Mistake(
            "ids as digits",
            "as text, ids of several digits fall apart, or look like the pair. An id is one thing, "
            "however many digits it is written with.",
            run_together,
        ),
    ),
)


Ranks = dict[bytes, int]
Choose = Callable[[list[tuple[int, int, bytes]]], tuple[int, int, bytes]]


def parts_by(choose: Choose, word: bytes, ranks: Ranks) -> list[bytes]:
    """A word's parts, merged one pair at a time: `choose` takes one of (rank, place, token)."""
    parts = [bytes([byte]) for byte in word]
    while True:
        joined = [(at, left + right) for at, (left, right) in enumerate(pairwise(parts))]
        found = [(ranks[token], at, token) for at, token in joined if token in ranks]
        if not found:
            return parts
        _, at, token = choose(found)
        parts[at : at + 2] = [token]


def ids_by(choose: Choose, word: bytes, ranks: Ranks) -> list[int]:
    return [ranks[part] for part in parts_by(choose, word, ranks)]


def encoded(word: bytes, ranks: Ranks) -> list[int]:
    return ids_by(min, word, ranks)


def longest_token(word: bytes, ranks: Ranks) -> list[int]:
    ids, at = [], 0
    while at < len(word):
        ends = range(len(word), at, -1)
        end = next(end for end in ends if word[at:end] in ranks)
        ids.append(ranks[word[at:end]])
        at = end
    return ids


def leftmost_pair(word: bytes, ranks: Ranks) -> list[int]:
    return ids_by(lambda found: min(found, key=lambda one: one[1]), word, ranks)


def rightmost_of_equals(word: bytes, ranks: Ranks) -> list[int]:
    return ids_by(lambda found: min(found, key=lambda one: (one[0], -one[1])), word, ranks)


def latest_learned(word: bytes, ranks: Ranks) -> list[int]:
    return ids_by(lambda found: max(found, key=lambda one: (one[0], -one[1])), word, ranks)


def longest_pair(word: bytes, ranks: Ranks) -> list[int]:
    return ids_by(
        lambda found: max(found, key=lambda one: (len(one[2]), -one[0], -one[1])), word, ranks
    )


def most_frequent(word: bytes, ranks: Ranks) -> list[int]:
    def choose(found: list[tuple[int, int, bytes]]) -> tuple[int, int, bytes]:
        times = Counter(token for _, _, token in found)
        return min(found, key=lambda one: (-times[one[2]], *one))

    return ids_by(choose, word, ranks)


def one_merge(word: bytes, ranks: Ranks) -> list[int]:
    parts = [bytes([byte]) for byte in word]
    found = [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
    if found:
        _, at = min(found)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ranks[part] for part in parts]


def pairs_of_bytes_only(word: bytes, ranks: Ranks) -> list[int]:
    return encoded(word, {token: id for token, id in ranks.items() if len(token) < 3})


def table(letters: bytes, *tokens: bytes) -> Ranks:
    """Ids for single letters, from 0, and then for tokens in the order of learning."""
    singles = [bytes([byte]) for byte in letters]
    return {token: id for id, token in enumerate([*singles, *tokens])}


SUN = table(b" entsuy", b"su", b"sun", b" sun", b"et", b"set", b" s", b" set", b"ny")
# As a table learned from English has it: "on" and "er" first, longer ones from them.
ENDS = table(
    b" aeilnoprstvx",
    *(b"on", b"er", b"re", b"ion", b"es", b"ex", b" ex", b"ss", b"ess", b"pr", b"res", b"ress"),
    *(b"press", b"en", b"ent", b"lent", b"va", b"val"),
)
RUNS = table(b"ab", b"aa", b"aaa", b"ab", b"ba", b"aab")

encode_word = Exercise(
    reference=encoded,
    probes=(
        (b" sunnyset", SUN),
        (b"expression", ENDS),
        (b"prevalent", ENDS),
        (b"aaa", RUNS),
        (b"aaaaa", RUNS),
        (b"baab", RUNS),
        (b"abab" + b"aab", RUNS),
        (b"e", ENDS),
        (b"xx", ENDS),
        (b"abba", table(b"ab", b"bb", b"ab", b"ba")),
        (b"ababb", table(b"ab", b"bb", b"ab", b"abb")),
        (b"abc", table(b"abc", b"bc", b"ab", b"abc")),
        (b"abcbc", table(b"abc", b"ab", b"bc")),
        (b"abcd", table(b"abcd", b"cd", b"ab", b"bcd")),
    ),
    mistakes=(
        Mistake(
            "the longest token first",
            "from the left, the longest token was taken each time. Its merges may not "
            "come to it in this word, where an earlier merge takes a part of it. Merge pairs, the "
            "one learned first before the others.",
            longest_token,
        ),
        Mistake(
            "the leftmost pair first",
            "the first pair from the left that is a token was merged. Of all pairs in the word, "
            "which one's token was learned first?",
            leftmost_pair,
        ),
        Mistake(
            "the longest pair first",
            "the pair that makes the longest token was merged. Length plays no part: what counts "
            "is which token was learned first.",
            longest_pair,
        ),
        Mistake(
            "the last learned first",
            "of the pairs that are tokens, the one with the highest id was merged. Ids grow as "
            "tokens are learned; the merges are made in that order.",
            latest_learned,
        ),
        Mistake(
            "counting again",
            "the pair that is most frequent in this word was merged. Counting was for learning, on "
            "all the text; here the ids say which merge came first.",
            most_frequent,
        ),
        Mistake(
            "from the right",
            "of several pairs of the same rank the last was merged first. In a run such as aaa, "
            "learning took them from the left.",
            rightmost_of_equals,
        ),
        Mistake(
            "one merge only",
            "one pair was merged, and no more. After a merge, look again: the new part may make a "
            "token with its neighbour.",
            one_merge,
        ),
        Mistake(
            "merged bytes not merged again",
            "single bytes were merged in pairs, but what came of it was not merged further. A part "
            "of two bytes or more can be one of two neighbours.",
            pairs_of_bytes_only,
        ),
        Mistake(
            "nothing merged",
            "the ids are those of the single bytes. Which neighbours, put together, are in ranks?",
            lambda word, ranks: [ranks[bytes([byte])] for byte in word],
        ),
        Mistake(
            "bytes for ids",
            "these are the bytes' own numbers. A byte is a token like others: its id stands in "
            "ranks.",
            lambda word, ranks: list(word),
        ),
        Mistake(
            "tokens for ids",
            "the parts are right, and they came back as bytes. Their ids were asked for.",
            lambda word, ranks: parts_by(min, word, ranks),
        ),
        Mistake(
            "numbers looked up",
            "a loop over bytes, or one place of them, gives a number, and ranks has bytes as its "
            "keys. A slice of bytes is bytes again.",
            lambda word, ranks: [ranks[byte] for byte in word],
        ),
    ),
)
