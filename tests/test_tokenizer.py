"""The tokenizer of lesson 06: the same merges as `tokenizers`, the same ids as tiktoken."""

import json
import os
import random
import tracemalloc
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from companion import assets, bpe
from companion.bpe import GPT2_PATTERN, merge_pair
from companion.bpe import encode_word as encode_word_plainly
from companion.bpe import learn as learn_plainly
from companion.tokenizer import BPETokenizer, splitting, vocabulary
from companion.tokenizer.merging import encode_word, learn
from companion.tokenizer.splitting import Splitter

END = "<|endoftext|>"
BYTES = {bytes([byte]): n for n, byte in enumerate(bpe.BYTE_ORDER)}
RELEASED = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # GPT-2's own
)

# Text that finds the seams: words, spaces, newlines, apostrophes, digits, joiners, all of Unicode.
SEAMS = [" ", "  ", "\n", "\r\n", "\t", "'", "'s", "'ll", "don't", "a", "the", "7", "2024", "é"]
SEAMS += ["e\u0301", "👩\u200d👩\u200d👧", "🏳️\u200d🌈", "שלום", "مرحبا", "\u202e", "你好", "\u00a0"]
SEAMS += ["\u2028", "\u3000", "\x1c", "\x85", "ſ", "'ſ", "½", "٣", "\ufeff", "\0", END, "<|endof"]
texts = st.lists(st.sampled_from(SEAMS) | st.text(max_size=6), max_size=20).map("".join)
ties = st.text("ab ", max_size=60) | st.text("abcd'\n 1", max_size=80)


