"""Lesson 22: a mask of padding in any form, and another port's names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

# --- a mask from anywhere -------------------------------------------------------------------------

LEAST = torch.finfo(torch.float32).min


def tokens(mask: Tensor) -> Tensor:
    flat = mask.flatten(1)
    return flat == flat[:, :1]


def _seen(T: int, *lengths: int) -> Tensor:
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def _added(seen: Tensor, hidden: float) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, hidden)


PROBES = (
    (_seen(5, 5, 2, 3),),
    (_added(_seen(4, 2, 4), LEAST)[:, None, None],),
    ((~_seen(6, 3, 6, 1, 5))[:, None],),
    (_seen(4, 4, 1, 2, 3).long(),),  # as many texts as places
    (_added(_seen(3, 1, 3), -torch.inf)[:, None, :, None],),
    ((~_seen(7, 2)).int()[:, None, None],),  # one text, and mostly padding
    (torch.ones(2, 3, dtype=torch.long),),  # nothing is padding
    (torch.zeros(3, 1, 1, 2),),
    (torch.zeros(2, 4, dtype=torch.bool),),  # nor here
    (_seen(1, 1, 1)[:, None],),  # a place, and no more
    (2 - _seen(5, 2, 5).long(),),  # neither is 0
)


def _flat(test: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda mask: test(mask.flatten(1))


def _usual(flat: Tensor) -> Tensor:
    """True where a text's mask has its more frequent value."""
    first = flat == flat[:, :1]
    return torch.where(2 * first.sum(1, keepdim=True) >= flat.shape[1], first, ~first)


def _mode(flat: Tensor) -> Tensor:
    return flat == flat.float().mode(1, keepdim=True).values


def _mode_of_all(flat: Tensor) -> Tensor:
    return flat == flat.float().flatten().mode().values


def _more_than_half(flat: Tensor) -> Tensor:
    first = flat == flat[:, :1]
    return torch.where(2 * first.sum(1, keepdim=True) > flat.shape[1], first, ~first)


ASSUMED = (
    "it went by which numbers mean a token, and these differ: True and 1 in one form, 0 in the "
    "other, False in a third. "
)

tokens_of = Exercise(
    reference=tokens,
    probes=PROBES,
    axes="(B, T)",
    mistakes=(
        Mistake(
            "as True or False",
            ASSUMED + "Taken as a Boolean, a mask to add has its tokens False.",
            _flat(Tensor.bool),
        ),
        Mistake(
            "zero is a token",
            ASSUMED + "That is so in a mask to add, and not in a tokenizer's.",
            _flat(lambda flat: flat == 0),
        ),
        Mistake(
            "zero is padding where it is whole",
            ASSUMED + "You went by the dtype, and a mask of Booleans comes either way round.",
            _flat(lambda flat: flat == 0 if flat.is_floating_point() else flat.bool()),
        ),
        Mistake(
            "the larger is a token",
            ASSUMED + "The larger number is a token's in two of them.",
            _flat(lambda flat: flat == flat.amax()),
        ),
        Mistake(
            "the larger is a token",
            ASSUMED + "The larger number is a token's in two of them.",
            _flat(lambda flat: flat == flat.amax(1, keepdim=True)),
        ),
        Mistake(
            "at least 0",
            ASSUMED + "Only in a mask to add is padding below 0.",
            _flat(lambda flat: flat >= 0),
        ),
        Mistake(
            "above 0",
            ASSUMED + "In a mask to add nothing is above 0.",
            _flat(lambda flat: flat > 0),
        ),
        Mistake(
            "one of the two is 0",
            "you went by what is 0 and what is not. Neither need be: a mask may hold 1 and 2.",
            _flat(lambda flat: flat.bool() == flat[:, :1].bool()),
        ),
        Mistake(
            "the last place",
            "you took what stands at the last place for a token's. It is padding, in all texts "
            "but the longest. At which place is there always a token?",
            _flat(lambda flat: flat == flat[:, -1:]),
        ),
        Mistake(
            "the last place",
            "you took what stands at the last place for padding's. In the longest text it is a "
            "token's. At which place do you know what there is?",
            _flat(lambda flat: flat != flat[:, -1:]),
        ),
        Mistake(
            "the most frequent",
            "you took for a token what a text has most of. A short text in a long batch is mostly "
            "padding.",
            _flat(_usual),
        ),
        *(
            Mistake(
                "the most frequent",
                "you took for a token what there is most of. A short text in a long batch is "
                "mostly padding.",
                _flat(usual),
            )
            for usual in (_mode, _mode_of_all, _more_than_half)
        ),
        Mistake(
            "padding for tokens",
            "the right places, and the wrong way round: True should stand at tokens.",
            lambda mask: ~tokens(mask),
        ),
        Mistake(
            "an axis of 1 that was a size",
            "`squeeze` takes away every axis of 1, and a batch may have one text, or a text one "
            "place. Which axes are there for certain?",
            lambda mask: (flat := mask.squeeze()) == flat[..., :1],
        ),
        Mistake(
            "the shape left as it was",
            "which is a token was told rightly, but the axes between are still there.",
            lambda mask: mask == mask.flatten(1)[:, 0].view(-1, *[1] * (mask.dim() - 1)),
        ),
        Mistake(
            "the last axis for places",
            "in (B, 1, T, 1) the last axis is not the places. The first is texts in all forms: "
            "what is left is the places, however they are laid out.",
            lambda mask: (flat := mask.reshape(len(mask), -1, mask.shape[-1])[:, 0]) == flat[:, :1],
        ),
        Mistake(
            "whole numbers",
            "the places are right; they should be True and False, and are 1 and 0.",
            lambda mask: tokens(mask).long(),
        ),
        Mistake(
            "numbers to add",
            "this is what is added to scores. Asked for was the form that the model is given, True "
            "at tokens.",
            lambda mask: _added(tokens(mask), LEAST),
        ),
        Mistake(
            "numbers to add",
            "this is what is added to scores. Asked for was the form that the model is given, True "
            "at tokens.",
            lambda mask: _added(tokens(mask), LEAST)[:, None, None],
        ),
    ),
)

