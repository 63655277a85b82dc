"""The model that lessons borrow: GPT-2 in small, causal, and trained the same each time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from companion.lab import Toy, held_out_loss, sample, scale, train
from companion.lab.toy import SITES
from companion.lab.training import Corpus, next_id_loss, random_windows

ABC = Corpus("abcdefgh", torch.arange(900) % 8, torch.arange(200) % 8)


def ids_of(B, T, V, seed=0):
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


def test_the_toy_computes_what_gpt2_computes():
    sizes = GPT2Config(
        vocab_size=53, n_embd=32, n_layer=4, n_head=4, n_positions=16, resid_pdrop=0, embd_pdrop=0
    )
    reference = GPT2LMHeadModel(sizes).eval()
    toy = Toy(53, width=32, layers=4, heads=4, context=16)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, theirs in reference.named_parameters():
            theirs.copy_(0.3 * torch.randn_like(theirs))
            ours = toy.get_parameter(name.removeprefix("transformer."))
            conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
            ours.copy_(theirs.T if conv1d else theirs)
    ids = ids_of(3, 16, 53)
    torch.testing.assert_close(toy(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


def test_at_gpt2s_size_it_has_gpt2s_parameters():
    with torch.device("meta"):
        toy = Toy(
            50257, width=768, layers=12, heads=12, context=1024, init=lambda model, layers: None
        )
    assert sum(p.numel() for p in toy.parameters()) == 124_439_808  # as in the release


@given(T=st.integers(2, 16), at=st.integers(0, 15), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_no_logit_depends_on_a_later_token_or_another_row(T, at, seed):
    at = at % T
    torch.manual_seed(0)
    toy = Toy(11, width=16, layers=2, heads=2, context=16)
    ids = ids_of(2, T, 11, seed)
    changed = ids.clone()
    changed[0, at] = (changed[0, at] + 1) % 11
    before, after = toy(ids), toy(changed)
    assert torch.equal(before[1], after[1])
    torch.testing.assert_close(before[0, :at], after[0, :at])
    assert not torch.allclose(before[0, at], after[0, at])


def silenced(site):
    """A toy in which what the site drops was zero from the start."""
    toy = filled()
    with torch.no_grad():
        if site == "embeddings":
            toy.wte.weight.zero_()
            toy.wpe.weight.zero_()
        for block in toy.h:
            if site == "weights":  # then every value counts nothing
                block.attn.c_attn.weight[32:].zero_()
                block.attn.c_attn.bias[32:].zero_()
            elif site == "attention":
                block.attn.c_proj.weight.zero_()
                block.attn.c_proj.bias.zero_()
            elif site == "mlp":
                block.mlp.c_proj.weight.zero_()
                block.mlp.c_proj.bias.zero_()
    return toy


def filled(dropout=0.0):
    toy = Toy(11, width=16, layers=2, heads=2, context=16, tie=False, dropout=dropout)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in toy.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return toy


@pytest.mark.parametrize("site", SITES)
def test_dropout_at_one_site_drops_there_and_nowhere_else(site):
    ids = ids_of(3, 9, 11)
    all_of_it = filled({site: 1.0}).train()(ids)
    torch.testing.assert_close(all_of_it, silenced(site)(ids))
    some = filled({site: 0.5})
    assert not torch.equal(some.train()(ids), some(ids))
    assert torch.equal(some.eval()(ids), filled().eval()(ids))


def test_one_number_drops_at_the_embeddings_and_the_branches():
    def drops(dropout):
        torch.manual_seed(0)
        return filled(dropout).train()(ids_of(3, 9, 11))

    named = dict.fromkeys(("embeddings", "attention", "mlp"), 0.2)
    assert torch.equal(drops(0.2), drops(named))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="not divisible"):
        Toy(11, width=10, heads=4)
    with pytest.raises(ValueError, match="'heads' is no site of dropout"):
        Toy(11, dropout={"mlp": 0.1, "heads": 0.1})
    with pytest.raises(ValueError, match="context of 8"):
        Toy(11, width=8, heads=2, context=8)(ids_of(1, 9, 11))


def test_every_piece_can_be_swapped():
    used = set()

    def piece(name, do):
        def wrapped(*args):
            used.add(name)
            return do(*args)

        return wrapped

    pieces = {
        "scores": piece("scores", lambda q, k: q @ k.mT),
        "mask": piece("mask", lambda T: torch.ones(T, T, dtype=torch.bool).tril()),
        "weights": piece("weights", lambda scores, mask: scores.softmax(-1) * mask),
        "split": piece("split", lambda x, n: x.unflatten(-1, (n, -1)).transpose(1, 2)),
        "merge": piece("merge", lambda y: y.transpose(1, 2).flatten(2)),
        "norm": piece("norm", nn.LayerNorm),
        "init": piece("init", lambda model, layers: None),
        "residual": piece("residual", torch.add),
        "keep": piece("keep", nn.ModuleList),
    }
    run = train(steps=2, text=ABC, width=16, heads=2, context=8, dropout=0.1, tie=False, **pieces)
    assert used == set(pieces)
    assert run.model.lm_head.weight is not run.model.wte.weight


def test_blocks_in_a_plain_list_are_used_and_not_known():
    torch.manual_seed(0)
    toy = Toy(11, width=16, layers=3, heads=2, context=8, keep=list)
    assert [type(toy.h), len(toy.h)] == [list, 3]
    assert not [name for name, _ in toy.named_parameters() if name.startswith("h.")]
    toy(ids_of(2, 8, 11)).sum().backward()
    assert all(p.grad is not None for block in toy.h for p in block.parameters())


def test_the_same_seed_gives_the_same_run_and_another_another():
    one, same, other = (
        train(steps=12, seed=seed, text=ABC, width=16, heads=2, context=8) for seed in (5, 5, 6)
    )
    assert one.loss == same.loss
    assert one.val_loss == same.val_loss
    assert one.loss != other.loss


def test_training_leaves_the_random_state_as_it_was():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(steps=2, text=ABC, width=16, heads=2, context=8, dropout=0.5)
    assert torch.equal(before, torch.get_rng_state())


def test_training_learns_a_text_that_can_be_learned():
    run = train(steps=60, lr=1e-2, text=ABC, width=32, heads=2, context=8)
    assert run.val_loss[0][1] > 1.9  # ln 8 = 2.08
    assert run.val_loss[-1][1] < 0.1
    assert sample(run.model, ABC, "abc", length=8) == "abcdefghabc"


def test_another_loss_can_be_trained_on_and_the_right_one_is_held_out():
    def copying(logits, ids, next_ids):
        return next_id_loss(logits, ids, ids)

    run = train(steps=60, lr=1e-2, text=ABC, loss=copying, width=32, heads=2, context=8)
    assert run.loss[-1] < 0.1
    assert run.val_loss[-1][1] > 2


def test_what_is_watched_is_seen_every_ten_steps_and_at_the_end():
    run = train(
        steps=25, text=ABC, watch=lambda model: model.training, width=16, heads=2, context=8
    )
    assert run.watched == [(10, True), (20, True), (25, True)]
    assert len(run.loss) == 25
    assert [step for step, _ in run.val_loss][::5] == [0, 10, 20]
    assert run.val_loss[-1][0] == 25


def test_held_out_loss_is_taken_without_dropout_and_leaves_the_mode():
    torch.manual_seed(0)
    model = Toy(8, width=16, heads=2, context=8, dropout=0.9).train()
    assert held_out_loss(model, ABC) == held_out_loss(model, ABC)
    assert model.training


def test_a_target_is_the_next_positions_input():
    inputs, targets = random_windows(ABC.train, 8, 64, torch.Generator().manual_seed(0))
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert torch.equal(targets, (inputs + 1) % 8)


def test_every_window_of_a_text_can_be_drawn():
    inputs, targets = random_windows(torch.arange(6), 4, 200, torch.Generator().manual_seed(0))
    assert {row[0] for row in inputs.tolist()} == {0, 1}
    assert targets.max() == 5
    with pytest.raises(ValueError, match="too short"):
        random_windows(torch.arange(4), 4, 1, torch.Generator())


def test_a_character_the_text_lacks_is_named():
    with pytest.raises(ValueError, match="'z' is not one of the text's 8 characters"):
        ABC.encode("abz")
    assert ABC.decode(ABC.encode("hgfa")) == "hgfa"


@pytest.mark.parametrize(("name", "steps"), [("ci", 1), ("laptop", 2), ("gpu", 3), ("", 2)])
def test_the_scale_chooses(monkeypatch, name, steps):
    monkeypatch.setenv("COMPANION_SCALE", name)
    assert scale(ci=1, laptop=2, gpu=3) == steps


def test_the_gpus_value_is_the_laptops_where_none_is_given(monkeypatch):
    monkeypatch.setenv("COMPANION_SCALE", "gpu")
    assert scale(ci=1, laptop=2) == 2


def test_an_unknown_scale_is_refused(monkeypatch):
    monkeypatch.setenv("COMPANION_SCALE", "huge")
    with pytest.raises(ValueError, match="'huge' is none of ci, laptop, gpu"):
        scale(ci=1, laptop=2)
