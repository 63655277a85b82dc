"""From logits to the next token; and which tokens it is computed from."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = ["draw", "window_start"]

import torch
from jaxtyping import Float, Int
from torch import Tensor


def draw(
    logits: Float[Tensor, "B V"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B 1"]:
    """One id a row, from softmax(logits / temperature) of the top_k likeliest.

    ValueError for a temperature that is not positive, or top_k under 1.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"{temperature=} should be positive; top_k=1 takes the likeliest token")
    if top_k is not None and (not isinstance(top_k, int) or top_k < 1):
        raise ValueError(f"{top_k=} should be at least 1; for all tokens, leave it out")
    V = logits.shape[-1]
    logits, ids = logits.float().topk(min(top_k or V, V))  # (B, k), the likeliest first
    logits = (logits - logits[:, :1]).double()  # the largest is 0: no temperature overflows
    p = (logits / temperature).softmax(dim=-1)
    return ids.gather(1, torch.multinomial(p, 1, generator=generator))


def window_start(t: int, block_size: int) -> int:
    """The first of the tokens that token t is computed from.

    0 while tokens 0 to t - 1 fit into block_size; then it moves by half a block_size
    whenever they do not, so that half of the window at least is always full.
    """
    half = max(1, block_size // 2)
    return -(-max(0, t - block_size) // half) * half  # rounded up to whole halves
