"""A slider that redraws a picture, with a static twin for readers without a kernel."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import ipywidgets as widgets
from IPython.display import display
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from companion.lab.pictures import HEIGHT, STYLE, WIDTH, img


@dataclass(frozen=True)
class Range:
    """What a slider runs over; `shown` are the values that its static twin draws."""

    low: float
    high: float
    step: float
    start: float
    shown: Sequence[float] = ()


def slider(draw: Callable[..., str], **controls: Range) -> None:
    """Redraw `draw(axes, **values)` whenever a control moves; `draw` returns its alternative text.

    A reader without a kernel sees one panel for each of the first control's `shown` values; in it,
    another control has its own `shown` value for that panel, or where it starts.
    """
    handles = {name: _handle(name, control) for name, control in controls.items()}
    values = {name: control.start for name, control in controls.items()}
    picture = widgets.HTML(_panels(draw, [values]))

    def redraw(_: object) -> None:
        now = {name: handle.value for name, handle in handles.items()}
        picture.value = _panels(draw, [now])

    for handle in handles.values():
        handle.observe(redraw, names="value")
    live = widgets.VBox([*handles.values(), picture])
    first, control = next(iter(controls.items()))
    panels = [
        {name: (c.shown[n] if n < len(c.shown) else c.start) for name, c in controls.items()}
        for n in range(len(control.shown) or 1)
    ]
    twin = _panels(draw, panels)
    display(
        live._repr_mimebundle_() | {"text/html": twin, "text/plain": f"a slider over {first}"},
        raw=True,
    )


def _handle(name: str, control: Range) -> widgets.ValueWidget:
    whole = all(isinstance(v, int) for v in (control.low, control.high, control.step))
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    return kind(
        value=control.start,
        min=control.low,
        max=control.high,
        step=control.step,
        description=name.replace("_", " "),
        style={"description_width": "initial"},
        layout={"width": "36em"},
    )


def _panels(draw: Callable[..., str], settings: Sequence[dict[str, float]]) -> str:
    with rc_context(STYLE | {"axes.titlesize": 10}):
        size = (WIDTH, 0.75 * HEIGHT) if len(settings) == 1 else (1.35 * WIDTH, 0.7 * HEIGHT)
        figure = Figure(figsize=size, layout="constrained")
        panels: list[Axes] = list(figure.subplots(1, len(settings), squeeze=False)[0])
        alts = [draw(axes, **values) for axes, values in zip(panels, settings, strict=True)]
        return img(figure, " ".join(alts))
