"""A tensor's memory, drawn: one row of boxes, the steps through it, and what they give."""

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from companion.lab.pictures import CARD, COLORS, INK, MUTED, STYLE, WIDTH, show_figure, wrapped

TINT = 0.38  # how much of a colour is left, so that the numbers on it can be read


def memory(
    tensors: Mapping[str, Tensor], *, group: int, title: str, alt: str, block: str = ""
) -> None:
    """Draw each tensor's memory, and beside it the tensor; show the picture.

    The tensors hold whole numbers, each the place where it first lay, so that the same number is
    the same in all of them. `group` numbers share a colour. See `draw_memory`.
    """
    heights = [tensor.shape[-2] + 3.1 + (tensor.dim() > 2) for tensor in tensors.values()]
    with rc_context(STYLE | {"axes.titlesize": 9.5, "axes.titlepad": 2}):
        size = (WIDTH, 0.4 + 0.25 * sum(heights))
        figure = Figure(figsize=size, layout="constrained")
        figure.suptitle(wrapped(title), x=0.01, ha="left", size=11, weight="bold")
        panels = figure.subplots(len(tensors), 1, height_ratios=heights, squeeze=False)[:, 0]
        for axes, (name, tensor) in zip(panels, tensors.items()):
            draw_memory(axes, tensor, group=group, title=name, block=block, beside=True)
        show_figure(figure, alt)


def draw_memory(
    axes: Axes, tensor: Tensor, *, group: int, title: str, block: str = "", beside: bool = False
) -> str:
    """Draw a tensor's memory as a row of boxes, and the tensor below or `beside` it.

    Steps along the first row are drawn above the boxes, the step from row to row below them: they
    are the last two strides. A tensor of three axes is drawn as blocks, named `block` 0, 1 and so
    on. Returns the alternative text for a slider. ValueError for other than two or three axes.
    """
    if tensor.dim() not in (2, 3):
        raise ValueError(f"a tensor of two or three axes can be drawn; this has {tensor.dim()}")
    blocks = tensor[None] if tensor.dim() == 2 else tensor  # (blocks, rows, columns)
    count = tensor.untyped_storage().nbytes() // tensor.element_size()
    for place, number in enumerate(tensor.as_strided((count,), (1,), 0).tolist()):
        _box(axes, place, 0, number, group)
    row, column = tensor.stride()[-2:]
    first = tensor.storage_offset()
    for step in range(tensor.shape[-1] - 1):
        _jump(axes, first + step * column, column, "above", named=step == 0)
    _jump(axes, first, row, "below", named=True)
    wide = blocks.shape[2] + 1
    left = count + 1.6 if beside else (count - wide * len(blocks) + 1) / 2
    top = -0.6 if beside else 3.4
    for number, rows in enumerate(blocks.tolist()):
        if tensor.dim() == 3:
            middle = left + number * wide + blocks.shape[2] / 2 - 0.5
            axes.text(middle, top - 0.8, f"{block} {number}", ha="center", size=8, color=MUTED)
        for i, numbers in enumerate(rows):
            for j, value in enumerate(numbers):
                _box(axes, left + number * wide + j, top + i, value, group)
    right = max(count, left + wide * len(blocks) - 1)
    axes.set(xlim=(-0.6, right - 0.3), ylim=(max(top + blocks.shape[1] - 0.3, 2.2), -2.1))
    axes.set_aspect("equal", anchor="W" if beside else "C")
    axes.axis("off")
    shape, strides = tuple(tensor.shape), tensor.stride()
    axes.set_title(f"{title}\nshape {shape}, strides {strides}" if not beside else title)
    if beside:
        axes.set_title(f"{title}    shape {shape}, strides {strides}")
    return f"{title}: memory of {count} numbers read with strides {strides}: {tensor.tolist()}."


def _box(axes: Axes, x: float, y: float, number: float, group: int) -> None:
    color = to_rgb(COLORS[int(number) // group % len(COLORS)])
    tint = [1 - TINT * (1 - part) for part in color]
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=tint, edgecolor=CARD, linewidth=1))
    axes.text(x, y, f"{number:.0f}", ha="center", va="center_baseline", size=8, color=INK)


def _jump(axes: Axes, start: int, step: int, side: str, *, named: bool) -> None:
    """An arrow over or under the boxes, and how many boxes it goes on."""
    y, bend = (-0.55, -0.45) if side == "above" else (0.55, 0.45)
    color = COLORS[0] if side == "above" else COLORS[1]
    text = f"+{step}" if step else "stays: +0"
    if step:
        style = {"arrowstyle": "->", "color": color, "linewidth": 1.3}
        style |= {"connectionstyle": f"arc3,rad={bend if step < 3 else bend / 1.6}"}
        ends = ((start + step, y), (start, y))
        axes.annotate("", *ends, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})
    if named:
        where = "in a row" if side == "above" else "next row"
        x = start - 0.45
        axes.text(x, 3.1 * y, f"{where} {text}", size=8, color=color, weight="bold", va="center")
