"""How a model starts: its first loss, and how its residual stream grows with depth."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["NEAR", "begins_at_chance", "grows_slowly", "is_fresh"]

from collections.abc import Iterator
from math import log, sqrt

import torch
from torch import Tensor, nn

from companion.doctor_behaviour import stack
from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding
from companion.init import activation_stats
from companion.loss import expected_initial_loss, next_token_loss

NEAR = 0.5  # nats around ln V; GPT-2's own start is 0.15 above it


def is_fresh(model: nn.Module) -> bool:
    """Whether no step was taken yet: norms, or biases if there are none, are 0 or 1."""
    norms = [
        p
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for p in module.parameters(recurse=False)
    ]
    vectors = norms or [p for p in model.parameters() if p.dim() == 1]
    return bool(vectors) and all(bool(((p == 0) | (p == 1)).all()) for p in vectors)


@torch.no_grad()
def begins_at_chance(patient: Patient, ids: Tensor | None) -> Iterator[Finding]:
    """Untrained, the loss is near ln V; trained, on its own batch, it is below."""
    if is_fresh(patient.model):
        random = patient.text(8)
        logits = patient(random)
        V = logits.shape[-1]
        T = max(1, random.shape[1] - 1)
        loss = next_token_loss(logits[:, :T], random.roll(-1, 1)[:, :T]).item()
        if abs(loss - expected_initial_loss(V)) > NEAR:
            spread = logits.std().item()
            said = f"{loss:.2f} nats on random ids; logits spread by {spread:.2g}"
            yield finding("initial-loss", said, f"ln {V} = {log(V):.2f}, and 0.5 more at most")
    elif ids is not None and ids.shape[1] > 1:
        logits = patient(ids)
        loss, V = next_token_loss(logits[:, :-1], ids[:, 1:]).item(), logits.shape[-1]
        if loss > log(V) + NEAR:
            yield finding("worse-than-chance", f"{loss:.2f} nats", f"under ln {V} = {log(V):.2f}")


@torch.no_grad()
def grows_slowly(patient: Patient) -> Iterator[Finding]:
    """Untrained, the stream grows no faster than by chance; c_proj starts small.

    Branches that have nothing to do with each other add variances: after n blocks the
    stream has sqrt(n) times what one block gave it, or less. In a model with GPT-2's
    names, each branch's last weights start 1 / sqrt(2 n) as wide as the others.
    """
    blocks = stack(patient.model)
    n = len(blocks)
    if n < 2 or not is_fresh(patient.model):
        return
    stats = activation_stats(patient, patient.text())
    sizes = [stats[f"model.{name}"] for name, _ in blocks if f"model.{name}" in stats]
    sizes = [sqrt(s.mean**2 + s.std**2) for s in sizes]
    if len(sizes) < 2 or not sizes[0]:
        return
    grown = f"the stream is {sizes[0]:.2g} after block 1, {sizes[-1]:.2g} after {n}"
    ends, others = _spreads([block for _, block in blocks])
    if sizes[-1] > 2 * sqrt(len(sizes)) * sizes[0]:
        most = sqrt(len(sizes))
        said = f"at most {most:.1f} times the stream after block 1: {most * sizes[0]:.2g}"
        yield finding("residual-growth", grown, said)
    elif ends and others and ends / others > (1 + 1 / sqrt(2 * n)) / 2:
        said = f"c_proj's weights spread by {ends:.3g}, the others by {others:.3g}"
        expected = f"{others / sqrt(2 * n):.3g} in c_proj, 1 / sqrt({2 * n}) of the others"
        yield finding("residual-growth", f"{said}; {grown}", expected)


def _spreads(blocks: list[nn.Module]) -> tuple[float, float]:
    """The spread of the weights named c_proj, which end branches, and of the others."""
    ends, others = [], []
    for block in blocks:
        for name, p in block.named_parameters():
            if p.dim() == 2:
                (ends if name.endswith("c_proj.weight") else others).append(p.float().std().item())
    return tuple(sum(x) / len(x) if x else 0.0 for x in (ends, others))
