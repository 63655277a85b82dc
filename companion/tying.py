"""One tensor for the first table and the last layer; and how to tell whether it is one."""

# Exported from lessons/12_weight_tying.md: edit that, then run `make lessons`.

__all__ = ["is_tied", "tie_weights"]

import torch
from torch import Tensor, nn

from companion.probing import logits_of


def tie_weights(embedding: nn.Embedding, head: nn.Linear) -> None:
    """Make the head use the embedding's own weight: one Parameter, with two gradients.

    The head's former weight is dropped; an optimizer made before still holds it, so tie
    first. ValueError where the shapes differ.
    """
    if embedding.weight.shape != head.weight.shape:
        raise ValueError(
            f"the embedding's weight {tuple(embedding.weight.shape)} and the head's "
            f"{tuple(head.weight.shape)} should both be (V, C)"
        )
    head.weight = embedding.weight


@torch.enable_grad()
def is_tied(model: nn.Module) -> bool:
    """Whether one Parameter both reads the tokens and scores them.

    False for a copy, and for two Parameters that lie in one memory (`.data` assigned):
    these have two gradients, and an optimizer steps both. For any model that maps ids
    to logits, to a tuple with them or to something that has `.logits`. The gradients
    that the parameters hold are left alone. ValueError where no gradient can be had, or
    where there are fewer than 4 tokens.
    """
    tables = [p for p in model.parameters() if p.dim() == 2 and p.is_floating_point()]
    if not tables:
        return False
    frozen = [p for p in tables if not p.requires_grad]
    for p in frozen:
        p.requires_grad_(True)
    try:
        ids = torch.full((1, 1), 3, device=tables[0].device)  # 0 is often padding
        try:
            logits = logits_of(model, ids)  # (1, 1, V)
        except IndexError as error:
            raise ValueError("fewer than 4 tokens are too few to tell") from error
        if not logits.requires_grad:
            raise ValueError(
                "the logits carry no gradient: forward runs under no_grad, or detaches"
            )
        if len(logits[0, 0]) < 4:
            raise ValueError(f"{len(logits[0, 0])} tokens are too few to tell; it takes 4")
        margin = logits[0, 0, 1] - logits[0, 0, 2]  # a log-softmax drops out of it
        gradients = torch.autograd.grad(margin, tables, allow_unused=True)
    finally:
        for p in frozen:
            p.requires_grad_(False)
    return any(_reads_and_scores(g, logits.shape[-1]) for g in gradients)


def _reads_and_scores(gradient: Tensor | None, V: int) -> bool:
    """Whether rows 1 and 2 (scored) and 3 (read) got a gradient, and no other did."""
    if gradient is None or len(gradient) < V:
        return False
    rows = gradient.to_dense().any(dim=1)  # dense already, for most tables
    return rows.nonzero().flatten().tolist() == [1, 2, 3]
