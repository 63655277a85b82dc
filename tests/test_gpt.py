"""GPT-2 as lesson 13 builds it: what it computes, how it writes, and how it draws."""

from itertools import pairwise
from math import inf, log, nan

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from companion.gpt import GPT, GPT2_SIZES, GPTConfig
from companion.sampling import draw, window_start

TINY = {"vocab_size": 13, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
SEEDS = st.integers(0, 99)


def random_gpt(seed=0, *, scale=0.7, dtype=torch.float64, **sizes):
    """A small model whose every parameter is random, biases and norms too; in eval mode.

    float64 keeps the likeliest two tokens apart, whatever the order of additions."""
    model = GPT(GPTConfig(**TINY | sizes)).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1 if p.dim() == 1 and name.endswith("weight") else 0
            p.copy_(centre + scale * torch.randn(p.shape, generator=generator, dtype=dtype))
    return model


def ids_of(B, T, V=TINY["vocab_size"], seed=0):
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(seed))


def written_by_hand(model, text, new):
    """A greedy text with no cache and no batch, by the rule that lesson 13 states in words."""
    text, start, block_size = list(text), 0, model.config.block_size
    for _ in range(new):
        while len(text) - start > block_size:
            start += max(1, block_size // 2)
        logits = model(torch.tensor([text[start:]]))
        text.append(logits[0, -1].argmax().item())
    return text


def unfused(model):
    for block in model.h:
        block.attn.fused = False
    return model


def modes_of(model):
    return {name: module.training for name, module in model.named_modules()}


# What it is


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_each_size_has_the_releases_number_of_parameters(name, count):
    with torch.device("meta"):
        model = GPT(GPT2_SIZES[name])
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("tied", [True, False])
def test_the_names_are_those_of_gpt2s_checkpoints(tied):
    sizes = GPT2Config(vocab_size=13, n_positions=8, n_layer=2, n_head=2, n_embd=8)
    sizes.tie_word_embeddings = tied
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(sizes).state_dict()
        ours = GPT(GPTConfig(**TINY, tied=tied)).state_dict()
    assert set(ours) == {name.removeprefix("transformer.") for name in theirs}


def test_the_same_seed_gives_the_same_weights_and_another_others():
    def start(seed):
        torch.manual_seed(seed)
        return GPT(GPTConfig(**TINY)).state_dict()

    one, same, other = start(5), start(5), start(6)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["wte.weight"], other["wte.weight"])


@pytest.mark.parametrize("tied", [True, False])
def test_without_bias_no_layer_has_one(tied):
    names = [name for name, _ in GPT(GPTConfig(**TINY, bias=False, tied=tied)).named_parameters()]
    assert not [name for name in names if "bias" in name]
    assert ("lm_head.weight" in names) != tied


def test_a_new_model_starts_as_gpt2_did():
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "block_size": 64, "n_layer": 8, "n_head": 4, "n_embd": 64}
    model = GPT(GPTConfig(**sizes))
    for name, p in model.named_parameters():
        if p.dim() == 1:
            assert (p == (1 if name.endswith("weight") else 0)).all(), name
        else:
            std = 0.01 if name == "wpe.weight" else 0.02 / 4 if "c_proj" in name else 0.02
            assert p.std().item() == pytest.approx(std, rel=5 / (2 * p.numel()) ** 0.5), name
    ids, targets = ids_of(8, 64, 97), ids_of(8, 64, 97, seed=1)
    assert model(ids, targets).item() == pytest.approx(log(97), abs=0.05)


# What it computes


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_loss_is_the_cross_entropy_of_the_logits_in_value_and_gradients(tied, bias):
    model = random_gpt(tied=tied, bias=bias)
    ids, targets = ids_of(3, 8, seed=1), ids_of(3, 8, seed=2)
    targets[0, 2:6], targets[2] = -100, -100
    plain = F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=-100)
    loss = model(ids, targets)
    torch.testing.assert_close(loss, plain)
    parameters = list(model.parameters())
    ours, theirs = (torch.autograd.grad(x, parameters) for x in (loss, plain))
    for mine, wanted in zip(ours, theirs):
        assert wanted.any()
        torch.testing.assert_close(mine, wanted)


