"""BERT's releases: every spelling that is met is read, what does not fit is named, none is run."""

import json
import os
import pickle
import re
from dataclasses import replace
from itertools import product

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from test_bert import KINDS, ROUNDING, TINY, batch_of, difference, our_model, their_model

from companion.bert import Bert
from companion.bert_format import plain_name, plain_tensors
from companion.bert_heads import (
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
)
from companion.gpt import GPT

WEIGHTS, SETTINGS, LEGACY = "model.safetensors", "config.json", "pytorch_model.bin"


def assert_same(one, other):
    assert one.config == other.config
    ours, theirs = (dict(model.named_parameters()) for model in (one, other))
    assert ours.keys() == theirs.keys()
    for name, p in ours.items():
        assert torch.equal(p, theirs[name]), name


def rewrite(folder, change):
    """Write a folder's tensors again: those that `change` returns, or else what it left."""
    tensors = {name: x.clone() for name, x in load_file(folder / WEIGHTS).items()}
    changed = change(tensors)
    tensors = changed if isinstance(changed, dict) else tensors
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def resettle(folder, **settings):
    """Change a folder's config.json; a value of ... takes the setting out."""
    path = folder / SETTINGS
    told = json.loads(path.read_text("utf-8")) | settings
    path.write_text(json.dumps({k: v for k, v in told.items() if v is not ...}), "utf-8")


@pytest.fixture
def folder(tmp_path):
    """A small BERT with both heads of pre-training, saved."""
    our_model(BertForPreTraining).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# What transformers wrote, we load; what we write, it loads


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_saves_we_load(tmp_path, kind):
    theirs = their_model(kind)
    theirs.save_pretrained(tmp_path)
    ours = kind.from_pretrained(tmp_path)
    assert ours.config == replace(TINY, dropout=0.1)
    assert not any(module.training for module in ours.modules())
    assert difference(ours, theirs, *batch_of()) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_what_we_save_transformers_loads_and_answers_the_same(tmp_path, kind):
    ours = our_model(kind, replace(TINY, dropout=0.25))
    ours.save_pretrained(tmp_path)
    theirs, told = KINDS[kind].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values()), told
    assert theirs.config.architectures == [KINDS[kind].__name__]
    assert theirs.config.num_labels == 4
    rates = (theirs.config.hidden_dropout_prob, theirs.config.attention_probs_dropout_prob)
    assert rates == (0.25, 0.25)
    assert difference(ours, theirs.eval(), *batch_of()) < ROUNDING


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_is_the_same_model(tmp_path, kind):
    ours = our_model(kind, replace(TINY, dropout=0.25))
    ours.train().save_pretrained(tmp_path / "new" / "folder")
    assert_same(kind.from_pretrained(tmp_path / "new" / "folder"), ours)
    assert_same(kind.from_pretrained(str(tmp_path / "new" / "folder")), ours)
    theirs = KINDS[kind].from_pretrained(tmp_path / "new" / "folder")
    theirs.save_pretrained(tmp_path / "theirs")
    assert_same(kind.from_pretrained(tmp_path / "theirs"), ours)


def test_what_is_loaded_can_be_trained_and_is_tied(folder):
    model = BertForPreTraining.from_pretrained(folder)
    ids, mask, types = batch_of()
    model(ids, mask, types, ids, mask[:, 0].long()).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.numel() > 99)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_are_read_as_float32(folder, dtype):
    before = BertForPreTraining.from_pretrained(folder)
    rewrite(folder, lambda tensors: {name: x.to(dtype) for name, x in tensors.items()})
    loaded = dict(BertForPreTraining.from_pretrained(folder).named_parameters())
    for name, p in before.named_parameters():
        assert torch.equal(loaded[name], p.to(dtype).float())


def test_a_checkpoint_in_parts_loads(tmp_path):
    theirs = their_model(BertForPreTraining)
    theirs.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ours = BertForPreTraining.from_pretrained(tmp_path)
    assert difference(ours, theirs, *batch_of()) < ROUNDING


