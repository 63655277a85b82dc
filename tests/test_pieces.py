"""The pieces of a GPT-2 block: each equals its reference, and what must not mix does not mix."""

from inspect import unwrap
from itertools import pairwise
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention

from companion.attention import CausalSelfAttention, KVCache
from companion.gpt import GPT, GPTConfig
from companion.heads import merge_heads, split_heads
from companion.init import init_gpt2_, residual_std
from companion.lab import Toy
from companion.masks import causal_mask
from companion.mlp import MLP
from companion.scores import scaled_dot_product_attention
from companion.tying import tie_weights

SEEDS = st.integers(0, 99)
quick = settings(max_examples=25, deadline=None)

# Without the annotations' checks, which would refuse bad input before the cache can.
update = unwrap(KVCache.update)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def fill(module, seed=0, std=0.5):
    """Random numbers in all parameters, biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator))
    return module


def copy_from_conv1d(ours, theirs):
    """Conv1D keeps its weight as (in, out), a Linear as (out, in)."""
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            ours.get_parameter(name).copy_(p.T if p.dim() == 2 else p)


def close(a, b):
    """Equal up to the rounding of float64, in sums of some dozens of terms near 1."""
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def sizes_of_gpt2(n_embd, n_head=1):
    return GPT2Config(n_embd=n_embd, n_head=n_head, n_positions=32, attn_implementation="eager")


# MLP


def test_the_mlp_computes_what_gpt2s_computes():
    theirs = fill(GPT2MLP(4 * 24, sizes_of_gpt2(24))).eval()
    ours = MLP(24).eval()
    copy_from_conv1d(ours, theirs)
    x = normal(2, 5, 24, dtype=torch.float32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_the_mlp_test_above_sees_the_other_gelu(monkeypatch):
    ours, x = fill(MLP(24)).eval(), normal(2, 5, 24, dtype=torch.float32)
    right, gelu = ours(x), F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, approximate: gelu(x))
    assert not torch.allclose(right, ours(x), rtol=1e-5, atol=1e-5)


@given(B=st.integers(1, 3), T=st.integers(1, 6), C=st.integers(1, 9), seed=SEEDS)
@quick
def test_the_mlp_treats_each_position_by_itself(B, T, C, seed):
    mlp, x = fill(MLP(C), seed).double(), normal(B, T, C, seed=seed)
    alone = [[mlp(x[b : b + 1, t : t + 1])[0, 0] for t in range(T)] for b in range(B)]
    close(mlp(x), torch.stack([torch.stack(row) for row in alone]))


def test_the_mlp_is_four_times_wider_inside_and_named_as_in_gpt2():
    shapes = {name: tuple(p.shape) for name, p in MLP(6).named_parameters()}
    assert shapes == {
        "c_fc.weight": (24, 6),
        "c_fc.bias": (24,),
        "c_proj.weight": (6, 24),
        "c_proj.bias": (6,),
    }


def test_without_bias_there_is_none():
    assert set(MLP(6, bias=False).state_dict()) == {"c_fc.weight", "c_proj.weight"}
    attention = CausalSelfAttention(6, 2, 4, bias=False)
    assert set(attention.state_dict()) == {"c_attn.weight", "c_proj.weight"}
    zero = torch.zeros(1, 3, 6)
    assert (fill(MLP(6, bias=False))(zero) == 0).all()
    assert (fill(attention)(zero) == 0).all()


def test_the_mlp_drops_only_in_training_and_scales_what_is_left():
    mlp, x = fill(MLP(16, dropout=0.25)), normal(50, 20, 16, dtype=torch.float32)
    plain = fill(MLP(16))(x)
    assert torch.equal(mlp.eval()(x), plain)
    torch.manual_seed(0)
    dropped = mlp.train()(x)
    zeros = dropped == 0
    torch.testing.assert_close(dropped[~zeros], plain[~zeros] / 0.75)
    assert zeros.double().mean().item() == pytest.approx(0.25, abs=6 * sqrt(0.25 * 0.75 / 16000))


# Heads


@given(
    B=st.integers(1, 3),
    T=st.integers(1, 5),
    n_head=st.integers(1, 5),
    hs=st.integers(1, 5),
    part=st.integers(0, 2),
)
@quick
def test_heads_are_runs_of_channels_and_nothing_is_copied(B, T, n_head, hs, part):
    C = n_head * hs
    qkv = normal(B, T, 3 * C)
    x = qkv.chunk(3, dim=-1)[part]  # not contiguous
    heads = split_heads(x, n_head)
    assert heads.shape == (B, n_head, T, hs)
    assert heads.data_ptr() == x.data_ptr()
    for h in range(n_head):
        for t in range(T):
            assert torch.equal(heads[:, h, t], x[:, t, h * hs : (h + 1) * hs])
    assert torch.equal(merge_heads(heads), x)
    qkv.fill_(7)
    assert (heads == 7).all()


class Copies(TorchDispatchMode):
    """Counts the copies that torch makes of its own accord."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.name() == "aten::clone"
        return func(*args, **(kwargs or {}))


