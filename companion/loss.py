"""The loss of a language model: next-token cross-entropy, what to expect of it, and its units."""

# Exported from lessons/07_cross_entropy_shapes.md: edit that, then run `make lessons`.

__all__ = [
    "IDS",
    "bits_per_byte",
    "chunked_next_token_loss",
    "expected_initial_loss",
    "next_token_loss",
    "perplexity",
]

from math import exp, log

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def next_token_loss(
    logits: Float[Tensor, "B T V"],
    targets: Int[Tensor, "B T"],
    *,
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats a token, of logits against the tokens that came next.

    `targets[b, t]` is the id that follows position t: shift before you call. Targets
    equal to `ignore_index` do not count; where none counts the loss is 0 and so are its
    gradients. Computed in float32 or better, whatever the dtype of the logits.

    TypeError for targets that are not integers; ValueError for shapes that do not
    match and, on the CPU, for a target outside 0 .. V - 1 (a GPU's kernel asserts it).
    """
    if logits.dim() != 3:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; they should be (B, T, V)")
    _check_targets(targets, logits.shape[:-1], logits.shape[-1], ignore_index)
    total = F.cross_entropy(
        logits.flatten(0, 1).to(_precise(logits.dtype)),
        targets.flatten().long(),
        ignore_index=ignore_index,
        reduction="sum",
    )
    return total / (targets != ignore_index).sum().clamp(min=1)


IDS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _precise(dtype: torch.dtype) -> torch.dtype:
    """At least float32, since bfloat16 would keep three digits of a loss."""
    return torch.promote_types(dtype, torch.float32)


def _check_targets(targets: Tensor, positions: torch.Size, V: int, ignore_index: int) -> None:
    """Raise where targets are not ids from 0 to V - 1, one for each position."""
    if targets.dtype not in IDS:
        raise TypeError(f"targets are {targets.dtype}; they are ids, and should be torch.long")
    if targets.shape != positions:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, and the positions to be "
            f"scored {tuple(positions)}; there should be one target for each"
        )
    if targets.is_cuda or torch.compiler.is_compiling():
        return  # looking at values would make the GPU wait, or break the graph
    wrong = ((targets < 0) | (targets >= V)) & (targets != ignore_index)
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        raise ValueError(f"targets{at} is {targets[tuple(at)]}; ids go from 0 to {V - 1}")


def expected_initial_loss(vocab_size: int, logit_std: float = 0.0) -> float:
    """The loss in nats that an untrained model should show: ln V + logit_std**2 / 2.

    The second term is what random opinions cost: normal scores of that standard
    deviation, with nothing to do with the target. It holds while logit_std is well
    under sqrt(2 ln V).
    ValueError for a vocabulary smaller than one token, or a negative spread.
    """
    if vocab_size < 1 or logit_std < 0:
        raise ValueError(f"{vocab_size=} should be at least 1, and {logit_std=} at least 0")
    return log(vocab_size) + logit_std**2 / 2


def perplexity(loss: float | Float[Tensor, ""]) -> float:
    """exp(loss): so many equally likely tokens would be as hard to guess."""
    return exp(float(loss))


def bits_per_byte(loss: float | Float[Tensor, ""], *, tokens: int, bytes: int) -> float:
    """A loss in nats a token as bits a byte, for a text of so many tokens and bytes.

    ValueError where either count is not positive.
    """
    if tokens <= 0 or bytes <= 0:
        raise ValueError(f"{tokens=} and {bytes=} should both be positive")
    return float(loss) * tokens / bytes / log(2)


class _ChunkedLoss(torch.autograd.Function):
    """Summed loss of hidden (N, C) under a weight (V, C), some rows at a time."""

    @staticmethod
    def forward(ctx, hidden, weight, targets, ignore_index, rows, learn):
        """The gradients are made on the way, while each chunk's logits are at hand."""
        precise = _precise(hidden.dtype)
        total = torch.zeros((), dtype=precise, device=hidden.device)
        d_hidden = torch.zeros_like(hidden) if learn else None
        d_weight = torch.zeros_like(weight, dtype=precise) if learn else None
        for start in range(0, len(hidden), rows):
            chunk = slice(start, start + rows)
            counts = (targets[chunk] != ignore_index)[:, None]  # (rows, 1)
            ids = targets[chunk][:, None].where(counts, 0)  # (rows, 1)
            log_p = hidden[chunk] @ weight.T  # (rows, V), logits so far
            log_p = F.log_softmax(log_p, dim=-1, dtype=precise)
            total -= log_p.gather(1, ids).where(counts, 0).sum()
            if learn:
                d_logits = log_p.exp_()  # softmax ...
                minus_one = d_logits.new_full(ids.shape, -1)
                d_logits.scatter_add_(1, ids, minus_one)  # ... minus one-hot
                d_logits = d_logits.to(hidden.dtype)
                del log_p
                d_hidden[chunk] = (d_logits @ weight).where(counts, 0)  # (rows, C)
                d_weight += d_logits.T @ hidden[chunk].where(counts, 0)  # (V, C)
        if learn:
            ctx.save_for_backward(d_hidden, d_weight.to(weight.dtype))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_total):
        d_hidden, d_weight = (d * d_total.to(d.dtype) for d in ctx.saved_tensors)
        return d_hidden, d_weight, None, None, None, None


def chunked_next_token_loss(
    hidden: Float[Tensor, "B T C"],
    weight: Float[Tensor, "V C"],
    targets: Int[Tensor, "B T"],
    *,
    ignore_index: int = -100,
    rows: int | None = None,
) -> Float[Tensor, ""]:
    """`next_token_loss(hidden @ weight.T, targets)`, never holding all B*T*V logits.

    Works through `rows` positions at a time, by default as many as have some 2**25
    logits together (640 for GPT-2), and computes the gradients of both arguments in
    the same pass, so the memory it adds is that of rows*V logits and of the gradients.
    No more positions than `rows` get the plain loss, which is faster. A weight that is
    shared with the embedding gets both gradients. Follows autocast as `F.linear` does;
    has no second derivative. Errors as `next_token_loss`; ValueError too where C or a
    dtype differs.
    """
    if hidden.dim() != 3 or weight.dim() != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} and weight {tuple(weight.shape)} should be "
            "(B, T, C) and (V, C), with the same C"
        )
    if rows is None:
        rows = max(128, 2**25 // len(weight) // 128 * 128)  # GPUs like multiples of 128
    if rows < 1:
        raise ValueError(f"{rows=} should be at least 1")
    _check_targets(targets, hidden.shape[:-1], len(weight), ignore_index)
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    if hidden.dtype != weight.dtype:
        raise ValueError(f"hidden is {hidden.dtype} and weight {weight.dtype}; cast one of them")
    if targets.numel() <= rows:
        logits = hidden @ weight.T  # (B, T, V)
        return next_token_loss(logits, targets.long(), ignore_index=ignore_index)
    total = _ChunkedLoss.apply(
        hidden.flatten(0, 1),
        weight,
        targets.flatten().long(),
        ignore_index,
        rows,
        torch.is_grad_enabled(),
    )
    return total / (targets != ignore_index).sum().clamp(min=1)