def test_a_target_that_is_ignored_may_as_well_not_be_there():
    model, ids, targets = random_gpt(), ids_of(2, 8), ids_of(2, 8, seed=1)
    padded = targets.clone()
    padded[:, 5:] = -100
    torch.testing.assert_close(model(ids, padded), model(ids[:, :5], targets[:, :5]))
    assert not torch.isclose(model(ids, padded), model(ids, targets))


SHAPES = {
    "B": st.integers(1, 3),
    "T": st.integers(1, 9),
    "n_head": st.sampled_from([1, 2, 4]),
    "n_layer": st.integers(1, 3),
    "seed": SEEDS,
}


@given(**SHAPES)
@settings(max_examples=40, deadline=None)
def test_the_readable_and_the_fused_form_agree(B, T, n_head, n_layer, seed):
    model = random_gpt(seed, n_head=n_head, n_layer=n_layer, block_size=9)
    ids = ids_of(B, T, seed=seed)
    fused = model(ids)
    torch.testing.assert_close(unfused(model)(ids), fused)


def test_the_readable_and_the_fused_form_have_the_same_gradients():
    model, ids, targets = random_gpt(), ids_of(3, 8), ids_of(3, 8, seed=1)
    parameters = list(model.parameters())
    fused = torch.autograd.grad(model(ids, targets), parameters)
    readable = torch.autograd.grad(unfused(model)(ids, targets), parameters)
    for a, b in zip(fused, readable):
        torch.testing.assert_close(a, b)


@given(
    parts=st.lists(st.integers(1, 4), min_size=1, max_size=6),
    B=st.integers(1, 3),
    readable=st.booleans(),
    seed=SEEDS,
)
@settings(max_examples=60, deadline=None)
def test_with_the_cache_any_split_of_a_text_gives_the_same_logits(parts, B, readable, seed):
    model = random_gpt(seed, block_size=24)
    ids = ids_of(B, sum(parts), seed=seed)
    whole = model(ids)
    if readable:
        unfused(model)
    cache = model.new_cache()
    with torch.no_grad():
        read = torch.cat([model(part, cache=cache) for part in ids.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(read, whole)
    assert [layer.length for layer in cache] == [sum(parts)] * model.config.n_layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_three_paths_differ_by_the_dtypes_rounding_alone(dtype):
    exact = random_gpt(scale=0.3, n_embd=64, n_head=4, n_layer=4, block_size=32)
    model = random_gpt(scale=0.3, n_embd=64, n_head=4, n_layer=4, block_size=32, dtype=dtype)
    exact.load_state_dict(model.state_dict())  # the same weights, already rounded
    ids = ids_of(2, 32)
    with torch.no_grad():
        truth, fused, cache = exact(ids), model(ids), model.new_cache()
        cached = torch.cat([model(ids[:, t : t + 1], cache=cache) for t in range(32)], dim=1)
        readable = unfused(model)(ids)
    step = 32 * torch.finfo(dtype).eps * truth.abs().max()
    for logits in (fused, cached, readable):
        assert logits.dtype == dtype
        assert (logits - truth).abs().max() < step


def test_positions_count_on_from_what_the_cache_has_read():
    model, ids = random_gpt(), torch.full((1, 2), 3)
    cache = model.new_cache()
    with torch.no_grad():
        first, second = model(ids, cache=cache), model(ids, cache=cache)
    assert not torch.allclose(first, second)


@given(T=st.integers(2, 9), at=st.integers(0, 8), readable=st.booleans(), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_logit_depends_on_a_later_token(T, at, readable, seed):
    at = at % T
    model = random_gpt(seed, block_size=9)
    if readable:
        unfused(model)
    ids = ids_of(2, T, seed=seed)
    changed = ids.clone()
    changed[:, at] = (changed[:, at] + 1) % 13
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :at], after[:, :at])
    assert not torch.isclose(before[:, at:], after[:, at:]).all(dim=-1).any()


@given(**SHAPES)
@settings(max_examples=40, deadline=None)
def test_each_row_of_a_batch_is_as_if_alone(B, T, n_head, n_layer, seed):
    model = random_gpt(seed, n_head=n_head, n_layer=n_layer, block_size=9)
    ids = ids_of(B, T, seed=seed)
    alone = torch.cat([model(row[None]) for row in ids])
    torch.testing.assert_close(model(ids), alone)


@given(T=st.integers(1, 9), t=st.integers(1, 9), seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_logits_of_a_prefix_are_a_prefix_of_the_logits(T, t, seed):
    model, ids = random_gpt(seed, block_size=9), ids_of(2, T, seed=seed)
    torch.testing.assert_close(model(ids)[:, :t], model(ids[:, :t]))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8])