def test_heads_of_several_texts_are_copied_by_a_product_and_of_one_are_not():
    for B, copies in ((1, 0), (2, 2)):
        heads = split_heads(normal(B, 5, 12), 3)
        with Copies() as seen:
            heads @ heads.mT
        assert seen.count == copies


@given(B=st.integers(1, 3), T=st.integers(1, 5), n_head=st.integers(1, 5), hs=st.integers(1, 5))
@quick
def test_splitting_undoes_merging(B, T, n_head, hs):
    y = normal(B, n_head, T, hs)
    merged = merge_heads(y)
    assert merged.shape == (B, T, n_head * hs)
    assert torch.equal(split_heads(merged, n_head), y)
    assert torch.equal(merge_heads(y.mT.contiguous().mT), merged)  # other strides, same numbers


def test_a_view_of_other_axes_is_not_split_heads():
    x = normal(2, 3, 8)
    assert not torch.equal(split_heads(x, 4), x.view(2, 4, 3, 2))


@pytest.mark.parametrize("n_head", [0, -2, 3, 16])
def test_channels_that_do_not_divide_into_heads_are_refused(n_head):
    with pytest.raises(ValueError, match=f"8 channels do not divide into n_head={n_head} heads"):
        split_heads(normal(1, 2, 8), n_head)


@pytest.mark.parametrize("n_head", [1, 4])
def test_merging_what_was_split_moves_nothing(n_head):
    x = normal(2, 3, 8)
    assert merge_heads(split_heads(x, n_head)).data_ptr() == x.data_ptr()


# Masks


@given(T=st.integers(1, 12), past=st.integers(0, 12))
@quick
def test_a_query_may_look_at_itself_and_at_what_came_before(T, past):
    mask = causal_mask(T, past=past)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[j <= past + i for j in range(past + T)] for i in range(T)]
    assert torch.equal(mask, causal_mask(past + T)[past:])


@pytest.mark.parametrize(("T", "past"), [(0, 0), (-1, 3), (2, -1), (0, -1)])
def test_a_mask_for_no_query_or_a_negative_past_is_refused(T, past):
    with pytest.raises(ValueError, match=f"T={T} should be at least 1, and past={past} at least"):
        causal_mask(T, past=past)


def test_a_mask_is_made_where_it_is_wanted():
    assert causal_mask(3, past=1, device="meta").device.type == "meta"
    assert causal_mask(3).device.type == "cpu"


# Scores


@st.composite
def attention_case(draw):
    """Shapes of q, k, v and a mask that broadcasts to the scores, or no mask."""
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    Tq, Tk, hs, d = (draw(st.integers(1, 5)) for _ in range(4))
    seed = draw(SEEDS)
    q, k, v = (
        normal(*lead, *shape, seed=3 * seed + i).requires_grad_()
        for i, shape in enumerate([(Tq, hs), (Tk, hs), (Tk, d)])
    )
    if draw(st.booleans()):
        return q, k, v, None
    whole = [*lead, Tq, Tk]
    shape = [n if draw(st.booleans()) else 1 for n in whole]
    shape = shape[draw(st.integers(0, len(lead))) :]
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    return q, k, v, mask


