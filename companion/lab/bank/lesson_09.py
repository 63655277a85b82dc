"""Lesson 09: attention weights, from q and k (B, T, C) and the number of heads."""

from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.heads import split_heads
from companion.lab.exercise import Exercise, Mistake


def _probe(
    B: int, Tq: int, Tk: int, C: int, n_head: int, mean: float = 0.0
) -> tuple[Tensor, Tensor, int]:
    """Normal q (B, Tq, C) and k (B, Tk, C) with that mean and std 1, that are being trained."""
    generator = torch.Generator().manual_seed(B * Tq * Tk * C)
    q, k = (torch.randn(B, T, C, generator=generator) + mean for T in (Tq, Tk))
    return q.requires_grad_(), k.requires_grad_(), n_head


def _raw(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    """Undivided scores (B, nh, Tq, Tk)."""
    return split_heads(q, n_head) @ split_heads(k, n_head).mT


def _root(q: Tensor, n_head: int) -> float:
    return sqrt(q.shape[-1] // n_head)


def _weights(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    return (_raw(q, k, n_head) / _root(q, n_head)).softmax(-1)


def _divided_by(divisor):
    """An answer with the divisor that `divisor(q, k, n_head)` gives."""
    return lambda q, k, n_head: (_raw(q, k, n_head) / divisor(q, k, n_head)).softmax(-1)


def _over(axis: int):
    """An answer whose softmax runs over another axis."""
    return lambda q, k, n_head: (_raw(q, k, n_head) / _root(q, n_head)).softmax(axis)


def _swapped(swap):
    """An answer that turns the keys (B, nh, Tk, hs) round by `swap`."""

    def answer(q: Tensor, k: Tensor, n_head: int) -> Tensor:
        q, k = split_heads(q, n_head), split_heads(k, n_head)
        return (q @ swap(k) / sqrt(q.shape[-1])).softmax(-1)

    return answer


def _sqrt_of_a_size(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    return _raw(q, k, n_head) / torch.sqrt(q.shape[-1] // n_head)


def _three_axes(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    _B, _T, C = split_heads(q, n_head).shape
    return _raw(q, k, n_head) / sqrt(C)


def _in_place(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    q = split_heads(q, n_head)
    q /= sqrt(q.shape[-1])
    return (q @ split_heads(k, n_head).mT).softmax(-1)


def _masked(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    scores = _raw(q, k, n_head) / _root(q, n_head)
    past = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~past, -torch.inf).softmax(-1)


def _cut_across(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    q, k = (x.reshape(len(x), n_head, x.shape[1], -1) for x in (q, k))
    return (q @ k.mT / sqrt(q.shape[-1])).softmax(-1)


def _one_head(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    return (q @ k.mT / _root(q, n_head)).softmax(-1)


def _one_wide_head(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    return (q @ k.mT / sqrt(q.shape[-1])).softmax(-1)


def _by_measured_spread(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    raw = _raw(q, k, n_head)
    return (raw / raw.std()).softmax(-1)


def _by_each_querys_spread(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    raw = _raw(q, k, n_head)
    return (raw / raw.std(-1, keepdim=True)).softmax(-1)


def _by_exponentials(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    e = (_raw(q, k, n_head) / _root(q, n_head)).exp()
    return e / e.sum(-1, keepdim=True)


def _cosines(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    q, k = (F.normalize(split_heads(x, n_head), dim=-1) for x in (q, k))
    return (q @ k.mT).softmax(-1)


def _shares_of_the_sum(q: Tensor, k: Tensor, n_head: int) -> Tensor:
    raw = _raw(q, k, n_head)
    return raw / raw.sum(-1, keepdim=True)


def _is_divided_late(got: Tensor, want: Tensor, q: Tensor, k: Tensor, n_head: int) -> bool:
    """Whether it is the softmax of undivided scores, times one number."""
    if got.shape != want.shape:
        return False
    late = _raw(q, k, n_head).softmax(-1)
    factor = (got * late).sum() / (late * late).sum()
    return bool(factor > 0) and torch.allclose(got, factor * late, atol=1e-6)


def _has_another_divisor(got: Tensor, want: Tensor, q: Tensor, k: Tensor, n_head: int) -> bool:
    """Whether it is the softmax of the scores divided by some one positive number."""
    if got.shape != want.shape or not (got > 0).all():
        return False
    raw = _raw(q, k, n_head).double()
    raw, seen = (x - x.mean(-1, keepdim=True) for x in (raw, got.double().log()))
    factor = (raw * seen).sum() / (raw * raw).sum()
    return bool(factor > 0) and torch.allclose(
        (raw * factor).softmax(-1).float(), got, rtol=1e-4, atol=1e-6
    )


SPREAD = (
    "the scores were brought to a spread of 1 by measuring these ones, so a query's weights now "
    "depend on {}. Which divisor follows from the sizes alone?"
)
SWAP = (
    "a batch of heads has four axes. Which two of them have to change places, so that the axis of "
    "hs numbers of q meets that of k?"
)
ROUND = (
    "a root was rounded to a whole number: right only where head_size is a perfect square. What "
    "does int, round, isqrt or // throw away?"
)
TWICE_CUT = (
    "once q was cut into heads, its last axis counts one head's numbers, and no longer all. Print "
    "the size that you divide by the number of heads."
)
MERGED = (
    "each query came back with one row of weights. There should be one for each head: which of the "
    "two forms of q and k has an axis for them?"
)

attention_weights = Exercise(
    reference=_weights,
    probes=(
        _probe(2, 5, 7, 36, 3),
        _probe(3, 4, 6, 16, 2),
        _probe(2, 3, 3, 50, 1),  # one head: here the model's width is right
        _probe(1, 2, 5, 12, 4),
        _probe(2, 4, 3, 5, 5),  # heads of one number: here anything is
        _probe(1, 3, 5, 144, 2),  # heads above 64
        _probe(2, 3, 5, 24, 2, mean=6.0),  # scores over 100, whose exp is infinite
    ),
    mistakes=(
        Mistake(
            "not divided",
            "these are the weights of the scores as they are. How far apart do they lie in a head "
            "of 64, and how far in a head of 4?",
            _divided_by(lambda q, k, n_head: 1),
        ),
        Mistake(
            "divided by the root of the model's width",
            "how many products does one score add up? Count them in one head: the other heads' "
            "numbers are not in this sum.",
            _divided_by(lambda q, k, n_head: sqrt(q.shape[-1])),
        ),
        Mistake(
            "divided by head_size in all",
            "now the scores of a wide head lie closer together than a narrow one's. Is it the "
            "variance of a sum that grows like head_size, or its standard deviation? (If q and k "
            "were both divided by a root, each product was divided twice.)",
            _divided_by(lambda q, k, n_head: q.shape[-1] // n_head),
        ),
        Mistake(
            "divided by the model's width",
            "a score adds up the products of one head, not of all; and a sum of n of them has a "
            "standard deviation that grows more slowly than n.",
            _divided_by(lambda q, k, n_head: q.shape[-1]),
        ),
        Mistake(
            "divided by the root of the number of heads",
            "more heads make more scores, and each is a sum over fewer numbers. Which size counts "
            "the numbers in one sum? (If you took sizes from q after the cut: its axes are then "
            "B, nh, T, hs, in this order.)",
            _divided_by(lambda q, k, n_head: sqrt(n_head)),
        ),
        Mistake(
            "head_size divided by the number of heads once more",
            TWICE_CUT,
            _divided_by(lambda q, k, n_head: sqrt(q.shape[-1] // n_head // n_head)),
        ),
        Mistake(
            "head_size divided by the number of heads once more",
            TWICE_CUT,
            _divided_by(lambda q, k, n_head: sqrt(q.shape[-1] / n_head / n_head)),
        ),
        Mistake(
            "divided by the root of the number of keys",
            "more keys make more scores, not larger ones. Over what does one score sum?",
            _divided_by(lambda q, k, n_head: sqrt(k.shape[1])),
        ),
        Mistake(
            "divided by the root of the number of queries",
            "more queries make more scores, not larger ones. Over what does one score sum? (If you "
            "took sizes from q after the cut: its axes are then B, nh, T, hs, in this order.)",
            _divided_by(lambda q, k, n_head: sqrt(q.shape[1])),
        ),
        Mistake(
            "always divided by 8",
            "8 is right for one head size, GPT-2's. Which sizes that came in tell this one's?",
            _divided_by(lambda q, k, n_head: 8),
        ),
        Mistake(
            "multiplied by the root",
            "the scores of a wide head lie too far apart as they are. Which way should the factor "
            "move them?",
            _divided_by(lambda q, k, n_head: 1 / _root(q, n_head)),
        ),
        Mistake("a rounded root", ROUND, _divided_by(lambda q, k, n_head: int(_root(q, n_head)))),
        Mistake("a rounded root", ROUND, _divided_by(lambda q, k, n_head: round(_root(q, n_head)))),
        Mistake(
            "divided after the softmax",
            "add up the weights of one query: a mean needs them to sum to 1. And has this division "
            "changed how much more one key gets than another?",
            lambda q, k, n_head: _raw(q, k, n_head).softmax(-1) / _root(q, n_head),
            shows=_is_divided_late,
        ),
        Mistake(
            "divided before the softmax and after it",
            "the division in front of the softmax is right, and then the weights were divided once "
            "more: a query's no longer sum to 1.",
            lambda q, k, n_head: _weights(q, k, n_head) / _root(q, n_head),
        ),
        Mistake(
            "root of the weights",
            "a root of each weight is taken, in place of a root of the size. Softmax first makes "
            "shares that sum to 1; what do they sum to afterwards?",
            lambda q, k, n_head: _raw(q, k, n_head).softmax(-1) ** (1 / _root(q, n_head)),
        ),
        Mistake(
            "exp without its maximum",
            "right while scores are small. With scores over 100 the exponential is infinite, and "
            "infinity by infinity is no number. Only differences matter to a softmax: what may be "
            "taken off a query's scores first? (PyTorch's own softmax does it.)",
            _by_exponentials,
        ),
        Mistake(
            "shares of the sum of scores",
            "these sum to 1, and some can be negative, or huge where the scores nearly cancel. "
            "What makes every score positive before it is divided by their sum?",
            _shares_of_the_sum,
        ),
        Mistake(
            "sigmoid in place of softmax",
            "each weight was made from its own score alone, so a query's do not sum to 1. Which "
            "function lets the keys share?",
            lambda q, k, n_head: (_raw(q, k, n_head) / _root(q, n_head)).sigmoid(),
        ),
        Mistake(
            "cosines",
            "each q and k was brought to length 1, so how strongly a query prefers a key, which "
            "their lengths say too, is lost. Which divisor follows from the sizes alone?",
            _cosines,
        ),
        Mistake(
            "softmax over the queries",
            "for one key, the queries' weights sum to 1. Who divides attention among whom? Add up "
            "the other way and see.",
            _over(-2),
        ),
        Mistake(
            "softmax over the heads",
            "the heads' weights for one query and key sum to 1. Each head should divide its own "
            "attention among the keys; on which axis are they?",
            _over(1),
        ),
        Mistake(
            "softmax over the batch",
            "the texts' weights sum to 1, and two texts of a batch have nothing to do with each "
            "other. On which axis are the keys?",
            _over(0),
        ),
        Mistake(
            "no softmax",
            "these are the scores, and rightly divided. What makes shares that sum to 1 of them?",
            lambda q, k, n_head: _raw(q, k, n_head) / _root(q, n_head),
        ),
        Mistake(
            "neither divided nor softmax",
            "these are the bare scores. Two steps are still to come: one for their spread, and one "
            "that makes shares of them.",
            _raw,
        ),
        Mistake(
            "logarithms of the weights",
            "these are logarithms, which suit a loss. A mean of values is taken with the weights "
            "themselves.",
            lambda q, k, n_head: _weights(q, k, n_head).log(),
        ),
        Mistake(
            "a mask that nobody asked for",
            "some weights are 0: a causal mask was put on. Here every query may look at every key.",
            _masked,
        ),
        Mistake(
            "divided by the measured spread",
            SPREAD.format("the other queries and the other texts of the batch"),
            _by_measured_spread,
        ),
        Mistake(
            "divided by each query's own spread",
            SPREAD.format("nothing of how strongly it prefers a key: all spreads are made equal"),
            _by_each_querys_spread,
        ),
        Mistake("the heads were lost", MERGED, _one_head),
        Mistake("the heads were lost", MERGED, _one_wide_head),
        Mistake(
            "heads cut across positions",
            "the shape is right, and a head's numbers come from several positions: view and "
            "reshape alone do not move any. The line with split_heads was right (lesson 04).",
            _cut_across,
        ),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.transpose())),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.T)),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.transpose(0, 1))),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.transpose(0, -1))),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.transpose(1, 2))),
        Mistake("which axes to swap", SWAP, _swapped(lambda k: k.transpose(1, 3))),
        Mistake(
            "k not turned round",
            "a product of matrices pairs the last axis on its left with the last but one on its "
            "right. Which axis of k stands there, and which should?",
            _swapped(lambda k: k),
        ),
        Mistake(
            "three names for four axes",
            "after split_heads there is one axis more than before. Which size did you want to "
            "read, and on which axis does it stand now?",
            _three_axes,
        ),
        Mistake(
            "q changed in place",
            "the heads of q are the same memory as the caller's q, which is being trained. Make a "
            "new tensor of what you divide.",
            _in_place,
        ),
        Mistake(
            "torch.sqrt of a size",
            "a size is a plain Python number, and torch.sqrt wants a tensor. Python itself can "
            "take the root of a number.",
            _sqrt_of_a_size,
        ),
        Mistake(
            "another divisor",
            "this is the softmax of the scores divided by some other number, or by one number for "
            "every head. Give it a q and a k of nothing but ones: what does a score add up to, and "
            "what do you divide it by?",
            _divided_by(lambda q, k, n_head: 5),
            shows=_has_another_divisor,
        ),
    ),
)