def test_any_integer_dtype_of_ids_will_do(dtype):
    model, ids = random_gpt(), ids_of(2, 8)
    assert torch.equal(model(ids.to(dtype)), model(ids))
    new = model.generate(ids.to(dtype), 3, top_k=1)
    assert torch.equal(new, model.generate(ids, 3, top_k=1))


def test_dropout_works_while_training_and_only_then():
    model, ids = random_gpt(dropout=0.5), ids_of(2, 8)
    assert torch.equal(model(ids), model(ids))
    assert torch.equal(model(ids), random_gpt()(ids))
    model.train()
    assert not torch.allclose(model(ids), model(ids))


def test_dropout_is_where_gpt2_has_it():
    model = random_gpt(dropout=0.5, n_embd=32, block_size=64).train()
    places = {"drop", "h.0.attn", "h.0.mlp", "h.1.attn", "h.1.mlp"}
    zeros = {}
    for name in places:

        def note(module, args, output, name=name):
            zeros[name] = (output == 0).double().mean().item()

        model.get_submodule(name).register_forward_hook(note)
    torch.manual_seed(0)
    model(ids_of(4, 64))
    assert zeros == dict.fromkeys(places, pytest.approx(0.5, abs=5 * 0.5 / (4 * 64 * 32) ** 0.5))
    zeros.clear()
    model.eval()(ids_of(4, 64))
    assert zeros == dict.fromkeys(places, 0)


# What it writes


@given(
    block_size=st.integers(1, 9),
    length=st.integers(1, 14),
    new=st.integers(0, 16),
    readable=st.booleans(),
    seed=SEEDS,
)
@settings(max_examples=60, deadline=None)
def test_greedy_text_is_the_naive_loops_with_the_cache_or_without(
    block_size, length, new, readable, seed
):
    model = random_gpt(seed, block_size=block_size)
    if readable:
        unfused(model)
    prompt = ids_of(1, length, seed=seed)
    with torch.no_grad():
        by_hand = written_by_hand(model, prompt[0].tolist(), new)
    assert model.generate(prompt, new, top_k=1).tolist() == [by_hand]
    assert model.generate(prompt, new, top_k=1, use_cache=False).tolist() == [by_hand]


def test_the_greedy_texts_of_these_tests_are_not_all_one_token():
    texts = [random_gpt(seed).generate(ids_of(1, 1), 64, top_k=1)[0] for seed in range(8)]
    assert sum(len(text.unique()) for text in texts) > 4 * 8  # of 13


@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    block_size=st.integers(1, 9),
    new=st.integers(0, 12),
    use_cache=st.booleans(),
    seed=SEEDS,
)
@settings(max_examples=60, deadline=None)
def test_prompts_of_different_lengths_give_what_each_gives_alone(
    lengths, block_size, new, use_cache, seed
):
    model = random_gpt(seed, block_size=block_size)
    prompts = [ids_of(1, n, seed=seed + i)[0] for i, n in enumerate(lengths)]
    together = model.generate(prompts, new, top_k=1, use_cache=use_cache)
    for prompt, text in zip(prompts, together, strict=True):
        alone = model.generate(prompt[None], new, top_k=1)
        assert text.tolist() == alone[0].tolist()
        assert text[: len(prompt)].tolist() == prompt.tolist()
        assert len(text) == len(prompt) + new


