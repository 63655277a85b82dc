"""Lesson 07: the loss of a batch, from logits (B, T, V) and the ids (B, T) that they came from."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake


def _probe(B: int, T: int, V: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B * T * V)
    logits = spread * torch.randn(B, T, V, generator=generator)
    return logits.requires_grad_(), torch.randint(V, (B, T), generator=generator)


def _flat(logits: Tensor, targets: Tensor, **options: str) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), **options)


def _shifted(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return logits[:, :-1], ids[:, 1:]


def _reference(logits: Tensor, ids: Tensor) -> Tensor:
    return _flat(*_shifted(logits, ids))


def _relabelled(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = _shifted(logits, ids)
    return F.cross_entropy(logits.reshape(len(logits), logits.shape[2], -1), targets)


def _flattened_time_first(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = _shifted(logits, ids)
    return F.cross_entropy(logits.transpose(0, 1).flatten(0, 1), targets.flatten())


def _transposed_and_flattened(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = _shifted(logits, ids)
    return F.cross_entropy(logits.mT.reshape(-1, logits.shape[2]), targets.flatten())


def _normalised_over(dim: int, logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = _shifted(logits, ids)
    return -logits.log_softmax(dim).gather(-1, targets[..., None]).mean()


def _over_time(logits: Tensor, ids: Tensor) -> Tensor:
    return _normalised_over(1, logits, ids)


def _over_the_batch(logits: Tensor, ids: Tensor) -> Tensor:
    return _normalised_over(0, logits, ids)


def _softmax_then_log(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = _shifted(logits, ids)
    return -logits.softmax(-1).gather(-1, targets[..., None]).log().mean()


def _across_rows(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1)[:-1], ids.flatten()[1:])


WRAPPED = (
    "after the roll, the last position of a row is asked for that row's first token, which no "
    "reader could know. How many positions of a row of T have a next token?"
)

loss_of_a_batch = Exercise(
    reference=_reference,
    probes=(
        _probe(2, 4, 7),
        _probe(3, 6, 5),
        _probe(4, 5, 5),
        _probe(2, 3, 2),
        _probe(2, 5, 6, spread=90.0),  # sure, and wrong: a probability that float32 cannot hold
    ),
    mistakes=(
        Mistake(
            "not shifted",
            "position t was scored against token t, which it has already read. A model that copies "
            "its input would get a perfect score. Which token should position t be asked for?",
            _flat,
        ),
        Mistake(
            "shifted the wrong way",
            "position t was scored against the token before it. Write down one row: which logits "
            "have to guess ids[0, 1]?",
            lambda logits, ids: _flat(logits[:, 1:], ids[:, :-1]),
        ),
        Mistake(
            "shifted twice",
            "position t was scored against token t + 2. Was one shift done already?",
            lambda logits, ids: _flat(logits[:, :-2], ids[:, 2:]),
        ),
        Mistake(
            "shifted across rows",
            "after flattening, the last position of one row was asked for the first token of the "
            "next, another text. Shift while the rows are still apart.",
            _across_rows,
        ),
        Mistake("wrapped round", WRAPPED, lambda logits, ids: _flat(logits, ids.roll(-1, 1))),
        Mistake("wrapped round", WRAPPED, lambda logits, ids: _flat(logits, ids.roll(-1))),
        Mistake(
            "the first logits dropped, the first ids too",
            "both lost their first position, so position t is still asked for token t. Which end "
            "should the logits lose?",
            lambda logits, ids: _flat(logits[:, 1:], ids[:, 1:]),
        ),
        Mistake(
            "a made-up last target",
            "the last position was given a 0 for the token that nobody knows, and scored on it. "
            "How do you leave a position out?",
            lambda logits, ids: _flat(logits, F.pad(ids[:, 1:], (0, 1))),
        ),
        Mistake(
            "softmax over time",
            "the probabilities of one id over all positions were made to add up to 1. What should "
            "add up to 1 is one position's, over all ids.",
            _over_time,
        ),
        Mistake(
            "softmax over the batch",
            "the probabilities were made to add up to 1 over the texts. What should add up to 1 is "
            "one position's, over all ids.",
            _over_the_batch,
        ),
        Mistake(
            "transposed, then flattened",
            "the exchange put time last, and flattening to rows of V then cut across it. Exchange "
            "the axes, or flatten; not both.",
            _transposed_and_flattened,
        ),
        Mistake(
            "softmax, then logarithm",
            "right while probabilities are moderate. Where the model is sure and wrong, one of "
            "them is too small for float32, and the logarithm of 0 is infinite. There is a "
            "function that does both steps at once.",
            _softmax_then_log,
        ),
        Mistake(
            "the last logits dropped, the last ids too",
            "both lost their last position, so they are still one step apart. Which end should the "
            "ids lose?",
            lambda logits, ids: _flat(logits[:, :-1], ids[:, :-1]),
        ),
        Mistake(
            "the axes relabelled",
            "view and reshape do not move numbers: they cut the same row of memory elsewhere, so "
            "scores of several positions ended up in one. To exchange two axes there is another "
            "word.",
            _relabelled,
        ),
        Mistake(
            "flattened in another order",
            "the logits were laid out position by position, the targets row by row. Flatten both "
            "the same way.",
            _flattened_time_first,
        ),
        Mistake(
            "softmax twice",
            "cross_entropy takes raw logits and does the softmax itself; it got probabilities. The "
            "loss can then hardly move: how far apart can numbers between 0 and 1 be?",
            lambda logits, ids: _flat(*_shifted(logits.softmax(-1), ids)),
        ),
        Mistake(
            "no softmax",
            "the targets' raw logits were averaged. A logit is a probability only after what?",
            lambda logits, ids: F.nll_loss(*_both_flat(logits, ids)),
        ),
        Mistake(
            "no logarithm",
            "the targets' probabilities were averaged. The loss is made of their logarithms.",
            lambda logits, ids: F.nll_loss(*_both_flat(logits.softmax(-1), ids)),
        ),
        Mistake(
            "no logarithm, no sign",
            "this is the mean probability of the targets. The loss is made of logarithms, and "
            "smaller has to be better.",
            lambda logits, ids: -F.nll_loss(*_both_flat(logits.softmax(-1), ids)),
        ),
        Mistake(
            "sign lost",
            "the logarithm of a probability is negative. A loss gets smaller as the model gets "
            "better.",
            lambda logits, ids: -_reference(logits, ids),
        ),
        Mistake(
            "sum for mean",
            "twice the batch would give twice the loss, and twice the gradient. Per what should it "
            "be?",
            lambda logits, ids: _flat(*_shifted(logits, ids), reduction="sum"),
        ),
        Mistake(
            "summed over time",
            "it was divided by the rows only; a longer context would look worse. Divide by all the "
            "tokens that were guessed.",
            lambda logits, ids: _flat(*_shifted(logits, ids), reduction="sum") / len(ids),
        ),
        Mistake(
            "divided by too many",
            "B * T tokens went in, and fewer were guessed. How many positions of a row of T have a "
            "next token?",
            lambda logits, ids: _flat(*_shifted(logits, ids), reduction="sum") / ids.numel(),
        ),
        Mistake(
            "one loss a token",
            "these are right, one for each position, flattened. Make one number of them.",
            lambda logits, ids: _flat(*_shifted(logits, ids), reduction="none"),
        ),
        Mistake(
            "one loss a token",
            "these are right, one for each position. Make one number of them.",
            lambda logits, ids: F.cross_entropy(
                logits[:, :-1].transpose(1, 2), ids[:, 1:], reduction="none"
            ),
        ),
        Mistake(
            "in bits",
            "this is the loss in base 2. Training code, and ln V, count in nats.",
            lambda logits, ids: _reference(logits, ids) / log(2),
        ),
        Mistake(
            "perplexity",
            "this is the exponential of the loss.",
            lambda logits, ids: _reference(logits, ids).exp(),
        ),
        Mistake(
            "cross_entropy given three axes",
            "the journal's own line: the axis behind the first is taken for the classes, and here "
            "that is time. Put the classes there, or leave two axes.",
            lambda logits, ids: F.cross_entropy(logits[:, :-1], ids[:, 1:]),
        ),
        Mistake(
            "cross_entropy given three axes, not shifted",
            "the axis behind the first is taken for the classes, and here that is time. Put the "
            "classes there, or leave two axes. And which token is position t asked for?",
            lambda logits, ids: F.cross_entropy(logits, ids),
        ),
    ),
)


def _both_flat(scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    scores, targets = _shifted(scores, ids)
    return scores.flatten(0, 1), targets.flatten()
