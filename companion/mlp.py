"""The MLP of a GPT-2 block: what each position does by itself."""

# Exported from lessons/02_why_linear_layers.md: edit that, then run `make lessons`.

__all__ = ["MLP"]

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class MLP(nn.Module):
    """Each position by itself: four times wider, GELU, and back.

    GPT-2's, with the tanh form of GELU that its weights were trained with (Hendrycks
    and Gimpel 2016, section 2). While training, `dropout` of what it returns is zeroed.
    """

    def __init__(self, n_embd: int, *, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        self.c_fc = nn.Linear(n_embd, 4 * n_embd, bias=bias)
        self.c_proj = nn.Linear(4 * n_embd, n_embd, bias=bias)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = self.c_fc(x)  # (B, T, 4C)
        x = F.gelu(x, approximate="tanh")
        x = self.c_proj(x)  # (B, T, C)
        return self.dropout(x)
