"""Operations of training, what a machine can do, and the share of it that is used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from companion.flops import flops_per_token, measured_peak_flops, mfu
from companion.gpt import GPT, GPT2_SIZES, GPTConfig
from companion.lab import added_memory


def counted_by_torch(model, T):
    ids = torch.zeros(1, T, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    return counter.get_total_flops() / T


@given(
    layers=st.integers(1, 3), heads=st.integers(1, 3), hs=st.integers(1, 8),
    V=st.integers(4, 40), T=st.integers(2, 12), tied=st.booleans(),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_it_is_what_torch_counts_but_for_biases_and_norms(layers, heads, hs, V, T, tied):
    with torch.device("meta"):
        model = GPT(GPTConfig(V, 12, layers, heads, heads * hs, tied=tied))
    vectors = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    assert flops_per_token(model, T) - 6 * vectors == pytest.approx(counted_by_torch(model, T))


@pytest.mark.parametrize("name", GPT2_SIZES)
def test_in_gpt2s_sizes_it_is_right_to_a_thousandth(name):
    with torch.device("meta"):
        model = GPT(GPT2_SIZES[name])
    theirs = counted_by_torch(model, 1024)
    assert theirs <= flops_per_token(model, 1024) <= 1.001 * theirs


def test_of_two_tables_the_one_that_is_looked_up_does_not_count():
    with torch.device("meta"):
        tied, untied = (GPT(GPTConfig(tied=one)) for one in (True, False))
    assert flops_per_token(tied, 64) == flops_per_token(untied, 64)


def test_a_longer_text_adds_twelve_operations_a_channel_and_layer():
    with torch.device("meta"):
        model = GPT(GPTConfig())
    assert flops_per_token(model, 101) - flops_per_token(model, 100) == 12 * 12 * 768


@pytest.mark.parametrize("T", [0, -3])
def test_no_tokens_are_refused(T):
    with torch.device("meta"):
        model = GPT(GPTConfig(vocab_size=8, n_layer=1, n_head=1, n_embd=4))
    with pytest.raises(ValueError, match=f"T={T}"):
        flops_per_token(model, T)


def test_the_share_is_what_is_done_over_what_could_be():
    assert mfu(1000.0, 2e6, 8e9) == pytest.approx(0.25)


@pytest.mark.parametrize("peak", [0.0, -1.0, float("nan")])
def test_a_peak_that_is_not_positive_is_refused(peak):
    with pytest.raises(ValueError, match="peak_flops"):
        mfu(1000.0, 2e6, peak)


def test_the_peak_is_positive_and_leaves_no_gradient_and_no_mode_behind():
    assert torch.is_grad_enabled()
    for dtype in (torch.float32, torch.bfloat16):
        peak = measured_peak_flops(dtype=dtype, size=64, seconds=0.01)
        assert peak > 0
    assert torch.is_grad_enabled()


def test_a_peak_measured_in_no_time_is_measured_again():
    assert 0 < measured_peak_flops(size=64, seconds=1e-9) < float("inf")


def test_the_peak_is_timed_by_the_clock_it_is_given():
    ticks = iter(range(10_000_000))
    peak = measured_peak_flops(size=64, seconds=0.01, clock=lambda: float(next(ticks)))
    assert peak == 2.0 * 64**3  # one tick a product


def test_added_memory_is_the_peak_and_not_the_sum(capfd):
    def one_after_the_other():
        for _ in range(3):
            torch.ones(1000)
        return torch.ones(500)

    added_memory(one_after_the_other)
    assert 4000 <= added_memory(one_after_the_other) <= 4400
    assert "USDT" not in capfd.readouterr().err


def test_what_was_there_before_is_not_added():
    before = torch.ones(10_000)
    assert added_memory(lambda: before.sum()) <= 200
