"""Whether a model can learn: its gradient is right, and reaches all of it."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["AGREE", "FAR", "STEP", "gradients", "overfits", "reaches_all", "slopes", "thaws"]

from collections.abc import Iterator
from copy import deepcopy
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.func import functional_call

from companion.doctor_behaviour import stack
from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding, listed
from companion.loss import next_token_loss


def thaws(patient: Patient) -> Iterator[Finding]:
    """Every parameter of floats may be trained."""
    floats = [(n, p) for n, p in patient.model.named_parameters() if p.is_floating_point()]
    cold = [name for name, p in floats if not p.requires_grad]
    if cold:
        said = f"{len(cold)} of {len(floats)}: {listed(cold)}"
        yield finding("frozen", said, "all trainable, unless you froze them on purpose")


def gradients(patient: Patient, ids: Tensor) -> dict[str, Tensor | None]:
    """Of the loss in each trainable parameter; None where it has none."""
    named = {n: p for n, p in patient.model.named_parameters() if p.requires_grad}
    loss = patient.loss(ids)
    if not loss.requires_grad or not named:
        return dict.fromkeys(named)
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return dict(zip(named, found))


def reaches_all(patient: Patient) -> Iterator[Finding]:
    """All that can be trained gets a gradient, and each row of the positions."""
    T = patient.longest
    if T < 2:
        return
    found = gradients(patient, patient.text(1, T))
    without = [name for name, g in found.items() if g is None or not g.to_dense().any()]
    if without:
        said = f"{len(without)} of {len(found)}: {listed(without)}"
        yield finding("no-gradient", said, "all of them to get one")
    if patient.block_size > T or patient.block_size == patient.vocab_size:
        return
    for path, module in patient.model.named_modules():
        g = found.get(f"{path}.weight".lstrip("."))
        table = isinstance(module, nn.Embedding) and len(module.weight) == patient.block_size
        if table and g is not None and f"{path}.weight".lstrip(".") not in without:
            used = g.to_dense().any(1)
            used[-1] = True  # nothing follows it
            if not used.all():
                some = (~used).nonzero().flatten().tolist()
                said = f"{len(some)} of {T} rows of {path}, the first {some[0]}"
                yield finding("position-rows", said, f"all of them, for a text of {T} tokens")


STEP, AGREE, FAR = 0.01, 0.003, 0.02


def slopes(patient: Patient) -> Iterator[Finding]:
    """The gradient is what the loss does when the weights move: by central differences.

    Along the gradient of each group of parameters (a block, a table) the loss should
    rise by the gradient's length. Asked only where two step sizes agree.
    """
    if patient.rounding > 1e-5 or patient.T < 2:
        return
    ids = patient.text()
    found = {n: g.to_dense() for n, g in gradients(patient, ids).items() if g is not None}
    groups: dict[str, list[str]] = {}
    blocks = [name for name, _ in stack(patient.model)]
    for name in found:
        home = next((b for b in blocks if name.startswith(f"{b}.")), name.rpartition(".")[0])
        groups.setdefault(home, []).append(name)
    wrong = []
    for home, names in groups.items():
        along = {name: found[name] for name in names}
        ratio = _ratio(patient, ids, along)
        if ratio is not None and abs(ratio - 1) > FAR:
            wrong.append((home, ratio))
    if wrong:
        said = ", ".join(f"{home or 'model'} {ratio:.2f}" for home, ratio in wrong[:6])
        more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
        yield finding(
            "wrong-gradient",
            f"slope over gradient: {said}{more}",
            "1.00",
            "what these hand their outputs to",
        )


def _ratio(patient: Patient, ids: Tensor, along: dict[str, Tensor]) -> float | None:
    """The loss's slope along a gradient, over the gradient's length; None if unsure."""
    length = torch.stack([g.double().square().sum() for g in along.values()]).sum().sqrt().item()
    named = dict(patient.model.named_parameters())
    size = torch.stack([named[n].double().square().sum() for n in along]).sum().sqrt().item()
    if length == 0:
        return None
    step = min(STEP / length, 0.05 * size + 1e-3)
    wide, narrow = (_slope(patient, ids, along, s / length) / length for s in (step, step / 2))
    if abs(wide - narrow) > AGREE * max(abs(narrow), 1):
        return None
    return narrow


@torch.no_grad()
def _slope(patient: Patient, ids: Tensor, along: dict[str, Tensor], step: float) -> float:
    named = dict(patient.model.named_parameters())
    ends = []
    for sign in (1, -1):
        moved = {f"model.{n}": named[n] + sign * step * g for n, g in along.items()}
        logits = functional_call(patient, moved, (ids,))
        ends.append(next_token_loss(logits[:, :-1].double(), ids[:, 1:]).item())
    length = torch.stack([g.double().square().sum() for g in along.values()]).sum().sqrt()
    return (ends[0] - ends[1]) / (2 * step * length.item())


def overfits(patient: Patient, ids: Tensor, *, seconds: float = 45.0) -> Iterator[Finding]:
    """A copy learns one batch by heart: its loss falls to a tenth in 300 steps."""
    start, least, first, taken = perf_counter(), torch.inf, 0.0, 0
    for lr in (3e-3, 3e-4):
        patient.kept.put_back()
        twin = Patient(deepcopy(patient.model), patient.vocab_size, patient.block_size)
        mine = [p for p in twin.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(mine, lr=lr, weight_decay=0.0)
        for _ in range(300):
            taken += 1
            loss = next_token_loss(twin.run(ids)[:, :-1], ids[:, 1:])
            first = first or loss.item()
            least = min(least, loss.item())
            if least < first / 10 or perf_counter() - start > seconds:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if least < first / 10:
            return
    said = f"from {first:.2f} to {least:.2f} in {taken} steps"
    yield finding("cannot-overfit", said, f"under {first / 10:.2f}")
