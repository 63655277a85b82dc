"""What a run says while it goes: a line, metrics in a file, and TensorBoard where there is one."""

import json
import os
from pathlib import Path
from typing import Any

from tqdm import tqdm

__all__ = ["Watch", "read_metrics"]

SHOWN = ("loss", "val_loss", "lr", "tokens_per_s", "mfu")


class Watch:
    """Keeps metrics in `folder`/metrics.jsonl, one line a step; silent in all but one process.

    A run that goes on from a step drops the lines of that step and later ones: they come again.
    """

    def __init__(self, folder: Path, *, steps: int, start: int, speaks: bool) -> None:
        self.speaks = speaks
        self.bar = tqdm(total=steps, initial=start, unit=" steps", disable=not speaks)
        self.board = None
        if not speaks:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        kept = [row for row in read_metrics(path) if row["step"] < start]
        part = path.with_name(path.name + ".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")
        os.replace(part, path)
        self.file = path.open("a", encoding="utf-8")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start)

    def step(self, step: int, **metrics: float) -> None:
        """One step's numbers: on the line, in the file, on the board."""
        if not self.speaks:
            return
        shown = {name: f"{metrics[name]:.3g}" for name in SHOWN if name in metrics}
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
        self.note(step, **metrics)

    def note(self, step: int, **metrics: Any) -> None:
        """Numbers, or a text, that belong to a step."""
        if not self.speaks:
            return
        self.file.write(json.dumps({"step": step, **metrics}) + "\n")
        self.file.flush()
        if self.board:
            for name, value in metrics.items():
                if isinstance(value, str):
                    self.board.add_text(name, value, step)
                else:
                    self.board.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.speaks:
            self.bar.write(text)

    def close(self) -> None:
        """End the line and the files."""
        self.bar.close()
        if self.speaks:
            self.file.close()
            if self.board:
                self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last one that was cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
