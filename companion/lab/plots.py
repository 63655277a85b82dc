"""Plots in one line each: one style, colour-blind safe, lines named where they end.

A plot is emitted as a picture on a light card, so that it reads the same in a dark and in a light
notebook, with its alternative text in the page; the text also stands for it where pictures cannot.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullFormatter

from companion.lab.pictures import COLORS, HEIGHT, MUTED, STYLE, WIDTH, show_figure, wrapped

_BEHIND = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
Curve = tuple[Any, Any]  # xs and ys: lists, arrays or tensors of numbers, of one length


def plot(
    *,
    title: str,
    x: str,
    y: str,
    alt: str,
    lines: Mapping[str, Curve | Sequence[Curve]] | None = None,
    points: Mapping[str, Curve | Sequence[Curve]] | None = None,
    theory: Mapping[str, Curve] | None = None,
    log: str = "",
    xticks: Sequence[float] | None = None,
    yticks: Sequence[float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> None:
    """Draw lines, points and a dashed theory over x, each named at its end; show the picture.

    A curve is (xs, ys); a list of curves is one name's several seeds, drawn in one colour. `log`
    names the logarithmic axes: "", "x", "y" or "xy". ValueError without an alternative text.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        draw_curves(figure.subplots(), lines=lines, points=points, theory=theory, log=log)
        axes = figure.axes[0]
        axes.set(title=wrapped(title), xlabel=x, ylabel=y)
        _ticks(axes, log, xticks, yticks)
        if ylim:
            axes.set_ylim(*ylim)
        _name_lines(figure, axes)
        show_figure(figure, alt)


def panels(
    measures: Mapping[str, Mapping[str, Curve | Sequence[Curve]]],
    *,
    title: str,
    x: str,
    alt: str,
    log: str = "",
    log_y: Sequence[str] = (),
    xticks: Sequence[float] | None = None,
    same_y: bool = False,
    levels: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Draw several measures of the same named curves, a panel each, two in a row; show the picture.

    `measures` maps what a panel shows to its curves by name, the same names in each, which are
    written once, on top. `log` is as in `plot`, for all panels; `log_y` names those panels
    whose y axis is logarithmic too. With `same_y` all have one y scale, to be compared by eye.
    `levels` maps a panel to heights by name: a dashed grey line each, named at its right end.
    """
    rows = -(-len(measures) // 2)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 2.1 * rows), layout="constrained")
        places = list(figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=same_y).flat)
        for axes, (y, curves) in zip(places, measures.items()):
            scales = "".join(sorted({*log, "y"} if y in log_y else log))
            draw_curves(axes, lines=curves, log=scales)
            axes.set_title(y, fontweight="normal", fontsize=9.5)
            _ticks(axes, scales, xticks, None)
            for name, height in (levels or {}).get(y, {}).items():
                axes.axhline(height, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.5, zorder=1)
                at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
                look = {"color": MUTED, "fontsize": 8.5, "va": "center", "annotation_clip": False}
                axes.annotate(name, (1, height), xytext=(4, 0), **at, **look)
        for axes in places[len(measures) :]:
            axes.set_axis_off()
        for axes in places[max(0, len(measures) - 2) : len(measures)]:
            axes.set_xlabel(x)
            axes.tick_params(labelbottom=True)
        names = figure.legend(
            *places[0].get_legend_handles_labels(),
            loc="outside upper left",
            ncols=len(next(iter(measures.values()))),
            frameon=False,
            labelcolor="linecolor",
            prop={"weight": "bold"},
            title=wrapped(title),
            title_fontproperties={"weight": "bold", "size": 11},
            alignment="left",
        )
        names.get_title().set_multialignment("left")
        show_figure(figure, alt)


def bars(
    values: Mapping[str, float | Mapping[str, float]],
    *,
    title: str,
    x: str,
    alt: str,
    form: str = "{:.2f}",
    log: str = "",
    dots: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Draw one horizontal bar a name, its value written at its end; show the picture.

    A mapping in a number's place is a group: its bars stand under its name. `dots` are the single
    runs behind a bar, by its name, drawn over it.
    """
    rows = list(_bar_rows(values))
    heights = [-place for place, _, _ in rows]
    count = 1 - heights[-1]
    tall = 0.8 + min(0.36 * count, 5.6)  # inches; a picture should fit on a screen
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, tall), layout="constrained")
        axes = figure.subplots()
        named = [(height, value) for height, (*_, value) in zip(heights, rows) if value is not None]
        axes.barh(*zip(*named), color=COLORS[0], height=0.62)
        ends = dict(named)
        for height, (_, name, _) in zip(heights, rows):
            runs = (dots or {}).get(name, ())
            axes.plot(runs, [height] * len(runs), "o", color=COLORS[1], markersize=4)
            ends[height] = max([ends.get(height, 0), *runs])
        for height, value in named:
            axes.annotate(form.format(value), (ends[height], height), **_BEHIND)
        axes.set_yticks(heights, [name for _, name, _ in rows])
        for tick, (*_, value) in zip(axes.get_yticklabels(), rows):
            tick.set_fontweight("bold" if value is None else "normal")
        axes.set_ylim(heights[-1] - 0.5, 0.5)
        axes.set(title=wrapped(title), xlabel=x, xscale="log" if log else "linear")
        axes.margins(x=0.12)
        axes.grid(visible=False)
        axes.tick_params(axis="y", length=0)
        show_figure(figure, alt)


