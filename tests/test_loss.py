"""The loss of lesson 07: three routes, the chunked form, its errors and its units."""

from functools import partial
from inspect import unwrap
from math import log

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from companion.loss import (
    bits_per_byte,
    chunked_next_token_loss,
    expected_initial_loss,
    next_token_loss,
    perplexity,
)

# Without the annotations' checks, which would refuse bad input before the functions can.
plain_loss, chunked_loss = unwrap(next_token_loss), unwrap(chunked_next_token_loss)
in_chunks = partial(chunked_next_token_loss, rows=9)


def case(B=3, T=7, C=16, V=29, dtype=torch.float32, seed=0, ignored=0.0):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(B, T, C, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(V, C, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(V, (B, T), generator=generator)
    targets[torch.rand(B, T, generator=generator) < ignored] = -100
    return hidden, weight, targets


def gradients_of_the_head_alone(weight, ids, targets):
    hidden = F.embedding(ids, weight).tanh().detach()
    return gradients(next_token_loss(hidden @ weight.T, targets), weight)[0]


def gradients(loss, *leaves):
    return torch.autograd.grad(loss, leaves)


@given(B=st.integers(1, 4), T=st.integers(1, 9), V=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_loss_is_the_mean_of_each_positions_own(B, T, V, seed):
    hidden, weight, targets = case(B, T, 4, V, seed=seed)
    logits = hidden @ weight.T
    one_by_one = [F.cross_entropy(logits[b, t], targets[b, t]) for b in range(B) for t in range(T)]
    torch.testing.assert_close(next_token_loss(logits, targets), torch.stack(one_by_one).mean())


@given(
    B=st.integers(1, 3),
    T=st.integers(1, 9),
    V=st.integers(1, 40),
    rows=st.integers(1, 30),
    ignored=st.sampled_from([0.0, 0.4, 1.0]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_chunked_and_plain_agree_in_value_and_gradients(B, T, V, rows, ignored, seed):
    hidden, weight, targets = case(B, T, 8, V, torch.float64, seed, ignored)
    plain = next_token_loss(hidden @ weight.T, targets)
    chunked = chunked_next_token_loss(hidden, weight, targets, rows=rows)
    torch.testing.assert_close(chunked, plain)
    both = (gradients(loss, hidden, weight) for loss in (chunked, plain))
    for ours, reference in zip(*both):
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunked_is_as_near_to_the_exact_gradient_as_plain_is(dtype):
    hidden, weight, targets = case(4, 64, 48, 1000, dtype)
    plain = next_token_loss(hidden @ weight.T, targets)
    chunked = chunked_next_token_loss(hidden, weight, targets, rows=50)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    truth = gradients(next_token_loss(exact[0] @ exact[1].T, targets), *exact)
    ours, peer = (gradients(loss, hidden, weight) for loss in (chunked, plain))
    assert chunked.dtype == plain.dtype == torch.float32
    torch.testing.assert_close(chunked, plain)
    for mine, other, wanted in zip(ours, peer, truth):
        step = torch.finfo(dtype).eps * wanted.abs().max()
        assert (mine - wanted).abs().max() <= (other - wanted).abs().max() + step


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_shared_with_the_embedding_gets_both_gradients(dtype):
    _, weight, targets = case(4, 32, 48, 300, dtype)
    ids = targets.roll(1, 1)

    def loss(form):
        hidden = F.embedding(ids, weight).tanh()
        return form(hidden)

    plain = loss(lambda hidden: next_token_loss(hidden @ weight.T, targets))
    chunked = loss(lambda hidden: chunked_next_token_loss(hidden, weight, targets, rows=9))
    (ours,), (reference,) = gradients(chunked, weight), gradients(plain, weight)
    scale = reference.abs().max().item()  # a sum of many terms rounds as its largest
    torch.testing.assert_close(ours, reference, rtol=0, atol=8 * scale * torch.finfo(dtype).eps)
    assert (ours - gradients_of_the_head_alone(weight, ids, targets)).abs().max() > scale / 100


def test_the_chunked_gradient_is_scaled_by_what_follows():
    hidden, weight, targets = case()
    once = gradients(in_chunks(hidden, weight, targets), hidden, weight)
    thrice = gradients(3 * in_chunks(hidden, weight, targets), hidden, weight)
    for one, three in zip(once, thrice):
        torch.testing.assert_close(3 * one, three)


def test_chunked_follows_autocast_as_a_linear_layer_does():
    hidden, weight, targets = case(2, 32, 48, 300)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = next_token_loss(F.linear(hidden, weight), targets)
        chunked = in_chunks(hidden, weight, targets)
    torch.testing.assert_close(chunked, plain)
    ours, reference = (gradients(loss, hidden, weight) for loss in (chunked, plain))
    for a, b in zip(ours, reference):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0, atol=4 * b.abs().max().item() * 2**-8)


@pytest.mark.parametrize(
    ("N", "V", "rows", "at_once"),
    [
        (128, 500, 16, 16),
        (1500, 500, None, 1500),  # few logits: all of them
        (700, 50257, None, 640),
    ],
)
def test_the_logits_of_some_rows_are_made_at_once(N, V, rows, at_once):
    hidden, weight, targets = case(1, N, 4, V)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    with Watch():
        chunked_next_token_loss(hidden, weight, targets, rows=rows).backward()
    assert largest == at_once * V


def test_no_gradient_is_made_where_none_is_wanted():
    hidden, weight, targets = case()
    with torch.no_grad():
        loss = in_chunks(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, next_token_loss(hidden @ weight.T, targets).detach())


def test_only_one_argument_may_want_a_gradient():
    hidden, weight, targets = case()
    (ours,) = gradients(in_chunks(hidden, weight.detach(), targets), hidden)
    (reference,) = gradients(next_token_loss(hidden @ weight.T, targets), hidden)
    torch.testing.assert_close(ours, reference)


def test_all_positions_ignored_gives_zero_and_no_gradient():
    hidden, weight, targets = case()
    targets = torch.full_like(targets, -100)
    for loss in (
        next_token_loss(hidden @ weight.T, targets),
        in_chunks(hidden, weight, targets),
    ):
        assert loss.item() == 0
        assert all((g == 0).all() for g in gradients(loss, hidden, weight))


def test_ignored_positions_count_neither_above_nor_below():
    hidden, weight, targets = case(1, 6)
    logits = hidden @ weight.T
    padded = targets.clone()
    padded[0, 4:] = -100
    torch.testing.assert_close(
        next_token_loss(logits, padded), next_token_loss(logits[:, :4], targets[:, :4])
    )


def test_another_sign_for_ignored_can_be_chosen():
    hidden, weight, targets = case()
    targets[0, 0] = 28
    a = next_token_loss(hidden @ weight.T, targets, ignore_index=28)
    b = in_chunks(hidden, weight, targets, ignore_index=28)
    torch.testing.assert_close(a, b)
    assert a != next_token_loss(hidden @ weight.T, targets)


def test_bfloat16_logits_do_not_round_the_loss():
    logits = torch.randn(2, 50, 1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    targets = torch.zeros(2, 50, dtype=torch.long)
    torch.testing.assert_close(
        next_token_loss(logits, targets), next_token_loss(logits.float(), targets)
    )


BOTH = [
    lambda hidden, weight, targets: plain_loss(hidden @ weight.T, targets),
    lambda hidden, weight, targets: chunked_loss(hidden, weight, targets),
    lambda hidden, weight, targets: chunked_loss(hidden, weight, targets, rows=9),
]


@pytest.mark.parametrize("loss", BOTH, ids=["plain", "at once", "chunked"])
@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        (lambda t: t.float(), TypeError, "torch.float32"),
        (lambda t: t > 3, TypeError, "torch.bool"),
        (lambda t: t[:, :-1], ValueError, r"\(3, 6\)"),
        (lambda t: t.flatten(), ValueError, r"\(21,\)"),
        (lambda t: t.T, ValueError, r"\(7, 3\)"),
        (lambda t: t + 29, ValueError, r"targets\[0, 0\] is \d+; ids go from 0 to 28"),
        (lambda t: t - 40, ValueError, "is -"),
    ],
)
def test_targets_that_make_no_sense_are_named(loss, spoil, error, said):
    hidden, weight, targets = case()
    with pytest.raises(error, match=said):
        loss(hidden, weight, spoil(targets))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_any_integer_dtype_of_targets_will_do(dtype):
    hidden, weight, targets = case()
    for loss in BOTH:
        same = loss(hidden, weight, targets)
        torch.testing.assert_close(loss(hidden, weight, targets.to(dtype)), same)


def test_arguments_that_do_not_fit_are_named():
    hidden, weight, targets = case()
    with pytest.raises(ValueError, match=r"\(B, T, V\)"):
        plain_loss((hidden @ weight.T).flatten(0, 1), targets)
    with pytest.raises(ValueError, match="same C"):
        chunked_loss(hidden, weight.T, targets)
    with pytest.raises(ValueError, match="same C"):
        chunked_loss(hidden[0], weight, targets)
    with pytest.raises(ValueError, match="cast one"):
        chunked_loss(hidden, weight.bfloat16(), targets)
    with pytest.raises(ValueError, match="rows=0"):
        chunked_loss(hidden, weight, targets, rows=0)


def test_the_annotations_refuse_a_wrong_shape():
    hidden, weight, targets = case()
    with pytest.raises(TypeError):
        next_token_loss(hidden @ weight.T, targets[0])


def test_the_first_loss_is_what_random_scores_give():
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(5000, (8, 256), generator=generator)
    for spread in (0.0, 0.5, 1.0):
        logits = spread * torch.randn(8, 256, 5000, generator=generator)
        measured = next_token_loss(logits, targets).item()
        assert measured == pytest.approx(expected_initial_loss(5000, spread), abs=0.06)


@pytest.mark.parametrize(("V", "spread"), [(0, 0.0), (-3, 0.0), (10, -0.1)])
def test_an_impossible_start_is_refused(V, spread):
    with pytest.raises(ValueError, match="should be at least"):
        expected_initial_loss(V, spread)


def test_perplexity_of_an_even_choice_is_the_number_of_choices():
    assert perplexity(log(37)) == pytest.approx(37)
    assert perplexity(torch.tensor(log(37))) == pytest.approx(37)


def test_bits_per_byte_do_not_depend_on_how_the_text_is_cut():
    # eight nats for the text, in 4 tokens or in 8
    assert bits_per_byte(2.0, tokens=4, bytes=16) == bits_per_byte(1.0, tokens=8, bytes=16)
    assert bits_per_byte(8 * log(2), tokens=3, bytes=3) == pytest.approx(8)
    with pytest.raises(ValueError, match="positive"):
        bits_per_byte(1.0, tokens=1, bytes=0)
