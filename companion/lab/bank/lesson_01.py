"""Lesson 01: the lookup of an embedding, as a matrix product."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from companion.lab.exercise import Exercise, Mistake


def _probe(B: int, T: int, V: int, C: int, top: int) -> tuple[Tensor, Tensor]:
    """Ids (B, T) from 0 to `top`, both among them, and a weight (V, C) that is being trained."""
    generator = torch.Generator().manual_seed(B * T * V * C)
    ids = torch.randint(top + 1, (B, T), generator=generator)
    ids[0, :2] = torch.tensor([top, 0])
    return ids, torch.randn(V, C, generator=generator).requires_grad_()


def _one_hot(ids: Tensor, weight: Tensor) -> Tensor:
    return F.one_hot(ids, len(weight)).to(weight.dtype)


def _rows(ids: Tensor, weight: Tensor) -> Tensor:
    return _one_hot(ids, weight) @ weight


def _is_an_amount(got: Tensor, want: Tensor, ids: Tensor, weight: Tensor) -> bool:
    """Whether every vector is a direction times its id, plus a constant."""
    if got.shape != want.shape or not got.dtype.is_floating_point:
        return False
    known = torch.stack([ids.flatten().to(got.dtype), torch.ones(ids.numel())], dim=1)
    fitted = known @ torch.linalg.pinv(known) @ got.flatten(0, 1)
    return torch.allclose(fitted, got.flatten(0, 1), atol=1e-4) and bool(got.std() > 1e-6)


def _has_a_bias(got: Tensor, want: Tensor, ids: Tensor, weight: Tensor) -> bool:
    """Whether one and the same vector was added to every row."""
    if got.shape != want.shape:
        return False
    extra = (got - want).flatten(0, 1)
    return torch.allclose(extra, extra[:1].expand_as(extra), atol=1e-5)


def _is_another_table(got: Tensor, want: Tensor, ids: Tensor, weight: Tensor) -> bool:
    """Whether there is one vector an id, and none of them in the weight."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    vectors, flat = got.flatten(0, 1), ids.flatten()
    apart = torch.cdist(vectors, vectors) > 1e-5
    known = torch.cdist(vectors, weight) < 1e-4
    return bool((apart == (flat[:, None] != flat)).all() and not known.any())


def _through_linear(ids: Tensor, weight: Tensor) -> Tensor:
    layer = nn.Linear(*weight.shape)
    layer.weight = nn.Parameter(weight.T.contiguous())
    return layer(_one_hot(ids, weight))


AMOUNT = (
    "an id went into the product as an amount, so token 6 counts as twice token 3. An id is a "
    "name: turn it into a row that points at its place."
)
NO_POINTERS = "these are the rows that point. Multiply them by something."
LOST = "each row of the batch came back as one vector, its tokens' {}. Which axis got lost?"
LOOKED_UP = (
    "the values are right, and the weight was looked up: single rows were taken out of it. That is "
    "what nn.Embedding does; the exercise is to get them all by one product"
)

lookup_as_product = Exercise(
    reference=_rows,
    probes=(
        _probe(2, 4, 7, 3, top=6),
        _probe(3, 5, 11, 2, top=8),  # no id reaches V - 1: one_hot has to be told V
        _probe(1, 6, 4, 4, top=3),  # a square weight: its transpose fits too
    ),
    mistakes=(
        Mistake(
            "one_hot not told the vocabulary",
            "it counted the ids that it saw and made that many columns. How many should there be, "
            "even when the largest id is not in this batch?",
            lambda ids, weight: F.one_hot(ids).to(weight.dtype) @ weight,
        ),
        Mistake(
            "one_hot told the width",
            "a pointer needs a place for every token, not for every channel. Which size of the "
            "weight counts the tokens?",
            lambda ids, weight: F.one_hot(ids, weight.shape[1]).to(weight.dtype) @ weight,
        ),
        Mistake(
            "integers times floats",
            "one_hot gives int64, and a matrix product wants both sides of one dtype.",
            lambda ids, weight: F.one_hot(ids, len(weight)) @ weight,
        ),
        Mistake(
            "weight transposed",
            "nn.Linear keeps (out, in) and transposes it for you; this weight is (V, C). Which of "
            "the two axes has to meet the V columns of the pointers?",
            lambda ids, weight: _one_hot(ids, weight) @ weight.T,
        ),
        Mistake(
            "a bias on every row",
            "all rows are off by the same vector. Which part of nn.Linear adds one, asked or not?",
            _through_linear,
            shows=_has_a_bias,
        ),
        Mistake(
            "ids used as amounts",
            AMOUNT,
            lambda ids, weight: nn.Linear(1, weight.shape[1])(ids[..., None].to(weight.dtype)),
            shows=_is_an_amount,
        ),
        Mistake(
            "another table",
            "equal ids got equal vectors, but not the rows of this weight: a new layer was made, "
            "with random numbers of its own. Where does `weight` come in?",
            lambda ids, weight: nn.Embedding(*weight.shape)(ids),
            shows=_is_another_table,
        ),
        Mistake("ids used as amounts", AMOUNT, lambda ids, weight: ids[..., None].float() @ weight),
        Mistake("ids used as amounts", AMOUNT, lambda ids, weight: ids.float() @ weight),
        Mistake("ids used as amounts", AMOUNT, lambda ids, weight: ids @ weight),
        Mistake(
            "tokens added up",
            LOST.format("sum (a bag of words)"),
            lambda ids, weight: _rows(ids, weight).sum(-2),
        ),
        Mistake(
            "tokens averaged",
            LOST.format("mean"),
            lambda ids, weight: _rows(ids, weight).mean(-2),
        ),
        Mistake("pointers returned", NO_POINTERS, _one_hot),
        Mistake("pointers returned", NO_POINTERS, lambda ids, weight: F.one_hot(ids, len(weight))),
    ),
    forbidden={
        f"{operation} on argument 2": LOOKED_UP
        for operation in (
            "aten::embedding",
            "aten::_embedding_bag",
            "aten::gather",
            "aten::index.Tensor",
            "aten::index_select",
            "aten::select.int",
            "aten::slice.Tensor",
            "aten::split.Tensor",
            "aten::take",
            "aten::unbind.int",
        )
    },
)
