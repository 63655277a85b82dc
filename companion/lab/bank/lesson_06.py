"""Lesson 06: one pair of ids made one, wherever it occurs."""

from itertools import pairwise

from companion.lab.exercise import Exercise, Mistake

Pair = tuple[int, int]


def reference(ids: list[int], pair: Pair, new: int) -> list[int]:
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
        Mistake(
            "nothing merged",
            "the ids came back as they were. If you compare a slice with the pair: is a list ever "
            "equal to a tuple?",
            lambda ids, pair, new: list(ids),
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
