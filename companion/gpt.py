"""GPT-2: the model, the text it writes, and its released weights.

Each block adds two things to a stream of C numbers per token: what attention gathers from the
tokens before (CausalSelfAttention), and what an MLP makes of the token itself. Shapes: B texts, T
tokens, C channels, V tokens in the vocabulary."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = ["GPT", "GPT2_SIZES", "Block", "Decoder", "GPTConfig"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.assets import model_folder
from companion.attention import CausalSelfAttention, KVCache
from companion.gpt2_format import (
    our_settings,
    our_tensors,
    their_settings,
    their_tensors,
)
from companion.gpt_checks import check_ids, check_reading, check_sizes
from companion.init import init_gpt2_
from companion.loss import chunked_next_token_loss
from companion.mlp import MLP
from companion.probing import evaluating
from companion.release import fill_, read_release, write_release
from companion.sampling import draw, window_start
from companion.tying import tie_weights


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT; the defaults are GPT-2's smallest, 124M parameters.

    `tied`: the last layer uses the token table's own weight. `bias`: in Linear and
    LayerNorm. ValueError for what cannot be built.
    """

    vocab_size: int = 50257
    block_size: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    dropout: float = 0.0
    bias: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        check_sizes(self)


GPT2_SIZES = {
    "gpt2": GPTConfig(),
    "gpt2-medium": GPTConfig(n_layer=24, n_head=16, n_embd=1024),
    "gpt2-large": GPTConfig(n_layer=36, n_head=20, n_embd=1280),
    "gpt2-xl": GPTConfig(n_layer=48, n_head=25, n_embd=1600),
}


class Block(nn.Module):
    """x plus what attention gathers, plus what the MLP makes of that."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, dropout, bias = config.n_embd, config.dropout, config.bias
        self.ln_1 = nn.LayerNorm(C, bias=bias)
        self.attn = CausalSelfAttention(
            C, config.n_head, config.block_size, dropout=dropout, bias=bias
        )
        self.ln_2 = nn.LayerNorm(C, bias=bias)
        self.mlp = MLP(C, dropout=dropout, bias=bias)

    def forward(
        self, x: Float[Tensor, "B T C"], cache: KVCache | None = None
    ) -> Float[Tensor, "B T C"]:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class Decoder(nn.Module):
    """Ids (B, T) to logits (B, T, V). Names are those of GPT-2's checkpoints."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        C, V = config.n_embd, config.vocab_size
        self.config = config
        self.wte = nn.Embedding(V, C)  # what each token is
        self.wpe = nn.Embedding(config.block_size, C)  # where it stands
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(C, bias=config.bias)
        self.lm_head = nn.Linear(C, V, bias=False)
        if config.tied:
            tie_weights(self.wte, self.lm_head)
        init_gpt2_(self, config.n_layer)

    def forward(
        self,
        ids: Int[Tensor, "B T"],
        targets: Int[Tensor, "B T"] | None = None,
        cache: list[KVCache] | None = None,
    ) -> Float[Tensor, "B T V"] | Float[Tensor, ""]:
        """Logits for the token after each position; given targets, their mean loss.

        `targets[b, t]` follows `ids[b, t]`; -100 does not count. The loss makes some
        2**25 logits at once, at most. With a cache (`new_cache()`), ids go on where
        those it has read ended. Errors as `check_reading`; on a GPU, its kernel
        asserts the ids.
        """
        x = self.hidden(ids, cache)  # (B, T, C)
        if targets is None:
            return self.lm_head(x)  # (B, T, V)
        return chunked_next_token_loss(x, self.lm_head.weight, targets)

    def hidden(
        self, ids: Int[Tensor, "B T"], cache: list[KVCache] | None = None
    ) -> Float[Tensor, "B T C"]:
        """What the last layer turns into logits. Errors as `forward`."""
        check_reading(ids, self.config, cache)
        past = cache[0].length if cache else 0
        here = torch.arange(past, past + ids.shape[1], device=ids.device)  # (T,)
        x = self.drop(self.wte(ids.long()) + self.wpe(here))  # (B, T, C)
        for layer, block in enumerate(self.h):
            x = block(x, cache[layer] if cache else None)
        return self.ln_f(x)

    def new_cache(self) -> list[KVCache]:
        """An empty cache, one for each layer."""
        return [KVCache(self.config.block_size) for _ in self.h]


