"""Masks, drawn: what each form of a mask lets attention see."""

from collections.abc import Callable, Mapping, Sequence
from textwrap import fill
from typing import NamedTuple

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from companion.lab.pictures import CARD, COLORS, MUTED, STYLE, WIDTH, show_figure, wrapped

EMPTY = "#e6e8eb"


class Attended(NamedTuple):
    """What came of a mask: in two words, and the weights (B, T, T) where there are any."""

    said: str
    weights: Tensor | None


def attended(
    attend: Callable[[Tensor, Tensor], Tensor], scores: Tensor, mask: Tensor, tokens: Tensor
) -> Attended:
    """What the tokens' own queries get to see with a mask, and the first head's weights.

    `attend(scores, mask)` gives the weights (B, nh, T, T); `tokens` (B, T) is True at tokens.
    """
    try:
        weights = attend(scores, mask)
    except RuntimeError:
        return Attended("error", None)
    rows = weights.transpose(1, 2)[tokens]  # of queries that are tokens: (n, nh, T)
    keys = tokens[:, None, None, :].expand_as(weights).transpose(1, 2)[tokens]
    faults = ["NaN"] if rows.isnan().any() else []
    faults += ["sees padding"] if (rows[~keys] > 0).any() else []
    faults += ["hides tokens"] if (rows[keys] == 0).any() else []
    empty = weights.transpose(1, 2)[~tokens].isnan().any()
    return Attended(" + ".join(faults) or "right" + ", NaN at padding" * empty, weights[:, 0])


def outcome(out: Tensor, **known: Tensor) -> str:
    """What came out of rows with nothing to see: NaN, zeros, what is `known`, or others.

    The name of the first known output, broadcast to `out`, that it is close to (0.05), with blanks
    for underscores.
    """
    if out.isnan().any():
        return "NaN"
    if not out.any():
        return "zeros"
    for name, other in known.items():
        if torch.allclose(out, other.expand_as(out), atol=0.05):
            return name.replace("_", " ")
    return "others"


def mask_chart(
    rows: Mapping[str, tuple[Tensor, Sequence[Attended]]],
    columns: Sequence[str],
    tokens: Tensor,
    *,
    title: str,
    alt: str,
) -> None:
    """Draw a row for each shape: its mask, filled where it is True, and what came of each form.

    `tokens` (B, T) is True where a token stands, False at padding. A square of weights is a text:
    a row for each query, a column for each key; what goes to padding has another colour, and
    rows that are NaN are crossed. Shows the picture.
    """
    B, T = tokens.shape
    wide = B * (T + 1) + 1.2
    across = wide * (len(columns) + 1) - 1
    highs = [_height(mask, outcomes, T) + 3.2 for mask, outcomes in rows.values()]
    down = sum(highs) + 1.4
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 0.6 + WIDTH * down / across))
        axes = figure.add_axes((0.01, 0, 0.99, WIDTH * down / across / figure.get_figheight()))
        axes.set(xlim=(-0.6, across - 0.6), ylim=(down - 3.2, -3.2))
        axes.axis("off")
        figure.suptitle(wrapped(title), x=0.01, ha="left", size=11, weight="bold")
        small = {"size": 9, "va": "bottom"}
        for n, name in enumerate(("the mask", *columns)):
            axes.text(n * wide - 0.5, -2.4, name, weight="bold", **small)
        for m, (name, (mask, outcomes)) in enumerate(rows.items()):
            top = sum(highs[:m]) + 1.2
            axes.text(-0.5, top - 0.7, name, **small)
            _mask(axes, mask, 0, top, T)
            for n, outcome in enumerate(outcomes, 1):
                color = COLORS[2] if outcome.said == "right" else COLORS[1]
                axes.text(n * wide - 0.5, top - 0.7, fill(outcome.said, 24), color=color, **small)
                if outcome.weights is not None:
                    _weights(axes, outcome.weights, tokens, n * wide, top)
        show_figure(figure, alt)


def _height(mask: Tensor, outcomes: Sequence[Attended], T: int) -> int:
    """Rows of cells that are drawn: of an error there is the mask alone."""
    return T if mask.dim() == 4 or any(one.weights is not None for one in outcomes) else len(mask)


def _mask(axes: Axes, mask: Tensor, x: float, y: float, T: int) -> None:
    """A mask in its own shape: axes of size 1 that stand for heads are not drawn."""
    texts = mask[:, 0] if mask.dim() == 4 else mask[None]  # (texts, rows, T)
    for n, rows in enumerate(texts.tolist()):
        for i, row in enumerate(rows):
            for j, seen in enumerate(row):
                _cell(axes, x + n * (T + 1) + j, y + i, MUTED if seen else CARD)


def _weights(axes: Axes, weights: Tensor, tokens: Tensor, x: float, y: float) -> None:
    T = tokens.shape[1]
    for b, rows in enumerate(weights.tolist()):
        left = x + b * (T + 1)
        for i, row in enumerate(rows):
            if row[0] != row[0]:  # NaN
                axes.plot([left - 0.4, left + T - 0.6], [y + i, y + i], color=COLORS[3], lw=1.4)
                continue
            for j, weight in enumerate(row):
                color = COLORS[0] if tokens[b, j] else COLORS[1]
                _cell(axes, left + j, y + i, _tint(color, weight**0.5))


def _cell(axes: Axes, x: float, y: float, color: object) -> None:
    style = {"facecolor": color, "edgecolor": EMPTY, "linewidth": 0.5}
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, **style))


def _tint(color: str, share: float) -> list[float]:
    return [1 - share * (1 - part) for part in to_rgb(color)]
