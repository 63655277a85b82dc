"""Ways from logits (B, T, V) and ids (B, T) to a loss, one right, and how some wrong ones show."""

import torch
import torch.nn.functional as F
from torch import Tensor


def flat(logits: Tensor, targets: Tensor, **options: str) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), **options)


def shifted(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    return logits[:, :-1], ids[:, 1:]


def reference(logits: Tensor, ids: Tensor) -> Tensor:
    return flat(*shifted(logits, ids))


def summed(logits: Tensor, ids: Tensor) -> Tensor:
    return flat(*shifted(logits, ids), reduction="sum")


def relabelled(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return F.cross_entropy(logits.reshape(len(logits), logits.shape[2], -1), targets)


def flattened_time_first(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return F.cross_entropy(logits.transpose(0, 1).flatten(0, 1), targets.flatten())


def transposed_and_flattened(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return F.cross_entropy(logits.mT.reshape(-1, logits.shape[2]), targets.flatten())


def normalised_over(dim: int, logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return -logits.log_softmax(dim).gather(-1, targets[..., None]).mean()


def over_time(logits: Tensor, ids: Tensor) -> Tensor:
    return normalised_over(1, logits, ids)


def over_the_batch(logits: Tensor, ids: Tensor) -> Tensor:
    return normalised_over(0, logits, ids)


def softmax_then_log(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return -logits.softmax(-1).gather(-1, targets[..., None]).log().mean()


def protected_log(logits: Tensor, ids: Tensor) -> Tensor:
    logits, targets = shifted(logits, ids)
    return -(logits.softmax(-1) + 1e-9).gather(-1, targets[..., None]).log().mean()


def fails_where_sure(got: Tensor, want: Tensor, logits: Tensor, ids: Tensor) -> bool:
    """Right on moderate logits; infinite or undefined where a probability vanishes."""
    return right_or(got, want, not torch.isfinite(got).all())


def too_kind_where_sure(got: Tensor, want: Tensor, logits: Tensor, ids: Tensor) -> bool:
    """Right on moderate logits; smaller than it should be where a probability vanishes."""
    return right_or(got, want, bool((got < want).all()))


def right_or(got: Tensor, want: Tensor, wrong: bool) -> bool:
    if got.shape != want.shape or got.dtype != want.dtype:
        return False
    return wrong if want > 30 else torch.allclose(got, want, rtol=1e-4)


def across_rows(logits: Tensor, ids: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1)[:-1], ids.flatten()[1:])


def both_flat(scores: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    scores, targets = shifted(scores, ids)
    return scores.flatten(0, 1), targets.flatten()