def readable(q, k, v, mask):
    return scaled_dot_product_attention(q, k, v, mask)


@given(case=attention_case())
@settings(max_examples=80, deadline=None)
def test_attention_equals_torchs_in_values_and_gradients(case):
    q, k, v, mask = case
    scores_shape = (*q.shape[:-1], k.shape[-2])
    whole = None if mask is None else mask.expand(scores_shape)
    before = None if mask is None else mask.clone()
    ours = readable(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=whole)
    close(ours, theirs)
    pull = normal(*ours.shape, seed=1)
    ours, theirs = (torch.autograd.grad((y * pull).sum(), (q, k, v)) for y in (ours, theirs))
    for a, b in zip(ours, theirs):
        close(a, b)
    assert mask is None or torch.equal(mask, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_in_few_bits_is_as_near_to_the_exact_as_its_dtype_allows(dtype):
    q, k, v = (normal(2, 3, 7, 16, seed=i, dtype=dtype) for i in range(3))
    mask = causal_mask(7)
    exact = F.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), attn_mask=mask)
    ours = readable(q, k, v, mask)
    assert ours.dtype == dtype
    atol = 8 * torch.finfo(dtype).eps * exact.abs().max().item()
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=atol)


@given(case=attention_case(), nowhere=st.integers(0, 4))
@quick
def test_a_query_that_may_look_nowhere_gets_zeros_and_spoils_no_gradient(case, nowhere):
    q, k, v, _ = case
    nowhere = nowhere % q.shape[-2]
    mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    unmasked = readable(q, k, v, mask)
    mask[nowhere] = False
    y = readable(q, k, v, mask)
    others = [i for i in range(q.shape[-2]) if i != nowhere]
    assert (y[..., nowhere, :] == 0).all()
    close(y[..., others, :], unmasked[..., others, :])
    to_q, *to_rest = torch.autograd.grad(y.sum(), (q, k, v))
    assert (to_q[..., nowhere, :] == 0).all()
    wanted = torch.autograd.grad(unmasked[..., others, :].sum(), (q, k, v))
    for a, b in zip((to_q, *to_rest), wanted):
        assert a.isfinite().all()
        close(a, b)


@given(case=attention_case())
@quick
def test_an_output_is_a_mean_of_the_values_it_may_see(case):
    q, k, v, mask = case
    sees = torch.ones(q.shape[-2], 1, dtype=torch.bool) if mask is None else mask
    sees = sees.any(dim=-1, keepdim=True).expand(*q.shape[:-1], 1).double()
    close(readable(q, k, torch.ones_like(v), mask), sees.expand(*q.shape[:-1], v.shape[-1]))


def test_scores_far_from_zero_do_not_overflow():
    q = 1000 * normal(1, 4, 8, dtype=torch.float32)
    y = readable(q, q, torch.eye(4)[None], causal_mask(4))
    assert y.isfinite().all()
    torch.testing.assert_close(y.sum(-1), torch.ones(1, 4))


def test_a_key_out_of_sight_counts_for_nothing_however_badly_the_others_fit():
    q, k, v = torch.full((1, 2, 4), 1e6), torch.full((1, 2, 4), -1e6), normal(1, 2, 4)
    y = readable(q.double(), k.double(), v, causal_mask(2))  # scores of -2e12
    close(y[0], torch.stack([v[0, 0], v[0].mean(0)]))


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_a_share_of_the_weights_is_dropped_and_the_rest_scaled(p):
    T = 64
    q, k, mask = normal(4, T, 8), normal(4, T, 8, seed=1), causal_mask(T)
    seen = torch.eye(T, dtype=torch.float64).expand(4, T, T)  # as values, these show the weights
    torch.manual_seed(0)
    weights = readable(q, k, seen, mask)
    dropped = scaled_dot_product_attention(q, k, seen, mask, dropout_p=p)
    gone = (dropped == 0) & mask
    kept = ~gone & mask
    close(dropped[kept], weights[kept] / (1 - p) if p < 1 else weights[kept])
    n = 4 * mask.sum().item()
    assert gone.sum().item() / n == pytest.approx(p, abs=6 * sqrt(p * (1 - p) / n))
    assert (dropped[~mask.expand_as(dropped)] == 0).all()


