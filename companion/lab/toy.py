"""A small GPT whose every part can be swapped, to be trained while one reads on.

Its names and layout are GPT-2's (lesson 13 builds the real one), so that an experiment on the toy
can be repeated at GPT-2's own sizes: `Toy(50257, width=768, layers=12, heads=12, context=1024)`.
"""

from collections.abc import Callable, Iterable, Mapping
from math import sqrt

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def scaled_scores(q: Tensor, k: Tensor) -> Tensor:
    """Scores (B, nh, T, T) of queries against keys (B, nh, T, hs), divided by sqrt(hs)."""
    return q @ k.mT / sqrt(q.shape[-1])


def past_only(T: int) -> Bool[Tensor, "T T"]:
    """True where the query of a row may look: at itself and what came before."""
    return torch.ones(T, T, dtype=torch.bool).tril()


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Weights (B, nh, T, T) over the keys that the mask (T, T) lets a query look at."""
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def split_heads(x: Float[Tensor, "B T C"], heads: int) -> Float[Tensor, "B nh T hs"]:
    """Each head gets its own channels of every position."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B nh T hs"]) -> Float[Tensor, "B T C"]:
    """Each position's heads side by side."""
    return x.transpose(1, 2).flatten(2)


def gpt2_init(model: nn.Module, layers: int) -> None:
    """GPT-2's: normal 0.02, positions 0.01, biases 0, output projections / sqrt(2 layers)."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2:
            std = 0.01 if name == "wpe.weight" else 0.02
            out = name.endswith("c_proj.weight")
            nn.init.normal_(parameter, std=std / sqrt(2 * layers) if out else std)


def torch_init(model: nn.Module, layers: int) -> None:
    """PyTorch's own defaults, which the layers came with."""


def add(x: Tensor, branch: Tensor) -> Tensor:
    """The residual stream: what a branch computed is added to what came in."""
    return x + branch


SITES = ("embeddings", "weights", "attention", "mlp")  # GPT-2's dropout, in forward's order


def at_sites(dropout: float | Mapping[str, float]) -> dict[str, float]:
    """The dropout of each site; a number is meant for all but the attention weights."""
    if not isinstance(dropout, Mapping):
        dropout = {site: dropout for site in SITES if site != "weights"}
    if strange := set(dropout) - set(SITES):
        raise ValueError(f"{min(strange)!r} is no site of dropout; they are {', '.join(SITES)}")
    return {site: dropout.get(site, 0.0) for site in SITES}


class ToyAttention(nn.Module):
    """Causal self-attention with `heads` heads, made of the pieces it is given."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        scores: Callable[[Tensor, Tensor], Tensor] = scaled_scores,
        mask: Callable[[int], Tensor] = past_only,
        weights: Callable[[Tensor, Tensor], Tensor] = masked_softmax,
        split: Callable[[Tensor, int], Tensor] = split_heads,
        merge: Callable[[Tensor], Tensor] = merge_heads,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.scores, self.mask, self.weights = heads, scores, mask, weights
        self.split, self.merge = split, merge
        self.drop = nn.Dropout(dropout)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        parts = self.c_attn(x).chunk(3, dim=-1)  # 3 x (B, T, C), cut out of (B, T, 3C)
        q, k, v = (self.split(part, self.heads) for part in parts)  # 3 x (B, nh, T, hs)
        mask = self.mask(x.shape[1]).to(x.device)
        weights = self.drop(self.weights(self.scores(q, k), mask))  # (B, nh, T, T)
        return self.c_proj(self.merge(weights @ v))  # (B, T, C)


class ToyMLP(nn.Module):
    """Four times wider, GELU, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        return self.c_proj(nn.functional.gelu(self.c_fc(x), approximate="tanh"))


class ToyBlock(nn.Module):
    """Attention and MLP, each behind a norm, each added to the stream."""

    def __init__(
        self,
        width: int,
        attention: nn.Module,
        norm: Callable[[int], nn.Module],
        residual: Callable,
        dropout: Mapping[str, float],
    ) -> None:
        super().__init__()
        self.ln_1, self.attn = norm(width), attention
        self.ln_2, self.mlp = norm(width), ToyMLP(width)
        self.residual = residual
        self.attn_drop, self.mlp_drop = (nn.Dropout(dropout[at]) for at in ("attention", "mlp"))

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        x = self.residual(x, self.attn_drop(self.attn(self.ln_1(x))))
        return self.residual(x, self.mlp_drop(self.mlp(self.ln_2(x))))


class Toy(nn.Module):
    """A GPT from ids (B, T) to logits (B, T, V); T may be anything up to `context`.

    The pieces: `norm(width)` makes a layer, `init(model, layers)` fills the weights in place,
    `residual(x, branch)`, `keep(blocks)` is what holds the list of blocks, `tie` shares the weight
    of `wte` and `lm_head`. `dropout` after the embeddings and every branch, or one for each of
    SITES by name ({"weights": 0.1}: of attention). And those of attention: `scores(q, k)`,
    `mask(T)` (True: may look), `weights(scores, mask)`, `split(x, heads)` to (B, nh, T, hs) and
    `merge(y)` back.
    """

    def __init__(
        self,
        vocab: int,
        *,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        context: int = 64,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
        init: Callable[[nn.Module, int], None] = gpt2_init,
        residual: Callable[[Tensor, Tensor], Tensor] = add,
        dropout: float | Mapping[str, float] = 0.0,
        tie: bool = True,
        keep: Callable[[list[nn.Module]], Iterable[nn.Module]] = nn.ModuleList,
        **attention: Callable,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width={width} is not divisible by heads={heads}")
        self.context, rates = context, at_sites(dropout)
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(rates["embeddings"])
        attention |= {"dropout": rates["weights"]}
        blocks = [
            ToyBlock(width, ToyAttention(width, heads, **attention), norm, residual, rates)
            for _ in range(layers)
        ]
        self.h = keep(blocks)
        self.ln_f = norm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        if tie:
            self.lm_head.weight = self.wte.weight
        init(self, layers)

    def hidden(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T C"]:
        """What the head turns into logits. ValueError where T is more than the context."""
        T = ids.shape[1]
        if self.context < T:
            raise ValueError(f"{T} tokens do not fit into a context of {self.context}")
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(T, device=ids.device)))
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.lm_head(self.hidden(ids))
