"""Attention heads as an axis of a tensor: split and merged; and a probe for what mixes rows."""

# Exported from lessons/04_tensor_operations.md: edit that, then run `make lessons`.

__all__ = ["batch_leak", "merge_heads", "split_heads"]

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.probing import change, logits_of, other_ids


def split_heads(x: Float[Tensor, "B T C"], n_head: int) -> Float[Tensor, "B nh T hs"]:
    """Head h gets channels h*hs to (h+1)*hs of every position. Nothing is copied.

    ValueError where the channels do not divide into n_head heads.
    """
    B, T, C = x.shape
    if n_head < 1 or C % n_head:
        raise ValueError(f"{C} channels do not divide into n_head={n_head} heads of equal size")
    return x.view(B, T, n_head, C // n_head).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B nh T hs"]) -> Float[Tensor, "B T C"]:
    """The inverse of `split_heads`: each position's heads side by side.

    Copies only where the numbers do not lie so already.
    """
    return x.transpose(1, 2).flatten(2)


@torch.no_grad()
def batch_leak(model: nn.Module, ids: Int[Tensor, "B T"]) -> float:
    """The most that a logit of one row moves when another row is replaced: 0 is right.

    `model` maps ids to logits (B, T, V), to a tuple with them or to something that has
    `.logits`. It runs B + 1 times in eval mode, so what mixes rows only while training
    (a batch norm) does not show. ValueError for fewer than two rows.
    """
    if len(ids) < 2:
        raise ValueError(f"a batch of {len(ids)} has no other row to leak into")
    before, others = logits_of(model, ids), other_ids(ids)
    most = 0.0
    for b in range(len(ids)):
        replaced = ids.clone()
        replaced[b] = others[b]
        moved = change(before, logits_of(model, replaced))
        moved[b] = 0  # that row may
        most = max(most, moved.max().item())
    return most
