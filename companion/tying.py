"""One tensor for the first table and the last layer; and how to tell whether it is one."""

# Exported from lessons/12_weight_tying.md: edit that, then run `make lessons`.

__all__ = ["is_tied", "tie_weights"]

from collections.abc import Iterator
from contextlib import contextmanager

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


def is_tied(model: nn.Module) -> bool:
    """Whether one Parameter, a row for each token, both reads and scores the tokens.

    False for a copy, and for two Parameters that lie in one memory (`.data` assigned):
    an optimizer steps both. False means that it was not *seen*: a tied model gets it
    too, say, if each score depends on all rows (a centred table, normalised logits), if
    what was read never reaches the logits (the last norm's weight is 0, or the table),
    or if a Linear reads one-hot vectors (its tokens are columns). True says nothing
    of other tokens, of a second head added on top, or of what an optimizer holds.
    For models from ids to logits, bare, in a tuple or by the name `logits`. Gradients
    that they hold are left alone. ValueError where no gradient is to be had (no_grad
    inside, the meta device), or for fewer than 4 tokens.
    """
    tables = [p for p in model.parameters() if p.dim() == 2 and p.is_floating_point()]
    with _differentiable(tables):
        for token, logits in _one_token_texts(model, tables):
            both = [p for p in tables if len(p) >= len(logits)]
            for a, b in ((1, 2), (2, 0)):
                margin = logits[a] - logits[b]  # a log-softmax drops out of it
                rows = _rows_with_gradient(margin, both)
                both = [p for p, at in zip(both, rows) if at == {a, b, token}]
            if both:
                return True
    return False


def _rows_with_gradient(margin: Tensor, tables: list[Tensor]) -> list[set[int]]:
    """For each table, the rows that the margin hangs on."""
    if not tables:
        return []
    gradients = torch.autograd.grad(margin, tables, allow_unused=True, retain_graph=True)
    return [
        set() if g is None else set(g.to_dense().any(dim=1).nonzero().flatten().tolist())
        for g in gradients
    ]


def _one_token_texts(model: nn.Module, tables: list[Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Some tokens, and the logits (V,) that a text of nothing else gets."""
    for token in (3, 4, 5) if tables else ():
        ids = torch.full((1, 1), token, device=tables[0].device)
        try:
            logits = logits_of(model, ids)[0, 0]
        except IndexError as error:
            if token > 3:
                return  # there are no more tokens
            raise ValueError("fewer than 4 tokens are too few to tell") from error
        if not logits.requires_grad:
            raise ValueError(
                "the logits carry no gradient: forward runs under no_grad, or detaches"
            )
        if len(logits) < 4:
            raise ValueError(f"{len(logits)} tokens are too few to tell; it takes 4")
        yield token, logits


@contextmanager
def _differentiable(parameters: list[Tensor]) -> Iterator[None]:
    """Gradients inside, whatever the caller turned off; the frozen are frozen again."""
    if any(p.is_meta for p in parameters):
        raise ValueError(
            "the model is on the meta device, where there are no numbers to ask; load it first"
        )
    if any(p.is_inference() for p in parameters):
        raise ValueError("the model was made under inference_mode: its numbers take no gradient")
    frozen = [p for p in parameters if not p.requires_grad]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            for p in frozen:
                p.requires_grad_(True)
            yield
        finally:
            for p in frozen:
                p.requires_grad_(False)
