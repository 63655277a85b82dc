"""Scaled dot-product attention, in the open: scores, mask, weights, mean of the values."""

# Exported from lessons/09_sqrt_head_size.md: edit that, then run `make lessons`.

__all__ = ["scaled_dot_product_attention"]

from math import sqrt

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def scaled_dot_product_attention(
    q: Float[Tensor, "*B Tq hs"],
    k: Float[Tensor, "*B Tk hs"],
    v: Float[Tensor, "*B Tk d"],
    mask: Bool[Tensor, "..."] | None = None,
    *,
    dropout_p: float = 0.0,
) -> Float[Tensor, "*B Tq d"]:
    """Each query's mean of the values, weighted by softmax(q · k / sqrt(hs)).

    `mask` (Tq, Tk), or broadcast to it, is True where a query may look; a query that
    may look nowhere gets zeros. `dropout_p` of the weights are zeroed, in eval mode
    too: pass 0 there. Equals `torch.nn.functional.scaled_dot_product_attention` to
    rounding, and holds all (Tq, Tk) weights, which torch's fused kernels avoid.
    Source: Vaswani et al. 2017, section 3.2.1.
    """
    scores = q @ k.mT / sqrt(q.shape[-1])  # (*B, Tq, Tk)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)  # each row adds up to 1
    if mask is not None:
        weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 0)
    return F.dropout(weights, dropout_p) @ v  # (*B, Tq, d)