# Attention


@st.composite
def sizes(draw):
    """B, T, n_head, hs, and lengths of pieces that add up to T."""
    B, T = draw(st.integers(1, 3)), draw(st.integers(1, 9))
    cuts = sorted(draw(st.sets(st.integers(1, T - 1)))) if T > 1 else []
    pieces = [b - a for a, b in pairwise([0, *cuts, T])]
    return B, T, draw(st.integers(1, 4)), draw(st.integers(1, 4)), pieces


def attention_of(n_head, hs, block_size=9, seed=0, **options):
    module = CausalSelfAttention(n_head * hs, n_head, block_size, **options)
    return fill(module, seed).double()


@given(case=sizes(), seed=SEEDS)
@quick
def test_fused_and_readable_agree_in_values_and_gradients(case, seed):
    B, T, n_head, hs, _ = case
    attention = attention_of(n_head, hs, seed=seed)
    x = normal(B, T, n_head * hs, seed=seed).requires_grad_()
    pull, results = normal(*x.shape, seed=seed + 1), []
    for fused in (True, False):
        attention.fused = fused
        y = attention(x)
        leaves = (x, *attention.parameters())
        results.append((y, *torch.autograd.grad((y * pull).sum(), leaves)))
    for a, b in zip(*results):
        close(a, b)


@given(case=sizes(), fused=st.booleans(), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_read_in_pieces_with_a_cache_the_outputs_are_the_same(case, fused, seed):
    B, T, n_head, hs, pieces = case
    attention, cache = attention_of(n_head, hs, seed=seed), KVCache(9)
    x = normal(B, T, n_head * hs, seed=seed)
    with torch.no_grad():
        whole = attention(x)
        attention.fused = fused
        parts = []
        for part in x.split(pieces, dim=1):
            parts.append(attention(part, cache))
            assert cache.length == sum(p.shape[1] for p in parts)
    close(torch.cat(parts, dim=1), whole)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "readable"])
@pytest.mark.parametrize(("n_head", "T"), [(1, 1), (2, 7), (3, 16)])
def test_attention_computes_what_gpt2s_computes(n_head, T, fused):
    theirs = fill(GPT2Attention(sizes_of_gpt2(24, n_head), layer_idx=0), std=0.3).eval()
    ours = CausalSelfAttention(24, n_head, 32).eval()
    copy_from_conv1d(ours, theirs)
    ours.fused = fused
    x = normal(2, T, 24, dtype=torch.float32)
    hidden = torch.zeros(T, T).masked_fill(~torch.ones(T, T).tril().bool(), -torch.inf)
    reference = theirs(x, attention_mask=hidden[None, None])[0]
    torch.testing.assert_close(ours(x), reference, rtol=1e-5, atol=1e-5)


@given(case=sizes(), at=st.integers(0, 8), fused=st.booleans(), seed=SEEDS)
@quick
def test_no_output_depends_on_a_later_token_or_another_row(case, at, fused, seed):
    B, T, n_head, hs, _ = case
    at = at % T
    attention = attention_of(n_head, hs, seed=seed)
    attention.fused = fused
    x = normal(B, T, n_head * hs, seed=seed)
    changed = x.clone()
    changed[0, at] += 1
    before, after = attention(x), attention(changed)
    close(after[1:], before[1:])
    close(after[0, :at], before[0, :at])
    assert (after[0, at] - before[0, at]).abs().max() > 1e-6


@given(case=sizes(), n=st.integers(1, 9), fused=st.booleans())
@quick
def test_the_outputs_for_a_beginning_are_the_beginning_of_the_outputs(case, n, fused):
    B, T, n_head, hs, _ = case
    attention, x = attention_of(n_head, hs), normal(B, T, n_head * hs)
    attention.fused = fused
    n = min(n, T)
    close(attention(x[:, :n]), attention(x)[:, :n])


