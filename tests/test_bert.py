"""BERT: the same numbers as transformers' own, with heads and without, and what padding may do."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from companion.assets import model_folder
from companion.bert import Bert, init_bert_
from companion.bert_config import BertConfig
from companion.bert_format import SIZES, plain_tensors
from companion.bert_heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
)
from companion.bert_inputs import padding_mask
from companion.bert_loading import fitting
from companion.release import fill_
from companion.wordpiece import WordPieceTokenizer

TINY = BertConfig(
    vocab_size=23,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=24,
    max_position_embeddings=12,
    type_vocab_size=3,
    num_labels=4,
)
ROUNDING = 1e-5  # float32, numbers of order 1
KINDS = {
    Bert: transformers.BertModel,
    BertForMaskedLM: transformers.BertForMaskedLM,
    BertForNextSentencePrediction: transformers.BertForNextSentencePrediction,
    BertForPreTraining: transformers.BertForPreTraining,
    BertForSequenceClassification: transformers.BertForSequenceClassification,
}


@torch.no_grad()
def randomize_(model, scale=0.15, seed=0):
    """Every parameter random, biases and norms too, so that outputs are of order 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        centre = 1 if p.dim() == 1 and name.endswith("weight") else 0
        p.copy_(centre + scale * torch.randn(p.shape, generator=generator))
    return model.eval()


def their_model(kind, config=TINY, **changes):
    sizes = {name: getattr(config, name) for name in SIZES}
    told = {"num_labels": config.num_labels, "attn_implementation": "eager"} | changes
    return randomize_(KINDS[kind](transformers.BertConfig(**sizes, **told)))


def our_model(kind=Bert, config=TINY, seed=0):
    return randomize_(kind(config), seed=seed)


def ours_of(theirs, kind, config=TINY):
    """Ours, with the weights of theirs."""
    model = kind(config)
    fill_(model, fitting(model, plain_tensors(theirs.state_dict())))
    return model.eval()


def set_fused(model, fused):
    getattr(model, "bert", model).fused = fused
    return model


def batch_of(config=TINY, lengths=(12, 1, 5, 12, 9), seed=0):
    """Ids, mask and types of texts of these lengths; ids of padding are any, not one."""
    g = torch.Generator().manual_seed(seed)
    B, T = len(lengths), max(lengths)
    ids = torch.randint(config.vocab_size, (B, T), generator=g)
    types = torch.randint(config.type_vocab_size, (B, T), generator=g)
    return ids, torch.arange(T) < torch.tensor(lengths)[:, None], types


def parts(output):
    """What a model returned, by name, whoever's it is."""
    if isinstance(output, torch.Tensor):
        return {"logits": output}
    named = output._asdict() if hasattr(output, "_asdict") else dict(output)
    names = {"pooler_output": "pooled"}
    return {names.get(name, name): x for name, x in named.items() if x is not None}


def difference(ours, theirs, ids, mask=None, types=None):
    """The most that two models differ in at any text or token, and how large numbers are."""
    with torch.no_grad():
        mine = parts(ours(ids, mask, types))
        theirs = parts(theirs(ids, attention_mask=mask, token_type_ids=types))
    assert mine.keys() == theirs.keys()
    most = 0.0
    for name, x in mine.items():
        assert x.shape == theirs[name].shape
        y = theirs[name]
        if x.dim() == 3 and mask is not None:
            x, y = x[mask.bool()], y[mask.bool()]
        most = max(most, ((x - y).abs() / y.abs().max().clamp(min=1)).max().item())
    return most


configs = st.builds(
    lambda heads, head_size, **sizes: BertConfig(
        hidden_size=heads * head_size, num_attention_heads=heads, **sizes
    ),
    heads=st.integers(1, 4),
    head_size=st.integers(1, 9),
    vocab_size=st.integers(2, 40),
    num_hidden_layers=st.integers(1, 4),
    intermediate_size=st.integers(1, 40),
    max_position_embeddings=st.integers(1, 20),
    type_vocab_size=st.integers(1, 4),
    num_labels=st.integers(2, 5),
)


@st.composite
def batches(draw, config):
    T = draw(st.integers(1, config.max_position_embeddings))
    lengths = draw(st.lists(st.integers(1, T), min_size=1, max_size=4))
    ids, mask, types = batch_of(config, [*lengths, T], seed=draw(st.integers(0, 99)))
    return (
        ids,
        draw(st.sampled_from([mask, mask.long(), None])),
        draw(st.sampled_from([types, None])),
    )


