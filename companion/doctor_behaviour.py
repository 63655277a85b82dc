"""What a language model's logits should and should not depend on, by trial."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = [
    "gives_logits",
    "keeps_texts_apart",
    "looks_back",
    "looks_far",
    "reads",
    "stack",
    "takes_beginnings",
    "tells_order",
]

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding
from companion.doctor_watch import Watch
from companion.heads import batch_leak, tail_leak
from companion.masks import future_leak, influence
from companion.probing import change, other_ids


@torch.no_grad()
def reads(patient: Patient) -> Iterator[Finding]:
    """The logits depend on the text at all."""
    ids = patient.text()
    one, other = patient(ids), patient(other_ids(ids))
    moved = change(one, other).max().item()
    if moved <= patient.noise(one):
        said = f"two texts, and no logit differs by more than {moved:.2g}"
        yield finding("ignores-ids", said, "other logits for another text")


@torch.no_grad()
def keeps_texts_apart(patient: Patient) -> Iterator[Finding]:
    """No row of the batch depends on another, while evaluating or while training."""
    ids = patient.text()
    noise, moved = patient.noise(patient(ids)), batch_leak(patient, ids)
    mode = "eval"
    if moved <= noise:
        with patient.teaching_is(True):
            mode, moved = "train", batch_leak(patient, ids)
    if moved > noise:
        said = f"in {mode} mode, another row moves a logit by up to {moved:.2g}"
        yield finding("mixes-batch", said, "0", _batch_norms(patient))


def _batch_norms(patient: Patient) -> str:
    kinds = nn.modules.batchnorm._BatchNorm
    found = [n for n, m in patient.model.named_modules() if isinstance(m, kinds)]
    return f"{found[0]} is a batch norm" if found else ""


@torch.no_grad()
def looks_back(patient: Patient, *, teaching: bool = True) -> Iterator[Finding]:
    """Logits depend on no later token, in a short text and a long one, in each mode."""
    ids = patient.text()
    noise, T = patient.noise(patient(ids)), ids.shape[1]
    if T < 2:
        return
    mode, moved = "eval", future_leak(patient, ids)
    if moved <= noise and teaching:
        with patient.teaching_is(True):
            mode, moved = "train", future_leak(patient, ids)
    if moved <= noise and patient.longest > T:
        T = patient.longest
        whole = patient.text(1, T)
        mode, moved = "eval", future_leak(patient, whole, at=[T // 2, T - 1])
    if moved > noise:
        said = f"in {mode} mode, a later token moves a logit by up to {moved:.2g} (T={T})"
        yield finding("sees-future", said + _whose(patient, ids, mode, noise), "0")


def _whose(patient: Patient, ids: Tensor, mode: str, noise: float) -> str:
    """Which places a later token moves in a short text: tells one mask from another."""
    with patient.teaching_is(mode == "train"):
        moved = influence(patient, ids[:1]) > noise  # (T, T)
    places, later = moved.triu(1).nonzero(as_tuple=True)
    if not len(places):
        return ""
    reach = int((later - places).max())
    return ": " + (f"up to {reach} before it" if reach < len(moved) - 1 else "all before it")


@torch.no_grad()
def takes_beginnings(patient: Patient) -> Iterator[Finding]:
    """A text's beginning gets the same logits alone as within the text."""
    ids = patient.text()
    if ids.shape[1] < 2:
        return
    logits = patient(ids)
    noise = patient.noise(logits, 256)
    moved = tail_leak(patient, ids)
    if moved <= noise and ids.shape[1] < patient.longest:
        whole = patient.text(3, patient.longest)
        logits = patient(whole[:, : ids.shape[1]])
        moved = change(logits, patient(whole)[:, : ids.shape[1]]).max().item()
    if moved > noise:
        said = f"cutting the end off moves a logit before it by up to {moved:.2g}"
        yield finding("short-differs", said, "0")


