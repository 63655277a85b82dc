"""Whether a model runs: on texts of each length, to finite logits, twice the same."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["finite", "repeats", "runs"]

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding
from companion.init import activation_stats
from companion.probing import change
from companion.registration import unregistered_modules


@torch.no_grad()
def runs(patient: Patient) -> Iterator[Finding]:
    """It takes short texts and a whole context; probes then use what it takes."""
    T, most = patient.T, patient.block_size
    short, whole = _fails(patient, T), _fails(patient, most)
    if short and whole:
        missing = isinstance(short, TypeError | ValueError) and "no logits" in str(short)
        name = "no-logits" if missing or "for ids" in str(short) else "raises"
        look = _small(patient) if isinstance(short, IndexError) else ""
        yield finding(name, _said(short), f"model(ids) to run on ids (3, {T})", look)
    elif whole:
        longest = _longest(patient, T, most)
        patient.longest = min(patient.longest, longest)
        yield finding(
            "context-fails",
            f"T={most}: {_said(whole)}; T={longest} is the longest that runs",
            f"all lengths up to block_size={most} to run",
            _small(patient),
        )
    elif short:
        yield finding("short-fails", f"T={T}: {_said(short)}; T={most} runs", "any T to run")
        patient.T = patient.longest = most
    elif one := _fails(patient, 1):
        yield finding("short-fails", f"T=1: {_said(one)}; T={T} runs", "any T to run")
    elif teaching := _fails(patient, T, teaching=True):
        said = f"in train mode: {_said(teaching)}"
        yield finding("raises", said, "both modes to run")
    if not (short and whole):
        V = patient(patient.text()).shape[-1]
        if patient.vocab_size > V:
            wanted = f"vocab_size={patient.vocab_size}, or more where it is padded"
            yield finding("vocabulary-cut", f"{V} logits at each position", wanted)
            patient.vocab_size = V


def _fails(patient: Patient, T: int, *, teaching: bool = False) -> Exception | None:
    """What a text of T tokens makes the model raise."""
    try:
        with patient.teaching_is(teaching):
            patient(patient.text(3 if T <= 16 else 1, T))
    except Exception as error:
        return error
    return None


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"


def _longest(patient: Patient, works: int, fails: int) -> int:
    while fails - works > 1:
        middle = (works + fails) // 2
        works, fails = (works, middle) if _fails(patient, middle) else (middle, fails)
    return works


def _small(patient: Patient) -> str:
    """The tables that have too few rows for the vocabulary or for the context."""
    rows = {
        name: len(module.weight)
        for name, module in patient.model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    least = min(patient.vocab_size, patient.block_size)
    few = [f"{name} has {n} rows" for name, n in rows.items() if n <= least]
    return ", ".join(few)


@torch.no_grad()
def finite(patient: Patient) -> Iterator[Finding]:
    """No logit of a token is NaN or infinite."""
    logits = patient(patient.text())[..., : patient.vocab_size]
    if logits.isfinite().all():
        return
    stats = activation_stats(patient, patient.text())
    first = next((n for n, s in stats.items() if not abs(s.largest) < torch.inf), "")
    at = first.removeprefix("model").removeprefix(".")
    share = (~logits.isfinite()).float().mean().item()
    yield finding(
        "outputs-not-finite",
        f"{share:.0%} of the logits are not",
        "numbers",
        f"{at} is the first module to give one" if at else "",
    )


@torch.no_grad()
def repeats(patient: Patient) -> Iterator[Finding]:
    """In eval mode a text gets the same logits each time, whatever ran before."""
    ids, other = patient.text(), patient.text(seed=1)
    first = patient(ids)
    patient.seed = 1
    moved = change(first, patient(ids)).max().item()
    patient.seed = 0
    if moved > patient.noise(first):
        loose = unregistered_modules(patient.model).items()
        drops = [path for path, module in loose if _drops(module)]
        drops += _left_on(patient)
        look = f"{', '.join(drops[:4])} in train mode" if drops else ""
        yield finding("eval-random", f"a logit moved by {moved:.2g}", "0", look)
    try:
        patient.run(other)
        touched = _touched(patient)
        again = patient.run(ids)
        moved = change(first, again).max().item()
        measured = f"after a run on another text, a logit moved by {moved:.2g}"
    except Exception as error:
        touched, moved, measured = (
            _touched(patient),
            torch.inf,
            f"the second run: {_said(error)}",
        )
    finally:
        patient.kept.put_back(thoroughly=True)
    weights = dict(patient.model.named_parameters())
    if moved > patient.noise(first) or any(name in weights for name in touched):
        look = f"forward writes to {', '.join(touched[:4])}" if touched else ""
        yield finding("state-kept", measured, "0", look)


def _drops(module: nn.Module) -> bool:
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in module.modules())


def _left_on(patient: Patient) -> list[str]:
    """Dropouts that `eval()` leaves in train mode."""
    patient.model.eval()
    on = [n for n, m in patient.model.named_modules() if m.training and _drops(m)]
    patient.kept.put_back()
    return on


def _touched(patient: Patient) -> list[str]:
    """The names of the tensors that hold other numbers than before, or are others."""
    kept = patient.kept
    was = {id(x): y for x, y, _ in kept.tensors}
    names = [
        (f"{path}.{name}".lstrip("."), module, name)
        for path, module in patient.model.named_modules()
        for name in [*vars(module), *module._buffers, *module._parameters]
    ]
    found = []
    for full, module, name in names:
        x = getattr(module, name, None)
        before = kept.attributes.get(module, {})
        if isinstance(x, Tensor) and id(x) in was:
            if not torch.equal(x.detach(), was[id(x)]):
                found.append(full)
        elif isinstance(x, Tensor) or (name in before and before[name] is not x):
            found.append(full)
    return found
