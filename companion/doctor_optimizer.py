"""Whether an optimizer steps each parameter once, and decays the right ones."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["optimizers"]

from collections.abc import Iterator

import torch
from torch import nn

from companion.doctor_patient import Patient
from companion.doctor_report import Finding, finding, listed


def optimizers(patient: Patient, optimizer: torch.optim.Optimizer) -> Iterator[Finding]:
    """Each parameter is stepped once; matrices decay, or nothing; norms do not."""
    model = patient.model
    names = {id(p): name for name, p in model.named_parameters()}
    wanted = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    stepped = [(p, group) for group in optimizer.param_groups for p in group["params"]]
    ids = [id(p) for p, _ in stepped]
    if strange := [tuple(p.shape) for p, _ in stepped if id(p) not in names]:
        shapes = listed([*map(str, strange)])
        said = f"{len(strange)} of {len(ids)} tensors, of shape {shapes}"
        yield finding("optimizer-stale", said, "parameters of this model")
    if lacking := [name for i, name in wanted.items() if i not in set(ids)]:
        yield finding("optimizer-missing", listed(lacking), "all that want a gradient")
    if twice := [names.get(i, "another's") for i in dict.fromkeys(ids) if ids.count(i) > 1]:
        yield finding("optimizer-doubled", listed(twice), "each once")
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed, free = [], []  # what is pulled, and the matrices that are not
    for p, group in stepped:
        if group.get("weight_decay", 0) and p.dim() < 2:
            decayed.append(names.get(id(p), "another's"))
        elif not group.get("weight_decay", 0) and p.dim() > 1 and id(p) not in tables:
            free.append(names.get(id(p), "another's"))
    pulls = any(group.get("weight_decay", 0) for group in optimizer.param_groups)
    wrong = [f"decayed: {listed(decayed)}"] * bool(decayed)
    wrong += [f"not decayed: {listed(free)}"] * bool(free and pulls)
    if wrong:
        expected = "weights of two axes decay, biases and norms do not"
        yield finding("optimizer-decay", "; ".join(wrong), expected)