def test_greedy_text_is_transformers_own():
    sizes = GPT2Config(vocab_size=53, n_positions=32, n_layer=3, n_head=4, n_embd=32)
    sizes.bos_token_id = sizes.eos_token_id = None
    ours = random_gpt(3, scale=0.4, vocab_size=53, block_size=32, n_layer=3, n_head=4, n_embd=32)
    theirs = GPT2LMHeadModel(sizes).double().eval()
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            source = ours.get_parameter(name.removeprefix("transformer."))
            conv1d = name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
            p.copy_(source.T if conv1d else source)
    for length in (1, 5, 20):
        prompt = ids_of(3, length, 53, seed=length)
        new = 32 - length
        wanted = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=new,
            pad_token_id=0,
        )
        assert torch.equal(ours.generate(prompt, new, top_k=1), wanted)
        assert len(wanted[:, length:].unique()) > 3


def test_within_block_size_the_cache_reads_each_token_once():
    model, read = random_gpt(block_size=16), 0

    def count(module, args, output):
        nonlocal read
        read += args[0].numel()

    model.wte.register_forward_hook(count)
    model.generate(ids_of(2, 4), 12, top_k=1)
    assert read == 2 * (4 + 11)  # the last token is written and never read
    read = 0
    model.generate(ids_of(2, 4), 12, top_k=1, use_cache=False)
    assert read == 2 * sum(range(4, 16))


def test_a_text_that_is_drawn_is_the_same_with_the_cache_and_without():
    model, prompt = random_gpt(scale=0.3), ids_of(3, 2)

    def write(seed, **how):
        return model.generate(prompt, 30, generator=torch.Generator().manual_seed(seed), **how)

    assert torch.equal(write(1), write(1, use_cache=False))
    assert not torch.equal(write(1), write(2))


def test_only_the_top_k_at_each_step_are_written():
    model, prompt = random_gpt(scale=0.3, block_size=32), ids_of(8, 1)
    text = model.generate(
        prompt, 31, top_k=3, temperature=5, generator=torch.Generator().manual_seed(0)
    )
    ranks = model(text)[:, :-1].argsort(dim=-1, descending=True).argsort(dim=-1)
    ranks = ranks.gather(-1, text[:, 1:, None])
    assert ranks.unique().tolist() == [0, 1, 2]


def test_the_temperature_sharpens_and_flattens_what_is_written():
    model, prompt = random_gpt(), ids_of(64, 1)

    def distinct(temperature):
        generator = torch.Generator().manual_seed(0)
        text = model.generate(prompt, 1, temperature=temperature, generator=generator)
        return len(text.unique(dim=0))

    greedy = model.generate(prompt, 1, top_k=1)
    cold = model.generate(prompt, 1, temperature=1e-6)
    assert torch.equal(cold, greedy)
    assert distinct(1e-6) < distinct(1) < distinct(1e6)


def test_a_given_generator_decides_alone():
    model, prompt = random_gpt(scale=0.3), ids_of(2, 2)
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(1)
    before, state = torch.get_rng_state(), generator.get_state()
    text = model.generate(prompt, 20, generator=generator)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(generator.get_state(), state)
    torch.manual_seed(2)
    generator.set_state(state)
    assert torch.equal(model.generate(prompt, 20, generator=generator), text)


def test_without_a_generator_the_global_one_decides():
    model, prompt = random_gpt(scale=0.3), ids_of(2, 2)

    def write(seed):
        torch.manual_seed(seed)
        return model.generate(prompt, 20)

    assert torch.equal(write(1), write(1))
    assert not torch.equal(write(1), write(2))


@pytest.mark.parametrize("training", [True, False])
def test_writing_is_without_dropout_and_leaves_every_mode_as_it_was(training):
    model, prompt = random_gpt(dropout=0.5), ids_of(2, 3)
    wanted = model.generate(prompt, 12, top_k=1)
    model.train(training)
    model.h[1].train(not training)
    model.h[1].mlp.dropout.train(training)
    before = modes_of(model)
    assert torch.equal(model.generate(prompt, 12, top_k=1), wanted)
    assert modes_of(model) == before
    assert len(set(before.values())) == 2


