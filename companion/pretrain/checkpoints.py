"""Checkpoints: written whole or not at all, read without running anything, the last K and the best.

    checkpoints/step_00000500/model.safetensors, config.json    the model, as GPT-2's release
                              optimizer.safetensors              AdamW's two means of each parameter
                              state.json                         step, position, config, losses
                              random.safetensors                 each process's random states

A folder is made under a name that nobody reads, flushed to the disk, and then renamed.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from companion.gpt import GPT
from companion.release import fill_

__all__ = ["Checkpoint", "Checkpoints"]

STEP = re.compile(r"step_(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on, to the bit, beside the model and the optimizer."""

    step: int
    position: int
    config: dict[str, Any]
    random: dict[str, Tensor]


class Checkpoints:
    """A run's checkpoints in `folder`: the last `keep` of them, and the best."""

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """The steps that are kept, the first first."""
        names = [STEP.fullmatch(path.name) for path in self.folder.glob("step_*")]
        return sorted(int(name[1]) for name in names if name)

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self.folder / f"step_{step:08}"

    def best(self) -> tuple[int, float] | None:
        """Step and held-out loss of the best of those that are kept and were estimated."""
        losses = {step: self._state(step)["val_loss"] for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        step = min(known, key=known.get, default=None)
        return None if step is None else (step, known[step])

    def config(self, step: int) -> dict[str, Any]:
        """The config that a step was run with."""
        return self._state(step)["config"]

    def save(
        self,
        model: GPT,
        optimizer: torch.optim.Optimizer,
        checkpoint: Checkpoint,
        *,
        val_loss: float | None = None,
    ) -> Path:
        """Keep a step; then forget those that are neither among the last nor the best.

        OSError where the disk is full or the folder cannot be written: what was kept before stays.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._clear()
        target, part = self.path(checkpoint.step), self.folder / f".saving-{checkpoint.step:08}"
        try:
            part.mkdir()
            model.save_pretrained(part)
            save_file(_optimizer_tensors(model, optimizer), part / "optimizer.safetensors")
            save_file(checkpoint.random, part / "random.safetensors")
            state = {
                "step": checkpoint.step,
                "position": checkpoint.position,
                "val_loss": val_loss,
                "config": checkpoint.config,
            }
            (part / "state.json").write_text(json.dumps(state, indent=2) + "\n", "utf-8")
            for path in [*part.iterdir(), part]:
                _flush(path)
            if target.exists():  # a run that went on from an earlier step comes here again
                os.replace(target, self.folder / f".old-{checkpoint.step:08}")
            os.replace(part, target)
            _flush(self.folder)
        except Exception as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError):
                raise
            raise OSError(
                f"the checkpoint of step {checkpoint.step} was not kept: {error}"
            ) from error
        self._forget()
        return target

    def load(self, step: int, model: GPT, optimizer: torch.optim.Optimizer) -> Checkpoint:
        """Fill a model and its optimizer with what was kept; nothing in the files is executed.

        ValueError, with the file's name, for one that is damaged or of another model.
        """
        folder = self.path(step)
        try:
            state = self._state(step)
            tensors = load_file(folder / "optimizer.safetensors")
            random = load_file(folder / "random.safetensors")
            kept = GPT.from_pretrained(folder)
        except Exception as error:
            raise ValueError(f"the checkpoint {folder} cannot be read: {error}") from error
        fill_(model, dict(kept.named_parameters()))
        _fill_optimizer(model, optimizer, tensors, folder)
        return Checkpoint(state["step"], state["position"], state["config"], random)

    def _state(self, step: int) -> dict[str, Any]:
        path = self.path(step) / "state.json"
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"the checkpoint {path.parent} cannot be read: {error}") from error

    def _forget(self) -> None:
        best = self.best()
        stay = {*self.steps()[-self.keep :], *([best[0]] if best else [])}
        for step in self.steps():
            if step not in stay:
                shutil.rmtree(self.path(step))
        self._clear()

    def _clear(self) -> None:
        """Take away what was being written when a run was killed."""
        for path in [*self.folder.glob(".saving-*"), *self.folder.glob(".old-*")]:
            old = STEP.fullmatch(path.name.replace(".old-", "step_"))
            if old and not self.path(int(old[1])).exists():
                os.replace(path, self.path(int(old[1])))  # killed between the two renamings
            else:
                shutil.rmtree(path)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state by "parameter/what"."""
    return {
        f"{name}/{what}": x.detach().contiguous()
        for name, p in model.named_parameters()
        for what, x in optimizer.state[p].items()
    }


@torch.no_grad()
def _fill_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], folder: Path
) -> None:
    for name, p in model.named_parameters():
        kept = {n.split("/")[1]: x for n, x in tensors.items() if n.split("/")[0] == name}
        if set(kept) != {"step", "exp_avg", "exp_avg_sq"}:
            raise ValueError(f"{folder}/optimizer.safetensors has no AdamW state for {name}")
        optimizer.state[p] = {what: x.to(p.device) for what, x in kept.items()}


def _flush(path: Path) -> None:
    """Have the disk hold a file or folder, not only the system's memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
