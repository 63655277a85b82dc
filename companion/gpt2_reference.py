"""GPT-2's logits straight from a release, and how far a model's lie from them."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = ["distance", "reference_logits"]

from math import pi, sqrt
from typing import Any

import torch
from torch import Tensor, nn

from companion.probing import evaluating, logits_of


@torch.no_grad()
def reference_logits(
    released: dict[str, Tensor],
    config: Any,
    ids: Tensor,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """(B, T, V), by a release's own tensors: its weights are (in, out)."""
    w = {n.removeprefix("transformer."): x.to(dtype) for n, x in released.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    B, T = ids.shape
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]  # (B, T, C)
    for n in range(config.n_layer):
        qkv = linear(norm(x, f"h.{n}.ln_1"), f"h.{n}.attn.c_attn")
        q, k, v = qkv.view(B, T, 3, config.n_head, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.mT / sqrt(q.shape[-1])).masked_fill(later, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
        x = x + linear(mixed, f"h.{n}.attn.c_proj")
        up = linear(norm(x, f"h.{n}.ln_2"), f"h.{n}.mlp.c_fc")
        gelu = up / 2 * (1 + (sqrt(2 / pi) * (up + 0.044715 * up**3)).tanh())
        x = x + linear(gelu, f"h.{n}.mlp.c_proj")
    return norm(x, "ln_f") @ w.get("lm_head.weight", w["wte.weight"]).T


@torch.no_grad()
def distance(
    model: nn.Module,
    released: dict[str, Tensor],
    config: Any,
    ids: Tensor | None = None,
) -> float:
    """How far a model's logits are from a release's, in units of float32's rounding.

    About 1 for a right model in float32, more where weights are large; in float64
    under 1e-6. `released` has the file's tensors, `config` its sizes: read both back
    from the files, for neither may come from the model (nor from `their_tensors`, which
    gives views of it). Without ids, one text of all positions; a model that has
    `new_cache` then reads it in pieces, too, and the larger distance counts. Not seen:
    a batch (without ids), a lost tie (`is_tied`), dropout; of an untied model's `wte`,
    the rows that no id names. ValueError where float32 makes no rounding at all, so
    there is no unit.
    """
    pieces = ids is None and hasattr(model, "new_cache")
    if ids is None:
        dice = torch.Generator().manual_seed(0)
        ids = torch.randint(config.vocab_size, (1, config.block_size), generator=dice)
    right = reference_logits(released, config, ids)
    rounded = reference_logits(released, config, ids, torch.float32)
    unit = (rounded - right).norm()
    if unit == 0:
        raise ValueError(
            "float32 makes no rounding here (are all logits 0?): no unit to measure in"
        )
    readings = [logits_of(model, ids)] + ([_in_pieces(model, ids)] if pieces else [])
    return max(((logits - right).norm() / unit).item() for logits in readings)


def _in_pieces(model: nn.Module, ids: Tensor) -> Tensor:
    """Logits by the cache: of half the text, of one token more, of the rest."""
    cache, half = model.new_cache(), ids.shape[1] // 2
    sizes = [half, 1, ids.shape[1] - half - 1]
    with evaluating(model):
        parts = [model(x, cache=cache) for x in ids.split(sizes, 1) if x.numel()]
    return torch.cat(parts, 1)