def test_an_error_while_writing_leaves_every_mode_as_it_was():
    model = random_gpt(dropout=0.5).train()
    model.h[0].attn.eval()
    before, seen = modes_of(model), []

    def fail(module, args):
        seen.append(module.training)
        if len(seen) == 3:
            raise KeyboardInterrupt

    model.h[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        model.generate(ids_of(1, 2), 9)
    assert seen == [False] * 3
    assert modes_of(model) == before


def test_no_new_tokens_gives_the_prompt():
    model, prompt = random_gpt(), ids_of(2, 12)
    same = model.generate(prompt, 0)
    assert torch.equal(same, prompt)
    several = model.generate([[1, 2, 3], [4]], 0)
    assert [text.tolist() for text in several] == [[1, 2, 3], [4]]


def test_a_tensor_gives_a_tensor_and_a_list_a_list():
    model, prompt = random_gpt(), ids_of(2, 3)
    tensor = model.generate(prompt, 4, top_k=1)
    assert isinstance(tensor, torch.Tensor)
    assert (tensor.shape, tensor.dtype) == ((2, 7), torch.long)
    for several in (prompt.tolist(), list(prompt), tuple(prompt)):
        texts = model.generate(several, 4, top_k=1)
        assert isinstance(texts, list)
        assert [text.tolist() for text in texts] == tensor.tolist()


def test_writing_changes_neither_prompt_nor_weights_and_tracks_no_gradient():
    model, prompt = random_gpt(), ids_of(2, 3)
    before, weights = prompt.clone(), {n: p.clone() for n, p in model.named_parameters()}
    texts = [prompt[0], prompt[1, :2]]
    for given_prompt in (prompt, texts):
        for text in model.generate(given_prompt, 12):
            text.zero_()
    model.generate(prompt, 0).zero_()
    assert torch.equal(prompt, before)
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# The window


@given(t=st.integers(0, 300), block_size=st.integers(1, 64))
@settings(max_examples=300, deadline=None)
def test_the_window_fits_is_never_empty_and_stays_half_full(t, block_size):
    start = window_start(t, block_size)
    assert t - start <= block_size
    assert start < t or t == 0
    assert (start == 0) == (t <= block_size)
    if start:
        assert t - start >= block_size / 2


@given(block_size=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_the_window_moves_only_forward_only_when_full_and_by_half_a_block(block_size):
    starts = [window_start(t, block_size) for t in range(6 * block_size + 3)]
    for t, (before, after) in enumerate(pairwise(starts)):
        if after != before:
            assert t + 1 - before > block_size  # it would not have fitted
            assert after - before == max(1, block_size // 2)
    assert starts[-1] > 4 * block_size


# The draw


def frequencies(logits, draws=40_000, seed=0, **how):
    rows = torch.tensor(logits).expand(draws, -1)
    ids = draw(rows, generator=torch.Generator().manual_seed(seed), **how)
    assert ids.shape == (draws, 1)
    return torch.bincount(ids[:, 0], minlength=len(logits)) / draws


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 2, 4, 6, 1000])
def test_the_frequencies_are_the_softmax_of_the_top_k(temperature, top_k):
    logits = [0.5, -1.0, 1.0, 0.0, -2.0, 0.9]
    scores = torch.tensor(logits) / temperature
    kept = scores >= scores.sort(descending=True).values[: top_k or 6][-1]
    p = scores.where(kept, -inf).softmax(0)
    seen = frequencies(logits, temperature=temperature, top_k=top_k)
    assert not seen[~kept].any()
    assert ((seen - p).abs() <= 5 * (p * (1 - p) / 40_000).sqrt()).all()


def test_each_row_is_drawn_from_its_own_logits():
    logits = 50 * F.one_hot(torch.tensor([2, 0, 4, 1, 2]), 5).float()
    assert draw(logits).flatten().tolist() == [2, 0, 4, 1, 2]


@pytest.mark.parametrize("temperature", [1e-6, 1e-38, 1e-45, 1e-46])
@pytest.mark.parametrize("size", [1.0, 1e4, 1e30])
def test_a_tiny_temperature_takes_the_likeliest(temperature, size):
    logits = size * torch.tensor([[0.5, 1.0, -1.0], [-3.0, -1.0, -0.5]])
    assert draw(logits, temperature=temperature).tolist() == [[1], [2]]


@pytest.mark.parametrize("temperature", [1e6, 1e38, 1e39, 1e300])
def test_a_huge_temperature_takes_all_alike(temperature):
    seen = frequencies([0.5, 100.0, -100.0, 3.0], temperature=temperature)
    assert ((seen - 0.25).abs() < 5 * (0.25 * 0.75 / 40_000) ** 0.5).all()


def test_logits_that_only_differ_by_a_constant_are_drawn_alike():
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0]]).expand(500, -1)
    one, other = (
        draw(x, generator=torch.Generator().manual_seed(0)) for x in (logits, logits + 1024)
    )
    assert torch.equal(one, other)


