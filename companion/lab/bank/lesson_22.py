"""Lesson 22: whether padding moves a token's numbers, and another port's names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

# --- is the mask right? ---------------------------------------------------------------------------

LEAST = torch.finfo(torch.float32).min
Model = Callable[..., Tensor]


def _table(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


WORDS, PLACES = _table(23, 1), _table(16, 2)


def _reader(added: Callable[[Tensor], Tensor], places: Callable[[int], Tensor], wild: float = 0):
    """One layer of attention; `added` makes of seen (B, T) what is added to scores (B, T, T)."""

    def model(ids: Tensor, mask: Tensor | None = None) -> Tensor:
        seen = torch.ones_like(ids).bool() if mask is None else mask.bool()
        if seen.shape != ids.shape:
            raise ValueError(f"ids are {tuple(ids.shape)}, the mask is {tuple(seen.shape)}")
        x = WORDS[ids] + places(ids.shape[1])
        x = (x @ x.mT / 2 + added(seen)).softmax(-1) @ x  # (B, T, 4)
        return x + wild * ~seen[..., None]

    return model


def _hiding(seen: Tensor) -> Tensor:
    return torch.zeros(seen.shape).masked_fill(~seen, LEAST)[:, None]


def _forward(T: int) -> Tensor:
    return PLACES[:T]


MODELS: dict[str, Model] = {
    "a right mask": _reader(_hiding, _forward),
    "a right mask, and large numbers at padding": _reader(_hiding, _forward, wild=9.0),
    "no mask": _reader(lambda seen: torch.zeros(()), _forward),
    "a mask on its side": _reader(lambda seen: _hiding(seen).mT, _forward),
    "a mask of 1 and 0": _reader(lambda seen: seen[:, None].float(), _forward),
    "the first text's mask for all": _reader(lambda seen: _hiding(seen)[:1], _forward),
    "a right mask, and positions from the end": _reader(_hiding, lambda T: PLACES[:T].flip(0)),
}


def moved(model: Model, ids: Tensor, mask: Tensor) -> float:
    return max(_by_text(model, ids, mask))


def _gaps(model: Model, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Each text's numbers beside the others, less its own alone."""
    together = model(ids, mask)
    lengths = mask.sum(1).tolist()
    return [
        together[b, :n] - model(ids[b : b + 1, :n], mask[b : b + 1, :n])[0]
        for b, n in enumerate(lengths)
    ]


def _by_text(model: Model, ids: Tensor, mask: Tensor) -> list[float]:
    return [gap.abs().max().item() for gap in _gaps(model, ids, mask)]


def _with_padding(model: Model, ids: Tensor, mask: Tensor) -> float:
    alone = [model(ids[b : b + 1], mask[b : b + 1])[0] for b in range(len(ids))]
    return (model(ids, mask) - torch.stack(alone)).abs().max().item()


def _padding_too(model: Model, ids: Tensor, mask: Tensor) -> float:
    far = model(ids, mask)
    for b, n in enumerate(mask.sum(1).tolist()):
        far[b, :n] -= model(ids[b : b + 1, :n], mask[b : b + 1, :n])[0]
    return far.abs().max().item()


def _asked_for(of: str) -> str:
    return f"{of}. Asked for was the most that any single number of any token is off."


def _whether(got: object, want: float, *_: object) -> bool:
    return isinstance(got, bool)


def _read(answer: Callable[..., Any], name: str, ids: Tensor, mask: Tensor) -> Any:
    with torch.no_grad():
        return answer(MODELS[name], ids, mask)


def _batch(seed: int, *lengths: int, pad: int = 0) -> tuple[Tensor, Tensor]:
    seen = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, len(WORDS), seen.shape, generator=g)
    return ids.masked_fill(~seen, pad), seen


moved_by_padding = Exercise(
    reference=moved,
    probes=(
        ("no mask", *_batch(0, 5, 2, 7)),
        ("a right mask", *_batch(1, 4, 6)),
        ("a right mask, and large numbers at padding", *_batch(2, 3, 1, 5)),
        ("a mask on its side", *_batch(3, 2, 6, 4, 3)),
        ("the first text's mask for all", *_batch(4, 5, 3)),
        ("a mask of 1 and 0", *_batch(5, 1, 4, 2, pad=7)),
        ("a right mask, and positions from the end", *_batch(6, 3, 8)),
        ("no mask", *_batch(7, 4, 4)),  # nothing is padding
    ),
    look=_read,
    show=lambda name, ids, mask: f"{name}, texts of {', '.join(map(str, mask.sum(1).tolist()))}",
    mistakes=(
        Mistake(
            "alone, but padded",
            "each text was run by itself and kept its padding. Then nothing changes but its "
            "company, which no model looks at. What is to go?",
            _with_padding,
        ),
        Mistake(
            "padding counted",
            "what a model gives at padding was counted too. Nobody reads it, and it may be "
            "anything: which places of the batch are a token's?",
            _padding_too,
        ),
        Mistake(
            "the last text",
            "you returned what the last text is moved by. What of those before it?",
            lambda *probe: _by_text(*probe)[-1],
        ),
        Mistake(
            "the first text",
            "you returned what the first text is moved by. What of those behind it?",
            lambda *probe: _by_text(*probe)[0],
        ),
        Mistake(
            "a sign left",
            "the largest of the differences, with their signs: a number that is far too small "
            "is as far off as one that is too large.",
            lambda *probe: max(gap.max().item() for gap in _gaps(*probe)),
        ),
        Mistake(
            "a sign left",
            "the largest of the differences, with their signs: a number that is far too small "
            "is as far off as one that is too large.",
            lambda *probe: max((-gap).max().item() for gap in _gaps(*probe)),
        ),
        Mistake(
            "a mean",
            _asked_for("this is a mean: one token that is far off drowns in many that are right"),
            lambda *probe: max(gap.abs().mean().item() for gap in _gaps(*probe)),
        ),
        Mistake(
            "a mean",
            _asked_for("this is a mean: one token that is far off drowns in many that are right"),
            lambda *probe: torch.cat(_gaps(*probe)).abs().mean().item(),
        ),
        Mistake(
            "a sum",
            _asked_for("this is a sum"),
            lambda *probe: sum(_by_text(*probe)),
        ),
        Mistake(
            "nothing moved",
            "it comes out as 0 for wrong masks too. Was the least of all texts taken, or a text "
            "without padding? These are never moved.",
            lambda *probe: min(_by_text(*probe)),
        ),
        Mistake(
            "one for each text",
            "these are right, text by text. Asked for was one number, the most of them.",
            _by_text,
        ),
        Mistake(
            "a norm",
            _asked_for("this is a length, of many differences together"),
            lambda *probe: max(gap.norm().item() for gap in _gaps(*probe)),
        ),
        Mistake(
            "whether",
            "you said whether it is moved. Asked for was how far; the caller knows what is "
            "rounding.",
            lambda *probe: moved(*probe) > 1e-5,
            _whether,
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
