"""GPT-2's block as a drawing: the stream, its two branches, and the four places of dropout."""

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.lab.pictures import CARD, COLORS, INK, MUTED, STYLE, WIDTH, show_figure, wrapped
from companion.lab.toy import SITES

STREAM, BRANCH, NOTES = 1.9, 4.9, 7.3  # where on the x axis
FLOW = (  # from above: what stands where, and the site of dropout behind it
    (STREAM, "wte + wpe", "embeddings"),
    (BRANCH, "ln_1, c_attn: q and k", None),
    (BRANCH, "softmax(q @ k.T / √hs)", "weights"),
    (BRANCH, "@ v (from c_attn), c_proj", "attention"),
    (STREAM, "+", None),
    (BRANCH, "ln_2, c_fc, GELU, c_proj", "mlp"),
    (STREAM, "+", None),
    (STREAM, "ln_f, lm_head", None),
)


def block(notes: Mapping[str, str], *, title: str, alt: str, heading: str = "") -> None:
    """Draw GPT-2's layout with its sites of dropout, a note on the right of each; show the picture.

    `notes` maps sites ("embeddings", "weights", "attention", "mlp") to a line of text, under a
    `heading`. ValueError for another name.
    """
    if strange := set(notes) - set(SITES):
        raise ValueError(f"{min(strange)!r} is no site of dropout; they are {', '.join(SITES)}")
    with rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
        axes = figure.subplots()
        axes.set(xlim=(0, 10.4), ylim=(12, -0.9), title=wrapped(title))
        axes.axis("off")
        axes.text(NOTES, -0.5, heading, weight="bold", va="center")
        _draw_flow(axes, notes)
        show_figure(figure, alt)


def _draw_flow(axes: Axes, notes: Mapping[str, str]) -> None:
    line = {"color": MUTED, "linewidth": 2, "zorder": 1}
    axes.plot([STREAM, STREAM], [0, 11.8], **line)
    y, left, top, numbers = 0.0, None, None, iter("1234")
    for x, label, site in FLOW:
        if x == BRANCH and left is None:  # a branch leaves the stream
            left = y
            top = y if top is None else top
            axes.plot([STREAM, BRANCH, BRANCH], [y, y, y + 0.2], **line)
            y += 0.6
        if label == "+":  # and comes back
            axes.plot([BRANCH, BRANCH, STREAM], [left, y, y], **line)
            left = None
            axes.plot(STREAM, y, "o", color=CARD, mec=MUTED, mew=2, markersize=16, zorder=2)
            axes.text(STREAM, y, "+", ha="center", va="center", size=13, zorder=3)
            bottom = y
            y += 0.9
            continue
        box = {"boxstyle": "round,pad=0.45", "facecolor": CARD, "edgecolor": INK}
        axes.text(x, y, label, ha="center", va="center", bbox=box, zorder=3)
        y += 1.0
        if site:
            dot = {"color": COLORS[1], "markersize": 15, "zorder": 2}
            axes.plot(x, y, "o", **dot)
            number = next(numbers)
            axes.text(x, y, number, color=CARD, weight="bold", ha="center", va="center", zorder=3)
            axes.text(x + 0.45, y, site, color=COLORS[1], weight="bold", va="center")
            axes.text(NOTES, y, notes.get(site, ""), va="center")
            y += 0.9
    axes.plot([0.85, 0.7, 0.7, 0.85], [top, top, bottom, bottom], color=MUTED, linewidth=1.2)
    axes.text(0.5, (top + bottom) / 2, "block, n_layer times", rotation=90, ha="right", va="center")