def test_loading_draws_nothing_from_the_callers_chance(folder):
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    BertForPreTraining.from_pretrained(folder)
    assert torch.equal(torch.rand(3), wanted)


# The spellings of a checkpoint


def spelt(tensors, *, prefix, old, bias, buffers, weight):
    """A checkpoint of pre-training in one of the ways that releases have it."""
    tensors = plain_tensors(tensors)
    said = {}
    for name, x in tensors.items():
        if old:
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            name = name.replace("LayerNorm.bias", "LayerNorm.beta")
        head = name.startswith("cls.")
        said[name if head else prefix + name] = x
    own = said.pop("cls.predictions.bias")
    if bias in ("bias", "both"):
        said["cls.predictions.bias"] = own
    if bias in ("decoder.bias", "both"):
        said["cls.predictions.decoder.bias"] = own.clone()
    if weight:
        table = said[f"{prefix}embeddings.word_embeddings.weight"]
        said["cls.predictions.decoder.weight"] = table.clone()
    if buffers:
        said[f"{prefix}embeddings.position_ids"] = torch.arange(12)[None]
        said[f"{prefix}embeddings.token_type_ids"] = torch.zeros(1, 12, dtype=torch.long)
    return said


LAYOUTS = list(
    product(["", "bert."], [False, True], ["bias", "decoder.bias", "both"], [0, 1], [0, 1])
)


@pytest.mark.parametrize(("prefix", "old", "bias", "buffers", "weight"), LAYOUTS)
def test_every_layout_of_a_checkpoint_is_read(folder, prefix, old, bias, buffers, weight):
    before = BertForPreTraining.from_pretrained(folder)
    how = {"prefix": prefix, "old": old, "bias": bias, "buffers": buffers, "weight": weight}
    rewrite(folder, lambda tensors: spelt(tensors, **how))
    names = load_file(folder / WEIGHTS).keys()
    assert ("bert.pooler.dense.bias" in names) == bool(prefix)
    assert any("gamma" in name for name in names) == old
    assert_same(BertForPreTraining.from_pretrained(folder), before)
    assert_same(Bert.from_pretrained(folder), before.bert)


def test_plain_names():
    assert plain_name("bert.encoder.layer.0.output.LayerNorm.gamma") == (
        "encoder.layer.0.output.LayerNorm.weight"
    )
    assert plain_name("cls.predictions.transform.LayerNorm.beta").endswith("LayerNorm.bias")
    assert plain_name("bert.bert.gamma") == "bert.gamma"


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_takes_of_a_release_what_it_has(folder, kind):
    """A bare encoder from one with heads, one head from both; classes are never pre-trained."""
    if kind is BertForSequenceClassification:
        with pytest.raises(ValueError, match=r"has no classifier, which BertForSequenceClass"):
            kind.from_pretrained(folder)
        return
    whole = BertForPreTraining.from_pretrained(folder)
    ids, mask, types = batch_of()
    with torch.no_grad():
        given = kind.from_pretrained(folder)(ids, mask, types)
        both = whole(ids, mask, types)
    if kind is Bert:
        assert torch.equal(given.pooled, whole.bert(ids, mask, types).pooled)
    elif kind is BertForMaskedLM:
        assert torch.equal(given, both.prediction_logits)
    elif kind is BertForNextSentencePrediction:
        assert torch.equal(given, both.seq_relationship_logits)


BARE = {
    BertForMaskedLM: "cls.predictions",
    BertForNextSentencePrediction: "cls.seq_relationship",
    BertForPreTraining: "cls.predictions, cls.seq_relationship",
    BertForSequenceClassification: "classifier",
}


