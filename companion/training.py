"""The training loop, to be read: one process, no checkpoints; it measures the model on the way."""

# Exported from lessons/14_training_loop.md: edit that, then run `make lessons`.

__all__ = ["History", "estimate_loss", "train"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import isfinite

import torch
from jaxtyping import Int
from torch import Tensor, nn
from tqdm.auto import tqdm

from companion.data import DataLoaderLite
from companion.probing import evaluating


@torch.no_grad()
def estimate_loss(
    model: nn.Module,
    batches: Iterable[tuple[Int[Tensor, "_B _T"], Int[Tensor, "_B _T"]]],
) -> float:
    """Mean loss in nats a token over (ids, targets), dropout off; the mode is kept.

    `model(ids, targets)` gives a batch's mean loss. Every token counts the same,
    whatever batch it is in. ValueError for no batches.
    """
    total, tokens = 0.0, 0
    device = next(model.parameters()).device
    with evaluating(model):
        for ids, targets in batches:
            count = (targets != -100).sum().item()
            total += model(ids.to(device), targets.to(device)).item() * count
            tokens += count
    if not tokens:
        raise ValueError("there is no token to estimate the loss on")
    return total / tokens


@dataclass
class History:
    """Each step's loss, before it; and (step, train, val) estimates."""

    loss: list[float] = field(default_factory=list)
    evaluated: list[tuple[int, float, float]] = field(default_factory=list)


def train(
    model: nn.Module,
    loader: DataLoaderLite,
    val_loader: DataLoaderLite,
    *,
    steps: int,
    lr: float = 1e-3,
    evaluate_every: int = 100,
    batches: int = 20,
    watch: Callable[[int, float, float], None] | None = None,
    bar: Callable[[Iterable[int], str], Iterable[int]] = tqdm,
) -> History:
    """Train a model on a loader's batches with AdamW, and estimate both losses.

    `model(ids, targets)` gives the loss. Estimates are made on `batches` fixed batches
    of each loader, before the first step, every `evaluate_every` steps and after the
    last; `watch(step, train_loss, val_loss)` is then called, and should draw nothing
    from torch's own generator. The run depends on the model, the loaders' seeds and,
    with dropout, on that generator.
    ValueError for a loss that is not finite.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    device = next(model.parameters()).device
    history = History()

    def evaluate(step: int) -> None:
        losses = [estimate_loss(model, one.spread(batches)) for one in (loader, val_loader)]
        history.evaluated.append((step, *losses))
        if watch:
            watch(step, *losses)

    model.train()
    for step in bar(range(steps), "training"):
        if step % evaluate_every == 0:
            evaluate(step)
        ids, targets = (x.to(device) for x in loader.next_batch())  # (B, T) each
        loss = model(ids, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.loss.append(loss.item())
        if not isfinite(history.loss[-1]):
            raise ValueError(f"the loss is {history.loss[-1]} at step {step}; is lr={lr} too high?")
    evaluate(steps)
    return history
