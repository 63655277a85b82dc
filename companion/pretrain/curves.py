"""Draw what runs wrote down: `python -m companion.pretrain.curves runs/laptop --out curves.png`.

Above, the training loss (means over a fiftieth of the run) and the held-out loss; below, the
learning rate, and the norm of the gradients before clipping. One colour for each run.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from companion.pretrain.watching import read_metrics

__all__ = ["Curves", "curves", "draw"]


@dataclass(frozen=True)
class Curves:
    """Draw the curves of one run or more."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs, each with a metrics.jsonl."""
    out: Path = Path("curves.png")
    """The picture; the ending (png, svg, pdf) says which kind."""


def curves(run: Path) -> dict[str, np.ndarray]:
    """What a run measured: each metric's rows (step, value), by its name.

    ValueError where the folder has no metrics yet.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for row in read_metrics(run / "metrics.jsonl"):
        for name, value in row.items():
            if name != "step" and not isinstance(value, str):
                found.setdefault(name, []).append((row["step"] + 1, value))
    if "loss" not in found:
        raise ValueError(f"{run / 'metrics.jsonl'} holds no step of a run")
    return {name: np.array(rows) for name, rows in found.items()}


def draw(runs: dict[str, dict[str, np.ndarray]]) -> Figure:
    """The picture of several runs' `curves`, by the name that the legend gives them."""
    figure = Figure(figsize=(8, 7), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, norm = figure.subplots(3, 1, height_ratios=(3, 1, 1), sharex=True)
    for n, (name, metrics) in enumerate(runs.items()):
        colour = f"C{n}"
        loss.plot(*_smooth(metrics["loss"]).T, colour, alpha=0.5, label=f"{name}, training")
        if "val_loss" in metrics:
            loss.plot(*metrics["val_loss"].T, colour, marker=".", label=f"{name}, held out")
        rate.plot(*metrics["lr"].T, colour)
        norm.plot(*_smooth(metrics["norm"]).T, colour)
    loss.set_ylabel("loss (nats a token)")
    loss.legend(frameon=False)
    rate.set_ylabel("learning rate")
    norm.set(ylabel="norm of the\ngradients", xlabel="steps", ylim=(0, None))
    return figure


def _smooth(rows: np.ndarray) -> np.ndarray:
    """Means over a fiftieth of the rows, each at the last step of its fiftieth."""
    parts = np.array_split(rows, min(50, len(rows)))
    return np.array([(part[-1, 0], part[:, 1].mean()) for part in parts])


def main(arguments: list[str] | None = None) -> int:
    """Draw by the command line; a folder without metrics ends it with one line."""
    options = tyro.cli(Curves, args=arguments, prog="python -m companion.pretrain.curves")
    try:
        draw({run.name: curves(run) for run in options.runs}).savefig(options.out, dpi=150)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"drawn: {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
