"""A byte-level BPE tokenizer, as GPT-2's: a text to ids and back, and learned from a text.

    BPETokenizer.train(text, 1024)      learned; BPETokenizer.load(path) from a file
    from_tiktoken(encoding)             another's: GPT-2's, say
    encode, encode_batch, decode        text to ids and back

companion/bpe.py, which lesson 06 builds, does the same in the plainest way. Here are the checks,
the speed and the files: `splitting` cuts a text into words, `merging` learns the merges and makes
them, `vocabulary` checks the tables and keeps them, `ordinary` and `bpe_tokenizer` put it together.
"""

from .bpe_tokenizer import BPETokenizer

__all__ = ["BPETokenizer"]