@pytest.mark.parametrize("kind", BARE)
def test_heads_that_a_bare_encoder_lacks_are_an_error_or_by_argument_new(tmp_path, kind):
    bare = our_model(Bert)
    bare.save_pretrained(tmp_path)
    said = re.escape(f"the checkpoint has no {BARE[kind]}")
    with pytest.raises(ValueError, match=f"{said}, which {kind.__name__} has; new_heads=True"):
        kind.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=f"{said}: begun at random") as warned:
        model = kind.from_pretrained(tmp_path, new_heads=True)
    assert len(warned) == 1
    loaded = dict(model.bert.named_parameters())
    assert all(
        torch.equal(p, loaded[name]) for name, p in bare.named_parameters() if name in loaded
    )
    new = [p for name, p in model.named_parameters() if not name.startswith("bert.")]
    for p in new:
        assert p.dim() == 1 or abs(p.std() - 0.02) < 0.01


def test_absent_heads_are_named_with_all_else_that_does_not_fit(tmp_path):
    our_model(Bert).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda x: x.pop("embeddings.LayerNorm.bias"))
    with pytest.raises(ValueError, match="does not fit") as told:
        BertForSequenceClassification.from_pretrained(tmp_path)
    _, *lines, last = str(told.value).split("\n")
    assert lines == [
        "missing: bert.embeddings.LayerNorm.bias",
        "missing: classifier.bias",
        "missing: classifier.weight",
    ]
    assert "new_heads=True" in last
    with (
        pytest.warns(UserWarning, match="classifier"),
        pytest.raises(ValueError, match=r"model\nmissing: bert\.embeddings\.LayerNorm\.bias$"),
    ):
        BertForSequenceClassification.from_pretrained(tmp_path, new_heads=True)


def test_a_pooler_that_a_release_lacks_is_named_too(tmp_path):
    our_model(BertForMaskedLM).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no pooler, which Bert has"):
        Bert.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="has no pooler: begun at random"):
        Bert.from_pretrained(tmp_path, new_heads=True)


def test_new_heads_are_only_new_where_a_release_has_none_of_them(folder):
    """Half a head is a damaged checkpoint, not a missing one."""
    rewrite(folder, lambda x: x.pop("cls.predictions.transform.dense.weight"))
    with pytest.raises(ValueError, match=r"missing: cls\.predictions\.transform\.dense\.weight"):
        BertForPreTraining.from_pretrained(folder, new_heads=True)


def test_no_warning_where_nothing_is_new(folder, recwarn):
    BertForPreTraining.from_pretrained(folder, new_heads=True)
    assert not recwarn.list


def test_new_heads_follow_the_seed(tmp_path):
    our_model(Bert).save_pretrained(tmp_path)
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        with pytest.warns(UserWarning, match="classifier"):
            model = BertForSequenceClassification.from_pretrained(tmp_path, new_heads=True)
        made.append(model.classifier.weight)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_fields_of_the_config_can_be_replaced(tmp_path):
    our_model(Bert).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="classifier"):
        model = BertForSequenceClassification.from_pretrained(
            tmp_path, new_heads=True, num_labels=7, dropout=0.3
        )
    assert model.classifier.weight.shape == (7, 16)
    assert model.config == replace(TINY, num_labels=7, dropout=0.3)


# The number of heads is in no tensor


def test_another_number_of_heads_loads_and_computes_something_else(folder):
    ids, mask, types = batch_of()
    right = Bert.from_pretrained(folder)
    resettle(folder, num_attention_heads=8)
    wrong = Bert.from_pretrained(folder)
    assert all(torch.equal(p, q) for p, q in zip(right.parameters(), wrong.parameters()))
    moved = right(ids, mask, types).last_hidden_state - wrong(ids, mask, types).last_hidden_state
    assert moved.abs().max() > 0.01


