"""The tokenizer of the uncased BERTs: pairs, padding, and places in the text."""

# Exported from lessons/21_bert_inputs.md: edit that, then run `make lessons`.

__all__ = ["CHUNK", "SPECIAL", "Span", "WordPieceTokenizer"]

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from companion.assets import model_folder
from companion.bert_inputs import Batch, Encoded
from companion.bert_words import pieces, read_vocabulary, words

Span = tuple[int, int]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHUNK = re.compile(r"[^ \t\n\r\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


class WordPieceTokenizer:
    """Of the uncased BERTs: [CLS] text [SEP], or [CLS] text [SEP] pair [SEP].

    `vocab` has the tokens in the order of their ids, or maps them to ids. ValueError
    where a special token is missing, or two tokens have one id. Ids and offsets are
    those of `tokenizers`; as there, a capital sigma always becomes σ.
    """

    def __init__(self, vocab: Mapping[str, int] | Sequence[str]) -> None:
        if not isinstance(vocab, Mapping):
            tokens, vocab = vocab, {token: id for id, token in enumerate(vocab)}
            if twice := [token for id, token in enumerate(tokens) if vocab[token] != id]:
                raise ValueError(f"the vocabulary has {twice[0]!r} more than once")
        if missing := [name for name in SPECIAL if name not in vocab]:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")
        self.vocab = dict(vocab)
        self.token_of = {id: token for token, id in self.vocab.items()}
        if len(self.token_of) < len(self.vocab):
            raise ValueError("two tokens of the vocabulary have one id")
        ids = [self.vocab[name] for name in SPECIAL]
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = ids
        self.special_ids = tuple(ids)
        self.vocab_size = max(self.token_of) + 1

    @classmethod
    def from_pretrained(cls, source: str | Path) -> "WordPieceTokenizer":
        """From a folder that has vocab.txt, or a release by name: bert-base-uncased.

        ValueError where tokenizer_config.json says that the release is a cased one.
        """
        folder = Path(source)
        if not folder.is_dir():
            if isinstance(source, Path):
                raise FileNotFoundError(f"there is no folder {source}")
            folder = model_folder(source)
        return cls(read_vocabulary(folder))

    def encode(
        self,
        text: str,
        pair: str | None = None,
        *,
        max_length: int | None = None,
        allowed_special: Collection[str] = (),
    ) -> Encoded:
        """One text or a pair, with its special tokens; an empty text has only these.

        Above `max_length`, the longer of the two loses its last token, again and again
        (of two as long, the second, as in the release's fine-tuning; `tokenizers`
        differs there by one token). ValueError for a `max_length` that the special
        tokens do not fit into.
        A special token in the text, "[MASK]" say, is plain text unless allowed.
        """
        return self._encode(text, pair, max_length, allowed_special, {})

    def encode_batch(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        allowed_special: Collection[str] = (),
    ) -> Batch:
        """Texts as `encode` has them, padded behind to the longest."""
        if isinstance(texts, str) or isinstance(pairs, str):
            raise TypeError("encode_batch takes several texts; encode takes one")
        if not texts or (pairs is not None and len(pairs) != len(texts)):
            raise ValueError(
                f"{len(texts)} texts"
                + (f" and {len(pairs)} pairs" if pairs is not None else "")
                + "; there should be at least one, and as many of both"
            )
        known: dict[str, tuple[list[int], list[Span]]] = {}
        both = zip(texts, pairs if pairs is not None else [None] * len(texts))
        rows = [self._encode(*two, max_length, allowed_special, known) for two in both]
        ids, types = ([torch.tensor(row[n]) for row in rows] for n in (0, 1))
        lengths = torch.tensor([len(row) for row in ids])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, T)
        padded = pad_sequence(ids, batch_first=True, padding_value=self.pad_id)
        return Batch(padded, mask, pad_sequence(types, batch_first=True))

    def _encode(
        self,
        text: str,
        pair: str | None,
        max_length: int | None,
        allowed: Collection[str],
        known: dict[str, tuple[list[int], list[Span]]],
    ) -> Encoded:
        if strange := [name for name in allowed if name not in SPECIAL]:
            raise ValueError(f"allowed_special: {strange[0]!r} is none of {SPECIAL}")
        parts = [self._read(text, allowed, known)]
        if pair is not None:
            parts.append(self._read(pair, allowed, known))
        added = 1 + len(parts)
        if max_length is not None:
            if max_length < added:
                raise ValueError(f"{max_length=} should be at least {added}")
            while sum(len(ids) for ids, _ in parts) > max_length - added:
                ids, spans = max(reversed(parts), key=lambda part: len(part[0]))
                del ids[-1], spans[-1]
        row = Encoded([self.cls_id], [0], [(0, 0)])
        for segment, (ids, spans) in enumerate(parts):
            row.ids.extend([*ids, self.sep_id])
            row.token_type_ids.extend([segment] * (len(ids) + 1))
            row.offsets.extend([*spans, (0, 0)])
        return row

    def _read(
        self,
        text: str,
        allowed: Collection[str],
        known: dict[str, tuple[list[int], list[Span]]],
    ) -> tuple[list[int], list[Span]]:
        """Ids and spans of a text; what was read before is looked up."""
        if not isinstance(text, str):
            raise TypeError(f"a text should be a string, got {text!r:.60}")
        ids: list[int] = []
        spans: list[Span] = []
        cuts = re.compile(f"({'|'.join(map(re.escape, allowed))})") if allowed else None
        at = 0
        for part in cuts.split(text) if cuts else [text]:
            if part in allowed:
                ids.append(self.vocab[part])
                spans.append((at, at + len(part)))
            else:
                for chunk in CHUNK.finditer(part):
                    if (word := chunk[0]) not in known:
                        known[word] = self._chunk(word)
                    start = at + chunk.start()
                    ids += known[word][0]
                    spans += [(start + a, start + b) for a, b in known[word][1]]
            at += len(part)
        return ids, spans

    def _chunk(self, chunk: str) -> tuple[list[int], list[Span]]:
        """Ids and spans of characters with no blank between them."""
        ids, spans = [], []
        for word in words(chunk):
            found = pieces("".join(char for char, _ in word), self.vocab)
            start = 0
            for piece in found or ["[UNK]"]:
                length = len(piece) - 2 * (start > 0) if found else len(word)
                ids.append(self.vocab[piece])
                spans.append((word[start][1], word[start + length - 1][1] + 1))
                start += length
        return ids, spans

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id. ValueError for an id that no token has."""
        ids = [int(id) for id in ids]
        if strange := [id for id in ids if id not in self.token_of]:
            raise ValueError(f"id {strange[0]} is none of the {len(self.vocab)} tokens")
        return [self.token_of[id] for id in ids]

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Tokens with blanks between them, pieces joined; not the text as it was."""
        names = self.tokens(ids)
        kept = [name for name in names if not (skip_special and name in SPECIAL)]
        return " ".join(kept).replace(" ##", "")

    def cut_to(self, text: str) -> "WordPieceTokenizer":
        """A tokenizer with the tokens that a text needs, and its single characters.

        It reads that text as this one does, with new ids; for a small model to learn.
        """
        ids, _ = self._read(text, (), {})
        used = {*SPECIAL, *self.tokens(set(ids))}
        used |= {mark + c for word in words(text) for c, _ in word for mark in ("", "##")}
        in_order = sorted(self.vocab, key=self.vocab.__getitem__)
        return WordPieceTokenizer([token for token in in_order if token in used])