class GPT(Decoder):
    """GPT-2 (Radford et al. 2019): a decoder that writes, and is loaded and saved."""

    @torch.no_grad()
    def generate(
        self,
        prompt: Int[Tensor, "B T"] | Sequence[Tensor | Sequence[int]],
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        use_cache: bool = True,
        vocab_size: int | None = None,
    ) -> Int[Tensor, "B T_new"] | list[Int[Tensor, "T_new"]]:
        """The prompts, each followed by max_new_tokens ids; dropout is off.

        `prompt` is ids (B, T), or a list of texts of any lengths, which gives a list:
        each text as if alone, with `top_k=1` (the likeliest every time) to the same
        ids. A text of more than block_size tokens loses its beginning by the rule of
        `window_start`, with the cache or without; both give the same. With `vocab_size`
        only ids under it are drawn: the rows above are padding.
        ValueError for an empty prompt, a temperature that is not positive, top_k or
        vocab_size under 1; TypeError for ids that are not integers.
        """
        if not isinstance(max_new_tokens, int) or max_new_tokens < 0:
            raise ValueError(f"{max_new_tokens=} should be a whole number, at least 0")
        if len(prompt) == 0:
            raise ValueError("there is no prompt; give one token at least")
        device = self.wte.weight.device
        texts = [torch.as_tensor(text, device=device) for text in prompt]
        for text in texts:
            check_ids(text[None], self.config.vocab_size)
        lengths = torch.tensor([len(text) for text in texts], device=device)
        ids = torch.zeros(
            len(texts),
            int(lengths.max()) + max_new_tokens,
            dtype=torch.long,
            device=device,
        )
        for row, text in zip(ids, texts):
            row[: len(text)] = text

        cache, start = None, 0
        if vocab_size is not None and vocab_size < 1:
            raise ValueError(f"{vocab_size=} leaves no token to draw")
        # (C, V): in this order one row is fast
        head = self.lm_head.weight[:vocab_size].T.contiguous()
        with evaluating(self):
            for t in range(int(lengths.min()), ids.shape[1]):
                moved = window_start(t, self.config.block_size) - start
                start += moved
                if cache is None or moved or not use_cache:
                    cache = self.new_cache()
                unread = ids[:, start + cache[0].length : t]
                logits = self.hidden(unread, cache)[:, -1] @ head  # (B, V)
                new = draw(logits, temperature=temperature, top_k=top_k, generator=generator)
                given = (t < lengths)[:, None]
                ids[:, t : t + 1] = ids[:, t : t + 1].where(given, new)
        if isinstance(prompt, Tensor):
            return ids
        return [row[: n + max_new_tokens] for row, n in zip(ids, lengths.tolist())]

    @classmethod
    def from_pretrained(cls, source: str | Path, *, dropout: float | None = None) -> "GPT":
        """A model from a folder of config.json and safetensors, or a release by name.

        Names: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or any GPT-2 on the hub,
        "owner/name" (companion.assets says where they are looked for). In float32 and
        eval mode. `dropout` replaces what the config says.
        ValueError for a model that is no GPT-2, or for tensors that are missing, left
        over or of another shape, all named at once; for a damaged file; for a pickle.
        """
        folder = Path(source)
        if not folder.is_dir():
            if isinstance(source, Path):
                raise FileNotFoundError(f"there is no folder {source}")
            folder = model_folder(source)
        settings, tensors = read_release(folder)
        config = GPTConfig(**our_settings(settings, dropout))
        with torch.random.fork_rng(devices=[]):  # the start is overwritten: draw it unseen
            model = cls(config)
        fill_(model, our_tensors(tensors, bias=config.bias, tied=config.tied))
        return model.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors as transformers does; it loads them.

        Files of these names are replaced, whole or not at all.
        """
        tied = self.lm_head.weight is self.wte.weight  # by now, whatever it began as
        settings = their_settings(asdict(self.config) | {"tied": tied})
        write_release(Path(folder), settings, their_tensors(self))
