"""Causal self-attention with many heads, and the cache that lets it read each token once."""

# Exported from lessons/10_causal_self_attention.md: edit that, then run `make lessons`.

__all__ = ["CausalSelfAttention", "KVCache"]

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from companion.heads import merge_heads, split_heads
from companion.masks import causal_mask
from companion.scores import scaled_dot_product_attention


class KVCache:
    """The keys and values of one layer's past, so that each token is read only once.

    Empty at first; `length` positions are filled. Room for `block_size` is taken at the
    first update, with its batch, heads, dtype and device. It is written in place, so no
    gradient goes back through an update that another one follows. Give each layer its
    own: that two write into one is not noticed as long as there is room.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.length = 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def update(
        self, k: Float[Tensor, "B nh T hs"], v: Float[Tensor, "B nh T hs"]
    ) -> tuple[Float[Tensor, "B nh past_T hs"], Float[Tensor, "B nh past_T hs"]]:
        """Put new keys and values behind those that are kept; return all of them.

        ValueError where they do not fit, in number or in shape; nothing is kept then.
        """
        B, nh, T, hs = k.shape
        end = self.length + T
        if end > self.block_size:
            raise ValueError(
                f"{self.length} positions are kept and {T} came; block_size is {self.block_size}"
            )
        if v.shape[:3] != k.shape[:3]:
            raise ValueError(f"values {tuple(v.shape)} do not go with keys {tuple(k.shape)}")
        if self.keys is None:
            self.keys = k.new_empty(B, nh, self.block_size, hs)
            self.values = v.new_empty(B, nh, self.block_size, v.shape[3])
        for kept, new in ((self.keys, k), (self.values, v)):
            if new.shape != (*kept.shape[:2], T, kept.shape[3]):
                raise ValueError(
                    f"keys or values {tuple(new.shape)} do not continue the ones that "
                    f"are kept, {tuple(kept[:, :, : self.length].shape)}"
                )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class CausalSelfAttention(nn.Module):
    """Every position looks at itself and at those before it, in n_head ways at once.

    GPT-2's layout: one Linear, `c_attn`, makes q, k and v, in that order; its release
    stores the Linears' weights transposed, (in, out). While training, `dropout` of the
    attention weights and of what is returned are zeroed. Set `fused`
    to False to compute by the readable form of lesson 09, equal to rounding.
    ValueError where n_embd does not divide into n_head heads.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        block_size: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if n_head < 1 or n_embd % n_head:
            raise ValueError(
                f"{n_embd=} is not divisible by {n_head=}; each head needs n_embd / n_head channels"
            )
        self.c_attn = nn.Linear(n_embd, 3 * n_embd, bias=bias)
        self.c_proj = nn.Linear(n_embd, n_embd, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.n_head = n_head
        self.block_size = block_size
        self.fused = True

    def forward(
        self, x: Float[Tensor, "B T C"], cache: KVCache | None = None
    ) -> Float[Tensor, "B T C"]:
        """Attend within x and, with a cache, to all that it keeps; x is added to it.

        ValueError where past and present are more than block_size positions.
        """
        seen = x.shape[1] + (cache.length if cache is not None else 0)
        if seen > self.block_size:
            raise ValueError(f"T={seen} is more than block_size={self.block_size}")
        qkv = self.c_attn(x).chunk(3, dim=-1)  # 3 x (B, T, C)
        q, k, v = (split_heads(part, self.n_head) for part in qkv)  # 3 x (B, nh, T, hs)
        if cache is not None:
            k, v = cache.update(k, v)  # (B, nh, past + T, hs)
        y = self.attend(q, k, v)  # (B, nh, T, hs)
        return self.dropout(self.c_proj(merge_heads(y)))  # (B, T, C)

    def attend(
        self,
        q: Float[Tensor, "B nh T hs"],
        k: Float[Tensor, "B nh past_T hs"],
        v: Float[Tensor, "B nh past_T hs"],
    ) -> Float[Tensor, "B nh T hs"]:
        """Causal attention of queries that stand at the last T of the keys' places."""
        T, past = q.shape[2], k.shape[2] - q.shape[2]
        dropout_p = self.dropout.p if self.training else 0.0
        if self.fused and past == 0:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=True)
        # is_causal counts from the left: one query with a past would see key 0 alone
        mask = None if T == 1 else causal_mask(T, past=past, device=q.device)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout_p)
        return scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout_p)
