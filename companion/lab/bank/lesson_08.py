"""Lesson 08: from attention's scores to weights that leave the future out."""

from math import sqrt

import torch
from torch import Tensor

from companion.lab.bank import mask_answers as answers
from companion.lab.exercise import Exercise, Mistake


def _probe(B: int, nh: int, T: int, block_size: int, spread: float = 1.5) -> tuple[Tensor, int]:
    generator = torch.Generator().manual_seed(1000 * B + 100 * nh + 10 * T + block_size)
    scores = spread * torch.randn(B, nh, T, T, generator=generator)
    if spread > answers.FAR:
        scores[:, :, T // 2] -= 4 * spread  # a row of small scores, whose shares are no smaller
    return scores, block_size


def _with_zeros() -> tuple[Tensor, int]:
    """Scores some of which are exactly 0, among them all that the first query may see."""
    scores, block_size = _probe(2, 2, 5, 9)
    scores[..., ::2, ::2] = 0
    return scores, block_size


def _far_below() -> tuple[Tensor, int]:
    """Scores no further apart than elsewhere, and all of them near -100,000."""
    scores, block_size = _probe(1, 2, 4, 6)
    return scores - 1e5, block_size


def _far_above() -> tuple[Tensor, int]:
    """A hidden score so far above what may be seen that float64 does not hold its share either."""
    scores, block_size = _probe(2, 1, 2, 3)
    scores[:, :, 0] = torch.tensor([0.0, 800.0])
    return scores, block_size


def _needs_gradient() -> tuple[Tensor, int]:
    """Scores as they are while a model trains."""
    scores, block_size = _probe(2, 2, 3, 3)
    return scores.requires_grad_().clone(), block_size  # no leaf, so that it can be written into


def _whole(block_size: int) -> Tensor:
    return answers.may_look(block_size)


TOO_LARGE = (
    "the mask is made for block_size tokens, and only T came. Cut out of it, along both axes, what "
    "belongs to them."
)
WRONG_SIZE = (
    "the mask has as many rows as the scores have {}. The scores have four axes; which two of them "
    "count tokens?"
)
FIXED_SIZE = (
    "the mask has a size that stands in your code, and a longer text came. How many tokens there "
    "may be, block_size says; how many there are, the scores."
)
SIZES = (1024, 1000, 900, 800, 768, 700, 600, 512, 500, 400, 384, 300, 256, 200, 128, 100)
SIZES += (64, 50, 32, 20, 16, 10, 8)
NOT_BOOLEAN = (
    "to hide something, PyTorch wants a mask of True and False, and this one holds numbers. Say "
    "what you ask of each of them, or make the mask of another dtype."
)
NOT_FAR = (
    "the hidden scores were replaced by a number, and exp of that number is not nothing beside the "
    "scores that are left. What has an exponential of exactly 0?"
)
ZERO_FILL = (
    "the hidden scores became 0 in front of the softmax, or nearly 0, and exp(0) is 1: the future "
    "still gets a share. Which score makes a share of exactly 0?"
)
SCALED = "these scores were divided once more. They come as they should be: leave their size alone."
AVERAGE = (
    "every key that may be seen got the same share, and the scores were not used at all. The mask "
    "says who may be looked at; the scores say how much."
)

CORNER = (
    "the rows come from one corner of the mask and the columns from another. Print what you cut "
    "out, for three tokens of seven: may the first see the second?"
)

OVERFLOW = (
    "the idea is right, and there are NaNs: in float32 exp is infinite above 88 and 0 below -104, "
    "and inf / inf and 0 / 0 are NaN. What may be subtracted from a whole row of scores without "
    "changing its shares?"
)
FOUR_AXES = (
    "scores have four axes, texts, heads, queries and keys: no channels are among them. Which of "
    "them count tokens?"
)

LOST = "the weights should have the shape of the scores, (B, nh, T, T). "

causal_weights = Exercise(
    reference=answers.reference,
    probes=(
        _probe(2, 3, 4, 7),
        _probe(1, 2, 5, 5),  # as long as it may be
        _probe(3, 1, 1, 4),  # one token, one head
        _probe(2, 5, 3, 6),
        _probe(2, 2, 6, 8, spread=90.0),  # a hidden score may be hundreds above all others
        _with_zeros(),
        _far_below(),
        _needs_gradient(),
        _far_above(),
        _probe(1, 1, 1030, 2048),  # longer than GPT-2 is wide, and than it reads
    ),
    seconds=60.0,  # for loops over the last one's queries and keys
    mistakes=(
        *(
            Mistake(
                "not far enough",
                NOT_FAR,
                lambda scores, block_size, value=value: answers.with_value(value, scores),
                shows=answers.hides_with_a_number,
            )
            for value in (-1.0, -100.0, -300.0, -500.0, -1e4)
        ),
        Mistake(
            "nothing masked",
            "these are the weights of scores that were not masked. masked_fill gives back a new "
            "tensor and leaves the old one as it was: is the new one used? Or is the mask of one "
            "row and one column? Such a one is stretched over all scores. Print its shape.",
            lambda scores, block_size: scores.softmax(-1),
        ),
        Mistake(
            "triu for tril",
            "each token sees itself and what comes after it. Print the mask: row i is the query, "
            "column j the key. On which side of the diagonal is the past?",
            lambda scores, block_size: answers.filled(
                scores, torch.ones_like(answers.seen(scores)).triu()
            ),
        ),
        Mistake(
            "upside down",
            "what should be seen was hidden, and what should be hidden was seen; the last query "
            "was left with nothing, hence its NaN. masked_fill fills where its mask is True.",
            lambda scores, block_size: answers.filled(scores, ~answers.seen(scores)),
        ),
        Mistake(
            "one too far",
            "each token sees the one after it, which is the one it is asked for. Print the mask "
            "for three tokens: what may the first one see?",
            lambda scores, block_size: answers.filled(scores, answers.seen(scores, 1)),
        ),
        Mistake(
            "the wrong corner",
            CORNER,
            lambda scores, block_size: answers.filled(
                scores, _whole(block_size)[-scores.shape[-1] :, : scores.shape[-1]]
            ),
        ),
        Mistake(
            "itself hidden",
            "a token may not see itself, and the first is left with nothing to look at, hence its "
            "NaN. Print the mask for three tokens: what is on the diagonal?",
            lambda scores, block_size: answers.filled(scores, answers.seen(scores, -1)),
        ),
        Mistake(
            "itself hidden",
            "a token may not see itself, and the first, which is left with nothing, was given "
            "zeros for its NaN. Print the mask for three tokens: what is on the diagonal?",
            lambda scores, block_size: answers.filled(
                scores, answers.seen(scores, -1)
            ).nan_to_num(),
        ),
        Mistake(
            "zeros after the softmax",
            "the future's shares were set to 0, but they were counted before: rows no longer add "
            "up to 1, and what is missing tells of later tokens. Hide them before they are shared "
            "out.",
            answers.zeros_after,
        ),
        Mistake(
            "-inf after the softmax",
            "the weights themselves became -inf. Softmax turns -inf into a share of 0, so the "
            "filling has to come in front of it.",
            lambda scores, block_size: scores.softmax(-1).masked_fill(
                ~answers.seen(scores), -answers.INF
            ),
        ),
        Mistake(
            "zeros before the softmax",
            ZERO_FILL,
            lambda scores, block_size: answers.with_value(0.0, scores),
        ),
        Mistake(
            "plus for minus",
            "the hidden scores were made very large, so the future takes everything. Which end of "
            "the number line has an exponential of 0?",
            lambda scores, block_size: answers.with_value(1e9, scores),
        ),
        Mistake(
            "plus for minus",
            "the hidden scores became plus infinity, and infinity over infinity is NaN. Which end "
            "of the number line has an exponential of 0?",
            lambda scores, block_size: answers.with_value(answers.INF, scores),
        ),
        Mistake(
            "zero times infinity",
            "all is NaN: where the mask was 0 it was multiplied by infinity, and that is not 0. "
            "Choose between two values for each place instead of multiplying.",
            lambda scores, block_size: (scores - (~answers.seen(scores)) * answers.INF).softmax(-1),
        ),
        Mistake(
            "shared out again",
            "right while scores are moderate. Where a later token scores hundreds higher, all that "
            "may be seen was rounded to 0 before you divided by its sum. Hide the future before "
            "anything is shared out.",
            answers.renormalised,
            shows=answers.is_renormalised,
        ),
        Mistake(
            "shared out again",
            "right until a later token scores some 750 above the rest: then float64, too, rounds "
            "all that may be seen to 0 before you divide by its sum. Hide the future before "
            "anything is shared out.",
            lambda scores, block_size: answers.renormalised(scores.double(), block_size).to(scores),
        ),
        *(
            Mistake("too large for exp", OVERFLOW, answer)
            for answer in (answers.exps_filled, answers.exps_multiplied)
        ),
        Mistake(
            "softmax over the queries",
            "the columns add up to 1. Each query has one share to give out, over the keys: which "
            "axis of the scores counts those?",
            lambda scores, block_size: answers.over(-2, scores),
        ),
        Mistake(
            "softmax over the heads",
            "the heads of one place add up to 1. (F.softmax without an axis does that, on four "
            "axes.) Each query gives out its share over the keys.",
            lambda scores, block_size: answers.over(1, scores),
        ),
        Mistake(
            "softmax over the texts",
            "the texts of the batch were made to share. Each query gives out its share over the "
            "keys: which axis counts those?",
            lambda scores, block_size: answers.over(0, scores),
        ),
        Mistake(
            "softmax twice",
            "shares were taken for scores and shared out once more, which makes them nearly alike. "
            "Once is enough.",
            lambda scores, block_size: answers.reference(scores.softmax(-1), block_size),
        ),
        Mistake(
            "softmax twice",
            "shares were shared out once more, so that what had been hidden got a part again. Once "
            "is enough.",
            lambda scores, block_size: answers.reference(scores, block_size).softmax(-1),
        ),
        Mistake(
            "no softmax",
            "these are the masked scores. Weights are what each query gives to each key, and add "
            "up to 1.",
            lambda scores, block_size: scores.masked_fill(~answers.seen(scores), -answers.INF),
        ),
        Mistake(
            "logarithms",
            "these are the logarithms of the weights, as a loss would want them. What multiplies "
            "the values are the weights themselves.",
            lambda scores, block_size: answers.reference(scores, block_size).log(),
        ),
        Mistake(
            "the mask added as ones",
            "ones were added where a key may be seen: that makes the future less likely by a "
            "factor of e, and not impossible. What would have to be added elsewhere?",
            lambda scores, block_size: (scores + answers.seen(scores).float()).softmax(-1),
        ),
        Mistake(
            "scaled again",
            SCALED,
            lambda scores, block_size: answers.reference(
                scores / sqrt(scores.shape[-1]), block_size
            ),
        ),
        Mistake(
            "scaled again",
            SCALED,
            lambda scores, block_size: answers.reference(scores / sqrt(block_size), block_size),
        ),
        Mistake("an average", AVERAGE, answers.average),
        Mistake(
            "an average",
            AVERAGE,
            lambda scores, block_size: answers.average(scores, block_size).expand(scores.shape),
        ),
        Mistake(
            "an axis lost",
            LOST + "With one text, or one head, or one token, an axis of size 1 went away.",
            lambda scores, block_size: answers.reference(scores, block_size).squeeze(),
        ),
        Mistake(
            "one text for all",
            LOST + "These are the first text's alone: where did the batch go?",
            lambda scores, block_size: answers.reference(scores, block_size)[0],
        ),
        Mistake(
            "heads averaged",
            LOST + "The heads were averaged. Each keeps weights of its own.",
            lambda scores, block_size: answers.reference(scores, block_size).mean(1),
        ),
        Mistake(
            "the mask returned",
            "this is the mask alone: who may look at whom. How much, the scores say.",
            lambda scores, block_size: answers.seen(scores),
        ),
        Mistake(
            "zeros taken for hidden",
            "a score of exactly 0 was hidden with the future, and a row that had nothing else "
            "became NaN. 0 is a score like any other: let places say what is hidden, not values.",
            answers.by_zeros,
        ),
        *(
            Mistake("a mask of one size", FIXED_SIZE, answer)
            for size in SIZES
            for answer in (
                lambda scores, block_size, size=size: scores.masked_fill(
                    ~answers.corner(size, scores), -answers.INF
                ).softmax(-1),
                lambda scores, block_size, size=size: torch.where(
                    answers.corner(size, scores), scores, -answers.INF
                ).softmax(-1),
            )
        ),
        *(
            Mistake("an axis too few", FOUR_AXES, answer)
            for answer in (answers.three_axes, answers.two_axes)
        ),
        Mistake(
            "not cut to T",
            TOO_LARGE,
            lambda scores, block_size: scores.masked_fill(~_whole(block_size), -answers.INF),
        ),
        Mistake(
            "not cut to T",
            TOO_LARGE,
            lambda scores, block_size: scores * _whole(block_size),
        ),
        Mistake(
            "not cut to T",
            TOO_LARGE,
            lambda scores, block_size: torch.where(_whole(block_size), scores, -answers.INF),
        ),
        Mistake(
            "cut along one axis",
            "the mask was cut along one axis only. Queries and keys are both T.",
            lambda scores, block_size: scores * _whole(block_size)[:, : scores.shape[-1]],
        ),
        Mistake(
            "cut along one axis",
            "the mask was cut along one axis only. Queries and keys are both T.",
            lambda scores, block_size: torch.where(
                _whole(block_size)[:, : scores.shape[-1]], scores, -answers.INF
            ),
        ),
        *(
            Mistake(f"{what} taken for T", WRONG_SIZE.format(what), answer)
            for axis, what in enumerate(("texts", "heads"))
            for answer in (
                lambda scores, block_size, axis=axis: scores * _whole(scores.shape[axis]),
                lambda scores, block_size, axis=axis: torch.where(
                    _whole(scores.shape[axis]), scores, -answers.INF
                ),
            )
        ),
        *(
            Mistake("a mask of numbers", NOT_BOOLEAN, answer)
            for answer in (
                lambda scores, block_size: scores.masked_fill(
                    answers.seen(scores).float(), -answers.INF
                ),
                lambda scores, block_size: scores.masked_fill(
                    answers.seen(scores).int(), -answers.INF
                ),
                lambda scores, block_size: ~answers.seen(scores).float(),
                lambda scores, block_size: torch.where(
                    answers.seen(scores).float(), scores, -answers.INF
                ),
            )
        ),
    ),
)