# The same numbers as transformers' own


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=30)
@given(data=st.data(), config=configs, fused=st.booleans(), sdpa=st.booleans())
def test_what_comes_out_is_transformers_own(kind, data, config, fused, sdpa):
    theirs = their_model(kind, config, attn_implementation="sdpa" if sdpa else "eager")
    ours = set_fused(ours_of(theirs, kind, config), fused)
    assert difference(ours, theirs, *data.draw(batches(config))) < ROUNDING


def test_bert_base_in_its_own_size_is_transformers_own():
    torch.manual_seed(0)
    config = BertConfig(vocab_size=997)
    theirs = transformers.BertForPreTraining(transformers.BertConfig(vocab_size=997)).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.02 * torch.randn_like(p))
    ours = ours_of(theirs, BertForPreTraining, config)
    ids, mask, types = batch_of(config, (64, 20), seed=1)
    for fused in (True, False):
        assert difference(set_fused(ours, fused), theirs, ids, mask, types) < ROUNDING


@torch.no_grad()
def test_the_release_path_is_transformers_own_at_padding_too():
    theirs = their_model(Bert)
    ours = set_fused(ours_of(theirs, Bert), False)
    ids, mask, types = batch_of()
    wanted = theirs(ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    assert (ours(ids, mask, types).last_hidden_state - wanted).abs().max() < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_transformers_own(kind):
    theirs = their_model(kind)
    ours = ours_of(theirs, kind)
    ids, mask, types = batch_of()
    for model in (ours, theirs):
        total = 0
        for x in parts(model(ids, attention_mask=mask, token_type_ids=types)).values():
            total = total + (x[mask] if x.dim() == 3 else x).sin().sum()
        total.backward()
    wanted = plain_tensors({name: p.grad for name, p in theirs.named_parameters()})
    for name, p in ours.named_parameters():
        mine, other = p.grad, wanted[name.removeprefix("bert.")]
        if name.endswith("word_embeddings.weight"):
            mine, other = mine[1:], other[1:]  # theirs gives the row of padding none by the lookup
        assert (mine - other).abs().max() < ROUNDING * max(1, other.abs().max()), name


def test_bfloat16_is_as_near_as_its_rounding():
    theirs = their_model(Bert).bfloat16()
    ours = ours_of(their_model(Bert), Bert).bfloat16()
    assert difference(ours, theirs, *batch_of()) < 0.05


def transpose_(linear):
    linear.weight.data = linear.weight.data.T.clone()


SPOILS = {
    "eps": lambda m: setattr(m.encoder.layer[1].output.LayerNorm, "eps", 1e-3),
    "gelu": lambda m: setattr(
        m.encoder.layer[0].intermediate,
        "forward",
        lambda x: F.gelu(m.encoder.layer[0].intermediate.dense(x), approximate="tanh"),
    ),
    "types": lambda m: m.embeddings.token_type_embeddings.weight.data.zero_(),
    "positions": lambda m: m.embeddings.position_embeddings.weight.data.copy_(
        m.embeddings.position_embeddings.weight.data.roll(1, 0)
    ),
    "heads": lambda m: setattr(m.encoder.layer[0].attention.self, "n_head", 2),
    "transposed": lambda m: transpose_(m.encoder.layer[1].attention.output.dense),
    "bias": lambda m: m.encoder.layer[1].attention.self.value.bias.data.zero_(),
    "pooler": lambda m: m.pooler.dense.bias.data.zero_(),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_the_comparison_with_transformers_sees_what_is_slightly_wrong(spoil):
    theirs = their_model(Bert)
    ours = ours_of(theirs, Bert)
    assert difference(ours, theirs, *batch_of()) < ROUNDING
    SPOILS[spoil](ours)
    assert difference(ours, theirs, *batch_of()) > 3 * ROUNDING


def test_the_norms_tiny_eps_is_seen_where_numbers_are_small():
    theirs = their_model(Bert)
    with torch.no_grad():
        for table in theirs.embeddings.children():
            if isinstance(table, nn.Embedding):
                table.weight.mul_(1e-4)
    ours = ours_of(theirs, Bert)
    assert difference(ours, theirs, *batch_of()) < 10 * ROUNDING
    ours.embeddings.LayerNorm.eps = 1e-5
    assert difference(ours, theirs, *batch_of()) > 0.1


# MiniLM, a released BERT


@pytest.fixture(scope="module")
def minilm():
    return Bert.from_pretrained("all-MiniLM-L6-v2")


SENTENCES = [
    "The cat sits outside, in the sun.",
    "A feline rests outdoors.",
    "def attention(q, k, v): return softmax(q @ k.T) @ v",
    "Short.",
    "Python's own reference, as help() shows it: " + 12 * "long and longer, ",
]


def their_folder():
    return model_folder("all-MiniLM-L6-v2")


@pytest.mark.parametrize("fused", [True, False])
def test_minilm_is_transformers_own(minilm, fused):
    theirs = transformers.BertModel.from_pretrained(their_folder()).eval()
    batch = WordPieceTokenizer.from_pretrained("all-MiniLM-L6-v2").encode_batch(SENTENCES)
    set_fused(minilm, fused)
    assert difference(minilm, theirs, *batch) < ROUNDING
    set_fused(minilm, True)


@torch.no_grad()
def test_sentence_vectors_are_those_of_sentence_transformers(minilm):
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(their_folder()), device="cpu")
    ids, mask, types = WordPieceTokenizer.from_pretrained("all-MiniLM-L6-v2").encode_batch(
        SENTENCES
    )
    x = minilm(ids, mask, types).last_hidden_state
    pooled = (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    vectors = F.normalize(pooled, dim=-1).numpy()
    assert np.abs(vectors - theirs.encode(SENTENCES)).max() < 1e-6


def test_minilm_can_be_given_heads_which_a_warning_names():
    with pytest.warns(UserWarning, match=r"no cls\.predictions, cls\.seq_relationship: begun"):
        model = BertForPreTraining.from_pretrained("all-MiniLM-L6-v2", new_heads=True)
    bare = Bert.from_pretrained("all-MiniLM-L6-v2")
    for name, p in bare.named_parameters():
        assert torch.equal(p, model.bert.get_parameter(name))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


# Padding


@pytest.mark.parametrize("fused", [True, False])
@settings(deadline=None, max_examples=60)
@given(data=st.data(), config=configs)
@torch.no_grad()
def test_padding_never_changes_a_tokens_numbers(data, config, fused):
    ours = set_fused(our_model(config=config), fused)
    T = data.draw(st.integers(1, config.max_position_embeddings))
    lengths = data.draw(st.lists(st.integers(1, T), min_size=1, max_size=5))
    ids, mask, types = batch_of(config, [*lengths, T], seed=data.draw(st.integers(0, 99)))
    together = ours(ids, mask, types)
    for row, n in enumerate([*lengths, T]):
        alone = ours(ids[row : row + 1, :n], None, types[row : row + 1, :n])
        given = together.last_hidden_state[row, :n]
        assert (given - alone.last_hidden_state[0]).abs().max() < ROUNDING
        assert (together.pooled[row] - alone.pooled[0]).abs().max() < ROUNDING


@pytest.mark.parametrize("fused", [True, False])
@torch.no_grad()
def test_what_stands_at_padding_changes_nothing(fused):
    ours = set_fused(our_model(), fused)
    ids, mask, types = batch_of()
    other = ids.where(mask, (ids + 7) % 23)
    assert not torch.equal(other, ids)
    before, after = (ours(x, mask, types).last_hidden_state[mask] for x in (ids, other))
    assert torch.equal(before, after)


@torch.no_grad()
def test_numbers_at_padding_are_zero_but_for_the_release_path():
    ours = our_model()
    ids, mask, types = batch_of()
    assert not ours(ids, mask, types).last_hidden_state[~mask].any()
    ours.fused = False
    assert ours(ids, mask, types).last_hidden_state[~mask].all()


@torch.no_grad()
def test_a_mask_with_holes_hides_them():
    theirs = their_model(Bert)
    ours = ours_of(theirs, Bert)
    ids, mask, types = batch_of(lengths=(12, 12, 12))
    mask = torch.rand(3, 12, generator=torch.Generator().manual_seed(0)) < 0.6
    mask[:, 0] = True
    assert not mask.all()
    for fused in (True, False):
        assert difference(set_fused(ours, fused), theirs, ids, mask, types) < ROUNDING


@torch.no_grad()
def test_a_mask_of_ones_is_no_mask():
    ours = our_model()
    ids, mask, types = batch_of(lengths=(7, 7))
    for fused in (True, False):
        ours.fused = fused
        one, other = ours(ids, mask, types), ours(ids, None, types)
        assert torch.allclose(one.last_hidden_state, other.last_hidden_state, atol=1e-6)


@torch.no_grad()
def test_every_token_is_seen_by_every_other():
    ours = our_model()
    ids, _, _ = batch_of(lengths=(6, 6))
    before = ours(ids).last_hidden_state
    for at in range(6):
        other = ids.clone()
        other[:, at] = (ids[:, at] + 1) % 23
        moved = (ours(other).last_hidden_state - before).abs().amax(-1)
        assert (moved > 1e-4).all()


# What cannot be read


IDS, MASK, TYPES = batch_of()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("ids", "mask", "types", "error", "said"),
    [
        (IDS[:0], None, None, ValueError, r"shape \(0, 12\)"),
        (IDS[:, :0], None, None, ValueError, r"shape \(5, 0\)"),
        (IDS[0], None, None, ValueError, r"shape \(12,\)"),
        (IDS.float(), None, None, TypeError, "ids are torch.float32"),
        (IDS + 23, None, None, ValueError, "not in the vocabulary; ids go from 0 to 22"),
        (IDS - 23, None, None, ValueError, "not in the vocabulary"),
        (IDS.repeat(1, 2), None, None, ValueError, "24 tokens are more than max_position_emb.*12"),
        (IDS, MASK[:, :-1], None, ValueError, r"attention_mask has shape \(5, 11\).*\(5, 12\)"),
        (IDS, MASK[0], None, ValueError, r"attention_mask has shape \(12,\)"),
        (IDS, MASK[:, None, None], None, ValueError, r"attention_mask has shape \(5, 1, 1, 12\)"),
        (IDS, MASK.float(), None, TypeError, "attention_mask is torch.float32"),
        (IDS, MASK.long() * 2, None, ValueError, "attention_mask goes from 0 to 2"),
        (IDS, MASK.long() - 1, None, ValueError, "attention_mask goes from -1 to 0"),
        (IDS, ~MASK, None, ValueError, "row 0 of attention_mask hides.*other way round"),
        (IDS, 1 - MASK.long(), None, ValueError, "row 0 of attention_mask hides.*other way round"),
        (IDS, MASK & False, None, ValueError, "no row has a token to see"),
        (IDS, MASK & (torch.arange(5) != 3)[:, None], None, ValueError, "row 3 of attention_mask"),
        (IDS, MASK.flip(1), None, ValueError, "padding comes behind"),
        (IDS, None, TYPES[:, :-1], ValueError, r"token_type_ids has shape \(5, 11\)"),
        (IDS, None, TYPES + 3, ValueError, "token_type_ids: id .* go from 0 to 2"),
        (IDS, None, TYPES - 3, ValueError, "token_type_ids: id -"),
        (IDS, None, TYPES.float(), TypeError, "token_type_ids: ids are torch.float32"),
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_what_cannot_be_read_is_refused(ids, mask, types, error, said, fused):
    ours = set_fused(our_model(), fused)
    with pytest.raises(error, match=said):
        ours(ids, mask, types)


def test_ids_and_types_of_other_integers_are_read():
    ours = our_model()
    wanted = ours(IDS, MASK, TYPES).last_hidden_state
    given = ours(IDS.int(), MASK.int(), TYPES.to(torch.int8)).last_hidden_state
    assert torch.equal(given, wanted)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in SIZES),
        *((name, 2.0) for name in SIZES),
        ("num_labels", 0),
        ("hidden_size", True),
        ("hidden_size", None),
        ("num_attention_heads", 3),
        ("num_attention_heads", 32),
        ("dropout", -0.1),
        ("dropout", 1.0),
        ("dropout", True),
        ("dropout", "0.1"),
        ("dropout", float("nan")),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(TINY, **{field: value})


def test_a_config_is_frozen_and_bert_base_by_default():
    with pytest.raises(FrozenInstanceError):
        TINY.hidden_size = 4
    with torch.device("meta"):
        ours = Bert(BertConfig())
    assert sum(p.numel() for p in ours.parameters()) == 109_482_240


# Heads


@pytest.mark.parametrize("fused", [True, False])
def test_the_losses_are_transformers_own(fused):
    ids, mask, types = batch_of()
    g = torch.Generator().manual_seed(3)
    words = torch.randint(23, ids.shape, generator=g)
    words = words.masked_fill(~mask | (torch.rand(ids.shape, generator=g) > 0.5), -100)
    classes, follows = (torch.randint(n, (5,), generator=g) for n in (4, 2))
    told = {"attention_mask": mask, "token_type_ids": types}
    for kind, labels, theirs_labels in (
        (BertForMaskedLM, (words,), {"labels": words}),
        (BertForNextSentencePrediction, (follows,), {"labels": follows}),
        (BertForSequenceClassification, (classes,), {"labels": classes}),
        (
            BertForPreTraining,
            (words, follows),
            {"labels": words, "next_sentence_label": follows},
        ),
    ):
        theirs = their_model(kind)
        ours = set_fused(ours_of(theirs, kind), fused)
        loss = ours(ids, mask, types, *labels)
        assert abs(loss - theirs(ids, **told, **theirs_labels).loss) < ROUNDING
        loss.backward()


def test_labels_that_do_not_fit_are_refused():
    ids, mask, types = batch_of()
    with pytest.raises(ValueError, match="labels and next_labels, or neither"):
        our_model(BertForPreTraining)(ids, mask, types, ids)


@pytest.mark.usefixtures("unchecked")
def test_labels_of_another_shape_are_refused():
    ids, mask, types = batch_of()
    with pytest.raises(ValueError, match=r"labels have shape \(5, 11\)"):
        our_model(BertForMaskedLM)(ids, mask, types, ids[:, 1:])


def test_no_label_gives_nan_and_not_zero():
    ids, mask, types = batch_of()
    assert our_model(BertForMaskedLM)(ids, mask, types, torch.full_like(ids, -100)).isnan()


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertForPreTraining])
def test_the_decoder_is_the_word_table_and_has_one_bias(kind):
    model = kind(TINY)
    predictions = model.cls.predictions
    assert predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert predictions.decoder.bias is predictions.bias
    names = [name for name, _ in model.named_parameters()]
    assert "cls.predictions.bias" in names
    assert not any("decoder" in name for name in names)