def test_attention_has_gpt2s_parameters_and_nothing_else_to_save():
    shapes = {name: tuple(x.shape) for name, x in attention_of(2, 3).state_dict().items()}
    assert shapes == {
        "c_attn.weight": (18, 6),
        "c_attn.bias": (18,),
        "c_proj.weight": (6, 6),
        "c_proj.bias": (6,),
    }


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "readable"])
def test_attention_drops_weights_and_outputs_in_training_alone(fused):
    B, n_head, hs, p = 300, 4, 16, 0.5
    attention = CausalSelfAttention(n_head * hs, n_head, 1, dropout=p)
    attention.fused = fused
    with torch.no_grad():  # all values are 1, and the projection hands them on
        attention.c_attn.weight.zero_()
        attention.c_attn.bias.fill_(1)
        attention.c_proj.weight.copy_(torch.eye(n_head * hs))
        attention.c_proj.bias.zero_()
    x = normal(B, 1, n_head * hs, dtype=torch.float32)
    assert (attention.eval()(x) == 1).all()
    torch.manual_seed(0)
    y = attention.train()(x)
    torch.testing.assert_close(y[y != 0], torch.full_like(y[y != 0], 1 / (1 - p) ** 2))
    # A head of one key loses it whole; of a head that is left, channels are dropped.
    left = (y.view(B, n_head, hs) != 0).any(dim=-1)
    share = left.double().mean().item()
    assert share == pytest.approx(1 - p, abs=6 * sqrt(p * (1 - p) / left.numel()))
    channels = (y.view(B, n_head, hs)[left] != 0).double()
    within = 6 * sqrt(p * (1 - p) / channels.numel())
    assert channels.mean().item() == pytest.approx(1 - p, abs=within)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "readable"])
def test_in_training_dropout_differs_each_time_and_in_eval_it_never_does(fused):
    attention, x = attention_of(2, 4, dropout=0.5), normal(2, 9, 8)
    attention.fused = fused
    torch.manual_seed(0)
    assert not torch.allclose(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))
    close(attention(x), attention_of(2, 4)(x))


@pytest.mark.parametrize(("n_embd", "n_head"), [(10, 4), (4, 8), (6, 0), (6, -2)])
def test_a_width_that_does_not_divide_is_named(n_embd, n_head):
    with pytest.raises(ValueError, match=f"n_embd={n_embd} is not divisible by n_head={n_head}"):
        CausalSelfAttention(n_embd, n_head, 8)


def test_more_positions_than_block_size_are_refused():
    attention, cache = attention_of(2, 2, block_size=4), KVCache(4)
    assert attention(normal(1, 4, 4)).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="T=5 is more than block_size=4"):
        attention(normal(1, 5, 4))
    with torch.no_grad():
        attention(normal(1, 3, 4), cache)
        with pytest.raises(ValueError, match="T=5 is more than block_size=4"):
            attention(normal(1, 2, 4), cache)


def test_a_longer_cache_does_not_lift_block_size():
    attention, cache = attention_of(2, 2, block_size=4), KVCache(100)
    with torch.no_grad():
        attention(normal(1, 3, 4), cache)
        with pytest.raises(ValueError, match="block_size"):
            attention(normal(1, 2, 4), cache)


# The cache


@given(case=sizes(), spare=st.integers(0, 3))
@quick
def test_a_cache_returns_all_that_it_was_given_in_order(case, spare):
    B, T, n_head, hs, pieces = case
    cache = KVCache(T + spare)
    keys, values = normal(B, n_head, T, hs), normal(B, n_head, T, hs, seed=1)
    end = 0
    for k, v in zip(keys.split(pieces, dim=2), values.split(pieces, dim=2)):
        end += k.shape[2]
        kept_keys, kept_values = cache.update(k, v)
        assert cache.length == end
        assert torch.equal(kept_keys, keys[:, :, :end])
        assert torch.equal(kept_values, values[:, :, :end])


