"""Lesson 21: the mask added to the scores, the labels of words to guess, and a pair to read."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

# --- the added mask -------------------------------------------------------------------------------


def _seen(*lengths: int, T: int | None = None) -> Tensor:
    return torch.arange(T or max(lengths)) < torch.tensor(lengths)[:, None]


def least(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T): 0 at tokens, the dtype's least number at padding."""
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def filled(seen: Tensor, dtype: torch.dtype, value: float) -> Tensor:
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, value)[:, None, None, :]


def outer(seen: Tensor) -> Tensor:
    return seen[:, None, :, None] & seen[:, None, None, :]


def to_shape(seen: Tensor) -> Tensor:
    return seen[:, None, None, :]


SHAPE = "the scores are (B, nh, T, T), and the mask should be (B, 1, 1, T). "
FIGURE = (
    "a number of your own choice stands where the dtype's least should. It may be too small for "
    "large scores, or too large for a half-precision dtype. Ask the dtype what it can hold."
)
DTYPE = (
    "the mask should have the dtype that was asked for, the scores' own. torch.where of two plain "
    "numbers, like torch.zeros alone, makes float32."
)
ZERO_TIMES = (
    "at tokens it is NaN: there, 0 was multiplied by infinity. Choose between two values for each "
    "place instead of multiplying."
)
ONES = (
    "ones and zeros were taken for what is added. One more or less makes a key e times as likely, "
    "and hides nothing. How far down must padding go?"
)