# --- another port's names -------------------------------------------------------------------------

Tensors = dict[str, Tensor]
NAMES = {
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
}
LAYERS = {"transformer.layer": "encoder.layer"}
TYPES = "embeddings.token_type_embeddings.weight"


def _renamed(tensors: Tensors, names: dict[str, str]) -> Tensors:
    ours = {}
    for name, x in tensors.items():
        for old, new in names.items():
            name = name.replace(f"{old}.", f"{new}.")
        ours[name] = x
    return ours


def _types(tensors: Tensors, rows: int = 2) -> Tensors:
    words = tensors["embeddings.word_embeddings.weight"]
    return {TYPES: words.new_zeros(rows, words.shape[1])}


def _with(names: dict[str, str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: _renamed(tensors, LAYERS | names) | _types(tensors)


def _swapped(one: str, other: str) -> Callable[[Tensors], Tensors]:
    return _with(NAMES | {one: NAMES[other], other: NAMES[one]})


def right_names(tensors: Tensors) -> Tensors:
    return _with(NAMES)(tensors)


def _probe(C: int, wide: int, layers: int, V: int) -> tuple[Tensors]:
    g = torch.Generator().manual_seed(C + wide + V)
    shapes = {
        "embeddings.word_embeddings.weight": (V, C),
        "embeddings.position_embeddings.weight": (12, C),
        "embeddings.LayerNorm.weight": (C,),
        "embeddings.LayerNorm.bias": (C,),
    }
    for n in range(layers):
        for name in NAMES:
            inside = wide if name == "ffn.lin2" else C
            out = wide if name == "ffn.lin1" else C
            place = f"transformer.layer.{n}.{name}"
            shapes[f"{place}.weight"] = (out,) if "norm" in name else (out, inside)
            shapes[f"{place}.bias"] = (out,)
    return ({name: torch.randn(*shape, generator=g) for name, shape in shapes.items()},)


def _only_types_missed(got: object, want: Tensors, _: Tensors) -> bool:
    return (
        isinstance(got, dict) and want.keys() - got.keys() == {TYPES} and got.keys() < want.keys()
    )


def _left(got: object, want: Tensors, _: Tensors) -> bool:
    wrong = got.keys() - want.keys() if isinstance(got, dict) else ()
    return any(old in str(name) for name in wrong for old in NAMES | LAYERS)


def _lost(got: object, want: Tensors, _: Tensors) -> bool:
    return isinstance(got, dict) and got.keys() < want.keys()


def _prefixed(got: object, want: Tensors, _: Tensors) -> bool:
    return isinstance(got, dict) and {n.removeprefix("bert.") for n in got} == want.keys() != set(
        got
    )


def _not_zero(got: object, want: Tensors, _: Tensors) -> bool:
    if not isinstance(got, dict) or got.keys() != want.keys():
        return False
    table = got[TYPES]
    return isinstance(table, Tensor) and table.shape == want[TYPES].shape and not _flat_rows(table)


def _flat_rows(table: Tensor) -> bool:
    """Whether each row has one number: the norm behind the sum takes it away again."""
    return bool((table == table[:, :1]).all() and (table.abs() <= 1).all())


@dataclass(frozen=True)
class _Names(Exercise):
    """A table of segments that changes nothing is as good as one of zeros."""

    def _difference(self, got: Any, want: Any) -> str | None:
        table = got.get(TYPES) if isinstance(got, dict) else None
        if isinstance(table, Tensor) and table.dim() == 2 and table.numel() and _flat_rows(table):
            got = got | {TYPES: torch.zeros_like(table)}
        return super()._difference(got, want)


def _one_row(got: object, want: Tensors, _: Tensors) -> bool:
    if not isinstance(got, dict) or got.keys() != want.keys():
        return False
    return isinstance(got[TYPES], Tensor) and got[TYPES].shape[:1] == (1,)


def _wide_by_heart(got: object, want: Tensors, _: Tensors) -> bool:
    if not isinstance(got, dict) or got.keys() != want.keys():
        return False
    table = got[TYPES]
    return isinstance(table, Tensor) and table.shape == (2, 32)


def _turned(tensors: Tensors) -> Tensors:
    right = right_names(tensors)
    return {n: x.T if "encoder" in n and x.dim() == 2 else x for n, x in right.items()}


as_bert = _Names(
    reference=right_names,
    probes=(_probe(4, 10, 1, 7), _probe(6, 9, 3, 5)),
    show=lambda tensors: f"{len(tensors)} tensors",
    tolerance=0.0,
    mistakes=(
        Mistake(
            "no table of segments",
            "all that is there has its name, and one tensor of ours is not there. A strict load "
            "names it. What should it hold, so that it adds nothing?",
            lambda tensors: _renamed(tensors, LAYERS | NAMES),
            _only_types_missed,
        ),
        Mistake(
            "segments that add something",
            "the names are right. A row of the table that DistilBERT does not have changes what "
            "it is added to; neither segment should.",
            lambda tensors: (
                right_names(tensors) | {TYPES: tensors["embeddings.word_embeddings.weight"][:2]}
            ),
            _not_zero,
        ),
        Mistake(
            "one segment",
            "the names are right. How many segments does a Bert of this config know?",
            lambda tensors: right_names(tensors) | _types(tensors, rows=1),
            _one_row,
        ),
        Mistake(
            "a width by heart",
            "the names are right. The table is as wide as the model that was printed, and not as "
            "the tensors that you are given.",
            lambda tensors: right_names(tensors) | {TYPES: torch.zeros(2, 32)},
            _wide_by_heart,
        ),
        Mistake(
            "a prefix",
            "all names are right but for `bert.` before them. A bare Bert has none.",
            lambda tensors: {f"bert.{n}": x for n, x in right_names(tensors).items()},
            _prefixed,
        ),
        Mistake(
            "q and k swapped",
            "two names of one shape were mixed up: queries for keys. A load says nothing of it.",
            _swapped("attention.q_lin", "attention.k_lin"),
        ),
        Mistake(
            "k and v swapped",
            "two names of one shape were mixed up: keys for values. A load says nothing of it.",
            _swapped("attention.k_lin", "attention.v_lin"),
        ),
        Mistake(
            "q and v swapped",
            "two names of one shape were mixed up: queries for values. A load says nothing of it.",
            _swapped("attention.q_lin", "attention.v_lin"),
        ),
        Mistake(
            "v and the way out swapped",
            "two names of one shape were mixed up: the values' Linear, and the one behind "
            "attention.",
            _swapped("attention.v_lin", "attention.out_lin"),
        ),
        Mistake(
            "norms swapped",
            "the two norms of a layer have the same shapes. Which belongs to attention (sa is for "
            "self-attention), and which ends the layer?",
            _swapped("sa_layer_norm", "output_layer_norm"),
        ),
        Mistake(
            "the MLP's halves swapped",
            "the MLP's two Linears have each other's names; their shapes say which is which.",
            _swapped("ffn.lin1", "ffn.lin2"),
        ),
        Mistake(
            "turned round",
            "the names are right, and the matrices transposed. GPT-2's file needs that, lesson 13; "
            "PyTorch's Linear, here and there, is (out, in).",
            _turned,
        ),
        Mistake(
            "tensors left out",
            "tensors are missing in what you returned. Compare the names of yours with the names "
            "in `model.state_dict()`.",
            lambda tensors: dict(list(right_names(tensors).items())[1:]),
            _lost,
        ),
        Mistake(
            "an old name left",
            "some tensors still have DistilBERT's names. Which of your names are not in "
            "`model.state_dict()`?",
            lambda tensors: dict(tensors),
            _left,
        ),
    ),
)