# Behind 3 kept positions of 2 texts, 2 heads and 4 channels, in a cache of 5:
DO_NOT_FIT = {
    "too many": (2, 2, 3, 4),
    "another batch": (1, 2, 1, 4),
    "other heads": (2, 1, 1, 4),
    "another head size": (2, 2, 1, 2),
}


@pytest.mark.parametrize("shape", DO_NOT_FIT.values(), ids=DO_NOT_FIT.keys())
def test_what_does_not_fit_the_cache_is_refused_and_nothing_of_it_is_kept(shape):
    cache, k, v = KVCache(5), normal(2, 2, 5, 4), normal(2, 2, 5, 4, seed=1)
    cache.update(k[:, :, :3], v[:, :, :3])
    with pytest.raises(ValueError, match="are kept"):
        update(cache, normal(*shape, seed=2), normal(*shape, seed=3))
    assert cache.length == 3
    kept = cache.update(k[:, :, 3:], v[:, :, 3:])
    assert torch.equal(kept[0], k)
    assert torch.equal(kept[1], v)


def test_a_first_update_that_is_refused_leaves_an_empty_cache():
    cache, long, short = KVCache(2), normal(3, 2, 3, 4), normal(1, 2, 2, 4)
    with pytest.raises(ValueError, match="block_size is 2"):
        cache.update(long, long)
    assert torch.equal(cache.update(short, short)[0], short)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 2, 1, 1), (2, 2, 1, 3)])
def test_values_that_do_not_match_their_keys_are_refused(shape):
    cache = KVCache(5)
    cache.update(normal(2, 2, 3, 4), normal(2, 2, 3, 4))
    with pytest.raises(ValueError, match="values"):
        update(cache, normal(2, 2, 1, 4), normal(*shape))


@pytest.mark.parametrize("shape", [(1, 2, 3, 4), (2, 1, 3, 4), (2, 2, 1, 4), (2, 2, 4, 4)])
def test_first_values_that_do_not_match_their_keys_are_refused_and_leave_it_empty(shape):
    cache, k = KVCache(5), normal(1, 3, 2, 4)
    with pytest.raises(ValueError, match="values"):
        update(cache, normal(2, 2, 3, 4), normal(*shape))
    assert cache.length == 0
    assert torch.equal(cache.update(k, k)[1], k)


# Initialisation


def is_normal(x, std):
    """Whether numbers look drawn from a normal of this std: its mean, std and shape."""
    x, n = x.detach().flatten().double(), x.numel()
    within_one = (x.abs() < std).double().mean().item()
    assert x.mean().item() == pytest.approx(0, abs=6 * std / sqrt(n))
    assert x.std().item() == pytest.approx(std, rel=6 / sqrt(2 * n))
    assert within_one == pytest.approx(0.6827, abs=6 * sqrt(0.6827 * 0.3173 / n))


def documented_std(name, n_layer):
    if name.endswith("c_proj.weight"):
        return 0.02 / sqrt(2 * n_layer)
    return 0.01 if name == "wpe.weight" else 0.02


def gpt(n_layer, **options):
    return GPT(GPTConfig(1000, 128, n_layer, 4, 128, **options))


@pytest.mark.parametrize("n_layer", [1, 3])
@pytest.mark.parametrize("tied", [True, False])
def test_each_kind_of_weight_starts_as_documented(n_layer, tied):
    torch.manual_seed(0)
    model = fill(gpt(n_layer, tied=tied))  # nothing may be left of what was there
    init_gpt2_(model, n_layer)
    seen = set()
    for name, p in model.named_parameters():
        kind = name.split(".")[-2]
        seen.add(kind)
        if kind.startswith("ln_"):
            assert (p == (1 if name.endswith("weight") else 0)).all()
        elif name.endswith("bias"):
            assert (p == 0).all()
        else:
            is_normal(p, documented_std(name, n_layer))
    wanted = {"wte", "wpe", "c_attn", "c_fc", "c_proj", "ln_1", "ln_2", "ln_f"}
    assert seen == (wanted if tied else wanted | {"lm_head"})
    assert (model.lm_head.weight is model.wte.weight) == tied


