"""What a model holds: weights, what it has registered, ties, masks."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = [
    "HALVES",
    "hides_nothing",
    "masks",
    "one_dtype",
    "registers",
    "says_tied",
    "ties",
    "whole_numbers",
]

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor, nn

from companion.doctor_behaviour import stack
from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding, listed
from companion.registration import unregistered_leaves, unregistered_parameters

HALVES = (torch.float16, torch.bfloat16)


@torch.no_grad()
def whole_numbers(patient: Patient) -> Iterator[Finding]:
    """No weight or buffer is NaN, no weight infinite. A mask's buffer may be."""
    model = patient.model
    bad = [n for n, p in model.named_parameters() if not p.isfinite().all()]
    bad += [n for n, b in model.named_buffers() if b.isnan().any()]
    if bad:
        yield finding("weights-not-finite", listed(bad), "numbers")


def one_dtype(patient: Patient) -> Iterator[Finding]:
    """Matrices are of one dtype; vectors of the same, or float32 beside halves."""
    floats = {n: p for n, p in patient.model.named_parameters() if p.is_floating_point()}
    count: dict[torch.dtype, int] = {}
    for p in floats.values():
        if p.dim() > 1 or all(q.dim() < 2 for q in floats.values()):
            count[p.dtype] = count.get(p.dtype, 0) + p.numel()
    usual = max(count, key=count.__getitem__, default=torch.float32)
    odd = [
        (name, p.dtype)
        for name, p in floats.items()
        if p.dtype != usual and not (p.dim() < 2 and usual in HALVES and p.dtype == torch.float32)
    ]
    if odd:
        said = f"{len(odd)} of {len(floats)} tensors are {listed(_names_of_dtypes(odd))}"
        look = listed([name for name, _ in odd])
        yield finding("dtypes-mixed", said, f"{_plain(usual)}, as most are", look)


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _names_of_dtypes(odd: list[tuple[str, torch.dtype]]) -> list[str]:
    return sorted({_plain(dtype) for _, dtype in odd})


def registers(patient: Patient) -> Iterator[Finding]:
    """All parameters that the model holds are among `model.parameters()`."""
    hidden = unregistered_parameters(patient.model)
    if hidden:
        said = f"{len(hidden)} parameters hide: {listed([*hidden])}"
        yield finding("unregistered", said, "all of them in model.parameters()")


def hides_nothing(patient: Patient) -> Iterator[Finding]:
    """All that gets a gradient is among them too."""
    loss = patient.loss(patient.text())
    if loss.requires_grad and (leaves := unregistered_leaves(patient.model, loss)):
        shapes = listed([str(tuple(x.shape)) for x in leaves])
        said = f"{len(leaves)} tensors get a gradient, and are no parameters: {shapes}"
        yield finding("unregistered", said, "none", "globals, and what forward makes anew")


@torch.no_grad()
def ties(patient: Patient) -> Iterator[Finding]:
    """The token table and the last layer are one tensor, or have nothing in common."""
    tables = [
        (f"{name}.weight".lstrip("."), module.weight)
        for name, module in patient.model.named_modules()
        if isinstance(module, nn.Embedding) and len(module.weight) >= patient.vocab_size
    ]
    if not tables:
        return
    name, table = min(tables, key=lambda named: len(named[1]))  # of tokens: V rows
    heads = [
        (other, p)
        for other, p in patient.model.named_parameters(remove_duplicate=False)
        if p.shape == table.shape and other not in dict(tables) and _outside(patient, other)
    ]
    if any(p is table for _, p in heads):
        return
    for other, p in heads:
        alike = _alike(table, p)
        if alike > max(0.5, 6 / sqrt(table.numel())):
            one = "two Parameters in one memory" if table.data_ptr() == p.data_ptr() else ""
            how = one or f"a correlation of {alike:.2f}"
            said = f"{name} and {other}: {how}"
            yield finding("tie-copied", said, "one Parameter, or no correlation")
            return
    if heads and says_tied(patient.model):
        said = f"{name} and {heads[0][0]} are two Parameters"
        yield finding("tie-broken", said, "one, as the config says")


def _outside(patient: Patient, name: str) -> bool:
    return not any(name.startswith(f"{block}.") for block, _ in stack(patient.model))


def _alike(a: Tensor, b: Tensor) -> float:
    """The correlation of two tables' numbers; 1 for equal ones."""
    if a.data_ptr() == b.data_ptr() or torch.equal(a, b):
        return 1.0
    a, b = (x.float() - x.float().mean(0) for x in (a, b))
    size = (a.norm() * b.norm()).item()
    return (a * b).sum().item() / size if size else 0.0


def says_tied(model: nn.Module) -> bool:
    """Whether a model's config wants one tensor; False where it does not say."""
    config = getattr(model, "config", None)
    said = [getattr(config, name, False) for name in ("tied", "tie_word_embeddings")]
    return any(x is True for x in said)


@torch.no_grad()
def masks(patient: Patient) -> Iterator[Finding]:
    """No causal mask that the model keeps is larger than its context.

    Known by its numbers: square, one value on the diagonal, another above it all over.
    So a table of rotary angles is none, whatever its shape.
    """
    for path, module in patient.model.named_modules():
        for name, x in {**vars(module), **module._buffers}.items():
            if isinstance(x, Tensor) and _is_mask(x) and x.shape[-1] > patient.block_size:
                n, at = x.shape[-1], f"{path}.{name}".lstrip(".")
                said = f"{at} is ({n}, {n})"
                yield finding("mask-too-large", said, f"block_size={patient.block_size}")
                return


def _is_mask(x: Tensor) -> bool:
    if x.dim() < 2 or x.shape[-1] != x.shape[-2] or x.shape[-1] < 3 or x.numel() == 0:
        return False
    corner = x.flatten(0, -3)[0] if x.dim() > 2 else x
    corner = corner[:64, :64]
    above, diagonal = (
        corner[corner.new_ones(corner.shape).triu(2) > 0],
        corner.diagonal(),
    )
    alike = (above == above[0]).all() and (diagonal == diagonal[0]).all()
    return bool(alike and above[0] != diagonal[0])