@pytest.fixture(autouse=True)
def no_bar(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")


def text_named(name):
    return assets.text(name, fallback="python_docs")


def trained(text, size, **options):
    return BPETokenizer.train(text, size, bar=lambda steps, what: steps, **options)


@pytest.fixture(scope="module")
def manual():
    return trained(text_named("python_docs"), 1024, special_tokens=[END, "<|pad|>"])


@pytest.fixture(scope="module")
def same_in_tiktoken(manual):
    return manual.to_tiktoken()


@pytest.fixture(scope="module")
def gpt2():
    if not assets.at_hand()["gpt2-encoding"]:
        pytest.skip("GPT-2's encoding is not on this machine")
    return assets.encoding("gpt2")


# --- learning -------------------------------------------------------------------------------


def their_merges(text, size):
    """What Hugging Face's trainer learns: pairs of readable tokens, in order."""
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": size, "initial_alphabet": alphabet, "show_progress": False}
    theirs.train_from_iterator([text], trainers.BpeTrainer(**options))
    return [tuple(pair) for pair in json.loads(theirs.to_str())["model"]["merges"]]


def our_merges(text, size):
    words = {word.encode(): n for word, n in Splitter(GPT2_PATTERN).count(text).items()}
    tokens = [vocabulary.readable(token) for token in BYTES]
    named = []
    for left, right in learn(words, size - 256):
        named.append((tokens[left], tokens[right]))
        tokens.append(tokens[left] + tokens[right])
    return named


@pytest.mark.parametrize("size", [512, 1024, 4096])
@pytest.mark.parametrize("name", ["python_docs", "taylorswift", "tinyshakespeare"])
def test_the_merges_are_those_of_tokenizers_on_real_texts(name, size):
    text = text_named(name)
    assert our_merges(text, size) == their_merges(text, size)


@given(text=ties, merges=st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_the_merges_are_those_of_tokenizers_where_ties_abound(text, merges):
    assert our_merges(text, 256 + merges) == their_merges(text, 256 + merges)


@given(text=ties | texts, merges=st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_fast_and_plain_learning_agree(text, merges):
    words = {word.encode(): n for word, n in Splitter(GPT2_PATTERN).count(text).items()}
    assert learn(words, merges) == learn_plainly(words, merges)


@given(text=ties, seed=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_what_is_learned_does_not_depend_on_the_order_of_the_words(text, seed):
    words = Counter(word.encode() for word in text.split())
    shuffled = random.Random(seed).sample(list(words.items()), len(words))
    assert learn(dict(shuffled), 30) == learn(words, 30)


def test_ids_go_on_where_characters_end_at_a_surrogate():
    """A word is kept as a string, one character an id: also past 0xD7FF."""
    rng = random.Random(0)
    words = {bytes(rng.choices(range(256), k=40)): 1 for _ in range(2200)}
    pairs = learn(words, 56_000)
    assert len(pairs) == 56_000
    assert all(max(pair) < 256 + n for n, pair in enumerate(pairs))
    assert max(map(max, pairs)) > 0xD800


@given(
    ids=st.lists(st.integers(0, 2), max_size=12),
    pair=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_merging_a_pair_is_replacing_it_in_a_string(ids, pair):
    want = "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(9))
    assert merge_pair(ids, pair, 9) == [ord(char) for char in want]


def test_learning_needs_little_memory():
    text = text_named("tinyshakespeare")
    trained("warm up " * 9, 260)
    tracemalloc.start()
    try:
        trained(text, 1024)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(text.encode())


def test_learning_from_one_letter_for_ever_ends():
    merges = 19  # 2**19 is the longest run that a million hold
    assert trained("a" * 10**6, 256 + merges).encode("a" * 2**19) == [256 + merges - 1]


# --- merging in a word ------------------------------------------------------------------------

parts = st.binary(min_size=2, max_size=4) | st.text("ab", min_size=2, max_size=6).map(str.encode)


@given(
    tokens=st.lists(parts, unique=True, max_size=30),
    word=st.text("ab", max_size=30).map(str.encode) | st.binary(max_size=20),
    seed=st.integers(0, 9),
)
@settings(max_examples=300, deadline=None)
def test_fast_and_plain_encoding_agree_whatever_the_ranks(tokens, word, seed):
    """Also for ranks that no training gives, where a long token comes before its parts."""
    ids = random.Random(seed).sample(range(256 + len(tokens)), 256 + len(tokens))
    ranks = dict(zip([*BYTES, *tokens], ids))
    ours = BPETokenizer(ranks)
    if word:
        assert encode_word(word, ranks) == encode_word_plainly(word, ranks)
    text = word.decode("latin-1")
    assert ours.encode(text) == ours.to_tiktoken().encode(text)


@given(text=ties, merges=st.integers(0, 40))
@settings(max_examples=150, deadline=None)
def test_ids_are_those_of_tokenizers_where_ties_abound(text, merges):
    theirs = Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"vocab_size": 256 + merges, "initial_alphabet": alphabet, "show_progress": False}
    theirs.train_from_iterator([text], trainers.BpeTrainer(**options))
    size = theirs.get_vocab_size()
    ours = trained(text or "a", size)
    other = text[::-1] + text
    assert ours.encode(other) == theirs.encode(other).ids


def test_every_token_alone_is_its_own_id(manual):
    for token, id in manual.ranks.items():
        assert encode_word(token, manual.ranks) == [id]


# --- the same ids as tiktoken -----------------------------------------------------------------


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_ids_are_tiktokens_for_the_same_ranks(manual, same_in_tiktoken, text):
    ours = manual.encode(text, allowed_special="all")
    assert ours == same_in_tiktoken.encode(text, allowed_special="all")
    assert manual.decode(ours) == text


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_ids_are_tiktokens_own_for_gpt2(gpt2, text):
    ours = from_gpt2(gpt2)
    ids = ours.encode(text, disallowed_special=())
    assert ids == gpt2.encode(text, disallowed_special=())
    assert ours.decode(ids) == text


_converted = {}


def from_gpt2(gpt2):
    if gpt2.name not in _converted:
        _converted[gpt2.name] = BPETokenizer.from_tiktoken(gpt2)
    return _converted[gpt2.name]


@pytest.mark.parametrize("char", [*"a 1!\n\t", "é", "你", "🤗", "\u0301", "\ud7a3"])
def test_ids_are_tiktokens_for_a_megabyte_of_one_character(gpt2, char):
    text = char * (10**6 // len(char.encode()))
    ours = from_gpt2(gpt2)
    ids = ours.encode(text)
    assert ids == gpt2.encode(text)
    assert ours.decode(ids) == text


def test_ids_are_tiktokens_on_a_text(gpt2):
    text = text_named("taylorswift")
    assert from_gpt2(gpt2).encode(text) == gpt2.encode(text)


def test_gpt2s_bytes_have_our_order(gpt2):
    assert BYTES.items() <= gpt2._mergeable_ranks.items()
    assert from_gpt2(gpt2).vocab_size == gpt2.n_vocab == 50257


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_the_pattern_cuts_as_gpt2s_own_does(text):
    if not splitting._young.search(text):
        assert Splitter(GPT2_PATTERN).split(text) == regex.findall(RELEASED, text)


@given(text=st.text(st.characters(codec="ascii"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_the_pattern_for_ascii_cuts_as_the_other(text):
    assert splitting.GPT2_IN_ASCII.findall(text) == regex.findall(GPT2_PATTERN, text)


def test_every_code_point_is_of_tiktokens_kind():
    """Behind a letter: one word where it is a letter, and two where it is none."""
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    young = [char for char in every if splitting._young.match(char)]
    assert len(young) > 10_000
    chars = young + random.Random(0).sample(every, 20_000)
    ranks = BYTES | {b"a" + c.encode(): 256 + n for n, c in enumerate(dict.fromkeys(chars))}
    ours = BPETokenizer(ranks)
    text = "\n".join("a" + char for char in chars)
    assert ours.encode(text) == ours.to_tiktoken().encode(text)


CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


@pytest.fixture(scope="module")
def pairs_of_bytes():
    """Whatever two bytes stand side by side in a word are one token: that shows the cuts."""
    every = [left + right for left in BYTES for right in BYTES]
    ours = BPETokenizer(BYTES | {both: 256 + n for n, both in enumerate(every)}, pattern=CL100K)
    return ours, ours.to_tiktoken()


@given(text=texts)
@settings(max_examples=200, deadline=None)
def test_another_pattern_cuts_as_tiktoken_does(pairs_of_bytes, text):
    ours, theirs = pairs_of_bytes
    assert ours.encode(text) == theirs.encode_ordinary(text)


@pytest.mark.parametrize("pattern", [r"\w+$|\w|\s|[^\w\s]", r"\s+$|[$\]]|\$|(?:.|\n)"])
@given(text=st.text("a $]\n", max_size=8))
@settings(max_examples=100, deadline=None)
def test_the_end_of_a_text_is_tiktokens(pattern, text):
    """Not in front of a last newline, where `$` matches in Python as well."""
    chars = [c.encode() for c in "ab $]\n"]
    both = [left + right for left in chars for right in chars]
    ours = BPETokenizer(BYTES | {two: 256 + n for n, two in enumerate(both)}, pattern=pattern)
    for some in (text, "x aa\n", "a  \n", "a $\n"):
        assert ours.encode(some) == ours.to_tiktoken().encode(some)


# --- decoding ---------------------------------------------------------------------------------


@given(ids=st.lists(st.integers(0, 1023), max_size=12))
@settings(deadline=None)
def test_decoding_replaces_what_is_no_character_as_tiktoken_does(manual, same_in_tiktoken, ids):
    assert manual.decode(ids) == same_in_tiktoken.decode(ids)
    assert manual.decode_bytes(ids) == same_in_tiktoken.decode_bytes(ids)


def test_ids_that_end_inside_a_character_replace_it(manual):
    *ids, _ = manual.encode("so 🤗")
    assert manual.decode(ids) == "so \ufffd"
    assert manual.decode_bytes(ids) == "so 🤗".encode()[:-1]


@pytest.mark.parametrize("ids", [[1024], [-1], [5, 10**30]])
def test_unknown_ids_are_refused(manual, ids):
    with pytest.raises(ValueError, match="is unknown: ids go from 0 to 1023"):
        manual.decode(ids)


@pytest.mark.parametrize("ids", [7, None, "ab", ["a"], [1.0], [None], torch.zeros(2, 3).long()])
def test_what_are_no_ids_is_refused(manual, unchecked, ids):
    with pytest.raises(TypeError, match="ids must be a sequence of integers, got"):
        manual.decode(ids)


def test_ids_may_be_a_tensor_or_an_array(manual):
    ids = manual.encode("so it is")
    assert manual.decode(torch.tensor(ids)) == manual.decode(np.array(ids)) == "so it is"


# --- special tokens ---------------------------------------------------------------------------

choices = st.sampled_from(["all", (), (END,), ("<|pad|>",), (END, "<|pad|>"), ("no such",)])


@given(
    text=st.lists(st.sampled_from([END, "<|pad|>", "a", " ", "<|", "no such"])).map("".join),
    allowed=choices,
    disallowed=choices,
)
@settings(max_examples=300, deadline=None)
def test_special_tokens_are_treated_as_tiktoken_treats_them(
    manual, same_in_tiktoken, text, allowed, disallowed
):
    options = {
        "allowed_special": allowed if allowed == "all" else set(allowed),
        "disallowed_special": disallowed,
    }
    try:
        theirs = same_in_tiktoken.encode(text, **options)
    except ValueError:
        with pytest.raises(ValueError, match="the text has"):
            manual.encode(text, **options)
    else:
        assert manual.encode(text, **options) == theirs


def test_a_text_cannot_write_a_special_token_by_default(manual):
    with pytest.raises(ValueError, match=r"'<\|endoftext\|>' at 2.*allowed_special"):
        manual.encode(f"a {END}")
    assert manual.special_tokens[END] not in manual.encode(END, disallowed_special=())


def test_a_name_that_is_unknown_is_said_to_be_so(manual):
    with pytest.raises(ValueError, match=r"'<\|zz\|>' at 2.* no special token .*leave it out"):
        manual.encode("a <|zz|>", disallowed_special={"<|zz|>"})
    with pytest.raises(ValueError, match=r"Among the allowed, '<\|endoftxt\|>' is no special"):
        manual.encode(END, allowed_special={"<|endoftxt|>"})


@given(text=st.lists(st.sampled_from([END, "<|pad|>", "a", " b", "<|"])).map("".join))
@settings(max_examples=100, deadline=None)
def test_plain_code_makes_the_same_special_tokens(manual, text):
    plainly = bpe.encode_special(text, manual.ranks, manual.special_tokens)
    assert plainly == manual.encode(text, allowed_special="all")


def test_a_tokenizer_says_what_it_is(manual):
    assert repr(manual).startswith("BPETokenizer(1022 tokens, 2 special, pattern=")


def test_nothing_is_learned_from_special_tokens():
    plain = trained("ab ab ab" + "" + "cd cd", 258, special_tokens=[])
    with_special = trained("ab ab ab" + END * 50 + "cd cd", 259, special_tokens=[END])
    assert list(with_special.ranks)[256:] == list(plain.ranks)[256:]
    assert with_special.special_tokens == {END: 258}


@pytest.mark.parametrize("names", [["<a>", "<a>b"], ["x<a>y", "<a>"], ["<|a", "a|>"], ["ab", "bc"]])
def test_special_tokens_that_overlap_are_refused(names):
    with pytest.raises(ValueError, match="overlap"):
        trained("some text", 258, special_tokens=names)
    with pytest.raises(ValueError, match="overlap"):
        BPETokenizer(BYTES, special_tokens={name: 256 + n for n, name in enumerate(names)})


def test_special_tokens_side_by_side_are_not_refused():
    names = {"<|a|>": 256, "<|ab|>": 257, "aXa": 258}
    assert BPETokenizer(BYTES, special_tokens=names).encode(
        "aXaXa<|ab|>", allowed_special="all"
    ) == [258, BYTES[b"X"], BYTES[b"a"], 257]


@pytest.mark.parametrize("allowed", [END, b"all", 3, None])
def test_names_that_are_no_collection_are_refused(manual, unchecked, allowed):
    with pytest.raises(TypeError, match="allowed_special must be"):
        manual.encode("a", allowed_special=allowed)


# --- batches ----------------------------------------------------------------------------------


@given(batch=st.lists(texts, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_its_texts_one_by_one(manual, batch):
    options = {"allowed_special": {END}, "disallowed_special": ()}
    assert manual.encode_batch(batch, **options) == [manual.encode(t, **options) for t in batch]


def test_a_batch_is_not_one_text(manual, unchecked):
    with pytest.raises(TypeError, match="takes several texts"):
        manual.encode_batch("one text")


# --- the file ---------------------------------------------------------------------------------


@given(text=texts)
@settings(max_examples=50, deadline=None)
def test_a_tokenizer_comes_back_as_it_was_saved(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    ours = trained("ab ab 12 12 don't " + text, 259, pattern=CL100K, special_tokens=["<\n\u2028é>"])
    ours.save(path)
    again = BPETokenizer.load(path)
    assert (again.ranks, again.pattern) == (ours.ranks, ours.pattern)
    assert again.special_tokens == ours.special_tokens
    assert again.encode(text, disallowed_special=()) == ours.encode(text, disallowed_special=())


def test_the_file_can_be_read(manual, tmp_path):
    manual.save(tmp_path / "t.json")
    tables = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert tables["pattern"] == GPT2_PATTERN
    assert tables["special_tokens"] == {END: 1022, "<|pad|>": 1023}
    assert tables["tokens"]["Ġthe"] == manual.encode(" the")[0]


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "t.json"
    trained("ab ab é", 258).save(path)
    whole = path.read_bytes()
    for size in [*range(0, len(whole) - 2, 97), len(whole) - 2]:
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"t\.json is not a tokenizer"):
            BPETokenizer.load(path)


def test_a_file_altered_anywhere_is_refused_or_means_the_same(tmp_path):
    path = tmp_path / "t.json"
    ours = trained("ab ab é", 258)
    ours.save(path)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 41):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            again = BPETokenizer.load(path)
        except ValueError:
            refused += 1
        else:  # a space that JSON does not count
            assert (again.ranks, again.pattern) == (ours.ranks, ours.pattern)
    assert refused > 50


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"format": 1}', "[" * 100_000, "\ud800", '{"tokens": {}}', "\0"],
)
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"t\.json is not a tokenizer"):
        BPETokenizer.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": {"a": 0}},
        {"tokens": [1]},
        {"tokens": {"\n": 0}},
        {"special_tokens": {"<a>": 0}},
        {"special_tokens": ["<a>"]},
        {"special_tokens": {"<a>": "7"}},
        {"pattern": "("},
        {"pattern": None},
    ],
)
def test_a_file_whose_tables_make_no_tokenizer_is_refused(tmp_path, change):
    path = tmp_path / "t.json"
    trained("ab ab", 257).save(path)
    tables = json.loads(path.read_text()) | change
    tables.pop("sha256")
    path.write_text(json.dumps(tables | {"sha256": vocabulary._digest(tables)}))
    with pytest.raises(ValueError, match=r"t\.json is not a tokenizer"):
        BPETokenizer.load(path)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        BPETokenizer.load(tmp_path / "none.json")


@pytest.mark.parametrize("where", ["write_text", "replace"])
def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    path = tmp_path / "t.json"
    old = trained("ab ab", 257)
    old.save(path)

    def full(self, *arguments, **options):
        if where == "write_text":
            self.write_bytes(b"{")
        raise OSError("no space left")

    monkeypatch.setattr(
        *((vocabulary.Path, "write_text", full) if where == "write_text" else (os, "replace", full))
    )
    with pytest.raises(OSError, match="no space"):
        trained("cd cd", 257).save(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["t.json"]
    assert BPETokenizer.load(path).ranks == old.ranks


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "so \ud83e"])
def test_a_lone_surrogate_is_refused(manual, text):
    for use in (manual.encode, lambda text: trained(text, 300)):
        with pytest.raises(ValueError, match=r"lone surrogate: half a character"):
            use(text)


@pytest.mark.parametrize("text", [b"bytes", None, 3, ["a"]])
def test_what_is_no_text_is_refused(manual, unchecked, text):
    for use in (manual.encode, lambda text: trained(text, 300)):
        with pytest.raises(TypeError, match="text must be a string, got"):
            use(text)


def test_a_vocabulary_out_of_range_is_refused():
    with pytest.raises(ValueError, match="the text is empty"):
        trained("", 300)
    with pytest.raises(ValueError, match="vocab_size=255 should be at least 256"):
        trained("abc", 255)
    with pytest.raises(ValueError, match="vocab_size=256 should be at least 257"):
        trained("abc", 256, special_tokens=[END])
    with pytest.raises(ValueError, match="after 2 merges nothing is left to merge, at 258"):
        trained("abc", 300)
    with pytest.raises(ValueError, match="nothing is left to merge, at 257 tokens"):
        trained(END, 300, special_tokens=[END])
    assert trained("abc", 258).vocab_size == 258
    assert trained("abc", 256).encode("abc") == [BYTES[b"a"], BYTES[b"b"], BYTES[b"c"]]


@pytest.mark.parametrize("size", [300.0, "300", None, True])
def test_a_size_that_is_no_integer_is_refused(unchecked, size):
    with pytest.raises(TypeError, match="vocab_size must be an integer, got"):
        trained("abc", size)


@pytest.mark.parametrize("names", [END, [3], [None], 7])
def test_special_tokens_that_are_no_strings_are_refused(unchecked, names):
    with pytest.raises(TypeError):
        trained("abc", 300, special_tokens=names)


@pytest.mark.parametrize("names", [[""], ["<a>", "<a>"], ["\ud800"]])
def test_special_tokens_that_cannot_be_are_refused(names):
    with pytest.raises(ValueError, match=r"empty string|twice|surrogate"):
        trained("abc", 300, special_tokens=names)


@pytest.mark.parametrize(
    ("ranks", "error", "match"),
    [
        ({}, ValueError, "256 bytes have no id, the first of them 0"),
        (dict(list(BYTES.items())[1:]), ValueError, "1 bytes have no id, the first of them 33"),
        (BYTES | {b"ab": 255}, ValueError, "id 255 belongs to 2 tokens"),
        (BYTES | {b"": 256}, ValueError, "a token is empty"),
        (BYTES | {b"ab": -1}, ValueError, "ids begin at 0"),
        (BYTES | {"ab": 256}, TypeError, "tokens must be bytes, got 'ab'"),
        (BYTES | {b"ab": 256.0}, TypeError, "ids are integers"),
    ],
)
def test_ranks_that_make_no_tokenizer_are_refused(unchecked, ranks, error, match):
    with pytest.raises(error, match=match):
        BPETokenizer(ranks)


@pytest.mark.parametrize(
    ("pattern", "error", "match"),
    [
        ("(", ValueError, "invalid pattern"),
        (r"(a)|.", ValueError, "capturing group"),
        (None, TypeError, "pattern must be a string, got None"),
    ],
)
def test_patterns_that_are_none_are_refused(unchecked, pattern, error, match):
    with pytest.raises(error, match=match):
        BPETokenizer(BYTES, pattern=pattern)


def test_a_pattern_that_would_lose_text_is_refused():
    ours = BPETokenizer(BYTES, pattern=r"\w+")
    assert ours.decode(ours.encode("abc")) == "abc"
    with pytest.raises(ValueError, match="passes over 2 of 6 characters"):
        ours.encode("ab, cd")
    with pytest.raises(ValueError, match="passes over 2 of 6 characters"):
        trained("ab, cd", 257, pattern=r"\w+")


def test_from_tiktoken_wants_an_encoding(unchecked):
    with pytest.raises(TypeError, match=r"takes a tiktoken\.Encoding"):
        BPETokenizer.from_tiktoken("gpt2")
    ours = trained("ab ab", 258, special_tokens=[END])
    again = BPETokenizer.from_tiktoken(ours.to_tiktoken())
    assert (again.ranks, again.special_tokens) == (ours.ranks, ours.special_tokens)


def test_readable_tokens_can_be_read_back():
    every = bytes(range(256))
    assert vocabulary.from_readable(vocabulary.readable(every)) == every
    assert len(set(vocabulary.readable(every))) == 256
    assert vocabulary.readable(b" the\n") == "ĠtheĊ"
    assert list(pairwise(vocabulary.readable(bytes(bpe.BYTE_ORDER)))) == sorted(
        pairwise(vocabulary.readable(bytes(bpe.BYTE_ORDER)))
    )