added_to_scores = Exercise(
    reference=lambda seen, dtype: to_shape(least(seen, dtype)),
    probes=(
        (_seen(3, 5), torch.float32),
        (_seen(4, 2, 7), torch.bfloat16),
        (_seen(2, 1, 3, T=4), torch.float16),
        (_seen(5, 5, 4, 1, 2), torch.float32),  # as many texts as tokens
        (_seen(1), torch.float64),
        (
            torch.tensor([[False, True, True], [True, False, True]]),
            torch.float32,
        ),  # padded in front
    ),
    axes="(B, 1, 1, T)",
    mistakes=(
        Mistake(
            "the other way round",
            "tokens were hidden and padding is seen. What does True say in the mask that comes in, "
            "and which places should keep their score?",
            lambda seen, dtype: to_shape(least(~seen, dtype)),
        ),
        Mistake(
            "two axes missing",
            SHAPE + "This one has two axes, so its texts would be taken for queries.",
            lambda seen, dtype: least(seen, dtype),
        ),
        Mistake(
            "one axis missing",
            SHAPE + "This one has three axes, so its texts would be taken for heads.",
            lambda seen, dtype: least(seen, dtype)[:, None, :],
        ),
        Mistake(
            "texts where the heads are",
            SHAPE + "Here the texts stand on another axis than the scores have them.",
            lambda seen, dtype: least(seen, dtype)[None, None],
        ),
        Mistake(
            "texts where the heads are",
            SHAPE + "Here the texts stand on another axis than the scores have them.",
            lambda seen, dtype: least(seen, dtype)[None, :, None, :],
        ),
        Mistake(
            "queries hidden for keys",
            SHAPE + "This one hides rows, which are queries: all of a row's scores move alike, and "
            "the softmax does not notice. Padding must not be looked at.",
            lambda seen, dtype: least(seen, dtype)[:, None, :, None],
        ),
        Mistake(
            "masked queries",
            SHAPE + "This one hides padded queries too, and leaves them nothing to look at. Nobody "
            "reads what they compute: hide keys alone.",
            lambda seen, dtype: torch.zeros(outer(seen).shape, dtype=dtype).masked_fill(
                ~outer(seen), torch.finfo(dtype).min
            ),
        ),
        Mistake(
            "masked queries",
            SHAPE + "This one hides padded queries too, with -inf, so their rows come out NaN. "
            "Nobody reads what they compute: hide keys alone.",
            lambda seen, dtype: torch.zeros(outer(seen).shape, dtype=dtype).masked_fill(
                ~outer(seen), -torch.inf
            ),
        ),
        Mistake(
            "a copy for every query",
            SHAPE + "The values are right and repeated for each query. All queries see the same "
            "keys, so one row is enough, and it is broadcast.",
            lambda seen, dtype: to_shape(least(seen, dtype)).expand(-1, 1, seen.shape[1], -1),
        ),
        *(
            Mistake(
                "a causal mask",
                "this hides what comes later, as GPT does. BERT looks both ways; what should be "
                "hidden is padding, which each text has in its own places.",
                answer,
            )
            for value in ("min", "inf")
            for answer in (
                lambda seen, dtype, value=value: _later(seen, dtype, value),
                lambda seen, dtype, value=value: _later(seen, dtype, value)[None, None],
                lambda seen, dtype, value=value: torch.minimum(
                    _later(seen, dtype, value), to_shape(least(seen, dtype))
                ),
            )
        ),
        *(
            Mistake(
                "a causal mask",
                "this is a triangle, as GPT has it. BERT looks both ways; what should be hidden is "
                "padding, which each text has in its own places.",
                lambda seen, dtype, form=form: form(_triangle(seen, dtype)),
            )
            for form in (
                lambda tril: tril,
                lambda tril: tril.float(),
                lambda tril: tril.bool(),
                lambda tril: tril[None, None],
                lambda tril: tril[None, None].float(),
                lambda tril: tril[None, None].bool(),
            )
        ),
        Mistake(
            "minus infinity",
            "padding gets minus infinity. That hides it too, until a row has nothing else: then it "
            "is NaN. The least number that the dtype has does not do that.",
            lambda seen, dtype: filled(seen, dtype, -torch.inf),
        ),
        *(
            Mistake("a number of your own", FIGURE, answer)
            for value in (-1e9, -1e10, -10000.0, -1e5, -1e4 + 1, -100.0, -1.0, -1e30)
            for answer in (
                lambda seen, dtype, value=value: filled(
                    seen, dtype, max(value, torch.finfo(dtype).min)
                ),
                lambda seen, dtype, value=value: filled(seen, dtype, value),
                lambda seen, dtype, value=value: filled(seen, torch.float32, value).to(dtype),
                lambda seen, dtype, value=value: (
                    (1.0 - to_shape(seen).to(dtype)) * torch.tensor(value).to(dtype)
                ),
            )
        ),
        Mistake(
            "plus for minus",
            "padding gets the largest number, not the least, and takes all the weight.",
            lambda seen, dtype: filled(seen, dtype, torch.finfo(dtype).max),
        ),
        Mistake(
            "plus for minus",
            "padding gets plus infinity, so it takes all the weight, and the rows are NaN.",
            lambda seen, dtype: filled(seen, dtype, torch.inf),
        ),
        Mistake(
            "the smallest above nothing",
            "that is the smallest number above 0, and adding it changes nothing. The least one, "
            "far below 0, is what hides.",
            lambda seen, dtype: filled(seen, dtype, torch.finfo(dtype).tiny),
        ),
        Mistake(
            "the smallest above nothing",
            "that is the step between 1 and the next number, and adding it changes nothing. The "
            "least number, far below 0, is what hides.",
            lambda seen, dtype: filled(seen, dtype, torch.finfo(dtype).eps),
        ),
        Mistake("ones and zeros", ONES, lambda seen, dtype: to_shape(seen).to(dtype)),
        Mistake("ones and zeros", ONES, lambda seen, dtype: (~to_shape(seen)).to(dtype)),
        Mistake(
            "still True and False",
            "this mask is True and False. Added to scores, they count as 1 and 0. What should be "
            "added are numbers: nothing, or very much less.",
            lambda seen, dtype: to_shape(seen),
        ),
        Mistake(
            "still True and False",
            "this mask is True and False, the other way round. What should be added to scores are "
            "numbers: nothing, or very much less.",
            lambda seen, dtype: ~to_shape(seen),
        ),
        Mistake(
            "zero times infinity", ZERO_TIMES, lambda seen, dtype: _times_infinity(seen, dtype)
        ),
        *(
            Mistake("another dtype", DTYPE, answer)
            for answer in (
                lambda seen, dtype: to_shape(least(seen, torch.float32)),
                lambda seen, dtype: to_shape(torch.where(seen, 0.0, torch.finfo(dtype).min)),
                lambda seen, dtype: torch.where(seen, 0.0, torch.finfo(dtype).min),
                lambda seen, dtype: filled(seen, torch.float32, torch.finfo(dtype).min),
                lambda seen, dtype: filled(seen, torch.float64, torch.finfo(dtype).min),
            )
        ),
    ),
)


