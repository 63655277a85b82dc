"""Who reaches whom, as small maps side by side: past and present in one colour, future in another.

A map is square: row i is what was looked at, column j what was changed. Above the diagonal j is
later than i.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from companion.lab.pictures import CARD, COLORS, MUTED, STYLE, WIDTH, show_figure, wrapped

FAINTEST = 1e-6  # of a map's largest value: the rounding of float32; less is drawn as nothing


def maps(
    values: Mapping[str, Any],
    *,
    title: str,
    x: str,
    y: str,
    alt: str,
    columns: int = 3,
    one_scale: bool = False,
) -> None:
    """Draw each named matrix (T, T) as a map, `columns` in a row; show the picture.

    A shade is a share of each map's own largest value, or, with one_scale, of the largest of all.
    """
    largest = max(np.abs(np.asarray(m)).max() for m in values.values()) if one_scale else None
    rows = ceil(len(values) / columns)
    with rc_context(STYLE | {"axes.titlesize": 9.5}):
        figure = Figure(figsize=(WIDTH, 0.9 + 2.15 * rows), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, (name, matrix) in zip(panels, values.items()):
            draw_map(axes, matrix, title=name, largest=largest)
        for axes in panels[len(values) :]:
            axes.set_visible(False)
        figure.suptitle(wrapped(title), x=0.01, ha="left", fontsize=11, weight="bold")
        figure.supxlabel(x, fontsize=9.5)
        figure.supylabel(y, fontsize=9.5)
        show_figure(figure, alt)


def draw_map(
    axes: Axes,
    values: Any,
    *,
    title: str,
    x: str = "",
    y: str = "",
    largest: float | None = None,
) -> str:
    """Draw one matrix (T, T) on axes; return the alternative text for a slider.

    The stronger, the darker, each tenfold step alike; nothing at all is left white. The darkest is
    `largest`, or else the largest value of the matrix.
    """
    matrix = np.abs(np.asarray(values, dtype=float))
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a map is a square matrix, and this has shape {matrix.shape}")
    share = matrix / (largest or matrix.max() or 1.0)
    drawn = share > FAINTEST
    tint = np.where(drawn, 1 + 0.13 * np.log10(np.maximum(share, FAINTEST)), 0.0)[..., None]
    future = np.triu(np.ones_like(matrix), 1)[..., None]
    past, later, card = (np.array(to_rgb(color)) for color in (COLORS[0], COLORS[1], CARD))
    colors = later * future + past * (1 - future)
    axes.imshow(card + tint * (colors - card), interpolation="nearest")
    T = len(matrix)
    axes.set(title=title, xlabel=x, ylabel=y)
    step = max(1, T // 6)
    axes.set_xticks(range(0, T, step))
    axes.set_yticks(range(0, T, step))
    axes.grid(visible=False)
    axes.set_xticks(np.arange(T + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(T + 1) - 0.5, minor=True)
    axes.grid(visible=True, which="minor", color="#e6e8eb", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set(visible=True, color=MUTED)
    count = int((drawn & (future[..., 0] > 0)).sum())
    return f"{title}: a map of {T} by {T} positions; {count} reach from the future."