def grid(
    values: Any,
    *,
    title: str,
    x: str,
    y: str,
    alt: str,
    form: str = "{:.2f}",
    xlabels: Sequence[str] | None = None,
    ylabels: Sequence[str] | None = None,
    mark: Sequence[tuple[int, int]] = (),
    most: float | None = None,
) -> None:
    """Draw a matrix (rows, columns) as coloured cells with their numbers; show the picture.

    `mark` names cells, as (row, column), that get a frame. Colours reach from -`most` to `most`,
    by default the matrix's own largest size: give it where two pictures are to be compared.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(f"grid draws a matrix of two axes, and this has {matrix.ndim}")
    rows, columns = matrix.shape
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 1.1 + 0.34 * rows), layout="constrained")
        axes = figure.subplots()
        most = most or np.abs(matrix).max() or 1.0
        axes.imshow(matrix, cmap="PuOr", vmin=-1.6 * most, vmax=1.6 * most, aspect="auto")
        for i, j in np.ndindex(rows, columns):
            axes.text(j, i, form.format(matrix[i, j]), ha="center", va="center", fontsize=9)
        for i, j in mark:
            frame = {"fill": False, "edgecolor": COLORS[1], "linewidth": 2.5}
            axes.add_patch(Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, **frame))
        axes.set(title=wrapped(title), xlabel=x, ylabel=y)
        axes.set_xticks(range(columns), xlabels or range(columns))
        axes.set_yticks(range(rows), ylabels or range(rows))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        show_figure(figure, alt)


def draw_curves(
    axes: Axes,
    *,
    lines: Mapping[str, Curve | Sequence[Curve]] | None = None,
    points: Mapping[str, Curve | Sequence[Curve]] | None = None,
    theory: Mapping[str, Curve] | None = None,
    log: str = "",
) -> None:
    """Draw named curves on axes, each name in a colour of its own, theory dashed and grey."""
    if set(log) - {"x", "y"}:
        raise ValueError(f"log={log!r} must be '', 'x', 'y' or 'xy'")
    axes.set(xscale="log" if "x" in log else "linear", yscale="log" if "y" in log else "linear")
    for name, (xs, ys) in (theory or {}).items():
        axes.plot(xs, ys, color=MUTED, linestyle=(0, (4, 3)), linewidth=1.5, label=name, zorder=1)
    named = [(n, c, "-") for n, c in (lines or {}).items()]
    named += [(n, c, "o") for n, c in (points or {}).items()]
    for color, (name, curves, kind) in zip(COLORS, named):
        runs = [curves] if isinstance(curves, tuple) else curves
        for number, (xs, ys) in enumerate(runs):
            label = name if number == 0 else "_again"
            thin = {"linewidth": 1.3, "alpha": 0.85} if len(runs) > 1 else {}
            axes.plot(xs, ys, kind, color=color, label=label, markersize=6, **thin)


def draw_bars(
    axes: Axes,
    groups: Mapping[str, Any],
    *,
    title: str,
    x: str,
    ylim: tuple[float, float],
    mark: Mapping[int, str] | None = None,
) -> str:
    """Draw each group's values as bars side by side; return the alternative text for a slider.

    One group is named on the y axis, several in the picture. `mark` gives single bars of the first
    group another colour and a note above them.
    """
    width = 0.8 / len(groups)
    for number, (color, (name, values)) in enumerate(zip(COLORS, groups.items())):
        places = np.arange(len(values)) + (number - (len(groups) - 1) / 2) * width
        axes.bar(places, values, width=width, color=color)
        if len(groups) > 1:
            at = (0.02, 0.97 - 0.09 * number)
            axes.text(*at, name, color=color, weight="bold", va="top", transform=axes.transAxes)
    first = next(iter(groups))
    for place, note in (mark or {}).items():
        axes.patches[place].set_color(COLORS[1])
        top = float(groups[first][place])
        axes.text(place, top, note, color=COLORS[1], weight="bold", ha="center", va="bottom")
    axes.set(title=title, xlabel=x, ylim=ylim, ylabel=first if len(groups) == 1 else "")
    axes.set_xticks(range(len(groups[first])))
    axes.grid(visible=False, axis="x")
    return f"{title}: bars of {' and '.join(groups)} over {x}."


def _bar_rows(
    values: Mapping[str, float | Mapping[str, float]],
) -> Iterator[tuple[float, str, float | None]]:
    """Place from the top, name and value of each row; the name of a group has no value."""
    place = 0.0
    for name, value in values.items():
        if not isinstance(value, Mapping):
            yield place, name, value
            place += 1
            continue
        yield place, name, None
        for at, (one, number) in enumerate(value.items(), 1):
            yield place + at, one, number
        place += len(value) + 1.3  # a gap after the group


def _ticks(axes: Axes, log: str, xticks: Any, yticks: Any) -> None:
    """Plain numbers on logarithmic axes, and the ticks that were asked for."""
    for name, axis, ticks in (("x", axes.xaxis, xticks), ("y", axes.yaxis, yticks)):
        if ticks is not None:
            axis.set_ticks(list(ticks))
        if name in log or ticks is not None:
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.6g}"))
            axis.set_minor_formatter(NullFormatter())
            axis.minorticks_off()


def _name_lines(figure: Figure, axes: Axes) -> None:
    """Write each curve's name behind its last point, moved apart where two would overlap."""
    figure.draw_without_rendering()
    ends = []
    for curve in axes.lines:
        if not curve.get_label().startswith("_"):
            x, y = curve.get_xydata()[-1]
            ends.append((axes.transData.transform((x, y))[1], x, y, curve))
    gap, last = 14 * figure.dpi / 100, -np.inf
    for height, x, y, curve in sorted(ends, key=lambda end: end[0]):
        last = max(height, last + gap)
        axes.annotate(
            curve.get_label(),
            (x, y),
            xytext=(7, (last - height) * 72 / figure.dpi),
            textcoords="offset points",
            va="center",
            color=curve.get_color(),
            fontweight="bold",
            annotation_clip=False,
        )
