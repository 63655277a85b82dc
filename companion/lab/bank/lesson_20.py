"""Lesson 20: the mean loss of each ending's tokens, which acc_norm compares."""

from collections.abc import Callable
from math import log
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[Tensor, Tensor, Tensor], Tensor]  # of logits, ids, ends
Losses = Callable[[Tensor, Tensor], Tensor]  # of logits (n, T - 1, V) and ids (n, T - 1)
Share = Callable[[Tensor, Tensor], Tensor]  # of losses and what counts, both (n, T - 1)


def nats(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.mT, ids, reduction="none")


def mean_of_each(losses: Tensor, counts: Tensor) -> Tensor:
    return (losses * counts).sum(1) / counts.sum(1)


def scored(
    *,
    logits: slice = slice(None, -1),
    ids: slice = slice(1, None),
    ends: slice = slice(1, None),
    losses: Losses = nats,
    counts: Callable[[Tensor], Tensor] = lambda ends: ends,
    share: Share = mean_of_each,
) -> Answer:
    """The means, any part of which may be another: what is cut off, the loss, what counts."""

    def answer(x: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        one_for_each = losses(x[:, logits], tokens[:, ids])
        return share(one_for_each, counts(mask)[:, ends])

    return answer


def unshifted(share: Share) -> Answer:
    return scored(logits=slice(None), ids=slice(None), ends=slice(None), share=share)


def up_to_the_end(ends: Tensor) -> Tensor:
    """The context too, and no padding."""
    return ends.flip(1).long().cumsum(1).flip(1) > 0


def without_last(ends: Tensor) -> Tensor:
    following = F.pad(ends[:, 1:], (0, 1), value=False)
    return ends & following


def without_first(ends: Tensor) -> Tensor:
    return ends & F.pad(ends[:, :-1], (1, 0), value=False)


def all_at_once(logits: Tensor, ids: Tensor) -> Tensor:
    """What cross_entropy returns unless it is told otherwise: one mean."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def flat_nats(logits: Tensor, ids: Tensor) -> Tensor:
    each = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
    return each.view(ids.shape)


def by_softmax(logits: Tensor, ids: Tensor) -> Tensor:
    return -logits.softmax(-1).log().gather(2, ids[..., None])[..., 0]


def probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    return logits.softmax(-1).gather(2, ids[..., None])[..., 0]


def not_ours(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.mT, ids, reduction="none", ignore_index=0)


def probe(
    seed: int, context: int, lengths: tuple[int, ...], T: int, V: int, loud: float, padding: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits; one context for all rows; endings of these lengths, then padding."""
    generator = torch.Generator().manual_seed(seed)
    logits = loud * torch.randn(len(lengths), T, V, generator=generator)
    ids = torch.randint(V, (len(lengths), T), generator=generator)
    ids[:, :context] = ids[0, :context]
    ends = torch.zeros(len(lengths), T, dtype=torch.bool)
    for row, length in enumerate(lengths):
        ends[row, context : context + length] = True
        ids[row, context + length :] = padding
        ids[row, context] = 0  # a token of the ending may look like padding
    return logits, ids, ends


def certain(*what: Any, **how: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and each ending's first token costs nothing at all."""
    logits, ids, ends = probe(*what, **how)
    rows, before = torch.arange(len(ids)), ends.long().argmax(1) - 1
    logits[rows, before, ids[rows, before + 1]] = 40.0
    return logits, ids, ends


def shown(logits: Tensor, ids: Tensor, ends: Tensor) -> str:
    n, T, V = logits.shape
    lengths = ", ".join(map(str, ends.sum(1).tolist()))
    return f"{n} rows of T={T}, V={V}, endings of {lengths} tokens"


SHIFT = (
    "the logits at a place speak of the id after it. Here they were held against the id at the "
    "same place, which the model had already read."
)

MEAN = (
    "cross_entropy made one mean of all places at once, context and padding too, before the mask "
    "could choose. Which of its options gives a loss for each place?"
)

UNCUT = (
    "for the shift one place was cut off the ids, and the losses have one place a row fewer. The "
    "mask belongs to the ids: what has to be cut off it?"
)

UNCUT_IDS = (
    "one place was cut off the logits and none off the ids. Whose loss is asked for at each place "
    "of the logits, and which id has nobody to predict it?"
)

PADDING_BY_ID = (
    "ids of 0 cost nothing here. An ending may have a token 0, and padding may be another id: the "
    "mask says what counts."
)

LARGE = (
    "with large logits an exponential is infinite or 0, and its quotient or logarithm is no "
    "number. Is there a function that makes log-probabilities of logits without passing "
    "through the probabilities?"
)

ending_means = Exercise(
    reference=scored(),
    probes=(
        probe(0, 3, (2, 4, 2, 3), 7, 5, 1.0),
        probe(1, 4, (1, 3, 6, 2), 12, 9, 3.0, padding=2),
        probe(2, 1, (5, 2, 3, 4), 6, 4, 2.0),
        probe(3, 2, (3, 7), 9, 6, 8.0, padding=1),
        probe(4, 6, (1, 1, 4), 11, 30, 1.0),
        probe(5, 3, (4, 2, 3), 8, 10, 100.0),  # logits whose exponentials overflow
        certain(6, 3, (2, 4, 3), 8, 6, 1.0),
    ),
    axes="(endings,)",
    show=shown,
    mistakes=(
        Mistake(
            "not shifted", SHIFT, scored(logits=slice(None), ids=slice(None), ends=slice(None))
        ),
        Mistake(
            "not shifted, and the last place lost",
            SHIFT,
            scored(ids=slice(None, -1), ends=slice(None, -1)),
        ),
        Mistake(
            "shifted the wrong way",
            "the logits were held against the id before their place. Which id can a model that has "
            "read up to a place not have seen yet?",
            scored(logits=slice(1, None), ids=slice(None, -1)),
        ),
        Mistake(
            "shifted the wrong way, mask and all",
            "the logits were held against the id before their place. Which id can a model that has "
            "read up to a place not have seen yet?",
            scored(logits=slice(1, None), ids=slice(None, -1), ends=slice(None, -1)),
        ),
        Mistake(
            "the mask is not shifted",
            "the losses are right, but it was not the ending's that were counted: the first one is "
            "missing, and one from behind the ending is in. The mask belongs to the ids; what was "
            "cut off them?",
            scored(ends=slice(None, -1)),
        ),
        Mistake(
            "the sum",
            "this is what acc compares: all of an ending's losses together, so that long endings "
            "lose. Here each token should count the same, however many there are.",
            scored(share=lambda losses, counts: (losses * counts).sum(1)),
        ),
        Mistake(
            "divided by the width of the row",
            "a mean over the axis divides by all its places, those of the context and the padding "
            "too. How many tokens does the ending have?",
            scored(share=lambda losses, counts: (losses * counts).mean(1)),
        ),
        Mistake(
            "divided by T",
            "the sum was divided by the length of the row. How many tokens does the ending have?",
            scored(share=lambda losses, counts: (losses * counts).sum(1) / (counts.shape[1] + 1)),
        ),
        Mistake(
            "divided by the longest",
            "all sums were divided by the same number, the length of the longest ending, and that "
            "orders them as the sums do. Each has a length of its own.",
            scored(share=lambda losses, counts: (losses * counts).sum(1) / counts.sum(1).max()),
        ),
        Mistake(
            "divided by all of them",
            "the sums were divided by the tokens of all endings together, and that orders them as "
            "the sums do. Each has a length of its own.",
            scored(share=lambda losses, counts: (losses * counts).sum(1) / counts.sum()),
        ),
        Mistake(
            "the whole row",
            "context and padding were counted as well. The context is the same for all, and the "
            "padding says nothing: only the ending's tokens tell the endings apart.",
            scored(share=lambda losses, counts: losses.mean(1)),
        ),
        Mistake(
            "the context too",
            "the padding is out, but the context's tokens are in the mean. They are the same for "
            "all endings, and hide the difference. Which ids does the mask mark?",
            scored(counts=up_to_the_end),
        ),
        Mistake(
            "the padding too",
            "the context is out, but the padding behind an ending is in the mean. Which ids does "
            "the mask mark?",
            scored(counts=lambda ends: ends.long().cumsum(1) > 0),
        ),
        Mistake(
            "counted by the loss",
            "the tokens were counted by whether they cost anything. One that is certain costs 0, "
            "and is a token. What says how many there are?",
            scored(
                share=lambda losses, counts: (losses * counts).sum(1) / (losses * counts > 0).sum(1)
            ),
        ),
        Mistake(
            "the other way round",
            "what was counted is all that the mask leaves out.",
            scored(counts=lambda ends: ~ends),
        ),
        Mistake(
            "what looks like padding",
            "ids of 0 were left out. An ending may have a token 0, and padding may be another id: "
            "the mask says what counts.",
            lambda logits, ids, ends: mean_of_each(
                nats(logits[:, :-1], ids[:, 1:]), (ends & (ids != 0))[:, 1:]
            ),
        ),
        Mistake(
            "the last token is missing",
            "the ending's last token was not counted, and one fewer in the division. It is "
            "predicted as the others are, by the logits one place before.",
            scored(counts=without_last),
        ),
        Mistake(
            "the first token is missing",
            "the ending's first token was not counted, and one fewer in the division. It is the "
            "first that the context is asked for: which place's logits speak of it?",
            scored(counts=without_first),
        ),
        Mistake(
            "log-probabilities",
            "the sign is the other way round: these are mean log-probabilities, of which the "
            "largest is best. A loss is never negative.",
            scored(losses=lambda logits, ids: -nats(logits, ids)),
        ),
        Mistake(
            "probabilities",
            "these are mean probabilities. A loss is how surprising a token is: what makes of a "
            "small probability a large number, and of a product a sum?",
            scored(losses=probabilities),
        ),
        Mistake(
            "logits for losses",
            "the logit of each token was taken as its score. Logits mean nothing by themselves: "
            "add 5 to all of them at a place, and nothing changes for the model.",
            scored(losses=lambda logits, ids: -logits.gather(2, ids[..., None])[..., 0]),
        ),
        Mistake(
            "bits",
            "these are bits, by the logarithm to base 2. The loss in nats has the natural one.",
            scored(losses=lambda logits, ids: nats(logits, ids) / log(2)),
        ),
        Mistake(
            "perplexities",
            "these are the exponentials of the means: perplexities. They order the endings alike, "
            "but the mean loss itself was asked for.",
            lambda logits, ids, ends: scored()(logits, ids, ends).exp(),
        ),
        Mistake(
            "softmax over the places",
            "the probabilities add up to 1 over the places of a row, and should over the tokens of "
            "the vocabulary. Which axis is V?",
            scored(
                losses=lambda logits, ids: -logits.log_softmax(1).gather(2, ids[..., None])[..., 0]
            ),
        ),
        Mistake(
            "softmax twice",
            "cross_entropy takes logits and makes probabilities of them itself. Here it was given "
            "probabilities, and everything is nearly equally likely.",
            scored(losses=lambda logits, ids: nats(logits.softmax(-1), ids)),
        ),
        Mistake(
            "one number for all",
            "this is a single mean over the tokens of all endings. They are to be compared, so "
            "each needs a number of its own.",
            scored(share=lambda losses, counts: losses[counts].mean()),
        ),
        Mistake(
            "a loss for each place",
            "there is a loss for each place of each row. What is compared is one number a row.",
            scored(share=lambda losses, counts: losses * counts),
        ),
        Mistake(
            "the winner",
            "this is which ending wins. What is asked for here is what they are compared by.",
            lambda logits, ids, ends: scored()(logits, ids, ends).argmin(),
        ),
        Mistake(
            "the classes in the wrong place",
            "cross_entropy wants the classes, V, on the second axis where there are more than two. "
            "Here it took the places for classes. Turn the axes round, or flatten both.",
            lambda logits, ids, ends: F.cross_entropy(logits[:, :-1], ids[:, 1:], reduction="none"),
        ),
        Mistake(
            "the classes in the wrong place, not shifted",
            "cross_entropy wants the classes, V, on the second axis where there are more than two. "
            "Here it took the places for classes. And the logits at a place speak of the id after "
            "it: what has to be cut off before?",
            lambda logits, ids, ends: F.cross_entropy(logits, ids, reduction="none"),
        ),
        Mistake(
            "a mean before its time",
            MEAN,
            scored(losses=all_at_once, share=lambda loss, counts: loss),
        ),
        Mistake(
            "a mean before its time, not shifted",
            MEAN + " And the logits at a place speak of the id after it.",
            scored(
                logits=slice(None),
                ids=slice(None),
                losses=all_at_once,
                share=lambda loss, counts: loss,
            ),
        ),
        Mistake("a mean before its time, for all", MEAN, scored(losses=all_at_once)),
        Mistake(
            "a mean before its time, in rows",
            MEAN,
            scored(losses=lambda x, ids: all_at_once(x, ids).view(ids.shape)),
        ),
        Mistake(
            "a mean before its time, in as many rows",
            MEAN,
            scored(losses=lambda x, ids: all_at_once(x, ids).view(len(ids), -1)),
        ),
        Mistake(
            "not shifted, and divided by the width of the row",
            SHIFT + " And a mean over the axis divides by all its places, not by the ending's.",
            unshifted(lambda losses, counts: (losses * counts).mean(1)),
        ),
        Mistake(
            "not shifted, and the whole row",
            SHIFT + " And context and padding were counted as well.",
            unshifted(lambda losses, counts: losses.mean(1)),
        ),
        Mistake(
            "not shifted, and the sum",
            SHIFT + " And it is a sum, in which long endings lose.",
            unshifted(lambda losses, counts: (losses * counts).sum(1)),
        ),
        Mistake(
            "one too many in the division",
            "the sums are right, and each was divided by one more than its ending has tokens.",
            scored(share=lambda losses, counts: (losses * counts).sum(1) / (counts.sum(1) + 1)),
        ),
        Mistake("padding told by its id", PADDING_BY_ID, scored(losses=not_ours)),
        Mistake(
            "an axis that is gone",
            "what a mask picks out of all rows is one long row: where an ending begins is lost. "
            "Leave the losses in their rows. How could those that do not count add nothing?",
            scored(share=lambda losses, counts: losses[counts].mean(1)),
        ),
        Mistake("the mask is not cut", UNCUT, scored(ends=slice(None))),
        Mistake(
            "the mask is not cut, and comes first",
            UNCUT,
            scored(ends=slice(None), share=lambda losses, counts: (counts * losses).sum(1)),
        ),
        Mistake(
            "the mask is not cut, and picks",
            UNCUT,
            scored(ends=slice(None), share=lambda losses, counts: losses[counts]),
        ),
        Mistake("the ids are not cut", UNCUT_IDS, scored(ids=slice(None))),
        Mistake(
            "the ids are not cut, and all is flat",
            UNCUT_IDS,
            scored(ids=slice(None), losses=flat_nats),
        ),
        Mistake(
            "the ids are not cut, and gather",
            UNCUT_IDS,
            scored(
                ids=slice(None),
                losses=lambda logits, ids: (
                    -logits.log_softmax(-1).gather(2, ids[..., None])[..., 0]
                ),
            ),
        ),
        Mistake("by way of the probabilities", LARGE, scored(losses=by_softmax)),
    ),
)