def _later(seen: Tensor, dtype: torch.dtype, value: str) -> Tensor:
    later = torch.ones(seen.shape[1], seen.shape[1], dtype=torch.bool).triu(1)
    hidden = -torch.inf if value == "inf" else torch.finfo(dtype).min
    return torch.zeros(later.shape, dtype=dtype).masked_fill(later, hidden)


def _triangle(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.ones(seen.shape[1], seen.shape[1], dtype=dtype).tril()


def _times_infinity(seen: Tensor, dtype: torch.dtype) -> Tensor:
    return (1.0 - to_shape(seen).to(dtype)) * -torch.inf


# --- labels ---------------------------------------------------------------------------------------

SPECIAL = (0, 100, 101, 102, 103)
IGNORED = -100


Ids = tuple[int, ...]


def _ids(
    lengths: Ids, seed: int, special: Ids = SPECIAL, ordinary: tuple[int, int] = (1000, 2000)
) -> tuple[Tensor, Tensor, Ids]:
    """Ids with [CLS], [SEP], an [UNK] and padding, and chances of which many are small.

    `special` are those of [PAD], [UNK], [CLS], [SEP], [MASK]; others are from `ordinary`.
    """
    generator = torch.Generator().manual_seed(seed)
    T = max(lengths)
    pad, unk, cls, sep, _ = special
    ids = torch.randint(*ordinary, (len(lengths), T), generator=generator)
    ends = torch.tensor(lengths)[:, None]
    at = torch.arange(T)
    ids = torch.where(at == ends - 1, sep, ids)
    ids = torch.where(at >= ends, pad, ids)
    ids[:, 0], ids[0, 3] = cls, unk
    chance = torch.rand(len(lengths), T, generator=generator)
    chance[:, 1::4] *= 0.15  # enough that are chosen
    for row in range(len(lengths)):
        chance[row, :5] = torch.tensor([0.01, 0.14, 0.5, 0.05, 0.13])
        chance[row, -4:] = torch.tensor([0.02, 0.9, 0.11, 0.03])
    chance[0, 2] = 0.15  # as much as it takes, and not less
    return ids, chance, special


def chosen(ids: Tensor, chance: Tensor, special_ids: tuple[int, ...], p: float = 0.15) -> Tensor:
    return (chance < p) & ~torch.isin(ids, torch.tensor(list(special_ids)))


def labels(ids: Tensor, where: Tensor, other: int | Tensor = IGNORED) -> Tensor:
    return torch.where(where, ids, other)


COUNTED = (
    "special tokens are asked for too. Where a text begins and ends, and where it is padded, "
    "there is nothing to learn, and a short text would be mostly that. {}"
)

labels_to_guess = Exercise(
    reference=lambda ids, chance, special_ids: labels(ids, chosen(ids, chance, special_ids)),
    probes=(
        _ids((9, 12), 1),
        _ids((20, 8, 15), 2),
        _ids((10,), 3),
        (torch.tensor([[101, 102, 0, 0]]), torch.tensor([[0.1, 0.0, 0.1, 0.5]]), SPECIAL),
        _ids((14, 11), 4, special=(0, 1, 2, 3, 4), ordinary=(5, 40)),
        _ids((12, 16, 9), 5, special=(50, 51, 52, 53, 54), ordinary=(0, 50)),
        _ids((13, 17), 6, special=(3, 20, 21, 22, 37), ordinary=(0, 40)),
    ),
    axes="(B, T)",
    mistakes=(
        Mistake(
            "special tokens counted",
            COUNTED.format("Leave out all of special_ids."),
            lambda ids, chance, special_ids: labels(ids, chance < 0.15),
        ),
        *(
            Mistake(
                "only some special tokens",
                COUNTED.format("Some of special_ids are left out here, and others are not."),
                lambda ids, chance, special_ids, some=some: labels(ids, chosen(ids, chance, some)),
            )
            for some in ((0,), (101, 102), (0, 101, 102), (101,), (102,), (0, 101), (0, 102))
        ),
        *(
            Mistake(
                "only some special tokens",
                COUNTED.format("Some of special_ids are left out here, and others are not."),
                lambda ids, chance, special_ids, some=some: labels(
                    ids, chosen(ids, chance, tuple(special_ids[n] for n in some))
                ),
            )
            for some in ((0,), (2, 3), (0, 2, 3), (2,), (3,), (0, 2), (0, 3), (-1,), (0, -1))
        ),
        *(
            Mistake(
                "one release's ids by heart",
                "the special ids of bert-base-uncased, or the gap above them, are written into the "
                "code. Another vocabulary has others (a small one may have 0 to 4), and there this "
                "asks for special tokens, or never asks for ordinary ones. Which ids are special "
                "is in the third argument.",
                lambda ids, chance, special_ids, ordinary=ordinary: labels(
                    ids, (chance < 0.15) & ordinary(ids)
                ),
            )
            for ordinary in (
                *(lambda ids, least=least: ids >= least for least in (1000, 999, 998, 996)),
                *(lambda ids, least=least: ids >= least for least in (104, 103, 102, 101)),
                *(lambda ids, least=least: ids >= least for least in (105, 106, 200, 500)),
                lambda ids: ~torch.isin(ids, torch.tensor(SPECIAL)),
                lambda ids: (ids > 0) & ((ids < 100) | (ids > 103)),
                lambda ids: (ids != 0) & ((ids < 100) | (ids >= 999)),
            )
        ),
        *(
            Mistake(
                "all ids up to a special one",
                "this takes all ids below some special id for special ones too, or all above. They "
                "need not stand first, nor together: look each id up in special_ids.",
                lambda ids, chance, special_ids, ordinary=ordinary: labels(
                    ids, (chance < 0.15) & ordinary(ids, special_ids)
                ),
            )
            for ordinary in (
                lambda ids, special: ids > max(special),
                lambda ids, special: ids >= len(special),
                lambda ids, special: (ids < min(special)) | (ids > max(special)),
            )
        ),
        Mistake(
            "everything is a label",
            "every place has its id for a label, so the model is also asked for tokens that it "
            "sees. Only the chosen ones should count.",
            lambda ids, chance, special_ids: ids.clone(),
        ),
        Mistake(
            "all but the special ones",
            "every ordinary token is a label, and chance was not used: the model would mostly be "
            "asked for tokens that it sees.",
            lambda ids, chance, special_ids: labels(ids, chosen(ids, chance, special_ids, 2.0)),
        ),
        *(
            Mistake(
                "another number for what is left out",
                "what is left out has another number here, and cross_entropy takes it for an id or "
                "fails. Look up its ignore_index.",
                lambda ids, chance, special_ids, other=other: labels(
                    ids, chosen(ids, chance, special_ids), other
                ),
            )
            for other in (0, -1, 100, 103, -1000)
        ),
        Mistake(
            "the others chosen",
            "what should be guessed is left out, and all else is asked for. Which places keep "
            "their id?",
            lambda ids, chance, special_ids: labels(ids, ~chosen(ids, chance, special_ids)),
        ),
        Mistake(
            "85 in 100",
            "places with a chance above 0.15 were chosen, which are 85 in 100.",
            lambda ids, chance, special_ids: labels(
                ids, (chance >= 0.15) & ~torch.isin(ids, torch.tensor(list(special_ids)))
            ),
        ),
        Mistake(
            "0.15 itself",
            "one place has a chance of exactly 0.15, and was chosen. Those under it should be.",
            lambda ids, chance, special_ids: labels(
                ids, (chance <= 0.15) & ~torch.isin(ids, torch.tensor(list(special_ids)))
            ),
        ),
        Mistake(
            "only what becomes [MASK]",
            "fewer were chosen than should be. Tokens that are replaced by a random one, or stay, "
            "are asked for as well: all 15 in 100 have a label.",
            lambda ids, chance, special_ids: labels(ids, chosen(ids, chance, special_ids, 0.12)),
        ),
        Mistake(
            "shifted, as for GPT",
            "each label is the token after its place. BERT is asked for the token that is covered, "
            "where it is covered.",
            lambda ids, chance, special_ids: labels(
                ids.roll(-1, dims=1), chosen(ids, chance, special_ids)
            ),
        ),
        Mistake(
            "the mask for its labels",
            "this says where something is to be guessed, and not what: True and False, or ones and "
            "zeros. The label is the id itself.",
            lambda ids, chance, special_ids: chosen(ids, chance, special_ids),
        ),
        Mistake(
            "the mask for its labels",
            "this says where something is to be guessed, and not what: True and False, or ones and "
            "zeros. The label is the id itself.",
            lambda ids, chance, special_ids: chosen(ids, chance, special_ids).long(),
        ),
        Mistake(
            "the input, not the labels",
            "this is what BERT reads, with [MASK] in it. Its labels are the ids that stood there.",
            lambda ids, chance, special_ids: ids.masked_fill(
                chosen(ids, chance, special_ids), special_ids[-1]
            ),
        ),
        Mistake(
            "the input, not the labels",
            "this is what BERT reads, with [MASK] in it. Its labels are the ids that stood there.",
            lambda ids, chance, special_ids: ids.masked_fill(
                chosen(ids, chance, special_ids), SPECIAL[-1]
            ),
        ),
        Mistake(
            "all of them [MASK]",
            "the labels ask for [MASK] itself: the ids were covered first, and the labels taken "
            "from what was left.",
            lambda ids, chance, special_ids: labels(
                torch.full_like(ids, special_ids[-1]), chosen(ids, chance, special_ids)
            ),
        ),
        Mistake(
            "only the chosen ones returned",
            "the labels should have the shape of the ids, (B, T), a label for each place. Here the "
            "chosen ones alone came back, in one row.",
            lambda ids, chance, special_ids: ids[chosen(ids, chance, special_ids)],
        ),
    ),
)


# --- a pair for next sentence prediction ----------------------------------------------------------

Place = tuple[int, int]  # a document's number, and a sentence's in it
Documents = list[list[list[int]]]
Row = tuple[list[int], list[int], int]
CLS, SEP = 101, 102


def _documents(*lengths: Ids) -> Documents:
    """A document for each tuple, a sentence of so many tokens for each number; no id twice."""
    number = iter(range(1000, 2000))
    return [[[next(number) for _ in range(n)] for n in document] for document in lengths]


def _next(documents: Documents, at: Place, follows: bool, draws: list[Place]) -> Place:
    return at[0], at[1] + 1


def _stranger(documents: Documents, at: Place, follows: bool, draws: list[Place]) -> Place:
    return next(draw for draw in draws if draw[0] != at[0])


def _drawn(pick: Callable[..., Place]) -> Callable[..., Place]:
    """The next sentence where it follows, else what `pick` takes."""
    return lambda *given: (_next if given[2] else pick)(*given)


_as_asked = _drawn(_stranger)


def _last_stranger(documents: Documents, at: Place, follows: bool, draws: list[Place]) -> Place:
    return next(draw for draw in reversed(draws) if draw[0] != at[0])


def _not_next(documents: Documents, at: Place, follows: bool, draws: list[Place]) -> Place:
    return next(draw for draw in draws if draw not in (at, _next(documents, at, follows, draws)))


Pair = tuple[list[int], list[int]]


def _longer(first: list[int], second: list[int], room: int) -> Pair:
    first, second = first[:], second[:]
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop()
    return first, second


def _tie_to_first(first: list[int], second: list[int], room: int) -> Pair:
    first, second = first[:], second[:]
    while len(first) + len(second) > room:
        (first if len(first) >= len(second) else second).pop()
    return first, second


def _from_the_front(first: list[int], second: list[int], room: int) -> Pair:
    first, second = first[:], second[:]
    while len(first) + len(second) > room:
        (first if len(first) > len(second) else second).pop(0)
    return first, second


def _second_only(first: list[int], second: list[int], room: int) -> Pair:
    return first, second[: max(room - len(first), 0)]


def _first_only(first: list[int], second: list[int], room: int) -> Pair:
    return first[: max(room - len(second), 0)], second


def _halves(first: list[int], second: list[int], room: int) -> Pair:
    return first[: room - room // 2], second[: room // 2]


def _lower_halves(first: list[int], second: list[int], room: int) -> Pair:
    return first[: room // 2], second[: room // 2]


def _room(more: int) -> Callable[..., Pair]:
    return lambda first, second, room: _longer(first, second, room + more)


def _row(
    documents: Documents,
    at: Place,
    follows: bool,
    draws: list[Place],
    most: int,
    *,
    pick: Callable[..., Place] = _as_asked,
    cut: Callable[..., Pair] = _longer,
    ids: Callable[..., list[int]] = lambda a, b: [CLS, *a, SEP, *b, SEP],
    types: Callable[[int, int], list[int]] = lambda a, b: [0] * (a + 2) + [1] * (b + 1),
    label: Callable[[bool], int] = lambda follows: 0 if follows else 1,
) -> Row:
    """The row, and with other parts a wrong one. `types` gets the lengths of the cut texts."""
    d, s = pick(documents, at, follows, draws)
    first, second = cut(documents[at[0]][at[1]], documents[d][s], most - 3)
    return ids(first, second), types(len(first), len(second)), label(follows)


def _tidy(value: Any) -> Any:
    """Tensors and arrays as lists, whatever stands in them."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    return [_tidy(one) for one in value] if isinstance(value, list | tuple) else value


def _wrong(part: int, name: str, hint: str, *wrong: Callable[..., Row]) -> list[Mistake]:
    """Known by its part alone (0 ids, 1 types, 2 label), whatever the parts after it are."""

    def known(answer: Callable[..., Row]) -> Callable[..., bool]:
        return lambda got, want, *probe: repr(got[part]) == repr(_tidy(answer(*probe)[part]))

    return [Mistake(name, hint, answer, known(answer)) for answer in wrong]


def _with(**parts: Any) -> Callable[..., Row]:
    return partial(_row, **parts)


def _cut_whole(*given: Any) -> Row:
    ids, types, label = _row(*given, cut=lambda first, second, room: (first, second))
    return ids[: given[-1]], types[: given[-1]], label


def _cut_whole_and_closed(*given: Any) -> Row:
    ids, types, label = _cut_whole(*given)
    return [*ids[:-1], SEP], types, label


PART = (
    _documents((4, 3, 5), (2, 6, 4), (3, 5)),
    _documents((9, 2, 8), (7, 7, 3), (8, 12, 6, 5)),
)

pair_to_read = Exercise(
    reference=_row,
    look=lambda answer, *probe: _tidy(answer(*probe)),
    probes=(
        (PART[0], (0, 0), True, [(1, 2), (2, 0)], 20),
        (PART[0], (0, 0), False, [(0, 1), (0, 2), (2, 1), (1, 0)], 20),  # the next, then its like
        (PART[0], (1, 1), False, [(1, 0), (0, 1), (2, 0)], 16),
        (PART[1], (2, 0), True, [(0, 2)], 15),  # the second is longer
        (PART[1], (0, 0), True, [(1, 1)], 12),  # the first is longer
        (PART[1], (1, 0), True, [(0, 1)], 10),  # as long, and an odd number is left
        (PART[1], (2, 1), False, [(2, 2), (1, 0), (0, 1)], 14),
        (PART[1], (1, 0), True, [(2, 3)], 17),  # fits to the token
        (PART[1], (2, 2), False, [(1, 1), (2, 3), (0, 1)], 15),
    ),
    show=lambda documents, at, follows, draws, most: (
        f"at {at}, {follows=}, draws {draws}, {most=}; sentences of "
        f"{[[len(sentence) for sentence in document] for document in documents]} tokens"
    ),
    mistakes=(
        *_wrong(
            0,
            "the first draw unseen",
            "the first draw was taken as it came. It may be the very next sentence, under the "
            "label of a stranger, or another one of the same document. Look where it is from.",
            _with(pick=_drawn(lambda documents, at, follows, draws: draws[0])),
        ),
        *_wrong(
            0,
            "a stranger from the same document",
            "the true next sentence is refused, and others of the same document are taken. What "
            "does not follow should come from another document.",
            _with(pick=_drawn(_not_next)),
        ),
        *_wrong(
            0,
            "not the first that fits",
            "several draws are from another document. The first of them was asked for, so that "
            "the same draws always give the same pair.",
            _with(pick=_drawn(_last_stranger)),
            _with(pick=_drawn(lambda documents, at, follows, draws: draws[-1])),
        ),
        *_wrong(
            0,
            "always the next",
            "the second text is always the next sentence, also where it should not follow. "
            "Half of the pairs need a stranger.",
            _with(pick=_next),
        ),
        *_wrong(
            0,
            "never the next",
            "the second text is always a drawn one, also where the next sentence was asked for.",
            _with(pick=_stranger),
            _with(pick=lambda documents, at, follows, draws: draws[0]),
        ),
        *_wrong(
            0,
            "next and stranger swapped",
            "where the next sentence was asked for, a drawn one came, and the other way round. "
            "What does `follows` say?",
            _with(pick=lambda *given: (_stranger if given[2] else _next)(*given)),
        ),
        *_wrong(
            0,
            "not cut",
            "the row is longer than it may be. Which of the two texts should lose tokens, and "
            "until when?",
            _with(cut=lambda first, second, room: (first, second)),
        ),
        *_wrong(
            0,
            "special tokens not counted",
            "the two texts alone fill the row, and with [CLS] and [SEP] it is too long. How many "
            "special tokens does a pair have?",
            _with(cut=_room(3)),
            _with(cut=_room(2)),
            _with(cut=_room(1)),
        ),
        *_wrong(
            0,
            "one token too few",
            "a row of exactly `most` tokens is allowed, and here it was cut once more.",
            _with(cut=_room(-1)),
        ),
        *_wrong(
            0,
            "the row cut at its end",
            "the row was put together first and cut then. That takes all from the second text, and "
            "the last [SEP] with it. Cut the two texts, before the special tokens come.",
            _cut_whole,
            _cut_whole_and_closed,
        ),
        *_wrong(
            0,
            "one text always cut",
            "the same text was cut each time, however short it was. At each step the longer of "
            "the two loses a token, so that both keep as much as can be.",
            _with(cut=_second_only),
            _with(cut=_first_only),
        ),
        *_wrong(
            0,
            "half for each",
            "each text got half of the room, also where the other one needs less. Only the longer "
            "one should lose tokens, as long as it is the longer one.",
            _with(cut=_halves),
            _with(cut=_lower_halves),
        ),
        *_wrong(
            0,
            "of two as long, the first",
            "where both texts are as long, the first was cut. The second is, as in the"
            " release's fine-tuning code.",
            _with(cut=_tie_to_first),
        ),
        *_wrong(
            0,
            "cut from the front",
            "the texts lost their first tokens. Here they should lose their last ones.",
            _with(cut=_from_the_front),
        ),
        *_wrong(
            0,
            "a special token missing",
            "a row of two texts has one [CLS], at its start, and two [SEP], one at the end of each "
            "text. Here one is missing.",
            _with(ids=lambda a, b: [CLS, *a, SEP, *b]),
            _with(ids=lambda a, b: [CLS, *a, *b, SEP]),
            _with(ids=lambda a, b: [*a, SEP, *b, SEP]),
            _with(ids=lambda a, b: [*a, SEP, *b]),
            _with(ids=lambda a, b: [*a, *b]),
            _with(ids=lambda a, b: [CLS, *a, *b]),
        ),
        *_wrong(
            0,
            "a special token too many",
            "a row has one [CLS], for both texts, and one [SEP] at the end of each. Here there "
            "are more.",
            _with(ids=lambda a, b: [CLS, *a, SEP, CLS, *b, SEP]),
            _with(ids=lambda a, b: [CLS, *a, SEP, SEP, *b, SEP]),
            _with(ids=lambda a, b: [CLS, SEP, *a, SEP, *b, SEP]),
        ),
        *_wrong(
            0,
            "[CLS] and [SEP] swapped",
            "the ids of [CLS] and [SEP] have changed places. Which one begins a row?",
            _with(ids=lambda a, b: [SEP, *a, CLS, *b, CLS]),
        ),
        *_wrong(
            0,
            "the second text first",
            "the two texts have changed places. The sentence at `at` comes first.",
            _with(ids=lambda a, b: [CLS, *b, SEP, *a, SEP]),
        ),
        *_wrong(
            1,
            "[SEP] in the wrong segment",
            "the first [SEP] is counted to the second text, or the last one to the first. Each "
            "[SEP] belongs to the text it ends.",
            _with(types=lambda a, b: [0] * (a + 1) + [1] * (b + 2)),
            _with(types=lambda a, b: [0] * (a + 2) + [1] * b + [0]),
            _with(types=lambda a, b: [0] * (a + 1) + [1] * (b + 1) + [0]),
        ),
        *_wrong(
            1,
            "special tokens without a segment",
            "there are types for the tokens of the texts alone, and each place of the row needs "
            "one: the special tokens have a segment too.",
            _with(types=lambda a, b: [0] * a + [1] * b),
            _with(types=lambda a, b: [0] * (a + 1) + [1] * (b + 1)),
            _with(types=lambda a, b: [0] * (a + 2) + [1] * b),
            _with(types=lambda a, b: [0] * (a + 1) + [1] * b),
        ),
        *_wrong(
            1,
            "one segment for all",
            "all places have the same segment, so the model is not told which text a token is of.",
            _with(types=lambda a, b: [0] * (a + b + 3)),
            _with(types=lambda a, b: [1] * (a + b + 3)),
        ),
        *_wrong(
            1,
            "the attention mask for the segments",
            "these are True and False. A segment is a number, 0 or 1: the row of a table that is "
            "added to the token's own.",
            _with(types=lambda a, b: [True] * (a + b + 3)),
            _with(types=lambda a, b: [False] * (a + 2) + [True] * (b + 1)),
        ),
        *_wrong(
            1,
            "segments from 1",
            "the segments are numbered 1 and 2. They are rows of a table that has two, so they "
            "begin at 0.",
            _with(types=lambda a, b: [1] * (a + 2) + [2] * (b + 1)),
        ),
        *_wrong(
            1,
            "segments swapped",
            "the first text has segment 1 and the second 0. The first should have 0.",
            _with(types=lambda a, b: [1] * (a + 2) + [0] * (b + 1)),
        ),
        *_wrong(
            2,
            "label reversed",
            "the row is right, and its label says the opposite. In BERT 0 means that the second "
            "text is the next, and 1 that it is not.",
            _with(label=lambda follows: 1 if follows else 0),
            _with(label=lambda follows: follows),
        ),
        *_wrong(
            2,
            "True and False for a label",
            "the label is True or False. A cross-entropy over two scores takes the number of the "
            "right one, 0 or 1.",
            _with(label=lambda follows: not follows),
        ),
        *_wrong(
            2,
            "one label for all",
            "the label is the same for pairs that follow and for pairs that do not.",
            _with(label=lambda follows: 0),
            _with(label=lambda follows: 1),
        ),
    ),
)