def test_dropout_is_on_in_training_only_and_in_each_place():
    model = BertForSequenceClassification(replace(TINY, dropout=0.5))
    rates = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5] * (1 + 3 * 2 + 1)
    for fused in (True, False):
        set_fused(model.train(), fused)
        assert not torch.equal(model(*batch_of()), model(*batch_of()))
        model.eval()
        assert torch.equal(model(*batch_of()), model(*batch_of()))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_weights_are_dropped_in_training(fused):
    layer = Bert(replace(TINY, dropout=0.5)).train().encoder.layer[0].attention.self
    layer.fused = fused
    x = torch.randn(2, 5, 16)
    assert not torch.equal(layer(x), layer(x))
    assert not torch.equal(layer(x[:1], lengths=[2, 3]), layer(x[:1], lengths=[2, 3]))


def test_a_bert_begins_with_a_normal_of_002_and_neutral_norms_and_biases():
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(num_hidden_layers=1, vocab_size=3000))
    for name, p in model.named_parameters():
        if p.dim() == 2:
            assert abs(p.std() - 0.02) < 0.1 * 0.02, name
            assert abs(p.mean()) < 5 * 0.02 / p.numel() ** 0.5, name
        else:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("Norm.weight")))), name


def test_beginning_again_keeps_what_is_tied():
    model = BertForMaskedLM(TINY)
    init_bert_(model)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_names_are_those_of_transformers():
    for kind in KINDS:
        theirs = {name for name, _ in their_model(kind).named_parameters()}
        assert {name for name, _ in kind(TINY).named_parameters()} == theirs


def test_lesson_21s_mask_of_padding_is_the_models():
    ids = torch.tensor([[5, 6, 0], [7, 0, 0]])
    ours = our_model()
    mask = padding_mask(ids, 0)
    assert torch.equal(mask, torch.tensor([[True, True, False], [True, False, False]]))
    assert ours(ids, mask).last_hidden_state[~mask].eq(0).all()