def test_without_a_config_the_number_of_heads_is_asked_for(folder):
    before = BertForPreTraining.from_pretrained(folder)
    (folder / SETTINGS).unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json.*heads does not.*config=Bert"):
        BertForPreTraining.from_pretrained(folder)
    assert_same(BertForPreTraining.from_pretrained(folder, config=TINY), before)
    changed = BertForPreTraining.from_pretrained(folder, config=TINY, dropout=0.5)
    assert changed.config.dropout == 0.5
    with pytest.raises(ValueError, match=r"missing: .*layer\.2.*\n.*layer\.2"):
        BertForPreTraining.from_pretrained(folder, config=replace(TINY, num_hidden_layers=3))


# What does not fit is named, all at once


def test_all_that_does_not_fit_is_named_together(folder):
    def change(tensors):
        del tensors["bert.embeddings.LayerNorm.weight"]
        del tensors["cls.predictions.transform.dense.bias"]
        tensors["bert.encoder.layer.2.output.dense.bias"] = torch.ones(16)
        tensors["qa_outputs.weight"] = torch.ones(2, 16)
        tensors["bert.pooler.dense.weight"] = torch.ones(15, 16)
        tensors["cls.seq_relationship.weight"] = torch.ones(3, 16)
        tensors["bert.pooler.dense.bias"] = torch.ones(16, dtype=torch.long)

    rewrite(folder, change)
    with pytest.raises(ValueError, match="does not fit") as told:
        BertForPreTraining.from_pretrained(folder)
    assert set(str(told.value).split("\n")[1:]) == {
        "missing: bert.embeddings.LayerNorm.weight",
        "missing: cls.predictions.transform.dense.bias",
        "left over: encoder.layer.2.output.dense.bias",
        "left over: qa_outputs.weight",
        "another shape: bert.pooler.dense.weight is (15, 16), expected (16, 16)",
        "another shape: cls.seq_relationship.weight is (3, 16), expected (2, 16)",
        "not floats: bert.pooler.dense.bias is torch.int64",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda x: x.update({"pooler.dense.bias": torch.ones(16)}),
            r"has pooler\.dense\.bias by two names",
        ),
        (
            lambda x: x.update({"bert.embeddings.LayerNorm.gamma": torch.ones(16)}),
            r"has embeddings\.LayerNorm\.weight by two names",
        ),
        (
            lambda x: x.update({"cls.predictions.decoder.weight": torch.ones(23, 16)}),
            r"decoder\.weight differs from embeddings\.word_embeddings\.weight",
        ),
        (
            lambda x: x.update({"cls.predictions.decoder.bias": torch.ones(23)}),
            r"decoder\.bias differs from cls\.predictions\.bias",
        ),
        (
            lambda x: x.update({"cls.predictions.decoder.bias": torch.ones(22)}),
            r"decoder\.bias differs from cls\.predictions\.bias",
        ),
        (lambda x: x.update({"bert.embeddings.nothing": torch.ones(1)}), "left over: embeddings.n"),
        (lambda x: x.pop("cls.predictions.bias"), r"missing: cls\.predictions\.bias"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=said):
        BertForPreTraining.from_pretrained(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "roberta"),
        ("hidden_act", "gelu_new"),
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-5),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("tie_word_embeddings", False),
        ("vocab_size", ...),
        ("num_attention_heads", ...),
        ("hidden_size", 16.0),
        ("num_attention_heads", 3),
        ("num_hidden_layers", 0),
        ("hidden_dropout_prob", 1.5),
    ],
)
def test_a_setting_that_is_not_berts_is_named(folder, name, value):
    resettle(folder, **{name: value})
    with pytest.raises(ValueError, match="dropout" if "dropout" in name else name):
        Bert.from_pretrained(folder)


def test_settings_that_are_left_out_are_berts(folder):
    before = Bert.from_pretrained(folder)
    for name in ("model_type", "hidden_act", "layer_norm_eps", "position_embedding_type"):
        resettle(folder, **{name: ...})
    assert_same(Bert.from_pretrained(folder), before)


