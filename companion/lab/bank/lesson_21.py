"""Lesson 21: the mask that is added to the scores, and the labels of words to guess."""

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
