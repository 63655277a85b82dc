"""Whether a loss is the next token's mean cross-entropy, by feeding it numbers."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["IGNORED", "Loss", "asks_for_next", "batch_shift", "behaves", "called"]

from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding

Loss = Callable[[Tensor, Tensor], Tensor]
IGNORED = -100


def called(loss_fn: Callable[..., Tensor]) -> Loss:
    """A loss of logits (B, T, V) and targets (B, T), however it wants them.

    Three arguments that have no default are taken to be (logits, ids, targets). A loss
    that refuses three axes is given two, as `F.cross_entropy` wants them.
    """
    try:
        needed = [
            p
            for p in signature(loss_fn).parameters.values()
            if p.default is Parameter.empty
            and p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        if len(needed) == 3:
            return loss_fn(logits, targets.roll(1, 1), targets)
        try:
            return loss_fn(logits, targets)
        except (RuntimeError, ValueError, IndexError):
            return loss_fn(logits.flatten(0, 1), targets.flatten())

    return loss


def asks_for_next(
    patient: Patient, ids: Tensor | None, targets: Tensor | None
) -> Iterator[Finding]:
    """The batch's targets are the ids' successors."""
    if ids is None or targets is None or ids.shape[1] < 3:
        return
    if batch_shift(ids, targets) is None:
        yield finding(
            "targets-unrelated",
            "no shift from -2 to 3 fits",
            "targets[:, t] = ids[:, t + 1]",
        )


def batch_shift(ids: Tensor, targets: Tensor) -> int | None:
    """The s for which targets[b, t] is ids[b, t + s]; None where none is."""
    for s in (1, 0, 2, -1, 3, -2):
        a, b = _overlap(targets, ids, s)
        counts = b != IGNORED
        counts &= a != IGNORED
        if a.numel() and counts.any() and (a == b)[counts].float().mean() > 0.9:
            return s
    return None


def _overlap(late: Tensor, early: Tensor, s: int) -> tuple[Tensor, Tensor]:
    """late[:, t] beside early[:, t + s], where both are."""
    T = late.shape[1]
    return late[:, max(0, -s) : T - max(0, s)], early[:, max(0, s) : T - max(0, -s)]


def behaves(
    patient: Patient, loss_fn: Callable[..., Tensor], shift: int | None
) -> Iterator[Finding]:
    """It is a mean, of one softmax, and asks each position for the token after it.

    `shift` is that of the batch's targets against its ids; the loss may shift too, as
    Hugging Face's does with labels equal to ids. Together they should shift by one.
    """
    loss, V = called(loss_fn), patient.vocab_size
    targets = patient.text(3, max(patient.T, 8), seed=2)
    level = torch.full((*targets.shape, V), -log(V), device=patient.device)
    try:
        chance = loss(level, targets)
        own, asked = _asked(loss, targets, V)
        value = chance.item() / log(V)
    except Exception as error:
        said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        yield finding("loss-fails", said, "one number, with a gradient, from (B, T, V) and (B, T)")
        return
    if own is not None:
        total = own + (shift if shift is not None else 1)
        where = f"the batch shifts by {shift}, the loss by {own}"
        if shift is None:  # either may shift, as long as one does
            total, where = (1 if own in (0, 1) else own), f"the loss shifts by {own}"
        if total != 1:
            name = "targets-shifted-twice" if total > 1 else "targets-unshifted"
            yield finding(name, f"{where}: {total} in all", "1 in all")
    certain = F.one_hot((targets + 1) % V, V).float() * 60  # and wrong
    penalty = loss(certain.log_softmax(-1), targets).item()
    if abs(value) > 1e-3 and penalty < 2 * chance.item():
        said = f"{penalty / value:.2f} nats if surely wrong, {log(V):.2f} for equal odds"
        yield finding("loss-double-softmax", said, "about 60")
    if _wants_log_probabilities(patient, loss, targets, value):
        said = "adding 5 to all logits changes it by as much"
        yield finding("loss-no-softmax", said, "no change")
    if abs(value - 1) > 0.05:
        said = f"{chance.item():.4g} for equal odds ({asked} tokens)"
        yield finding("loss-not-mean", said, f"ln {V} = {log(V):.4g}")


def _asked(loss: Loss, targets: Tensor, V: int) -> tuple[int | None, int]:
    """By how much the loss shifts, read off its gradient; how many tokens count.

    At each position the gradient pulls up the logit of the token that is asked for.
    """
    order = torch.Generator().manual_seed(0)
    logits = torch.randn(*targets.shape, V, generator=order).to(targets.device)
    logits = logits.log_softmax(-1).requires_grad_()
    with torch.enable_grad():
        gradient = torch.autograd.grad(loss(logits, targets), logits)[0]
    counts = gradient.abs().sum(-1) > 0
    wanted = gradient.argmin(-1).where(counts, IGNORED)
    for s in (0, 1, 2, -1, 3):
        a, b = _overlap(wanted, targets, s)
        if (a != IGNORED).any() and (a == b)[a != IGNORED].float().mean() > 0.95:
            return s, int(counts.sum())
    return None, int(counts.sum())


@torch.no_grad()
def _wants_log_probabilities(patient: Patient, loss: Loss, targets: Tensor, value: float) -> bool:
    """Whether the loss counts on a log_softmax that the model does not do."""
    logits = patient(patient.text())
    normal = logits.logsumexp(-1).abs().max() < 1e-2
    level = torch.zeros(*targets.shape, patient.vocab_size, device=patient.device)
    moved = (loss(level + 5, targets) - loss(level, targets)).item()
    return not normal and abs(moved) > 2 * abs(value)