@torch.no_grad()
def looks_far(patient: Patient) -> Iterator[Finding]:
    """The last position's logits depend on earlier tokens."""
    ids = patient.text()
    if ids.shape[1] < 2:
        return
    noise = patient.noise(patient(ids))
    moved = influence(patient, ids, at=range(ids.shape[1] - 1))[-1].max().item()
    if moved <= noise:
        said = f"replacing earlier tokens moves the last logits by {moved:.2g} at most"
        yield finding("ignores-past", said, "more than rounding")


@torch.no_grad()
def tells_order(patient: Patient) -> Iterator[Finding]:
    """The first block's output at the last position depends on the order before it.

    Asked of the first block, since those behind it can tell order by the mask alone:
    an earlier token has seen less. Of the logits where the model has no row of blocks.
    """
    ids = patient.text(3, min(patient.longest, 16))
    turned = torch.cat([ids[:, :-1].flip(1), ids[:, -1:]], dim=1)
    if torch.equal(ids, turned):
        return
    others = torch.cat([other_ids(ids)[:, :-1], ids[:, -1:]], dim=1)
    one, other, far = (_at_last(patient, x) for x in (ids, turned, others))
    moved, noise = change(one, other).max().item(), patient.noise(one, 64)
    if moved <= noise < change(one, far).max().item():  # what came before does matter
        if _tells_faintly(patient, ids, turned):
            return
        said = f"the earlier tokens in reverse order move the last output by {moved:.2g}"
        yield finding("blind-to-positions", said, "more than rounding")


def _tells_faintly(patient: Patient, ids: Tensor, turned: Tensor) -> bool:
    """Whether a copy in float64 tells two orders apart, where it is float64 throughout.

    Blocks with their norms behind them hand attention small numbers at the start, as
    GPT-1's do: nearly equal weights, and an order that is lost in float32's rounding.
    """
    try:
        fine = patient.like(deepcopy(patient.model).double())
        with Watch() as watch:
            one, other = (_at_last(fine, x) for x in (ids, turned))
    except Exception:  # it cannot be copied, or its forward insists on a dtype
        return False
    coarse = one.dtype != torch.float64 or watch.casts - {torch.float64}
    return not coarse and change(one, other).max().item() > fine.noise(one, 64)


def _at_last(patient: Patient, ids: Tensor) -> Tensor:
    """What the first block hands on at the last position, or the logits there."""
    seen: list[Tensor] = []

    def note(module: nn.Module, args: Any, output: Any) -> None:
        x = output[0] if isinstance(output, tuple) else output
        if isinstance(x, Tensor) and x.dim() == 3 and x.shape[1] == ids.shape[1]:
            seen.append(x[:, -1].to(torch.promote_types(x.dtype, torch.float32)))

    blocks = stack(patient.model)
    handle = blocks[0][1].register_forward_hook(note) if blocks else None
    try:
        logits = patient(ids)
    finally:
        if handle:
            handle.remove()
    return seen[0] if seen else logits[:, -1]


def stack(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The row of alike blocks that a model is built of: the longest in a list."""
    rows = []
    for path, module in model.named_modules():
        listed = isinstance(module, nn.ModuleList | nn.Sequential)
        if listed and len({type(block) for block in module}) == 1:
            rows.append([(f"{path}.{n}".lstrip("."), b) for n, b in enumerate(module)])
    weighty = [row for row in rows if any(True for _ in row[0][1].parameters())]
    return max(weighty, key=lambda row: (len(row), -row[0][0].count(".")), default=[])


@torch.no_grad()
def gives_logits(patient: Patient) -> Iterator[Finding]:
    """The outputs are not probabilities already. Log-probabilities do no harm."""
    outputs = patient(patient.text())
    sums = outputs.sum(-1)
    if outputs.min() >= 0 and (sums - 1).abs().max() < 256 * patient.rounding + 1e-5:
        said = f"all outputs are from 0 to 1, and add up to {sums.mean().item():.3f}"
        yield finding("probabilities", said, "logits, of either sign and any sum")
