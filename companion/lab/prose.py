"""Prose to train a small BERT on: the standard library's manual and docstrings."""

import ast
import re
from collections import Counter
from functools import cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from companion.assets.texts import source_files
from companion.lab.reading import SHORTEST, documents, released_tables, sentences_of, wordpiece
from companion.wordpiece import SPECIAL, WordPieceTokenizer

CODE = re.compile(r"^\s*(>>>|\.\.\.|[-+*=~^#|:@<]|\w+\s*[=(])", re.M)  # a line that is no prose
HOLDERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
EVERY = 8  # of so many documents, one is held out


class Prose(NamedTuple):
    """Documents as ids of the tokens that occur in them, each told whether it is of the manual."""

    tokenizer: WordPieceTokenizer
    train: list[Tensor]
    held_out: list[Tensor]
    train_manual: list[bool]
    held_out_manual: list[bool]

    @property
    def words(self) -> int:
        """How many tokens all documents have."""
        return sum(map(len, [*self.train, *self.held_out]))


@cache
def docstrings() -> list[list[str]]:
    """The standard library's docstrings, a document for each file: its sentences of prose.

    As `documents`: sentences of five words or more, files with five of these or more; paragraphs
    that begin with no capital letter, or have lines of code, are left out. The text differs a
    little between Python's versions.
    """
    found = []
    for source in source_files().values():
        sentences = []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, HOLDERS):
                paragraphs = (ast.get_docstring(node) or "").split("\n\n")
                prose = (p for p in paragraphs if re.match("[A-Z]", p) and not CODE.search(p))
                sentences += [sentence for one in prose for sentence in sentences_of(one)]
        if len(sentences) >= SHORTEST:
            found.append(sentences)
    return found


@cache
def prose(commonest: int | None = None) -> Prose:
    """The manual and the docstrings, in the tokens of BERT's vocabulary that occur in them.

    Every eighth document is held out. Reading and cutting take some seconds, once. With `commonest`
    only so many of these tokens are kept, and single characters: rarer words come in pieces.
    """
    manual = documents()
    texts = [" ".join(sentences) for sentences in [*manual, *docstrings()]]
    tokenizer = wordpiece().cut_to(" ".join(texts))
    if commonest:
        ids = Counter(id for text in texts for id in tokenizer.encode(text).ids[1:-1])
        kept = {*SPECIAL, *tokenizer.tokens([id for id, _ in ids.most_common(commonest)])}
        kept |= {token for token in tokenizer.vocab if len(token.removeprefix("##")) == 1}
        tokenizer = WordPieceTokenizer([token for token in tokenizer.vocab if token in kept])
    ids = [torch.tensor(tokenizer.encode(text).ids[1:-1]) for text in texts]
    kinds = [n < len(manual) for n in range(len(texts))]
    held = [n % EVERY == EVERY - 1 for n in range(len(texts))]

    def those(items: list, out: bool) -> list:
        return [item for item, is_held in zip(items, held) if is_held == out]

    return Prose(tokenizer, *(those(items, out) for items in (ids, kinds) for out in (False, True)))


@torch.no_grad()
def minilm_words(tokenizer: WordPieceTokenizer, width: int) -> Float[Tensor, "V width"]:
    """MiniLM's vectors of a tokenizer's tokens, along the axes on which they differ most.

    Scaled to a std of 0.02, at which BERT's table starts.
    """
    table = released_tables()["embeddings.word_embeddings.weight"]
    place = wordpiece().vocab
    rows = table[[place[token] for token in tokenizer.vocab]]  # (V, 384)
    rows = rows - rows.mean(0)
    axes = torch.linalg.eigh((rows.mT @ rows).double()).eigenvectors[:, -width:]  # (384, width)
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()  # one way round
    flat = rows @ axes.to(rows)
    return flat * (0.02 / flat.std())
