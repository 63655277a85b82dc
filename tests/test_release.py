"""Released weights: what transformers writes we load, what we write it loads, the rest is named."""

import gc
import json
import os
import pickle
import re
from math import sqrt
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from companion import release
from companion.gpt import GPT, GPTConfig
from companion.gpt2_format import their_tensors
from companion.gpt2_reference import distance, reference_logits
from companion.release import fill_

SIZES = {"vocab_size": 97, "n_layer": 4, "n_head": 4, "n_embd": 64}
TINY = {"vocab_size": 13, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
WEIGHTS, SETTINGS, INDEX = "model.safetensors", "config.json", "model.safetensors.index.json"
ROUNDING = 1e-5  # float32, logits of order 1


def ids_of(B, T, V, seed=0):
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def randomize_(model, scale=0.15, seed=0):
    """Every parameter random, biases and norms too, so that the logits are of order 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        centre = 1 if p.dim() == 1 and name.endswith("weight") else 0
        p.copy_(centre + scale * torch.randn(p.shape, generator=generator))
    return model.eval()


def transformers_gpt2(**settings):
    sizes = GPT2Config(**SIZES | {"n_positions": 32} | settings)
    sizes.bos_token_id = sizes.eos_token_id = None  # else it warns: they are not in 97
    return randomize_(GPT2LMHeadModel(sizes))


def our_gpt(sizes=SIZES, **settings):
    return randomize_(GPT(GPTConfig(**{"block_size": 32} | sizes | settings)))


@torch.no_grad()
def difference(ours, theirs):
    ids = ids_of(3, ours.config.block_size, ours.config.vocab_size)
    wanted = theirs(ids).logits
    assert 0.5 < wanted.std() < 5
    return (ours(ids) - wanted).abs().max().item()


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
    """A small model of ours, saved."""
    our_gpt(TINY).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


# What transformers wrote, we load


@pytest.mark.parametrize("tied", [True, False])
def test_the_logits_are_transformers_own(tmp_path, tied):
    theirs = transformers_gpt2(tie_word_embeddings=tied)
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert ours.config == GPTConfig(**SIZES, block_size=32, dropout=0.1, tied=tied)
    assert difference(ours, theirs) < ROUNDING


def test_the_logits_of_a_whole_124m_are_transformers_own(tmp_path):
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            if p.dim() == 1:
                p.add_(0.1 * torch.randn_like(p))
    theirs.save_pretrained(tmp_path)
    ids = ids_of(1, 1024, 50257)
    with torch.no_grad():
        wanted = theirs(ids).logits
    del theirs
    gc.collect()
    ours = GPT.from_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with torch.no_grad():
        logits = ours(ids)
    del ours
    gc.collect()
    assert wanted.std() > 0.3
    assert (logits - wanted).abs().max() < ROUNDING


@torch.no_grad()
def transpose(model):
    weight = model.h[2].attn.c_proj.weight
    weight.copy_(weight.T.clone())


def other_epsilon(model):
    model.h[0].ln_1.eps = 1e-6


@torch.no_grad()
def no_bias(model):
    model.h[3].mlp.c_proj.bias.zero_()


def exact_gelu(model):
    for block in model.h:
        up, down = block.mlp.c_fc, block.mlp.c_proj
        block.mlp.forward = lambda x, up=up, down=down: down(
            (y := up(x)) * 0.5 * (1 + torch.erf(y / sqrt(2)))
        )


@torch.no_grad()
def shift_positions(model):
    model.wpe.weight.copy_(model.wpe.weight.roll(1, 0))


@torch.no_grad()
def other_heads_keys(model):
    keys = model.h[0].attn.c_attn.weight[64:128]
    keys.copy_(keys.roll(16, 0))


@torch.no_grad()
def queries_for_keys(model):
    weight = model.h[1].attn.c_attn.weight
    weight.copy_(weight.view(3, 64, 64)[[1, 0, 2]].reshape(192, 64))


@pytest.mark.parametrize(
    "spoil",
    [
        transpose,
        other_epsilon,
        no_bias,
        exact_gelu,
        shift_positions,
        other_heads_keys,
        queries_for_keys,
    ],
)
def test_the_comparison_with_transformers_sees_what_is_slightly_wrong(tmp_path, spoil):
    theirs = transformers_gpt2()
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    spoil(ours)
    assert difference(ours, theirs) > 3 * ROUNDING


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("head", [False, True])
def test_the_spellings_of_a_checkpoint_are_all_read(tmp_path, prefix, masked, head):
    theirs = transformers_gpt2()
    theirs.save_pretrained(tmp_path)

    def respell(tensors):
        spelt = {prefix + name.removeprefix("transformer."): x for name, x in tensors.items()}
        for n in range(4 if masked else 0):
            spelt[f"{prefix}h.{n}.attn.bias"] = torch.ones(1, 1, 32, 32).tril()
            spelt[f"{prefix}h.{n}.attn.masked_bias"] = torch.tensor(-1e4)
        if head:
            spelt["lm_head.weight"] = spelt[f"{prefix}wte.weight"].clone()
        return spelt

    rewrite(tmp_path, respell)
    assert (f"{prefix}h.3.attn.bias" in load_file(tmp_path / WEIGHTS)) == masked
    assert difference(GPT.from_pretrained(tmp_path), theirs) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
def test_a_mask_of_any_dtype_is_left_out(folder, dtype):
    before = GPT.from_pretrained(folder)
    mask = torch.ones(1, 1, 8, 8, dtype=dtype)
    rewrite(folder, lambda tensors: tensors | {"transformer.h.0.attn.bias": mask})
    assert_same(GPT.from_pretrained(folder), before)


def test_a_checkpoint_in_parts_loads(tmp_path):
    theirs = transformers_gpt2()
    theirs.save_pretrained(tmp_path, max_shard_size="100KB")
    assert not (tmp_path / WEIGHTS).exists()
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    assert difference(GPT.from_pretrained(tmp_path), theirs) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_are_read_as_float32(tmp_path, dtype):
    ours = our_gpt(TINY)
    ours.save_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: {name: x.to(dtype) for name, x in tensors.items()})
    for (_, loaded), (_, p) in zip(
        GPT.from_pretrained(tmp_path).named_parameters(), ours.named_parameters()
    ):
        assert loaded.dtype == torch.float32
        assert torch.equal(loaded, p.to(dtype).float())


def test_what_is_loaded_is_in_eval_mode_and_can_be_trained(folder):
    model = GPT.from_pretrained(folder)
    assert not any(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert model.lm_head.weight is model.wte.weight
    ids = ids_of(2, 8, 13)
    model(ids, ids).backward()
    assert all(p.grad.any() for p in model.parameters())


def test_the_dropout_is_what_the_config_says_unless_another_is_given(tmp_path):
    theirs = transformers_gpt2(resid_pdrop=0.25, embd_pdrop=0.25, attn_pdrop=0.25)
    theirs.save_pretrained(tmp_path)
    for given, wanted in ((None, 0.25), (0.0, 0.0), (0.5, 0.5)):
        model = GPT.from_pretrained(tmp_path, dropout=given)
        assert model.config.dropout == wanted
        assert model.drop.p == model.h[3].attn.dropout.p == model.h[0].mlp.dropout.p == wanted
    with pytest.raises(ValueError, match=r"dropout=1\.5"):
        GPT.from_pretrained(tmp_path, dropout=1.5)


def test_dropouts_that_differ_are_named_and_one_can_be_chosen(tmp_path):
    transformers_gpt2(resid_pdrop=0.2, attn_pdrop=0.3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"several dropouts.*0\.2, 0\.1, 0\.3"):
        GPT.from_pretrained(tmp_path)
    assert GPT.from_pretrained(tmp_path, dropout=0.2).config.dropout == 0.2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("n_inner", {"n_inner": 4 * TINY["n_embd"]}),
        ("activation_function", {"activation_function": "gelu_pytorch_tanh"}),
        ("defaults", dict.fromkeys(["model_type", "activation_function", "bias"], ...)),
        ("defaults", dict.fromkeys(["layer_norm_epsilon", "tie_word_embeddings"], ...)),
        ("more", {"n_ctx": 8, "summary_type": "cls_index", "task_specific_params": {}}),
    ],
)
def test_what_a_config_says_in_other_words_is_the_same_model(folder, name, settings):
    before = GPT.from_pretrained(folder)
    resettle(folder, **settings)
    assert_same(GPT.from_pretrained(folder), before)


def test_a_release_is_found_by_its_name(folder, monkeypatch):
    (folder.parent / "models").mkdir()
    folder.rename(folder.parent / "models" / "gpt2-medium")
    monkeypatch.setenv("COMPANION_ASSETS", str(folder.parent))
    assert_same(GPT.from_pretrained("gpt2-medium"), our_gpt(TINY))


def test_a_folder_is_found_by_its_path_as_text_too(folder):
    assert_same(GPT.from_pretrained(str(folder)), GPT.from_pretrained(folder))


# What we write, transformers loads


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_transformers_loads_what_we_save_and_answers_the_same(tmp_path, tied, bias):
    ours = our_gpt(tied=tied, bias=bias, dropout=0.25)
    ours.save_pretrained(tmp_path)
    theirs, told = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values()), told
    assert theirs.config.resid_pdrop == theirs.config.attn_pdrop == 0.25
    assert theirs.config.tie_word_embeddings == tied
    assert difference(ours, theirs.eval()) < ROUNDING


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_what_transformers_saves_again_we_load_as_it_was(tmp_path, tied, bias):
    ours = our_gpt(tied=tied, bias=bias, dropout=0.25)
    ours.save_pretrained(tmp_path / "ours")
    GPT2LMHeadModel.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    assert_same(GPT.from_pretrained(tmp_path / "theirs"), ours)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_saved_and_loaded_is_the_same_model(tmp_path, tied, bias):
    ours = our_gpt(TINY, tied=tied, bias=bias, dropout=0.3)
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    ours.train().save_pretrained(tmp_path / "new" / "folder")
    assert_same(GPT.from_pretrained(str(tmp_path / "new" / "folder")), ours)
    assert ours.training
    assert all(torch.equal(p, before[name]) for name, p in ours.named_parameters())


def test_a_bias_that_was_learned_as_zero_is_kept(tmp_path):
    ours = our_gpt(TINY)
    with torch.no_grad():
        ours.ln_f.bias.zero_()
    ours.save_pretrained(tmp_path)
    assert_same(GPT.from_pretrained(tmp_path), ours)


def test_end_of_text_is_said_only_where_the_vocabulary_has_it(tmp_path):
    for vocab_size, end in ((50256, None), (50257, 50256), (50304, 50256)):
        our_gpt(TINY, vocab_size=vocab_size).save_pretrained(tmp_path)
        told = json.loads((tmp_path / SETTINGS).read_text("utf-8"))
        assert (told["bos_token_id"], told["eos_token_id"]) == (end, end)


def test_saving_again_replaces_and_touches_nothing_else(folder):
    (folder / "vocab.json").write_text("{}")
    other = our_gpt(TINY, n_layer=1, n_embd=12, tied=False)
    other.save_pretrained(folder)
    assert_same(GPT.from_pretrained(folder), other)
    assert {file.name for file in folder.iterdir()} == {WEIGHTS, SETTINGS, "vocab.json"}


def test_a_model_can_be_saved_over_the_files_it_came_from(folder):
    model = GPT.from_pretrained(folder)
    with torch.no_grad():
        model.wpe.weight.add_(1)
    model.save_pretrained(folder)
    assert_same(GPT.from_pretrained(folder), model)


def test_what_is_saved_over_a_checkpoint_in_parts_is_what_is_loaded(tmp_path):
    transformers_gpt2().save_pretrained(tmp_path, max_shard_size="100KB")
    ours = our_gpt(n_layer=2)
    ours.save_pretrained(tmp_path)
    assert_same(GPT.from_pretrained(tmp_path), ours)
    assert difference(ours, GPT2LMHeadModel.from_pretrained(tmp_path).eval()) < ROUNDING


class DiskFull(OSError):
    pass


def half_written(tensors, path, metadata=None):
    Path(path).write_bytes(b"half")
    raise DiskFull


def never_settings(*args, **kwargs):
    raise DiskFull


@pytest.mark.parametrize(
    ("where", "name", "fail"),
    [(release, "save_file", half_written), (release.json, "dumps", never_settings)],
)
def test_an_error_while_saving_leaves_the_former_files_whole(
    folder, monkeypatch, where, name, fail
):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        with pytest.raises(DiskFull):
            our_gpt(TINY, n_layer=1).save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert_same(GPT.from_pretrained(folder), our_gpt(TINY))


@pytest.mark.parametrize("moves", [0, 1])
def test_an_error_while_files_are_moved_leaves_each_as_it_was_or_as_it_should_be(
    folder, monkeypatch, moves
):
    model, done, replace = our_gpt(TINY, n_layer=1), [], os.replace
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    model.save_pretrained(folder.parent / "wanted")
    wanted = {file.name: file.read_bytes() for file in (folder.parent / "wanted").iterdir()}

    def fail(source, target):
        if len(done) == moves:
            raise DiskFull
        done.append(replace(source, target))

    with monkeypatch.context() as patch:
        patch.setattr(release.os, "replace", fail)
        with pytest.raises(DiskFull):
            model.save_pretrained(folder)
    after = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert after.keys() == before.keys()
    assert sum(after[name] == wanted[name] != before[name] for name in after) == moves
    assert sum(after[name] == before[name] != wanted[name] for name in after) == 2 - moves


def test_an_error_while_saving_to_a_new_folder_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(release, "save_file", half_written)
    with pytest.raises(DiskFull):
        our_gpt(TINY).save_pretrained(tmp_path / "new")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


# What does not fit is named, all at once


def test_all_that_does_not_fit_is_named_and_nothing_is_copied():
    model, before = our_gpt(TINY), our_gpt(TINY)
    tensors = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    del tensors["wpe.weight"], tensors["h.1.mlp.c_fc.bias"]
    tensors["h.7.ln_1.weight"] = tensors["lm_head.weight"] = torch.zeros(8)
    tensors["h.0.attn.c_attn.weight"] = torch.zeros(8, 24)
    tensors["ln_f.bias"] = torch.zeros(9)
    tensors["ln_f.weight"] = torch.zeros(8, dtype=torch.long)
    tensors["h.0.ln_1.bias"] = torch.zeros(8, dtype=torch.bool)
    with pytest.raises(ValueError, match="does not fit") as told:
        fill_(model, tensors)
    assert set(str(told.value).split("\n")[1:]) == {
        "missing: wpe.weight",
        "missing: h.1.mlp.c_fc.bias",
        "left over: h.7.ln_1.weight",
        "left over: lm_head.weight",
        "another shape: h.0.attn.c_attn.weight is (8, 24), expected (24, 8)",
        "another shape: ln_f.bias is (9,), expected (8,)",
        "not floats: ln_f.weight is torch.int64",
        "not floats: h.0.ln_1.bias is torch.bool",
    }
    assert_same(model, before)


def test_what_fits_is_copied_and_shares_no_memory():
    model, source = our_gpt(TINY), randomize_(GPT(GPTConfig(**TINY)), seed=1)
    tensors = {name: p.detach().clone() for name, p in source.named_parameters()}
    fill_(model, dict(reversed(tensors.items())))
    assert all(torch.equal(p, tensors[name]) for name, p in model.named_parameters())
    tensors["wte.weight"].zero_()
    assert model.wte.weight.all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.pop("transformer.ln_f.bias"), "missing: ln_f.bias"),
        (lambda x: x.update({"transformer.h.2.ln_1.bias": torch.ones(8)}), "left over: h.2"),
        (lambda x: x.update({"transformer.h.0.attn.q.bias": torch.ones(8)}), "left over: h.0"),
        (lambda x: x.update({"score.weight": torch.ones(2, 8)}), "left over: score.weight"),
        (lambda x: x.update({"transformer.ln_f.bias": torch.ones(3)}), r"ln_f.bias is \(3,\)"),
        (lambda x: x.update({"transformer.ln_f.bias": torch.ones(())}), r"ln_f.bias is \(\)"),
        (lambda x: x.update({"transformer.wte.weight": torch.ones(12, 8)}), r"is \(12, 8\)"),
        (
            lambda x: x.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(32, 8)}),
            r"h.0.mlp.c_fc.weight is \(8, 32\), expected \(32, 8\)",  # Linear's layout
        ),
        (
            lambda x: x.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(8)}),
            r"h.0.mlp.c_fc.weight is \(8,\)",
        ),
        (
            lambda x: x.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(1, 8, 32)}),
            r"h.0.mlp.c_fc.weight is \(1, 8, 32\)",
        ),
        (
            lambda x: x.update({"transformer.ln_f.bias": torch.ones(8, dtype=torch.int32)}),
            "not floats: ln_f.bias is torch.int32",
        ),
        (
            lambda x: x.update({"ln_f.bias": torch.ones(8)}),
            "both with and without `transformer.`",
        ),
        (
            lambda x: x.update({"lm_head.weight": torch.ones(13, 8)}),
            "lm_head.weight differs from wte.weight",
        ),
        (lambda x: x.clear(), "missing: wte.weight"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(folder, change, said):
    rewrite(folder, change)
    with pytest.raises(ValueError, match=said):
        GPT.from_pretrained(folder)


def test_the_tensors_that_do_not_fit_are_named_together(folder):
    def change(tensors):
        del tensors["transformer.wpe.weight"]
        tensors["transformer.ln_f.gamma"] = torch.ones(8)
        tensors["transformer.ln_f.bias"] = torch.ones(9)

    rewrite(folder, change)
    with pytest.raises(ValueError, match="does not fit") as told:
        GPT.from_pretrained(folder)
    for line in ("missing: wpe.weight", "left over: ln_f.gamma", "another shape: ln_f.bias"):
        assert line in str(told.value)


def test_an_untied_config_needs_the_last_layers_weight(folder):
    resettle(folder, tie_word_embeddings=False)
    with pytest.raises(ValueError, match=r"missing: lm_head\.weight"):
        GPT.from_pretrained(folder)


def test_without_bias_a_bias_that_is_not_zero_is_refused(tmp_path):
    our_gpt(TINY, bias=False).save_pretrained(tmp_path)
    assert not load_file(tmp_path / WEIGHTS)["transformer.ln_f.bias"].any()
    rewrite(tmp_path, lambda x: x.update({"transformer.ln_f.bias": torch.ones(8)}))
    with pytest.raises(ValueError, match=r"left over: ln_f\.bias"):
        GPT.from_pretrained(tmp_path)


# Settings that are no GPT-2's


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_type", "bert"),
        ("model_type", "gpt_neo"),
        ("model_type", None),
        ("activation_function", "gelu"),
        ("activation_function", "relu"),
        ("n_inner", 16),
        ("layer_norm_epsilon", 1e-6),
        ("layer_norm_epsilon", "1e-5"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        *((name, ...) for name in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")),
        ("n_layer", 2.0),
        ("n_head", 3),
        ("n_head", 0),
        ("n_embd", "8"),
        ("n_embd", 8.0),
        ("n_embd", None),
    ],
)
def test_a_setting_that_is_not_gpt2s_is_named(folder, name, value):
    resettle(folder, **{name: value})
    with pytest.raises((ValueError, TypeError), match=name):
        GPT.from_pretrained(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("dropout", [-0.5, 1, True, "0.0", None, [0.0]])
def test_a_dropout_that_is_none_is_named(folder, dropout):
    resettle(folder, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout)
    with pytest.raises((ValueError, TypeError), match=r"dropout|pdrop"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[]", "holds list"),
        (b'"gpt2"', "holds str"),
        (b"null", "holds NoneType"),
        (b"{}", "no whole number for vocab_size, n_positions, n_layer, n_head, n_embd"),
    ],
)
def test_settings_that_cannot_be_read_are_named(folder, written, said):
    (folder / SETTINGS).write_bytes(written)
    with pytest.raises(ValueError, match=said) as told:
        GPT.from_pretrained(folder)
    assert "config.json" in str(told.value)


@pytest.mark.parametrize("file", [SETTINGS, WEIGHTS])
def test_a_file_that_is_missing_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(file)):
        GPT.from_pretrained(folder)


def test_a_folder_or_name_that_is_no_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no_such"):
        GPT.from_pretrained(tmp_path / "no_such")
    (tmp_path / "a_file").write_text("")
    with pytest.raises(FileNotFoundError, match="a_file"):
        GPT.from_pretrained(tmp_path / "a_file")
    with pytest.raises(ValueError, match="'gpt-2' is none of gpt2, gpt2-medium"):
        GPT.from_pretrained("gpt-2")


# Files that are not safetensors


@pytest.mark.parametrize(
    "spoil",
    [
        lambda whole: b"",
        lambda whole: whole[:7],
        lambda whole: whole[:8],
        lambda whole: whole[:100],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: bytes(len(whole)),
        lambda whole: bytes(range(256)) * 8,
        lambda whole: b"<html>not found</html>" * 50,
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        lambda whole: (8).to_bytes(8, "little") + b"[1,2,3] ",
        lambda whole: whole[:8] + whole[8:].replace(b"F32", b"F99", 1),
    ],
)
def test_a_damaged_file_is_named(folder, spoil):
    file = folder / WEIGHTS
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged or cut short"):
        GPT.from_pretrained(folder)


@pytest.mark.parametrize(
    "size",
    [
        4096,
        20000,
        *(
            65536 + int.from_bytes(start, "little")
            for start in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")
        ),
    ],
)
def test_a_header_may_have_any_length(folder, size):
    before, tensors = GPT.from_pretrained(folder), load_file(folder / WEIGHTS)

    def header(note):
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "note": note})
        return int.from_bytes((folder / WEIGHTS).read_bytes()[:8], "little")

    assert header("." * (size - header(""))) == size
    assert_same(GPT.from_pretrained(folder), before)


class Trap:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def plain(payload, file, protocol):
    file.write_bytes(pickle.dumps({"wte.weight": payload}, protocol))


def zipped(payload, file, protocol):
    torch.save({"wte.weight": payload}, file)


def legacy(payload, file, protocol):
    torch.save({"wte.weight": payload}, file, _use_new_zipfile_serialization=False)


PICKLES = [(plain, protocol) for protocol in range(6)] + [(zipped, None), (legacy, None)]


@pytest.mark.parametrize(("write", "protocol"), PICKLES)
def test_a_pickle_by_the_name_of_safetensors_is_refused_and_not_run(
    folder, tmp_path, write, protocol
):
    sprung = tmp_path / "sprung"
    write(Trap(sprung), folder / WEIGHTS, protocol)
    with pytest.raises(ValueError, match=r"model\.safetensors is (a pickle|damaged)"):
        GPT.from_pretrained(folder)
    assert not sprung.exists()
    trap = (folder / WEIGHTS).rename(folder / "trap")  # by the other name torch would refuse it
    if write is plain:
        pickle.loads(trap.read_bytes())
    else:
        torch.load(trap, weights_only=False)
    assert sprung.exists()  # it was a trap


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl"])
def test_weights_as_a_pickle_only_are_refused_and_not_run(folder, tmp_path, name):
    sprung = tmp_path / "sprung"
    (folder / WEIGHTS).unlink()
    zipped(Trap(sprung), folder / name, None)
    with pytest.raises(ValueError, match=f"as a pickle only .*{re.escape(name)}"):
        GPT.from_pretrained(folder)
    assert not sprung.exists()


def test_a_pickle_beside_the_safetensors_is_left_alone(folder, tmp_path):
    before = GPT.from_pretrained(folder)
    zipped(Trap(tmp_path / "sprung"), folder / "pytorch_model.bin", None)
    assert_same(GPT.from_pretrained(folder), before)
    assert not (tmp_path / "sprung").exists()


# Parts and their index


def in_parts(folder, index):
    (folder / WEIGHTS).rename(folder / "part.safetensors")
    (folder / INDEX).write_text(index, "utf-8")


def test_the_parts_are_those_the_index_names(folder):
    before = GPT.from_pretrained(folder)
    in_parts(folder, json.dumps({"weight_map": {"any": "part.safetensors"}}))
    save_file({"stray": torch.zeros(1)}, folder / "other.safetensors")
    assert_same(GPT.from_pretrained(folder), before)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": ["part.safetensors"]}',
        '{"weight_map": {"a": ["part.safetensors"]}}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": null, "b": "part.safetensors"}}',
    ],
)
def test_an_index_that_makes_no_sense_is_named(folder, index):
    in_parts(folder, index)
    with pytest.raises(ValueError, match=r"index\.json is no index"):
        GPT.from_pretrained(folder)


def test_a_part_that_is_missing_or_damaged_is_named(folder):
    in_parts(folder, '{"weight_map": {"a": "part.safetensors", "b": "second.safetensors"}}')
    with pytest.raises(FileNotFoundError, match="second"):
        GPT.from_pretrained(folder)
    (folder / "second.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"second\.safetensors is damaged"):
        GPT.from_pretrained(folder)


def test_a_part_outside_the_folder_is_not_read(folder):
    (folder / WEIGHTS).rename(folder.parent / "part.safetensors")
    (folder / INDEX).write_text('{"weight_map": {"a": "../part.safetensors"}}', "utf-8")
    with pytest.raises(FileNotFoundError, match="part"):
        GPT.from_pretrained(folder)


# How far a model is from a release


@pytest.mark.parametrize("tied", [True, False])
def test_the_reference_computes_transformers_logits_from_the_files_tensors(tied):
    theirs, ids = transformers_gpt2(tie_word_embeddings=tied), ids_of(2, 32, 97)
    right = reference_logits(theirs.state_dict(), GPTConfig(**SIZES, block_size=32), ids)
    with torch.no_grad():
        assert (theirs.double()(ids).logits - right).abs().max() < 1e-12


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_the_reference_reads_names_with_and_without_their_prefix(prefix):
    model, ids = our_gpt(TINY), ids_of(2, 8, 13)
    plain = {n.removeprefix("transformer."): x for n, x in their_tensors(model).items()}
    logits = reference_logits({prefix + n: x for n, x in plain.items()}, model.config, ids)
    with torch.no_grad():
        assert (model.double()(ids) - logits).abs().max() < 1e-12


SHAPES = [(7, 5, 1, 2, 4), (13, 8, 2, 2, 8), (97, 40, 48, 4, 64), (97, 1, 3, 4, 64)]
SHAPES += [(500, 128, 12, 12, 384)]


@pytest.mark.parametrize("scale", [0.02, 0.15])
@pytest.mark.parametrize("settings", [{}, {"tied": False}, {"bias": False}])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_right_model_is_about_one_rounding_away_at_every_shape(shape, settings, scale):
    model = randomize_(GPT(GPTConfig(*shape, **settings)), scale).train()
    assert distance(model, their_tensors(model), model.config) < 5
    assert model.training


@torch.no_grad()
def lost_bias(model):
    model.h[1].attn.c_attn.bias.zero_()


@torch.no_grad()
def lost_norm(model):
    model.h[2].ln_2.reset_parameters()


def exchanged_norms(model):
    block = model.h[1]
    block.ln_1, block.ln_2 = block.ln_2, block.ln_1


def exchanged_layers(model):
    one, other = model.h[0], model.h[3]
    one.mlp.c_fc, other.mlp.c_fc = other.mlp.c_fc, one.mlp.c_fc


def bert_epsilon(model):
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-12


def other_heads(model):
    for block in model.h:
        block.attn.n_head = 8


@pytest.mark.parametrize(
    "slip",
    [
        transpose,
        lost_bias,
        lost_norm,
        no_bias,
        exchanged_norms,
        exchanged_layers,
        exact_gelu,
        bert_epsilon,
        shift_positions,
        other_heads,
    ],
)
def test_a_slip_in_loading_is_far_away(slip):
    model = our_gpt()
    released = {name: x.clone() for name, x in their_tensors(model).items()}
    slip(model)
    assert distance(model, released, model.config) > 50


def test_places_that_forget_what_a_cache_has_read_are_far_away():
    model = our_gpt()
    read = model.wpe.forward
    model.wpe.forward = lambda here: read(here - here[0])
    ids = ids_of(1, model.config.block_size, model.config.vocab_size)
    released = their_tensors(model)
    assert distance(model, released, model.config, ids) < 5  # in one go nothing is wrong
    assert distance(model, released, model.config) > 50


@pytest.mark.parametrize("shape", [(97, 40, 3, 4, 64), (5, 3, 1, 1, 4)])
@pytest.mark.parametrize("scale", [0.2, 2.0])
def test_in_float64_a_slip_has_no_rounding_to_hide_in(shape, scale):
    model = randomize_(GPT(GPTConfig(*shape)), scale)
    released = {name: x.clone() for name, x in their_tensors(model).items()}
    model.double()
    assert distance(model, released, model.config) < 1e-6
    exact_gelu(model)
    assert distance(model, released, model.config) > 1e-4


def test_where_float32_rounds_nothing_there_is_no_unit_to_measure_in():
    model = GPT(GPTConfig(vocab_size=97, block_size=8, n_layer=2, n_head=1, n_embd=1))
    with pytest.raises(ValueError, match="no unit"):
        distance(model, their_tensors(model), model.config)


def test_a_model_in_bfloat16_is_farther_than_a_wrong_gelu():
    model = our_gpt()
    released = {name: x.clone() for name, x in their_tensors(model).items()}
    half = distance(our_gpt().bfloat16(), released, model.config)
    exact_gelu(model)
    assert half > 10 * distance(model, released, model.config)