def test_a_model_without_biases_is_started_too():
    torch.manual_seed(0)
    model = gpt(2, bias=False)
    init_gpt2_(model, 2)
    is_normal(model.h[1].mlp.c_proj.weight, 0.01)


def test_the_start_goes_by_name_in_any_model():
    torch.manual_seed(0)
    toy = fill(Toy(1000, width=128, layers=2, context=128))
    init_gpt2_(toy, 8)
    for name in ("h.1.attn.c_proj.weight", "h.0.mlp.c_fc.weight", "wpe.weight", "wte.weight"):
        is_normal(toy.get_parameter(name), documented_std(name, 8))
    assert toy.lm_head.weight is toy.wte.weight


def test_the_seed_makes_the_start():
    starts = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        starts.append(gpt(1).wte.weight)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_a_model_whose_branches_would_go_unscaled_is_refused():
    with pytest.raises(ValueError, match="no Linear is named c_proj"):
        init_gpt2_(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)), 2)
    with pytest.raises(ValueError, match="n_layer=0 should be at least 1"):
        init_gpt2_(gpt(1), 0)


@given(n_layer=st.integers(1, 200))
@quick
def test_the_variances_of_all_branches_add_up_to_that_of_one_unscaled(n_layer):
    assert 2 * n_layer * residual_std(n_layer) ** 2 == pytest.approx(0.02**2)


@pytest.mark.parametrize("n_layer", [0, -1])
def test_fewer_than_one_layer_is_refused(n_layer):
    with pytest.raises(ValueError, match=f"n_layer={n_layer} should be at least 1"):
        residual_std(n_layer)


@given(n_layer=st.integers(1, 24), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_stream_is_as_wide_after_any_number_of_independent_branches(n_layer, seed):
    C, N = 64, 64
    torch.manual_seed(seed)
    stream = torch.zeros(N, C)
    for _ in range(2 * n_layer):
        branch = nn.ModuleDict({"c_proj": nn.Linear(C, C)})
        init_gpt2_(branch, n_layer)
        stream += branch["c_proj"](torch.randn(N, C)).detach()
    # C terms of variance 0.02² each, were it one branch; sampled in C weights and N texts
    assert stream.std().item() == pytest.approx(0.02 * sqrt(C), rel=6 / sqrt(C * N))


# Tying


def test_tied_weights_are_one_parameter():
    embedding, head = nn.Embedding(7, 3), nn.Linear(3, 7)
    wanted = embedding.weight
    tie_weights(embedding, head)
    assert head.weight is embedding.weight is wanted
    model = nn.ModuleList([embedding, head])
    assert [tuple(p.shape) for p in model.parameters()] == [(7, 3), (7,)]
    assert set(model.state_dict()) == {"0.weight", "1.weight", "1.bias"}


@given(V=st.integers(1, 9), C=st.integers(1, 6), T=st.integers(1, 6), seed=SEEDS)
@quick
def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_uses(V, C, T, seed):
    ids = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(seed))
    pull = normal(2, T, V, seed=seed)

    def parts():
        return fill(nn.Embedding(V, C)).double(), fill(nn.Linear(C, V, bias=False)).double()

    def backward(embedding, head):
        (head(embedding(ids).tanh()) * pull).sum().backward()

    apart = parts()
    apart[1].weight.data.copy_(apart[0].weight)
    tied = parts()
    tie_weights(*tied)
    backward(*apart)
    backward(*tied)
    close(tied[0].weight.grad, apart[0].weight.grad + apart[1].weight.grad)


@pytest.mark.parametrize("shape", [(7, 3), (4, 7), (3, 8)])
def test_weights_of_other_shapes_are_not_tied(shape):
    embedding, head = nn.Embedding(7, 3), nn.Linear(*shape)
    weight = head.weight
    said = rf"\(7, 3\).*\({shape[1]}, {shape[0]}\)"
    with pytest.raises(ValueError, match=said):
        tie_weights(embedding, head)
    assert head.weight is weight
