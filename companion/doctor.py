"""The doctor: what is wrong with a language model that trains all the same.

`examine` looks at any model that maps ids to logits, by the probes of the lessons, and
leaves it as it was."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["STILL", "Check", "examine"]

from collections.abc import Callable, Iterator
from copy import deepcopy
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from companion import doctor_behaviour as behaviour
from companion import doctor_learning as learning
from companion import doctor_loss as losses
from companion import doctor_running as running
from companion import doctor_start as start
from companion import doctor_upkeep as upkeep
from companion.doctor_asking import check_model, check_options, ids_and_targets
from companion.doctor_kept import chance_kept
from companion.doctor_optimizer import optimizers
from companion.doctor_patient import Patient
from companion.doctor_report import Finding, Report
from companion.doctor_watch import casts_nothing, divides_scores

Check = Callable[..., Iterator[Finding]]


def examine(
    model: nn.Module,
    batch: Any = None,
    *,
    vocab_size: int,
    block_size: int,
    loss_fn: Callable[..., Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    budget: str = "quick",
) -> Report:
    """What is wrong with a causal language model; nothing, where nothing was found.

    `model` maps ids (B, T) to logits (B, T, V): bare, in a tuple or list, or by the
    name `logits`. `batch` is ids, or (ids, targets), of the text that it is meant for;
    most checks use random ids. `loss_fn(logits, targets)` or `(logits, ids, targets)`,
    and an `optimizer`, are examined where given. "quick" takes seconds; "full" also
    lets a copy learn one batch by heart.

    The model is left as it was: weights, buffers, attributes, gradients, modes, hooks,
    and the random states. It costs the memory of a second copy of the weights and of
    their gradients. A model that fails gets a finding. TypeError or ValueError for
    arguments that make no sense.
    """
    check_model(model, vocab_size, block_size)
    check_options(loss_fn, optimizer, budget)
    began = perf_counter()
    patient = Patient(model, vocab_size, block_size)
    ids, targets = ids_and_targets(batch, patient)
    visit = _Visit()
    with chance_kept(patient.device), torch.inference_mode(False), torch.enable_grad():
        try:
            _look(visit, patient, ids, targets, loss_fn, optimizer, budget)
        finally:
            patient.kept.put_back(thoroughly=True)
    return Report(*visit.result(), budget, perf_counter() - began)


# Of what a model holds, with no run of it
STILL = (
    upkeep.one_dtype,
    upkeep.registers,
    upkeep.ties,
    upkeep.masks,
    learning.thaws,
)


class _Visit:
    """What was found so far; a check that fails leaves a note."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.checked: list[str] = []
        self.notes: list[str] = []

    def check(self, check: Check, *args: Any, **options: Any) -> bool:
        """Make a check, and say whether it found nothing."""
        self.checked.append(check.__name__)
        before = len(self.found)
        try:
            self.found += check(*args, **options)
        except Exception as error:
            said = (str(error).splitlines() or [""])[0][:200]
            self.notes.append(f"{check.__name__} failed: {type(error).__name__}: {said}")
        return len(self.found) == before

    def result(self) -> tuple[tuple[Finding, ...], tuple[str, ...], tuple[str, ...]]:
        """Findings, the names of the checks, and notes."""
        return tuple(self.found), tuple(self.checked), tuple(self.notes)

    def has(self, *names: str) -> bool:
        return any(one.name in names for one in self.found)


def _look(
    visit: _Visit,
    patient: Patient,
    ids: Tensor | None,
    targets: Tensor | None,
    loss_fn: Callable[..., Tensor] | None,
    optimizer: torch.optim.Optimizer | None,
    budget: str,
) -> None:
    """All checks, each where those before it leave it a sense."""
    for still in STILL:
        visit.check(still, patient)
    if optimizer is not None:
        visit.check(optimizers, patient, optimizer)
    whole = visit.check(upkeep.whole_numbers, patient)
    visit.check(running.runs, patient)
    if not whole or visit.has("raises", "no-logits"):
        return
    if not visit.check(running.finite, patient):
        return
    if not visit.has("unregistered"):
        visit.check(upkeep.hides_nothing, patient)
    visit.check(running.repeats, patient)
    visit.check(start.begins_at_chance, patient, ids)
    visit.check(start.grows_slowly, patient)
    visit.check(divides_scores, patient)
    if not visit.has("dtypes-mixed"):
        visit.check(casts_nothing, patient)
    awake = _awake(patient)
    if visit.check(behaviour.reads, awake):
        _behaviour(visit, awake)
    visit.check(behaviour.gives_logits, awake)
    visit.check(losses.asks_for_next, patient, ids, targets)
    if loss_fn is not None:
        given = ids is not None and targets is not None
        shift = losses.batch_shift(ids, targets) if given else None
        visit.check(losses.behaves, patient, loss_fn, shift)
    if budget == "full":
        batch = ids if ids is not None else patient.text()
        visit.check(learning.overfits, patient, batch[:4, :32])


def _behaviour(visit: _Visit, patient: Patient) -> None:
    """What the logits hang on; consequences of what was found are not asked for."""
    apart = visit.check(behaviour.keeps_texts_apart, patient)
    if visit.check(behaviour.looks_back, patient, teaching=apart) and apart:
        visit.check(behaviour.looks_far, patient)
        if not visit.has("eval-random", "short-fails"):
            visit.check(behaviour.takes_beginnings, patient)
    if not visit.has("ignores-past"):
        visit.check(behaviour.tells_order, patient)
    if visit.check(learning.reaches_all, patient):
        visit.check(learning.slopes, patient)


def _awake(patient: Patient) -> Patient:
    """The patient or, where that would hide something, a copy.

    A matrix that is all zero, as some recipes start branches and heads, hides what is
    behind it; in the copy it is not. Half precision hides what is small: the copy is in
    float32, where the model runs in it.
    """
    coarse = patient.rounding > 1e-5
    named = patient.model.named_parameters()
    asleep = [name for name, p in named if p.dim() > 1 and not p.any()]
    if not asleep and not coarse:
        return patient
    torch.manual_seed(0)
    twin = deepcopy(patient.model)
    with torch.no_grad():
        for name, p in twin.named_parameters():
            if name in asleep:
                p.normal_(std=0.02)
    copy = patient.like(twin)
    if coarse:
        try:
            fine = patient.like(deepcopy(twin).float())
            fine(fine.text())
            copy = fine
        except Exception:  # its forward insists on a dtype
            return copy
    return copy