def test_dropouts_that_differ_are_named_and_one_can_be_chosen(folder):
    resettle(folder, hidden_dropout_prob=0.2)
    with pytest.raises(ValueError, match=r"several dropouts, \[0\.2, 0\.0\]"):
        Bert.from_pretrained(folder)
    assert Bert.from_pretrained(folder, dropout=0.2).config.dropout == 0.2
    resettle(folder, attention_probs_dropout_prob=0.2, classifier_dropout=0.3)
    with pytest.raises(ValueError, match=r"several dropouts, \[0\.2, 0\.2, 0\.3\]"):
        Bert.from_pretrained(folder)


@pytest.mark.parametrize("labels", [2, 3])
def test_the_number_of_classes_is_read(tmp_path, labels):
    theirs = their_model(BertForSequenceClassification, replace(TINY, num_labels=labels))
    theirs.save_pretrained(tmp_path)
    assert BertForSequenceClassification.from_pretrained(tmp_path).config.num_labels == labels


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Bert.from_pretrained(tmp_path / "none")
    with pytest.raises(ValueError, match="'nobody' is none of"):
        Bert.from_pretrained("nobody")


# A pickle: read for its tensors, never run


def as_legacy(folder, tensors=None, **how):
    """A folder's safetensors as the pickle of older releases."""
    tensors = load_file(folder / WEIGHTS) if tensors is None else tensors
    torch.save(tensors, folder / LEGACY, **how)
    (folder / WEIGHTS).unlink()


@pytest.mark.parametrize("zipped", [True, False])
def test_an_older_release_is_read(folder, zipped):
    before = BertForPreTraining.from_pretrained(folder)
    tensors = spelt(
        load_file(folder / WEIGHTS), prefix="bert.", old=True, bias="bias", buffers=1, weight=1
    )
    as_legacy(folder, tensors, _use_new_zipfile_serialization=zipped)
    assert_same(BertForPreTraining.from_pretrained(folder), before)


def test_a_state_dict_as_torch_saves_it_is_read(folder):
    theirs = transformers.BertForPreTraining.from_pretrained(folder)
    as_legacy(folder, theirs.state_dict())
    ours = BertForPreTraining.from_pretrained(folder)
    assert difference(ours, theirs.eval(), *batch_of()) < ROUNDING


def test_safetensors_come_before_a_pickle(folder):
    before = Bert.from_pretrained(folder)
    (folder / LEGACY).write_bytes(b"never read")
    assert_same(Bert.from_pretrained(folder), before)


class Runs:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False, None])
def test_a_pickle_that_would_run_code_is_refused_and_runs_none(folder, tmp_path, zipped):
    made = tmp_path / "made"
    holds = load_file(folder / WEIGHTS) | {"extra": Runs(str(made))}
    (folder / WEIGHTS).unlink()
    if zipped is None:
        (folder / LEGACY).write_bytes(pickle.dumps(holds))
    else:
        torch.save(holds, folder / LEGACY, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"pytorch_model\.bin.*is not loaded"):
        Bert.from_pretrained(folder)
    assert not made.exists()
    pickle.loads(pickle.dumps(Runs(str(made))))  # it would have
    assert made.exists()


@pytest.mark.parametrize("holds", [[1, 2], {"a": 1}, {1: torch.ones(2)}, torch.ones(2), None])
def test_a_pickle_of_something_else_is_refused(folder, holds):
    as_legacy(folder, {})
    torch.save(holds, folder / LEGACY)
    with pytest.raises(ValueError, match="not tensors by name"):
        Bert.from_pretrained(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[:100],
        lambda whole: whole[:-30],
        lambda whole: b"<html>not found</html>" * 50,
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    ],
)
def test_a_damaged_pickle_is_named(folder, spoil):
    as_legacy(folder)
    file = folder / LEGACY
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin is damaged"):
        Bert.from_pretrained(folder)


def test_gpts_take_no_pickle_at_all(folder):
    as_legacy(folder)
    with pytest.raises(ValueError, match="as a pickle only"):
        GPT.from_pretrained(folder)


def test_a_folder_without_weights_is_named(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        Bert.from_pretrained(folder)
