"""Many small panels with one curve beside the same one in each: read at a glance."""

from collections.abc import Mapping, Sequence

from matplotlib import rc_context
from matplotlib.figure import Figure

from companion.lab.pictures import COLORS, MUTED, STYLE, WIDTH, show_figure, wrapped
from companion.lab.plots import Curve


def multiples(
    panels: Mapping[str, Sequence[Curve]],
    beside: Sequence[Curve],
    *,
    named: str,
    title: str,
    x: str,
    y: str,
    alt: str,
    ylim: tuple[float, float],
    columns: int = 4,
) -> None:
    """Draw each panel's curves over the curves `beside`, the same in all; show the picture.

    A panel's name stands above it; `named` says what the grey curves are. All panels have the
    same axes.
    """
    rows = -(-len(panels) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 1.45 * rows), layout="constrained")
        places = list(figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for axes, (name, curves) in zip(places, panels.items()):
            for xs, ys in beside:
                axes.plot(xs, ys, color=MUTED, linewidth=1.2, alpha=0.8)
            for xs, ys in curves:
                axes.plot(xs, ys, color=COLORS[1], linewidth=1.4)
            axes.set_title(name, fontweight="normal", fontsize=8.5, pad=4)
            axes.set_ylim(*ylim)
            axes.tick_params(labelsize=8)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        figure.suptitle(wrapped(title), x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.supylabel(y, fontsize=9)
        figure.supxlabel(f"{x}; grey: {named}", fontsize=9)
        show_figure(figure, alt)
