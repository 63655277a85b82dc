"""Lesson 01: the lookup of an embedding, as a matrix product."""

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake


def _probe(B: int, T: int, V: int, C: int, top: int) -> tuple[Tensor, Tensor]:
    """Ids (B, T) from 0 to `top`, both among them, and a weight (V, C)."""
    generator = torch.Generator().manual_seed(B * T * V * C)
    ids = torch.randint(top + 1, (B, T), generator=generator)
    ids[0, :2] = torch.tensor([top, 0])
    return ids, torch.randn(V, C, generator=generator)


def _one_hot(ids: Tensor, weight: Tensor) -> Tensor:
    return F.one_hot(ids, len(weight)).to(weight.dtype)


LOOKED_UP = (
    "the values are right, and they were looked up. That is what nn.Embedding does; the exercise "
    "is to get them by multiplying, so that you see what the lookup saves"
)

lookup_as_product = Exercise(
    reference=lambda ids, weight: _one_hot(ids, weight) @ weight,
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
            "integers times floats",
            "one_hot gives int64, and a matrix product wants both sides of one dtype.",
            lambda ids, weight: F.one_hot(ids, len(weight)) @ weight,
        ),
        Mistake(
            "weight transposed",
            "nn.Linear keeps (out, in) and transposes it for you; this weight is (V, C). Which of "
            "the two axes has to meet the V columns of the one-hot rows?",
            lambda ids, weight: _one_hot(ids, weight) @ weight.T,
        ),
        Mistake(
            "ids used as numbers",
            "you multiplied by the id itself, so token 6 came out as twice token 3. An id is a "
            "name: turn it into a row that points.",
            lambda ids, weight: ids[..., None].to(weight.dtype) * weight[1],
        ),
        Mistake(
            "ids used as numbers",
            "the ids themselves went into the product. An id is a name, not an amount: turn each "
            "into a row that points at its place.",
            lambda ids, weight: ids.to(weight.dtype) @ weight,
        ),
        Mistake(
            "ids used as numbers",
            "the ids themselves went into the product. An id is a name, not an amount: turn each "
            "into a row that points at its place.",
            lambda ids, weight: ids @ weight,
        ),
        Mistake(
            "tokens added up",
            "each row of the batch came back as one vector: the sum over its tokens (a bag of "
            "words). Which axis got lost?",
            lambda ids, weight: (_one_hot(ids, weight) @ weight).sum(-2),
        ),
        Mistake(
            "tokens averaged",
            "each row of the batch came back as one vector: the mean over its tokens. Which axis "
            "got lost?",
            lambda ids, weight: (_one_hot(ids, weight) @ weight).mean(-2),
        ),
        Mistake(
            "one-hot rows returned",
            "these are the rows that point. Multiply them by something.",
            _one_hot,
        ),
        Mistake(
            "one-hot rows returned",
            "these are the rows that point. Multiply them by something.",
            lambda ids, weight: F.one_hot(ids, len(weight)),
        ),
    ),
    forbidden={
        "aten::embedding": LOOKED_UP,
        "aten::index.Tensor": LOOKED_UP,
        "aten::index_select": LOOKED_UP,
        "aten::gather": LOOKED_UP,
        "aten::take": LOOKED_UP,
    },
)
