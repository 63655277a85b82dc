"""The causal mask, and a probe for what looks ahead, in any model."""

# Exported from lessons/08_causal_mask.md: edit that, then run `make lessons`.

__all__ = ["causal_mask", "future_leak", "influence"]

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from companion.probing import change, logits_of, other_ids


def causal_mask(
    T: int, *, past: int = 0, device: torch.device | str | None = None
) -> Bool[Tensor, "T past_T"]:
    """Which keys each query may look at: (T, past + T), True at itself and before.

    The T queries stand at positions past, past + 1, ...: `past` counts the keys that a
    cache already held (lesson 10), and is 0 until then. ValueError for T under 1 or a
    negative past.
    """
    if T < 1 or past < 0:
        raise ValueError(f"{T=} should be at least 1, and {past=} at least 0")
    every = torch.ones(T, past + T, dtype=torch.bool, device=device)
    return every.tril(past)


@torch.no_grad()
def influence(
    model: nn.Module, ids: Int[Tensor, "B T"], *, at: Sequence[int] | None = None
) -> Float[Tensor, "T n"]:
    """[i, j]: how far logits at position i move when the token at j is replaced.

    A causal model has zeros above the diagonal. `at` names the tokens to replace, a
    column each, where not all T. `model` maps ids to logits (B, T, V), to a tuple with
    them or to something that has `.logits`. It runs once more than there are columns,
    in eval mode, so what looks ahead only while training does not show.
    """
    before, others, T = logits_of(model, ids), other_ids(ids), ids.shape[1]
    at = range(T) if at is None else at
    if not at or not all(0 <= j < T for j in at):
        raise ValueError(f"at={list(at)} should hold positions, each from 0 to {T - 1}")
    columns = []
    for j in at:
        replaced = ids.clone()
        replaced[:, j] = others[:, j]
        moved = change(before, logits_of(model, replaced))  # (B, T, V)
        columns.append(moved.amax(dim=(0, 2)))
    return torch.stack(columns, dim=1)


def future_leak(
    model: nn.Module, ids: Int[Tensor, "B T"], *, at: Sequence[int] | None = None
) -> float:
    """The most that a logit moves when a later token is replaced: 0 is right.

    Up to rounding: a kernel may add in another order. Takes any model, and `at`, as
    `influence` does. ValueError where no token has one before it.
    """
    T = ids.shape[-1]
    at = range(T) if at is None else at
    if max(at, default=0) < 1:
        raise ValueError("no future to leak from: no token has one before it")
    later = torch.tensor([*at], device=ids.device) > torch.arange(T).to(ids)[:, None]
    return influence(model, ids, at=at)[later].max().item()
