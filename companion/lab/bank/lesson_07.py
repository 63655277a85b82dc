"""Lesson 07: the loss of a batch, from logits (B, T, V) and the ids (B, T) that they came from."""

from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.bank import loss_answers as answers
from companion.lab.exercise import Exercise, Mistake


def _probe(B: int, T: int, V: int, spread: float = 2.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B * T * V)
    logits = spread * torch.randn(B, T, V, generator=generator)
    return logits.requires_grad_(), torch.randint(V, (B, T), generator=generator)


WRAPPED = (
    "after the roll, the last position of a row is asked for that row's first token, which no "
    "reader could know. How many positions of a row of T have a next token?"
)

GAPS = (
    "a slice leaves gaps in memory, and view refuses to copy. Another function copies where it "
    "must; cutting into rows is safe here, since the axes keep their order."
)

loss_of_a_batch = Exercise(
    reference=answers.reference,
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
            answers.flat,
        ),
        Mistake(
            "shifted the wrong way",
            "position t was scored against the token before it. Write down one row: which logits "
            "have to guess ids[0, 1]?",
            lambda logits, ids: answers.flat(logits[:, 1:], ids[:, :-1]),
        ),
        Mistake(
            "shifted twice",
            "position t was scored against token t + 2. Was one shift done already?",
            lambda logits, ids: answers.flat(logits[:, :-2], ids[:, 2:]),
        ),
        Mistake(
            "shifted across rows",
            "after flattening, the last position of one row was asked for the first token of the "
            "next, another text. Shift while the rows are still apart.",
            answers.across_rows,
        ),
        Mistake(
            "wrapped round", WRAPPED, lambda logits, ids: answers.flat(logits, ids.roll(-1, 1))
        ),
        Mistake("wrapped round", WRAPPED, lambda logits, ids: answers.flat(logits, ids.roll(-1))),
        Mistake(
            "the first logits dropped, the first ids too",
            "both lost their first position, so position t is still asked for token t. Which end "
            "should the logits lose?",
            lambda logits, ids: answers.flat(logits[:, 1:], ids[:, 1:]),
        ),
        Mistake(
            "a made-up last target",
            "the last position was given a 0 for the token that nobody knows, and scored on it. "
            "How do you leave a position out?",
            lambda logits, ids: answers.flat(logits, F.pad(ids[:, 1:], (0, 1))),
        ),
        Mistake(
            "softmax over time",
            "the probabilities of one id over all positions were made to add up to 1. What should "
            "add up to 1 is one position's, over all ids.",
            answers.over_time,
        ),
        Mistake(
            "softmax over the batch",
            "the probabilities were made to add up to 1 over the texts. What should add up to 1 is "
            "one position's, over all ids.",
            answers.over_the_batch,
        ),
        Mistake(
            "transposed, then flattened",
            "the exchange put time last, and flattening to rows of V then cut across it. Exchange "
            "the axes, or flatten; not both.",
            answers.transposed_and_flattened,
        ),
        Mistake(
            "softmax, then logarithm",
            "right while probabilities are moderate. Where the model is sure and wrong, one of "
            "them is too small for float32, and the logarithm of 0 is infinite. There is a "
            "function that does both steps at once.",
            answers.softmax_then_log,
            shows=answers.fails_where_sure,
        ),
        Mistake(
            "a protected logarithm",
            "right while probabilities are moderate. Where the model is sure and wrong, the small "
            "number that keeps the logarithm finite also caps the loss. There is a function that "
            "does softmax and logarithm in one, and needs no protection.",
            answers.protected_log,
            shows=answers.too_kind_where_sure,
        ),
        Mistake(
            "only the targets shifted",
            "there are T positions of logits and T - 1 targets left. Which position has no target?",
            lambda logits, ids: F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()),
        ),
        Mistake(
            "only the logits shifted",
            "there are T - 1 positions of logits left and T targets. Which id does nobody guess?",
            lambda logits, ids: F.cross_entropy(logits[:, :-1].flatten(0, 1), ids.flatten()),
        ),
        Mistake(
            "view after a slice",
            GAPS,
            lambda logits, ids: F.cross_entropy(
                logits[:, :-1].view(-1, logits.shape[2]), ids[:, 1:].flatten()
            ),
        ),
        Mistake(
            "view after a slice",
            GAPS,
            lambda logits, ids: F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].view(-1)),
        ),
        Mistake(
            "the last logits dropped, the last ids too",
            "both lost their last position, so they are still one step apart. Which end should the "
            "ids lose?",
            lambda logits, ids: answers.flat(logits[:, :-1], ids[:, :-1]),
        ),
        Mistake(
            "the axes relabelled",
            "view and reshape do not move numbers: they cut the same row of memory elsewhere, so "
            "scores of several positions ended up in one. To exchange two axes there is another "
            "word.",
            answers.relabelled,
        ),
        Mistake(
            "flattened in another order",
            "the logits were laid out position by position, the targets row by row. Flatten both "
            "the same way.",
            answers.flattened_time_first,
        ),
        Mistake(
            "softmax twice",
            "cross_entropy takes raw logits and does the softmax itself; it got probabilities. The "
            "loss can then hardly move: how far apart can numbers between 0 and 1 be?",
            lambda logits, ids: answers.flat(*answers.shifted(logits.softmax(-1), ids)),
        ),
        Mistake(
            "no softmax",
            "the targets' raw logits were averaged. A logit is a probability only after what?",
            lambda logits, ids: F.nll_loss(*answers.both_flat(logits, ids)),
        ),
        Mistake(
            "no logarithm",
            "the targets' probabilities were averaged. The loss is made of their logarithms.",
            lambda logits, ids: F.nll_loss(*answers.both_flat(logits.softmax(-1), ids)),
        ),
        Mistake(
            "no logarithm, no sign",
            "this is the mean probability of the targets. The loss is made of logarithms, and "
            "smaller has to be better.",
            lambda logits, ids: -F.nll_loss(*answers.both_flat(logits.softmax(-1), ids)),
        ),
        Mistake(
            "sign lost",
            "the logarithm of a probability is negative. A loss gets smaller as the model gets "
            "better.",
            lambda logits, ids: -answers.reference(logits, ids),
        ),
        Mistake(
            "sum for mean",
            "twice the batch would give twice the loss, and twice the gradient. Per what should it "
            "be?",
            answers.summed,
        ),
        Mistake(
            "summed over time",
            "it was divided by the rows only; a longer context would look worse. Divide by all the "
            "tokens that were guessed.",
            lambda logits, ids: answers.summed(logits, ids) / len(ids),
        ),
        Mistake(
            "divided by too many",
            "B * T tokens went in, and fewer were guessed. How many positions of a row of T have a "
            "next token?",
            lambda logits, ids: (
                answers.flat(*answers.shifted(logits, ids), reduction="sum") / ids.numel()
            ),
        ),
        Mistake(
            "one loss a token",
            "these are right, one for each position, flattened. Make one number of them.",
            lambda logits, ids: answers.flat(*answers.shifted(logits, ids), reduction="none"),
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
            lambda logits, ids: answers.reference(logits, ids) / log(2),
        ),
        Mistake(
            "perplexity",
            "this is the exponential of the loss.",
            lambda logits, ids: answers.reference(logits, ids).exp(),
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
