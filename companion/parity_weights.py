"""How two layers' weights differ: transposed, swapped, scaled, not loaded, untied."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = ["differing_weights", "untied"]

from collections.abc import Iterator
from itertools import permutations

import torch
from torch import Tensor, nn

from companion.parity_order import Part, kind
from companion.parity_pairs import Pair
from companion.parity_tokens import far, same
from companion.parity_trace import Call


@torch.no_grad()
def differing_weights(pair: Pair, reference: nn.Module) -> list[str]:
    """What is wrong with the candidate's weights, a sentence for each.

    `reference` is the whole model, among whose weights the candidate's are looked for.
    """
    theirs = _weights(pair.reference, pair.reference_part)
    ours = _weights(pair.candidate, pair.candidate_part)
    found = []
    for name in theirs.keys() - ours.keys():
        if theirs[name].count_nonzero():
            size = theirs[name].abs().max().item()
            found.append(f"the candidate has no {name}; the reference's goes up to {size:.2g}")
    for name in ours.keys() - theirs.keys():
        if ours[name].count_nonzero():
            size = ours[name].abs().max().item()
            found.append(f"the candidate has a {name}, up to {size:.2g}; the reference has none")
    others = dict(reference.named_parameters())
    for name in theirs.keys() & ours.keys():
        a, b = theirs[name], ours[name].to(theirs[name].device)
        own = f"{pair.reference.name}.{name}".strip(".")
        if a.shape != b.shape:
            found.append(f"its {name} is {tuple(b.shape)}, and {tuple(a.shape)} in the reference")
        elif not same(a, b):
            found.append(f"its {name} {_how(a, b, own, others)}")
    return sorted(found)


def _weights(call: Call, part: Part | None) -> dict[str, Tensor]:
    """Parameters by name; a layer's are weight and bias, and a matrix is (out, in)."""
    weights = {name: p.detach() for name, p in call.module.named_parameters()}
    if kind(call) and len(weights) < 3 and "weight" not in weights:
        matrices_first = sorted(weights.values(), key=lambda w: -w.dim())
        weights = dict(zip(("weight", "bias"), matrices_first))
    if kind(call) == "matrix":
        x, y = call.inputs[0].numbers, call.outputs[0].numbers
        for name, w in weights.items():
            if w.dim() == 2:
                weights[name] = w.T if _is_in_out(w, weights, x, y) else w
        weights = {name: w if part is None else w[part] for name, w in weights.items()}
    return weights


def _is_in_out(w: Tensor, weights: dict[str, Tensor], x: Tensor, y: Tensor) -> bool:
    """Whether a layer computes x @ w, as GPT-2's release has it, and not x @ w.T."""
    if w.shape[0] != w.shape[1]:
        return w.shape[1] == y.shape[-1]
    if x.shape[-1] != len(w) or x.shape != y.shape:
        return False
    bias = next((b for b in weights.values() if b.shape == w.shape[:1]), 0)
    return far(y, x @ w + bias) < far(y, x @ w.T + bias)


def _how(a: Tensor, b: Tensor, own: str, others: dict[str, Tensor]) -> str:
    """What b is, which should be a."""
    if not b.isfinite().all():
        return f"is not finite in {(~b.isfinite()).sum()} places"
    if (b == 0).all() or (b == 1).all():
        return f"is {b.max():.0f} everywhere, as a new layer may begin: it was not loaded"
    if a.dim() == 2 and same(a.T, b):
        return "is the reference's, transposed"
    for name, other in others.items():
        if name != own and (same(other, b) or (other.dim() == 2 and same(other.T, b))):
            return f"is the reference's {name}: swapped, or copied twice"
    ratio = ((a * b).sum() / (a * a).sum()).item()
    if same(b, a * ratio):
        return f"is the reference's times {ratio:.4g}"
    for dtype in (torch.bfloat16, torch.float16):
        if same(a.to(dtype).float(), b.float(), 1e-6):
            return f"is the reference's, rounded to {dtype}"
    return _partly(a, b)


def _partly(a: Tensor, b: Tensor) -> str:
    for order in (*permutations(range(3)), (1, 0)):
        parts = a.chunk(len(order))
        if len(parts) == len(order) and same(torch.cat([parts[k] for k in order]), b):
            return f"has the reference's rows in {len(order)} parts, in the order {order}"
    ends = (torch.stack([x.min(), x.max()]) for x in (a, b))
    if same(*ends) and same(*(x.flatten().sort().values for x in (a, b))):
        return "has the reference's numbers in another order: a view for a transpose?"
    rows = (a - b).abs().flatten(1).amax(1) if a.dim() > 1 else (a - b).abs()
    rows = (rows > 1e-5 * a.double().square().mean().sqrt()).nonzero().flatten().tolist()
    if len(rows) < len(a):
        return f"differs in {len(rows)} of {len(a)} rows, the first {rows[0]}"
    close = torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1].item()
    if close < 0.5:
        return f"is another altogether (correlation {close:.2f}): was it loaded?"
    return f"differs by up to {(a - b).abs().max():.2g} (correlation {close:.4f})"


def untied(pairs: list[Pair], reference: nn.Module, candidate: nn.Module) -> Iterator[str]:
    """Weights that are one tensor in the reference, and two in the candidate."""
    every, ours = (
        dict(model.named_parameters(remove_duplicate=False)) for model in (reference, candidate)
    )
    modules = {pair.reference.name: pair.candidate.name for pair in pairs}
    first: dict[int, str] = {}
    for name, p in every.items():
        other = first.setdefault(id(p), name)
        mine, its = (ours.get(_by(modules, n)) for n in (name, other))
        if mine is not None and its is not None and mine is not its:
            yield f"{name} is one tensor with {other}; in the candidate it is untied"


def _by(modules: dict[str, str], name: str) -> str:
    module, _, last = name.rpartition(".")
    return f"{modules.get(module, '?')}.{last}"
