"""Any model as a patient: run from the same state each time, with the same chance."""

# Exported from lessons/16_silent_bugs.md: edit that, then run `make lessons`.

__all__ = ["Patient", "logits_in"]

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.doctor_kept import Kept, sow
from companion.loss import next_token_loss


class Patient(nn.Module):
    """A model from ids (B, T) to logits (B, T, V), for the probes to be used on.

    Each run begins in the state the model was given in, and with the same random
    numbers; the mode is eval, or train where `teaching` is True. A probe's texts have
    `T` tokens, or `longest`. `rounding` is the relative step of the coarsest weights.
    """

    def __init__(self, model: nn.Module, vocab_size: int, block_size: int) -> None:
        super().__init__()
        self.model = model
        self.vocab_size, self.block_size = vocab_size, block_size
        self.teaching, self.seed = False, 0
        self.T, self.longest = min(block_size, 8), min(block_size, 256)
        tensors = [*model.parameters(), *model.buffers()]
        self.device = tensors[0].device if tensors else torch.device("cpu")
        steps = [torch.finfo(p.dtype).eps for p in model.parameters() if p.is_floating_point()]
        self.rounding = max(steps, default=torch.finfo(torch.float32).eps)
        self.kept = Kept(model)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """Logits, in float32 or better. TypeError or ValueError for no logits."""
        try:
            return self.run(ids)
        finally:
            self.kept.put_back()

    @contextmanager
    def teaching_is(self, teaching: bool) -> Iterator[None]:
        """Run in this mode for a while."""
        before, self.teaching = self.teaching, teaching
        try:
            yield
        finally:
            self.teaching = before

    def run(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        """The same, and the model is left in the state that the run brought it to."""
        sow(self.seed, self.device)
        self.model.train(self.teaching)
        logits = logits_in(self.model(ids.clone()))
        if logits.shape[1] == 1 < ids.shape[1]:  # of the last token only, as nanoGPT's
            names = signature(self.model.forward).parameters
            if "targets" in names:
                logits = logits_in(self.model(ids, targets=ids))
        if logits.shape[:2] != ids.shape:
            raise ValueError(f"logits {tuple(logits.shape)} for ids {tuple(ids.shape)}")
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def text(self, B: int = 3, T: int | None = None, seed: int = 0) -> Int[Tensor, "B T"]:
        """Random ids, the last of the vocabulary among them."""
        order = torch.Generator().manual_seed(seed)
        ids = torch.randint(self.vocab_size, (B, T or self.T), generator=order)
        ids[:, -1] = torch.arange(self.vocab_size - 1, self.vocab_size - 1 - B, -1)
        return (ids % self.vocab_size).to(self.device)

    def loss(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, ""]:
        """Mean loss of each token but the first."""
        return next_token_loss(self(ids)[:, :-1], ids[:, 1:])

    def like(self, model: nn.Module) -> "Patient":
        """Another model, such as a copy of this one, to be asked the same."""
        copy = Patient(model, self.vocab_size, self.block_size)
        copy.T, copy.longest = self.T, self.longest
        return copy

    def noise(self, logits: Tensor, steps: int = 16) -> float:
        """What rounding may do to such numbers; at most a quarter of the largest."""
        return min(steps * self.rounding, 0.25) * logits.abs().max().item()


def logits_in(output: Any) -> Tensor:
    """The logits (B, T, V) in what a model returned. TypeError where there are none."""
    if isinstance(output, dict):
        output = output.get("logits")
    output = getattr(output, "logits", output)
    several = output if isinstance(output, tuple | list) else (output,)
    for x in several:
        if isinstance(x, Tensor) and x.dim() == 3 and x.is_floating_point():
            return x
    kinds = ", ".join(
        f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__ for x in several
    )
    raise TypeError(f"no logits (B, T, V) in what the model returned: {kinds}")