def test_an_impossible_token_is_never_drawn():
    assert frequencies([0.0, -inf, 0.0])[1] == 0


def test_of_tied_logits_top_k_keeps_k():
    assert (frequencies([1.0] * 9, draws=2000, top_k=1) > 0).sum() == 1
    assert (frequencies([1.0] * 9, draws=2000, top_k=4) > 0).sum() == 4
    tied = torch.zeros(20, 7)
    assert len(torch.cat([draw(tied, top_k=1) for _ in range(20)]).unique()) == 1


def test_the_same_generator_state_gives_the_same_draws():
    logits = torch.zeros(50, 40)
    generator = torch.Generator().manual_seed(0)
    state, before = generator.get_state(), torch.get_rng_state()
    first, second = draw(logits, generator=generator), draw(logits, generator=generator)
    generator.set_state(state)
    assert torch.equal(draw(logits, generator=generator), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_leaves_the_logits_as_they_were():
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    draw(logits, temperature=0.5, top_k=2)
    assert torch.equal(logits, before)


# What is refused


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"])
@pytest.mark.parametrize("size", [0, -4, 8.0, True, "8", None])
def test_a_size_that_is_no_positive_whole_number_is_named(name, size):
    with pytest.raises((ValueError, TypeError), match=f"{name}={size!r}"):
        GPTConfig(**TINY | {name: size})


def test_channels_that_do_not_divide_into_heads_are_named():
    with pytest.raises(ValueError, match="n_embd=100 is not divisible by n_head=12"):
        GPTConfig(n_embd=100, n_head=12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "dropout",
    [1, 1.0, -0.1, 1.5, nan, inf, True, "0.1", None],
)
def test_a_dropout_outside_0_to_1_is_named(dropout):
    with pytest.raises((ValueError, TypeError), match=f"dropout={dropout!r}"):
        GPTConfig(**TINY, dropout=dropout)


def test_a_config_cannot_be_changed_afterwards():
    with pytest.raises(AttributeError):
        GPTConfig().n_layer = 3


BAD_IDS = [
    (torch.zeros(1, 9, dtype=torch.long), ValueError, "9 tokens are more than block_size=8"),
    (torch.tensor([[1, -1]]), ValueError, "id -1 is not in the vocabulary.* 0 to 12"),
    (torch.tensor([[1, 13]]), ValueError, "id 13 is not in the vocabulary.* 0 to 12"),
    (torch.tensor([[1, -2, 99]]), ValueError, "id -2"),
    (torch.tensor([[1.0, 2.0]]), TypeError, "float32"),
    (torch.tensor([[True, False]]), TypeError, "bool"),
    (torch.zeros(2, 0, dtype=torch.long), ValueError, r"\(2, 0\)"),
    (torch.zeros(0, 2, dtype=torch.long), ValueError, r"\(0, 2\)"),
    (torch.tensor([1, 2]), ValueError, r"\(2,\)"),
    (torch.tensor([[[1, 2]]]), ValueError, r"\(1, 1, 2\)"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(("ids", "error", "said"), BAD_IDS)
def test_ids_that_make_no_sense_are_named(ids, error, said, cached):
    model = random_gpt()
    cache = model.new_cache() if cached else None
    with pytest.raises(error, match=said):
        model(ids, cache=cache)
    if cached:
        assert [layer.length for layer in cache] == [0, 0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("prompt", "error", "said"),
    [
        *BAD_IDS[1:6],
        (torch.zeros(2, 0, dtype=torch.long), ValueError, r"\(1, 0\)"),
        (torch.zeros(0, 2, dtype=torch.long), ValueError, "no prompt"),
        (torch.tensor([1, 2]), ValueError, r"\(1,\)"),
        (torch.tensor([[[1, 2]]]), ValueError, r"\(1, 1, 2\)"),
        ([], ValueError, "no prompt"),
        ([[]], ValueError, r"\(1, 0\)"),
        ([[1], []], ValueError, r"\(1, 0\)"),
        ([torch.tensor([1]), torch.tensor([], dtype=torch.long)], ValueError, r"\(1, 0\)"),
        ([[1, 2], [3, 13]], ValueError, "id 13"),
        ([[1, 2], [3, -1]], ValueError, "id -1"),
        ([[1, 2], [3.0]], TypeError, "float32"),
        ([[1, 2], [True]], TypeError, "bool"),
        ([1, 2], ValueError, r"\(1,\)"),
    ],
)
def test_a_prompt_that_makes_no_sense_is_named(prompt, error, said):
    with pytest.raises(error, match=said):
        random_gpt().generate(prompt, 3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"temperature": 0}, "temperature=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": nan}, "temperature=nan"),
        ({"temperature": inf}, "temperature=inf"),
        ({"top_k": 0}, "top_k=0"),
        ({"top_k": -3}, "top_k=-3"),
        ({"max_new_tokens": -1}, "max_new_tokens=-1"),
    ],
)
def test_a_way_of_writing_that_makes_no_sense_is_named(how, said):
    model = random_gpt().train()
    with pytest.raises(ValueError, match=said):
        model.generate(ids_of(1, 2), **{"max_new_tokens": 3} | how)
    assert all(modes_of(model).values())


