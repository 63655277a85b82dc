"""Optimizer: which weights decay, how the learning rate goes, and what a split batch adds up to."""

from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from companion.gpt import GPT, GPTConfig
from companion.optim import configure_optimizer, decay_groups, lr_at


def small_gpt():
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=6))


# --- which weights decay


def test_matrices_and_tables_decay_and_no_vector_does():
    decayed, free = decay_groups(small_gpt(), 0.1)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(p.dim() >= 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in free["params"])


def test_every_parameter_is_in_one_group_and_a_tied_one_comes_once():
    model = small_gpt()
    assert model.lm_head.weight is model.wte.weight
    listed = [id(p) for group in decay_groups(model, 0.1) for p in group["params"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in model.parameters()}


def test_frozen_parameters_are_left_out():
    model = small_gpt()
    model.wpe.requires_grad_(False)
    model.ln_f.requires_grad_(False)
    listed = {id(p) for group in decay_groups(model, 0.1) for p in group["params"]}
    assert listed == {id(p) for p in model.parameters() if p.requires_grad}


def test_gpt2_has_so_many_numbers_that_decay():
    """As nanoGPT prints them for GPT-2's own vocabulary."""
    with torch.device("meta"):
        model = GPT(GPTConfig())
    counts = [
        (len(g["params"]), sum(p.numel() for p in g["params"])) for g in decay_groups(model, 0.1)
    ]
    assert counts == [(50, 124_318_464), (98, 121_344)]


@pytest.mark.parametrize("fused", [True, False])
def test_without_a_gradient_a_matrix_shrinks_by_lr_times_decay_and_a_vector_stays(fused):
    model = small_gpt()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = configure_optimizer(model, lr=0.1, weight_decay=0.2, fused=fused)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        left = 0.98 if p.dim() >= 2 else 1.0
        torch.testing.assert_close(p.detach(), left * before[name], msg=name)


def test_the_optimizer_takes_its_settings():
    optimizer = configure_optimizer(small_gpt(), lr=0.3)
    for group, decay in zip(optimizer.param_groups, (0.1, 0.0), strict=True):
        assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.9, 0.95), decay)


# --- how the learning rate goes

schedules = st.fixed_dictionaries(
    {
        "steps": st.integers(1, 500),
        "lr": st.floats(1e-5, 1.0),
        "part": st.floats(0, 1),
        "floor": st.floats(0, 1),
    }
).map(
    lambda d: {
        "steps": d["steps"],
        "lr": d["lr"],
        "warmup": int(d["part"] * d["steps"]),
        "min_lr": d["floor"] * d["lr"],
    }
)


@given(how=schedules, step=st.integers(0, 700))
def test_every_rate_is_above_zero_in_the_warmup_and_between_min_lr_and_lr_after_it(how, step):
    rate = lr_at(step, **how)
    low = 0.0 if step < how["warmup"] else how["min_lr"]
    assert low <= rate <= how["lr"] * (1 + 1e-12)
    assert rate > 0 or step >= how["warmup"]


@given(how=schedules)
def test_it_rises_by_equal_steps_to_lr_then_only_falls_to_min_lr_and_stays(how):
    steps, warmup, lr = how["steps"], how["warmup"], how["lr"]
    rates = [lr_at(step, **how) for step in range(steps + 3)]
    rises = [b - a for a, b in zip([0.0, *rates], rates[:warmup])]
    assert all(rise == pytest.approx(lr / warmup) for rise in rises)
    assert all(a >= b for a, b in zip(rates[warmup:], rates[warmup + 1 :]))
    if warmup:
        assert rates[warmup - 1] == pytest.approx(lr)
    if warmup < steps:
        assert rates[warmup] == pytest.approx(lr)
    assert rates[steps:] == [how["min_lr"]] * 3


def test_half_way_down_it_is_half_way_between():
    assert lr_at(60, steps=100, lr=3.0, warmup=20, min_lr=1.0) == pytest.approx(2.0)


def test_it_is_what_torch_makes_of_a_line_and_a_cosine():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.05)
    for step in range(20):
        rate = lr_at(step, steps=20, lr=0.5, min_lr=0.05)
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()


@pytest.mark.parametrize(
    "wrong",
    [{"step": -1}, {"warmup": 11}, {"warmup": -1}, {"min_lr": 0.2}, {"min_lr": -0.1}, {"lr": -1.0}],
)
def test_what_makes_no_schedule_is_refused(wrong):
    how = {"step": 0, "steps": 10, "lr": 0.1, "warmup": 2, "min_lr": 0.01} | wrong
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        lr_at(**how)


# --- a batch in parts


def gradient(model, ids, parts, weigh):
    model.zero_grad()
    for part in ids.split(parts):
        (model(part[:, :-1], part[:, 1:]) * weigh(len(part))).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def test_parts_weighted_by_their_tokens_add_up_to_the_whole_batch():
    model, ids = small_gpt().double(), torch.randint(11, (8, 9))
    whole = gradient(model, ids, [8], lambda rows: 1.0)
    parts = gradient(model, ids, [5, 2, 1], lambda rows: rows / 8)
    torch.testing.assert_close(parts, whole)
    means = gradient(model, ids, [5, 2, 1], lambda rows: 1 / 3)
    assert not torch.allclose(means, whole, rtol=1e-2)


def test_clipping_shortens_the_whole_gradient_and_keeps_its_direction():
    model, ids = small_gpt().double(), torch.randint(11, (8, 9))
    before = gradient(model, ids, [8], lambda rows: 1.0)
    said = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    after = torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(said, before.norm())
    torch.testing.assert_close(after, before * 0.1 / before.norm(), rtol=1e-4, atol=1e-9)
    nn.utils.clip_grad_norm_(model.parameters(), inf)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in model.parameters()]), after)
