"""Lesson 02: the one Linear that does what two in a row do."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.lab.exercise import Exercise, Mistake

Layer = tuple[Tensor, Tensor]


def _probe(into: int, between: int, out: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weight (between, into) and bias of the first Linear, then those of the second."""
    generator = torch.Generator().manual_seed(into + 10 * between + 100 * out)
    shapes = ((between, into), (between,), (out, between), (out,))
    return tuple(2 * torch.randn(shape, generator=generator) for shape in shapes)


def _reference(weight_1: Tensor, bias_1: Tensor, weight_2: Tensor, bias_2: Tensor) -> Layer:
    return weight_2 @ weight_1, weight_2 @ bias_1 + bias_2


def _with_bias(bias: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]):
    """An answer whose weight is right and whose bias is `bias(w1, b1, w2, b2)`."""
    return lambda w1, b1, w2, b2: (w2 @ w1, bias(w1, b1, w2, b2))


def _with_weight(weight: Callable[[Tensor, Tensor], Tensor]):
    """An answer whose bias is right and whose weight is `weight(w1, w2)`."""
    return lambda w1, b1, w2, b2: (weight(w1, w2), w2 @ b1 + b2)


def _probed(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """What both layers give (in, out) for each input number alone, their biases on top."""
    return F.linear(F.linear(torch.eye(w1.shape[1]), w1, b1), w2, b2)


def _is_a_module(got: object, *_: object) -> bool:
    return isinstance(got, nn.Module)


def _is_a_function(got: object, *_: object) -> bool:
    return callable(got) and not isinstance(got, nn.Module)


def _is_drawn_anew(got: object, want: Layer, *_: Tensor) -> bool:
    """Whether these are numbers as a new nn.Linear has them, in the right shapes."""
    if not (isinstance(got, tuple | list) and len(got) == 2):
        return False
    bound = want[0].shape[1] ** -0.5
    return all(
        isinstance(one, Tensor)
        and one.shape == right.shape
        and bool((one != 0).all())
        and bool((one.abs() <= bound).all())
        for one, right in zip(got, want)
    )


ORDER = (
    "in a product, the right-hand factor meets the input first. Which of the two layers does x "
    "meet first?"
)
CARRY = (
    "the first bias is added before the second layer, so it goes through that layer like "
    "everything else. What arrives at the end when x is all zeros?"
)
APART = (
    "one bias is added between the layers and the other at the end, so they may differ in length, "
    "and a layer lies between them. What does it do to the first?"
)
ROWS = (
    "this weight is (in, out), as for x times weight. nn.Linear keeps (out, in), and so do the two "
    "that you were given."
)
TURNED = (
    "turning both round also turns the order: the two then meet by the sides that have nothing to "
    "do with each other. Both are (out, in) as they stand."
)
SUMMED = (
    "each number that comes out adds up the first bias with weights of its own, one row of the "
    "second weight. So there are as many sums as numbers that come out. Which axis stays?"
)
COLUMN = (
    "the numbers may be right, but the bias has an axis too many. nn.Linear keeps one number for "
    "each output, and no second axis; as a column it would be added to the wrong outputs."
)
NUMBERS = "a layer that can compute it was returned. The exercise asks for its two tensors."
PROBED = (
    "each input number was fed alone, as a row of the identity, and what came out was taken for "
    "the weight. But what comes out when nothing is fed? That is in each of those answers too."
)
MIXED = (
    "the second layer does more than scale: each number that it gives is a weighted sum of all "
    "that it gets. Which kind of product is that?"
)

one_for_two = Exercise(
    reference=_reference,
    probes=(
        _probe(3, 5, 4),  # all sizes different: a wrong order does not fit
        _probe(3, 3, 3),  # all equal: every order fits
        _probe(4, 2, 4),  # narrow between
        _probe(2, 6, 1),
        _probe(1, 1, 1),
    ),
    mistakes=(
        Mistake("weights in the wrong order", ORDER, _with_weight(lambda w1, w2: w1 @ w2)),
        Mistake("weights in the wrong order", ORDER, _with_weight(lambda w1, w2: w1.T @ w2)),
        Mistake(
            "one weight transposed",
            "both weights are (out, in) as they stand, and then the sizes meet by themselves. "
            "What did the transpose have to mend?",
            _with_weight(lambda w1, w2: w2 @ w1.T),
        ),
        Mistake(
            "one weight transposed",
            "both weights are (out, in) as they stand, and then the sizes meet by themselves. "
            "What did the transpose have to mend?",
            _with_weight(lambda w1, w2: w2.T @ w1),
        ),
        Mistake("weight the other way round", ROWS, _with_weight(lambda w1, w2: w1.T @ w2.T)),
        *(
            Mistake("both weights transposed", TURNED, answer)
            for answer in (
                _with_weight(lambda w1, w2: w2.T @ w1.T),
                lambda w1, b1, w2, b2: (w2.T @ w1.T, w2.T @ b1 + b2),
                lambda w1, b1, w2, b2: (w2.T @ w1.T, b1 @ w2.T + b2),
            )
        ),
        *(
            Mistake("the bias left in the weight", PROBED, answer)
            for answer in (
                lambda w1, b1, w2, b2: (_probed(w1, b1, w2, b2).T, w2 @ b1 + b2),
                lambda w1, b1, w2, b2: (_probed(w1, b1, w2, b2), w2 @ b1 + b2),
                lambda w1, b1, w2, b2: (_probed(w1, b1, w2, b2).T, torch.zeros_like(b2)),
                lambda w1, b1, w2, b2: (_probed(w1, b1, w2, b2).T, b2),
                lambda w1, b1, w2, b2: (
                    _probed(w1, b1, w2, b2).T - b2[:, None],
                    w2 @ b1 + b2,
                ),
            )
        ),
        Mistake("multiplied number by number", MIXED, _with_weight(lambda w1, w2: w2 * w1)),
        Mistake(
            "weights added",
            "adding the weights is what two layers side by side would do, whose outputs are "
            "added. These two stand in a row.",
            _with_weight(lambda w1, w2: w1 + w2),
        ),
        Mistake(
            "the first bias forgotten",
            "the bias of the second layer alone would do if the first had none. " + CARRY,
            _with_bias(lambda w1, b1, w2, b2: b2),
        ),
        Mistake(
            "the second bias forgotten",
            "the first bias was carried through, and the second layer adds one of its own. Where "
            "did it go?",
            _with_bias(lambda w1, b1, w2, b2: w2 @ b1),
        ),
        *(
            Mistake("the two biases put together", APART, _with_bias(bias))
            for bias in (
                lambda w1, b1, w2, b2: b1 + b2,
                lambda w1, b1, w2, b2: w2 @ (b1 + b2),
                lambda w1, b1, w2, b2: b1 * b2,
            )
        ),
        Mistake(
            "the wrong bias carried through",
            "the second bias is added at the very end, with no layer after it; the first one is "
            "added in the middle. Which of them has a way to go?",
            _with_bias(lambda w1, b1, w2, b2: b1 + w2 @ b2),
        ),
        Mistake(
            "the first bias carried through its own layer",
            "the first bias is added after the first weight has done its work. Which weight does "
            "it still meet?",
            _with_bias(lambda w1, b1, w2, b2: w1 @ b1 + b2),
        ),
        Mistake(
            "the first bias carried through both layers",
            "the first bias is added after the first weight has done its work. Which weight does "
            "it still meet?",
            _with_bias(lambda w1, b1, w2, b2: w2 @ w1 @ b1 + b2),
        ),
        Mistake(
            "the first bias meets the wrong side",
            "a vector on the left of a weight (out, in) meets its rows, one for each number that "
            "comes out. The bias has to meet what goes in.",
            _with_bias(lambda w1, b1, w2, b2: b1 @ w2 + b2),
        ),
        *(
            Mistake("the first bias not added up by rows", SUMMED, _with_bias(bias))
            for bias in (
                lambda w1, b1, w2, b2: w2 * b1 + b2,
                lambda w1, b1, w2, b2: w2 * b1 + b2[:, None],
                lambda w1, b1, w2, b2: (w2 * b1).sum() + b2,
            )
        ),
        *(
            Mistake("the bias with an axis too many", COLUMN, _with_bias(bias))
            for bias in (
                lambda w1, b1, w2, b2: (w2 @ b1 + b2)[:, None],
                lambda w1, b1, w2, b2: (w2 @ b1 + b2)[None],
                lambda w1, b1, w2, b2: w2 @ b1[:, None] + b2,
            )
        ),
        Mistake(
            "no bias",
            "the weight is right. Now feed zeros to two layers in a row: does nothing come out?",
            lambda w1, b1, w2, b2: w2 @ w1,
        ),
        Mistake(
            "no bias",
            "the weight is right. Now feed zeros to two layers in a row: does nothing come out?",
            _with_bias(lambda w1, b1, w2, b2: torch.zeros_like(b2)),
        ),
        Mistake(
            "no bias",
            "the weight is right. Now feed zeros to two layers in a row: does nothing come out?",
            lambda w1, b1, w2, b2: (w2 @ w1, None),
        ),
        Mistake(
            "bias and weight exchanged",
            "both are right, in the other order than the docstring asks for.",
            lambda w1, b1, w2, b2: (w2 @ b1 + b2, w2 @ w1),
        ),
        Mistake(
            "a layer for its numbers",
            NUMBERS,
            lambda w1, b1, w2, b2: nn.Sequential(nn.Linear(*w1.T.shape), nn.Linear(*w2.T.shape)),
            shows=_is_a_module,
        ),
        Mistake(
            "a function for its numbers",
            "a function that can compute it was returned. The exercise asks for a weight and a "
            "bias.",
            lambda w1, b1, w2, b2: lambda x: (x @ w1.T + b1) @ w2.T + b2,
            shows=_is_a_function,
        ),
        Mistake(
            "a new layer",
            "these are the random numbers that a new nn.Linear starts with. Which numbers make it "
            "do what the two given layers do?",
            lambda w1, b1, w2, b2: (lambda new: (new.weight, new.bias))(
                nn.Linear(w1.shape[1], w2.shape[0])
            ),
            shows=_is_drawn_anew,
        ),
    ),
)