def test_more_than_block_size_with_what_the_cache_has_read_is_refused_and_nothing_is_kept():
    model, ids = random_gpt(), ids_of(1, 8)
    cache = model.new_cache()
    with torch.no_grad():
        whole = model(ids)
        model(ids[:, :6], cache=cache)
        with pytest.raises(ValueError, match="9 tokens are more than block_size=8"):
            model(ids[:, :3], cache=cache)
        torch.testing.assert_close(model(ids[:, 6:], cache=cache), whole[:, 6:])


def test_a_batch_that_does_not_continue_the_caches_is_refused_and_nothing_is_kept():
    model, ids = random_gpt(), ids_of(2, 8)
    cache = model.new_cache()
    with torch.no_grad():
        whole = model(ids)
        model(ids[:, :6], cache=cache)
        with pytest.raises(ValueError, match="do not continue"):
            model(ids[:1, 6:], cache=cache)
        torch.testing.assert_close(model(ids[:, 6:], cache=cache), whole[:, 6:])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("targets", "error", "said"),
    [
        (torch.zeros(1, 7, dtype=torch.long), ValueError, r"\(1, 7\)"),
        (torch.full((1, 8), 13), ValueError, "is 13"),
        (torch.full((1, 8), -1), ValueError, "is -1"),
        (torch.zeros(1, 8), TypeError, "float32"),
    ],
)
def test_targets_that_make_no_sense_are_named(targets, error, said):
    with pytest.raises(error, match=said):
        random_gpt()(ids_of(1, 8), targets)


def test_the_annotations_refuse_a_wrong_shape():
    with pytest.raises(TypeError):
        random_gpt()(torch.tensor([1, 2]))


# The tests' own helpers


def test_every_parameter_of_a_random_model_matters():
    model, ids = random_gpt(), ids_of(2, 8)
    before = model(ids)
    for name, p in model.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad():
            p.mul_(1.1)
        assert not torch.allclose(model(ids), before), name
        with torch.no_grad():
            p.copy_(kept)


def test_tokens_that_are_padding_are_never_drawn():
    """With the rows above `vocab_size` made the likeliest of all."""
    model = GPT(GPTConfig(**TINY))
    with torch.no_grad():
        model.lm_head.weight[9:] *= 1e3
    ids = ids_of(2, 3) % 9
    kwargs = {"generator": torch.Generator().manual_seed(0)}
    assert (model.generate(ids, 200, **kwargs) >= 9).any()
    assert (model.generate(ids, 200, vocab_size=9, **kwargs) < 9).all()
    with pytest.raises(ValueError, match="vocab_size"):
        model.generate(ids, 1, vocab_size=0)
