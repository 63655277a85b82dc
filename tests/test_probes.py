"""The probes on many kinds of model: right on the right ones, and not fooled by the wrong ones."""

from collections import namedtuple
from copy import deepcopy
from inspect import unwrap
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import BertConfig, GPT2Config, LlamaConfig
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.bert.modeling_bert import BertForMaskedLM
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from companion.gpt import GPT, GPTConfig
from companion.heads import batch_leak, tail_leak
from companion.init import ActivationStats, activation_stats
from companion.lab import Toy
from companion.masks import causal_mask, future_leak, influence
from companion.probing import evaluating, logits_of, other_ids
from companion.tying import is_tied, tie_weights

V, C, CONTEXT = 11, 8, 8
SEEDS = st.integers(0, 99)
quick = settings(max_examples=25, deadline=None)
ROUNDING = 1e-5  # of float32 logits near 1; every wrong model here leaks a thousand times more

# Without the annotations' checks, which would refuse bad input before the function can.
plain_logits_of = unwrap(logits_of)


def ids_of(B=3, T=6, seed=0, vocab=V):
    return torch.randint(vocab, (B, T), generator=torch.Generator().manual_seed(seed))


def fill(module, seed=0, std=0.5):
    """Random numbers in all parameters, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(std * torch.randn(p.shape, generator=generator))
    return module


def toy(**options):
    return fill(Toy(V, width=C, layers=2, heads=2, context=CONTEXT, **options))


def gpt(**options):
    return fill(GPT(GPTConfig(V, CONTEXT, 2, 2, C, **options)))


def hf_gpt2(dropout=0.0, tied=True):
    sizes = GPT2Config(
        vocab_size=V,
        n_positions=CONTEXT,
        n_embd=C,
        n_layer=2,
        n_head=2,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        tie_word_embeddings=tied,
        bos_token_id=0,
        eos_token_id=0,
    )
    return fill(GPT2LMHeadModel(sizes))


def bert():
    """A model that sees all of the text; padding is its token 0, as in BERT's release."""
    sizes = BertConfig(
        vocab_size=V,
        hidden_size=C,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=4 * C,
        max_position_embeddings=CONTEXT,
    )
    return fill(BertForMaskedLM(sizes))


class Returning(nn.Module):
    """A model whose logits come back wrapped, or spoiled, by a function."""

    def __init__(self, wrap, inner=None):
        super().__init__()
        self.inner, self.wrap = inner or toy(), wrap

    def forward(self, ids):
        return self.wrap(self.inner(ids))


Named = namedtuple("Named", "loss logits")
LOSS = torch.tensor(1.5)
WRAPPED = {
    "bare": lambda x: x,
    "(logits, loss)": lambda x: (x, LOSS),
    "(logits, None)": lambda x: (x, None),
    "(loss, logits)": lambda x: (LOSS, x),
    "(None, logits)": lambda x: (None, x),
    "list": lambda x: [x, LOSS],
    "(logits, hidden)": lambda x: (x, x[..., :3]),
    "named tuple": lambda x: Named(LOSS, x),
    "object": lambda x: SimpleNamespace(loss=LOSS, logits=x),
    "dict": lambda x: {"loss": LOSS, "logits": x},
    "transformers' output": lambda x: CausalLMOutput(loss=LOSS, logits=x),
}
MODELS = {"Toy": toy, "GPT": gpt, "transformers": hf_gpt2}

wrapped = pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


# logits_of


@wrapped
def test_the_logits_are_found_however_they_are_returned(wrap):
    model = Returning(wrap)
    assert torch.equal(logits_of(model, ids_of()), model.inner(ids_of()))


@models
def test_the_logits_of_real_models_are_their_own(make):
    output = make().eval()(ids_of())
    wanted = output if isinstance(output, torch.Tensor) else output.logits
    assert torch.equal(logits_of(make(), ids_of()), wanted)


@models
def test_logits_are_taken_without_dropout_and_the_mode_is_left(make):
    model = make(dropout=0.5).train()
    model.get_submodule("transformer.h" if make is hf_gpt2 else "h")[0].eval()
    modes = [m.training for m in model.modules()]
    assert True in modes
    assert False in modes
    torch.testing.assert_close(logits_of(model, ids_of()), logits_of(make(), ids_of()))
    assert [m.training for m in model.modules()] == modes


def test_logits_carry_a_gradient_where_the_caller_has_one():
    assert logits_of(toy(), ids_of()).requires_grad
    with torch.no_grad():
        assert not logits_of(toy(), ids_of()).requires_grad


NO_LOGITS = {
    "None": (lambda x: None, "NoneType"),
    "a number": (lambda x: 3.5, "float"),
    "text": (lambda x: "logits", "str"),
    "a loss": (lambda x: LOSS, r"a tensor \(\)"),
    "a tuple without": (lambda x: (LOSS, None), r"a tensor \(\), NoneType"),
    "an empty tuple": (lambda x: (), "returned"),
    "one row for each text": (lambda x: x[:, -1], r"a tensor \(3, 11\)"),
    "a dict without": (lambda x: {"scores": x}, "by the name `logits`"),
    "a dict with None": (lambda x: {"logits": None}, "by the name `logits`"),
    "an object with None": (lambda x: SimpleNamespace(logits=None), "by the name `logits`"),
}


@pytest.mark.parametrize(("wrap", "said"), NO_LOGITS.values(), ids=NO_LOGITS.keys())
def test_a_model_that_returns_no_logits_is_a_type_error(wrap, said):
    for probe in (logits_of, future_leak, batch_leak):
        with pytest.raises(TypeError, match=f"no logits.*{said}"):
            probe(Returning(wrap), ids_of())


WRONG_PLACES = {
    "the last alone": (lambda x: x[:, -1:], r"\(3, 1, 11\) for ids \(3, 6\)"),
    "the last left out": (lambda x: x[:, :-1], r"\(3, 5, 11\) for ids \(3, 6\)"),
    "time first": (lambda x: x.transpose(0, 1), r"\(6, 3, 11\) for ids \(3, 6\)"),
    "one text": (lambda x: (x[:1], None), r"\(1, 6, 11\) for ids \(3, 6\)"),
}


@pytest.mark.parametrize(("wrap", "said"), WRONG_PLACES.values(), ids=WRONG_PLACES.keys())
def test_logits_that_are_not_at_every_position_are_refused(wrap, said):
    for probe in (logits_of, future_leak, batch_leak):
        with pytest.raises(ValueError, match=f"{said}.*every position"):
            probe(Returning(wrap), ids_of())


@given(b=st.integers(0, 2), t=st.integers(0, 5), v=st.integers(0, V - 1))
@quick
def test_logits_that_are_no_numbers_are_refused_and_placed(b, t, v):
    def spoil(x):
        x = x.clone()
        x[b, t, v] = torch.nan
        x[2, 5, V - 1] = torch.nan
        return x

    with pytest.raises(ValueError, match=rf"NaN, first at \[{b}, {t}, {v}\]"):
        logits_of(Returning(spoil), ids_of())


@pytest.mark.parametrize("shape", [(6,), (1, 2, 3), (0, 4), (4, 0)])
def test_ids_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"they should be \(B, T\)"):
        plain_logits_of(toy(), torch.zeros(shape, dtype=torch.long))


# evaluating


@given(flags=st.lists(st.booleans(), min_size=40, max_size=40), fails=st.booleans())
@quick
def test_every_part_is_put_back_into_its_own_mode(flags, fails):
    model = toy(dropout=0.1)
    parts = list(model.modules())
    for part, flag in zip(parts, flags, strict=False):
        part.training = flag
    before = [part.training for part in parts]
    inside = None
    try:
        with evaluating(model):
            inside = [part.training for part in parts]
            if fails:
                raise KeyError("from the caller")
    except KeyError:
        assert fails
    assert inside == [False] * len(parts)
    assert [part.training for part in parts] == before


def test_a_part_of_two_parents_keeps_its_own_mode():
    shared = nn.Dropout()
    model = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    shared.eval()
    with evaluating(model):
        pass
    assert [part.training for part in model.modules()] == [True, True, False, True]


PROBES = {
    "logits_of": lambda model: logits_of(model, ids_of()),
    "influence": lambda model: influence(model, ids_of()),
    "future_leak": lambda model: future_leak(model, ids_of()),
    "batch_leak": lambda model: batch_leak(model, ids_of()),
    "tail_leak": lambda model: tail_leak(model, ids_of()),
    "activation_stats": lambda model: activation_stats(model, ids_of()),
    "is_tied": is_tied,
}
probes = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES.keys())


def state_of(model):
    """All of a model that a probe might touch."""
    return {
        "modes": [m.training for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "wants gradient": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "tensors": {name: x.tolist() for name, x in model.state_dict().items()},
        "random": torch.get_rng_state().tolist(),
    }


def lived_in(inner):
    """A model in mixed modes, partly frozen, with a gradient here and there and a hook."""
    model = Returning(lambda x: x, inner).train()
    inner.h[0].eval()
    for i, p in enumerate(model.parameters()):
        p.requires_grad_(i % 3 > 0)
        p.grad = torch.full_like(p, i) if i % 2 else None
    inner.ln_f.register_forward_hook(lambda module, args, output: None)
    return model


@probes
@pytest.mark.parametrize("make", [toy, gpt])
def test_a_probe_leaves_the_model_as_it_was(probe, make):
    model = lived_in(make(dropout=0.5))
    before = state_of(model)
    probe(model)
    assert state_of(model) == before


@probes
def test_a_probe_leaves_the_model_as_it_was_when_the_model_fails(probe):
    def fail(x):
        raise OSError("the model's own")

    model = lived_in(gpt(dropout=0.5))
    model.wrap = fail
    before = state_of(model)
    with pytest.raises(OSError, match="the model's own"):
        probe(model)
    assert state_of(model) == before


# other_ids


@given(
    rows=st.lists(st.lists(st.integers(0, 50000), min_size=4, max_size=4), min_size=1, max_size=4),
    turned=st.booleans(),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
@quick
def test_every_id_is_replaced_by_another_that_occurs(rows, turned, dtype):
    ids = torch.tensor(rows, dtype=dtype)
    ids = ids.T if turned else ids
    before = ids.clone()
    if len(ids.unique()) == 1:
        with pytest.raises(ValueError, match="all ids are alike"):
            other_ids(ids)
        return
    others = other_ids(ids)
    assert others.shape == ids.shape
    assert others.dtype == dtype
    assert (others != ids).all()
    assert set(others.flatten().tolist()) <= set(ids.flatten().tolist())
    assert torch.equal(ids, before)


@pytest.mark.parametrize("probe", [influence, future_leak, batch_leak])
def test_ids_that_are_all_alike_cannot_be_probed(probe):
    with pytest.raises(ValueError, match="all ids are alike"):
        probe(toy(), torch.full((2, 5), 3))


# influence, future_leak and batch_leak on a model whose answers are known


class Mix(nn.Module):
    """Logit v at (b, t) is v times a sum of all ids, each with a weight for its row and place."""

    def __init__(self, rows, places):
        super().__init__()
        self.rows, self.places = rows, places

    def forward(self, ids):
        sums = self.rows @ ids.double() @ self.places.T
        return sums[..., None] * torch.arange(1.0, V + 1)


@st.composite
def weights(draw, n, causal=False):
    entries = st.integers(-5, 5)
    rows = draw(st.lists(st.lists(entries, min_size=n, max_size=n), min_size=n, max_size=n))
    x = torch.tensor(rows).double().view(n, n)
    return x.tril() if causal else x


@st.composite
def mixes(draw):
    B, T = draw(st.integers(2, 4)), draw(st.integers(2, 6))
    places = draw(weights(T, causal=draw(st.booleans())))
    rows = torch.eye(B).double() if draw(st.booleans()) else draw(weights(B))
    ids = ids_of(B, T, draw(SEEDS))
    ids[0, :2] = torch.tensor([0, 1])
    return rows, places, ids


@given(case=mixes())
@quick
def test_influence_is_how_far_a_logit_moves(case):
    _, places, ids = case
    step = (other_ids(ids) - ids).abs().amax(dim=0)  # (T,), of the row that moves most
    found = influence(Mix(torch.eye(len(ids)).double(), places), ids)
    torch.testing.assert_close(found, V * places.abs() * step)
    leak = future_leak(Mix(torch.eye(len(ids)).double(), places), ids)
    assert leak == pytest.approx((V * places.abs() * step).triu(1).max().item())


@given(case=mixes())
@quick
def test_batch_leak_is_how_far_another_row_moves_a_logit(case):
    rows, places, ids = case
    moves = (other_ids(ids) - ids).double() @ places.T  # (B, T)
    between = rows.abs() * (1 - torch.eye(len(ids)))  # [b, a]: what row a is to row b
    wanted = V * (between * moves.abs().amax(dim=1)).max().item()
    assert batch_leak(Mix(rows, places), ids) == pytest.approx(wanted)


# ... and on real ones


@given(T=st.integers(2, CONTEXT), B=st.integers(1, 3), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_causal_models_leak_nothing_and_look_at_all_the_past(T, B, seed):
    ids = ids_of(B, T, seed)
    ids[0, :2] = torch.tensor([0, 1])
    for make in MODELS.values():
        model = make()
        found = influence(model, ids)
        assert found.triu(1).max() <= ROUNDING
        assert (found.tril() > 100 * ROUNDING).equal(torch.ones(T, T).tril().bool())
        assert future_leak(model, ids) <= ROUNDING
        assert tail_leak(model, ids) <= ROUNDING


@given(T=st.integers(1, CONTEXT), B=st.integers(2, 4), seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_right_models_treat_each_row_by_itself(T, B, seed):
    ids = ids_of(B, T, seed)
    ids[:2, 0] = torch.tensor([0, 1])
    for make in (*MODELS.values(), bert):
        assert batch_leak(make(), ids) <= ROUNDING


@wrapped
def test_leaks_are_seen_however_the_logits_are_returned(wrap):
    assert future_leak(Returning(wrap), ids_of()) <= ROUNDING
    assert batch_leak(Returning(wrap), ids_of()) <= ROUNDING
    assert future_leak(Returning(wrap, toy(mask=everywhere)), ids_of()) > 1000 * ROUNDING
    rolled = Returning(lambda x: wrap(x + x.roll(1, dims=0)))
    assert batch_leak(rolled, ids_of()) > 1000 * ROUNDING


class Tiny(nn.Module):
    """One layer of attention and no more, so that every way to spoil it can be written out.

    `attend` makes (B, T, C) of q, k and v (B, T, C), in 2 heads.
    """

    def __init__(self, attend):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(CONTEXT, C)
        self.c_attn, self.lm_head = nn.Linear(C, 3 * C), nn.Linear(C, V)
        self.attend = attend
        fill(self)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        return self.lm_head(x + self.attend(*self.c_attn(x).chunk(3, dim=-1)))


def split(x):
    return x.unflatten(-1, (2, -1)).transpose(1, 2)


def merge(x):
    return x.transpose(1, 2).flatten(2)


def attention(mask, dim=-1, split=split, merge=merge, after=None):
    def attend(q, k, v):
        q, k, v = (split(x) for x in (q, k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        T = scores.shape[-1]
        if after is None:
            scores = scores.masked_fill(~mask(T), -torch.inf)
        weights = scores.softmax(dim)
        if after is not None:
            weights = after(weights * mask(T))
        return merge(weights @ v)

    return attend


def everywhere(T):
    return torch.ones(T, T, dtype=torch.bool)


def one_too_far(T):
    return everywhere(T).tril(1)


def turned(T):
    return causal_mask(T).T


def by_view(x):
    return x.reshape(len(x), 2, x.shape[1], -1)  # heads that run through time


def zeroed(weights):
    return weights


def renormalised(weights):
    return weights / weights.sum(-1, keepdim=True)


def average_over_time(q, k, v):
    return v.mean(1, keepdim=True).expand_as(v)


def norm_over_time(q, k, v):
    return F.layer_norm(v.mT, v.shape[1:2]).mT


LOOK_AHEAD = {
    "no mask": attention(everywhere),
    "a mask with diagonal=1": attention(one_too_far),
    "a transposed mask": attention(turned),
    "softmax over the queries": attention(causal_mask, dim=-2),
    "heads by a view": attention(causal_mask, split=by_view),
    "heads merged by a view": attention(causal_mask, merge=lambda y: y.reshape(len(y), -1, C)),
    # what is zeroed was in the sum by which all were divided
    "a mask after the softmax": attention(causal_mask, after=zeroed),
    "a mean over time": average_over_time,
    "a norm over time": norm_over_time,
    "the next token's value": lambda q, k, v: v.roll(-1, dims=1),
}
LOOK_BACK = {
    "a causal mask": attention(causal_mask),
    "a mask after the softmax, and renormalised": attention(causal_mask, after=renormalised),
    "a mask that adds a large number": lambda q, k, v: merge(
        (split(q) @ split(k).mT - 1e9 * ~causal_mask(q.shape[1])).softmax(-1) @ split(v)
    ),
    # Wrong, but not by looking ahead: undone by a view, heads only mix within the past.
    "heads by a view and back": attention(
        causal_mask, split=by_view, merge=lambda y: y.reshape(len(y), -1, C)
    ),
    "nothing but the position itself": lambda q, k, v: v,
    "the token before": lambda q, k, v: F.pad(v, (0, 0, 1, 0))[:, :-1],
    "a sum of the past": lambda q, k, v: v.cumsum(1),
}


@pytest.mark.parametrize("attend", LOOK_AHEAD.values(), ids=LOOK_AHEAD.keys())
def test_a_model_that_looks_ahead_is_caught(attend):
    assert future_leak(Tiny(attend), ids_of()) > 1000 * ROUNDING
    assert tail_leak(Tiny(attend), ids_of()) > 1000 * ROUNDING


def test_heads_by_a_view_and_back_are_caught_where_the_text_is_cut():
    assert tail_leak(Tiny(LOOK_BACK["heads by a view and back"]), ids_of()) > 1000 * ROUNDING


@pytest.mark.parametrize("attend", LOOK_BACK.values(), ids=LOOK_BACK.keys())
def test_a_model_that_does_not_look_ahead_is_cleared(attend):
    assert future_leak(Tiny(attend), ids_of()) <= ROUNDING


def test_a_model_that_sees_the_whole_text_is_caught():
    assert future_leak(bert(), ids_of()) > 100 * ROUNDING
    assert (influence(bert(), ids_of()) > 10 * ROUNDING).all()


@given(T=st.integers(2, CONTEXT), ahead=st.integers(1, CONTEXT - 1))
@quick
def test_a_single_key_too_far_is_found_where_it_is(T, ahead):
    ahead = min(ahead, T - 1)
    seen = causal_mask(T)
    seen[0, ahead] = True
    ids = ids_of(T=T)
    ids[0, :2] = torch.tensor([0, 1])
    found = influence(Tiny(attention(lambda T: seen)), ids)
    assert ((found > 100 * ROUNDING) & ~causal_mask(T)).nonzero().tolist() == [[0, ahead]]


@given(at=st.lists(st.integers(0, 5), min_size=1, max_size=4))
@quick
def test_a_few_columns_are_those_of_the_whole_map(at):
    model, ids = toy(mask=everywhere), ids_of(T=6)
    few = influence(model, ids, at=at)
    assert torch.equal(few, influence(model, ids)[:, at])
    if max(at):
        assert future_leak(model, ids, at=at) == max(
            few[i, n].item() for n, j in enumerate(at) for i in range(j)
        )
    else:
        with pytest.raises(ValueError, match="has one before it"):
            future_leak(model, ids, at=at)


@pytest.mark.parametrize("at", [[], [-1], [0, 6]])
def test_a_column_is_a_position_of_the_text(at):
    with pytest.raises(ValueError, match="positions, each from 0 to 5"):
        influence(toy(), ids_of(T=6), at=at)


def test_a_query_that_may_look_nowhere_is_named_by_its_nan():
    strict = toy(mask=lambda T: everywhere(T).tril(-1))
    with pytest.raises(ValueError, match=r"NaN, first at \[0, 0, 0\]"):
        future_leak(strict, ids_of())


def test_a_model_in_training_is_probed_without_its_dropout():
    assert future_leak(toy(mask=one_too_far, dropout=0.5).train(), ids_of()) > 1000 * ROUNDING
    assert future_leak(toy(dropout=0.9).train(), ids_of()) <= ROUNDING
    assert batch_leak(toy(dropout=0.9).train(), ids_of()) <= ROUNDING


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_leak_in_one_row_of_many_is_found(row):
    def peek(x):
        ahead = torch.zeros_like(x)
        ahead[row, 0] = x[row, -1]
        return x + ahead

    def copy_from_it(x):
        return x + F.pad(x[row, :, :1], (0, V - 1))

    assert future_leak(Returning(peek), ids_of()) > 1000 * ROUNDING
    assert batch_leak(Returning(peek), ids_of()) <= ROUNDING
    assert batch_leak(Returning(copy_from_it), ids_of()) > 1000 * ROUNDING
    assert future_leak(Returning(copy_from_it), ids_of()) <= ROUNDING


def test_tokens_that_are_ruled_out_do_not_hide_a_leak_nor_make_one():
    def rule_out(x):
        return x.index_fill(-1, torch.tensor([2, 5]), -torch.inf)

    assert future_leak(Returning(rule_out), ids_of()) <= ROUNDING
    assert batch_leak(Returning(rule_out), ids_of()) <= ROUNDING
    assert tail_leak(Returning(rule_out), ids_of()) <= ROUNDING
    assert tail_leak(Returning(rule_out, toy(mask=everywhere)), ids_of()) > 1000 * ROUNDING
    assert future_leak(Returning(rule_out, toy(mask=everywhere)), ids_of()) > 1000 * ROUNDING


def test_a_logit_that_becomes_infinite_moves_infinitely():
    class Rule(nn.Module):
        def forward(self, ids):
            return torch.zeros(*ids.shape, V).masked_fill(ids[:, -1:, None] == 0, torch.inf)

    ids = torch.tensor([[0, 1], [1, 1]])  # the 1 at the end becomes a 0
    assert influence(Rule(), ids)[0, 1] == torch.inf
    assert future_leak(Rule(), ids) == torch.inf


def test_one_position_has_no_future_and_one_row_no_other():
    with pytest.raises(ValueError, match="no future"):
        future_leak(toy(), ids_of(3, 1))
    with pytest.raises(ValueError, match="a batch of 1 has no other row"):
        batch_leak(toy(), ids_of(1, 6))
    with pytest.raises(ValueError, match="texts of one token have no end to cut off"):
        tail_leak(toy(), ids_of(3, 1))


class Sequenced(nn.Module):
    """torch's own attention, which takes time first unless it is told otherwise."""

    def __init__(self, batch_first):
        super().__init__()
        self.wte, self.lm_head = nn.Embedding(V, C), nn.Linear(C, V)
        self.attn = nn.MultiheadAttention(C, 2, batch_first=batch_first)
        fill(self)

    def forward(self, ids):
        x = self.wte(ids)
        T = ids.shape[1] if self.attn.batch_first else ids.shape[0]
        y, _ = self.attn(x, x, x, attn_mask=~causal_mask(T), need_weights=False)
        return self.lm_head(x + y)


MIX_ROWS = {
    "batch_first left out": Sequenced(batch_first=False),
    "heads by a view over the batch": Tiny(
        lambda q, k, v: attention(causal_mask)(
            *(x.transpose(0, 1).reshape(x.shape) for x in (q, k, v))
        )
    ),
    "merged by a view over the batch": Tiny(
        attention(causal_mask, merge=lambda y: y.transpose(0, 2).reshape(len(y), -1, C))
    ),
    "a mean over the batch": Tiny(lambda q, k, v: v - v.mean(0)),
    "a softmax over the batch": Tiny(lambda q, k, v: k.softmax(0)),
    "the row before": Tiny(lambda q, k, v: v.roll(1, dims=0)),
    "the largest of the batch": Tiny(lambda q, k, v: v / v.abs().max()),
}


@pytest.mark.parametrize("model", MIX_ROWS.values(), ids=MIX_ROWS.keys())
def test_a_model_that_mixes_rows_is_caught(model):
    assert batch_leak(model, ids_of()) > 1000 * ROUNDING


def test_what_mixes_rows_while_training_alone_does_not_show():
    norm = nn.BatchNorm1d(C)
    model = Tiny(lambda q, k, v: norm(v.mT).mT)
    model.norm = norm
    assert batch_leak(model.train(), ids_of()) <= ROUNDING
    assert batch_leak(Sequenced(batch_first=True), ids_of()) <= ROUNDING


# activation_stats


def measured(x):
    x = x.detach().double()
    mean = x.mean()
    return ActivationStats(
        mean.item(), ((x - mean) ** 2).mean().sqrt().item(), x.abs().max().item()
    )


def assert_same_stats(found, wanted):
    """Equal to float32's rounding, in the same order."""
    assert list(found) == list(wanted)
    for name, stats in found.items():
        for kind in ("mean", "std", "largest"):
            value = getattr(wanted[name], kind)
            assert getattr(stats, kind) == pytest.approx(value, rel=1e-5, abs=1e-6), (name, kind)


@given(B=st.integers(1, 3), T=st.integers(1, CONTEXT), seed=SEEDS)
@quick
def test_the_stats_are_those_of_a_forward_written_by_hand(B, T, seed):
    model, ids = fill(GPT(GPTConfig(V, CONTEXT, 1, 2, C, dropout=0.4)), seed).train(), ids_of(B, T)
    found = activation_stats(model, ids)
    with torch.no_grad(), evaluating(model):
        steps, block = {}, model.h[0]
        steps["wte"] = model.wte(ids)
        steps["wpe"] = model.wpe(torch.arange(T))
        steps["drop"] = x = steps["wte"] + steps["wpe"]
        steps["h.0.ln_1"] = y = block.ln_1(x)
        steps["h.0.attn.c_attn"] = qkv = block.attn.c_attn(y)
        q, k, v = (split(part) for part in qkv.chunk(3, dim=-1))
        y = merge(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        steps["h.0.attn.c_proj"] = y = block.attn.c_proj(y)
        steps["h.0.attn.dropout"] = steps["h.0.attn"] = y
        x = x + y
        steps["h.0.ln_2"] = y = block.ln_2(x)
        steps["h.0.mlp.c_fc"] = y = block.mlp.c_fc(y)
        steps["h.0.mlp.c_proj"] = y = block.mlp.c_proj(F.gelu(y, approximate="tanh"))
        steps["h.0.mlp.dropout"] = steps["h.0.mlp"] = y
        steps["h.0"] = x = x + y
        steps["ln_f"] = x = model.ln_f(x)
        steps["lm_head"] = steps[""] = model.lm_head(x)
    assert_same_stats(found, {name: measured(x) for name, x in steps.items()})


class Returns(nn.Module):
    """Hands on what a function makes of the ids."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, ids):
        return self.make(ids)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda ids, x: x,
        lambda ids, x: (x, x + 1),
        lambda ids, x: (ids, x),
        lambda ids, x: (None, [ids, x]),
        lambda ids, x: {"ids": ids, "x": x},
        lambda ids, x: CausalLMOutput(logits=x),
        lambda ids, x: (torch.empty(0), x),
        lambda ids, x: Named("loss", {"x": x}),
    ],
)
def test_the_first_tensor_of_floats_is_found_in_any_wrapping(wrap):
    model = Returns(lambda ids: wrap(ids, ids / 7))
    assert_same_stats(activation_stats(model, ids_of()), {"": measured(ids_of() / 7)})


@pytest.mark.parametrize("output", [None, 3, "text", (), torch.arange(4), {"ids": None}])
def test_a_module_that_hands_on_no_floats_is_left_out(output):
    assert activation_stats(Returns(lambda ids: output), ids_of()) == {}


@given(times=st.integers(1, 4))
@quick
def test_a_module_that_runs_again_is_counted(times):
    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.add = Returns(lambda x: x + 1.0)
            self.same = self.add  # the first name counts

        def forward(self, ids):
            x = ids.float()
            for i in range(times):
                x = self.same(x) if i else self.add(x)
            return x

    x = ids_of().float()
    names = ["add"] + [f"add ({i + 1})" for i in range(1, times)]
    wanted = {name: measured(x + i + 1) for i, name in enumerate(names)}
    assert_same_stats(activation_stats(Again(), ids_of()), wanted | {"": measured(x + times)})


def test_names_that_begin_alike_are_not_confused():
    model = nn.Sequential()
    for name in ("fc", "fc2", "f"):
        model.add_module(name, Returns(lambda x: x * 2.0))
    assert list(activation_stats(model, ids_of())) == ["fc", "fc2", "f", ""]


def test_half_precision_is_measured_in_float32():
    x = torch.tensor([1, 1 + 2**-10], dtype=torch.float16)  # neighbours: nothing lies between
    found = activation_stats(Returns(lambda ids: x), ids_of())[""]
    assert found == ActivationStats(1 + 2**-11, 2**-11, 1 + 2**-10)


def test_nothing_is_kept_for_a_gradient():
    asked = []
    activation_stats(Returns(lambda ids: asked.append(torch.is_grad_enabled())), ids_of())
    assert asked == [False]


def test_one_number_has_no_spread():
    found = activation_stats(Returns(lambda ids: torch.tensor([-2.0])), ids_of())[""]
    assert found == ActivationStats(-2.0, 0.0, 2.0)


def test_a_transformers_model_is_measured_by_its_own_names():
    model = hf_gpt2(dropout=0.5).train()
    found = activation_stats(model, ids_of())
    output = model.eval()(ids_of(), output_hidden_states=True)
    assert list(found)[-1] == ""
    wanted = {"lm_head": output.logits, "transformer.h.0": output.hidden_states[1]}
    assert_same_stats(
        {name: found[name] for name in wanted}, {name: measured(x) for name, x in wanted.items()}
    )


# is_tied


class Pair(nn.Module):
    """A table, a layer between, a head; joined and finished as it is told."""

    def __init__(self, join, finish=lambda x: x, *, bias=False, rows=V, **options):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(rows, C, **options), nn.Embedding(rows, C)
        self.between = nn.Linear(C, C)
        self.lm_head = nn.Linear(C, rows, bias=bias)
        self.finish = finish
        fill(self)
        join(self)

    def forward(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        return self.finish(self.lm_head(torch.tanh(self.between(x))))


class Functional(nn.Module):
    """Has no head: the table is used again, by a function."""

    def __init__(self, context=CONTEXT, detached=False):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(context, C)
        self.detached = detached
        fill(self)

    def forward(self, ids):
        x = torch.tanh(self.wte(ids) + self.wpe(torch.arange(ids.shape[1])))
        weight = self.wte.weight
        return F.linear(x, weight.detach() if self.detached else weight)


class Narrow(nn.Module):
    """A table narrower than the model, as in ALBERT; tied, or read by another."""

    def __init__(self, tied):
        super().__init__()
        self.wte, self.up, self.down = nn.Embedding(V, 3), nn.Linear(3, C), nn.Linear(C, 3)
        self.out = self.wte if tied else nn.Embedding(V, 3)
        fill(self)

    def forward(self, ids):
        return self.down(torch.tanh(self.up(self.wte(ids)))) @ self.out.weight.T


class Lost(Pair):
    """Token 3 is read as nothing but zeros."""

    def forward(self, ids):
        x = torch.where(ids[..., None] == 3, 0, self.wte(ids))
        return self.lm_head(torch.tanh(self.between(x)))


class NeighbourRows(Pair):
    """Reads rows i, i - 1 and i - 2 for a token i."""

    def forward(self, ids):
        x = self.wte(ids) + self.wte((ids - 1).clamp(min=0)) + self.wte((ids - 2).clamp(min=0))
        return self.lm_head(torch.tanh(self.between(x)))


def tied(pair):
    tie_weights(pair.wte, pair.lm_head)


def apart(pair):
    pass


def copied(pair):
    pair.lm_head.weight = nn.Parameter(pair.wte.weight.detach().clone())


def same_memory(pair):
    pair.lm_head.weight.data = pair.wte.weight.data


def beside_whole_numbers(model):
    counts = torch.zeros(V, C, dtype=torch.long)
    model.counts = nn.Parameter(counts, requires_grad=False)
    return model


def frozen(model):
    return model.requires_grad_(False)


def loaded(model, **options):
    other = deepcopy(model)
    other.load_state_dict(model.state_dict(), **options)
    return other


def by_way_of_meta():
    with torch.device("meta"):
        model = gpt()
    model.to_empty(device="cpu")
    model.load_state_dict(gpt().state_dict())
    return model


def cut_to(n):
    return lambda x: x[..., :n]


TIED = {
    "Toy": toy,
    "GPT": gpt,
    "transformers": hf_gpt2,
    "by tie_weights": lambda: Pair(tied),
    "by a function": Functional,
    "by a function, many positions": lambda: Functional(context=5 * V),
    "many positions": lambda: fill(Toy(V, width=C, layers=1, heads=2, context=5 * V)),
    "with a bias": lambda: Pair(tied, bias=True),
    "in training": lambda: toy(dropout=0.5).train(),
    "log-softmax": lambda: Pair(tied, lambda x: x.log_softmax(-1)),
    "scores bent by tanh": lambda: Pair(tied, lambda x: 3 * torch.tanh(x / 3)),
    "returned with a loss": lambda: Pair(tied, lambda x: (LOSS, x)),
    "padded vocabulary": lambda: Pair(tied, rows=64),
    "padded vocabulary, cut": lambda: Pair(tied, cut_to(V), rows=64),
    "frozen": lambda: frozen(gpt()),
    "frozen in part": lambda: lived_in(gpt()),
    "copied whole": lambda: deepcopy(gpt()),
    "loaded": lambda: loaded(gpt()),
    "bfloat16": lambda: gpt().bfloat16(),
    "float64": lambda: gpt().double(),
    "narrow table": lambda: Narrow(tied=True),
    "padding elsewhere": lambda: Pair(tied, padding_idx=V - 1),
    "four tokens": lambda: Pair(tied, rows=4),
    "sparse gradients": lambda: Pair(tied, sparse=True),
    "token 3 is padding": lambda: Pair(tied, padding_idx=3),
    "token 3 gets lost": lambda: Lost(tied),
    "four tokens, token 0 is padding": lambda: Pair(tied, rows=4, padding_idx=0),
    "beside a table of whole numbers": lambda: beside_whole_numbers(gpt()),
}
NOT_TIED = {
    "Toy": lambda: toy(tie=False),
    "GPT": lambda: gpt(tied=False),
    "transformers": lambda: hf_gpt2(tied=False),
    "apart": lambda: Pair(apart),
    "a copy": lambda: Pair(copied),
    "one memory": lambda: Pair(same_memory),
    "one memory, frozen": lambda: frozen(Pair(same_memory)),
    "loaded by assignment": lambda: loaded(gpt(), assign=True),
    "one use detached": lambda: Functional(detached=True),
    "many positions": lambda: fill(Toy(V, width=C, layers=1, heads=2, context=5 * V, tie=False)),
    "log-softmax": lambda: Pair(copied, lambda x: x.log_softmax(-1)),
    "padded vocabulary, cut": lambda: Pair(copied, cut_to(V), rows=64),
    "frozen": lambda: frozen(gpt(tied=False)),
    "narrow table": lambda: Narrow(tied=False),
    "three rows for a token": lambda: NeighbourRows(apart),
    "four tokens": lambda: Pair(apart, rows=4),
    "loaded from the meta device": by_way_of_meta,
    "no table at all": lambda: Returns(lambda ids: torch.zeros(*ids.shape, V)),
}


@pytest.mark.parametrize("make", TIED.values(), ids=TIED.keys())
def test_one_parameter_that_reads_and_scores_is_tied(make):
    assert is_tied(make())


@pytest.mark.parametrize("make", NOT_TIED.values(), ids=NOT_TIED.keys())
def test_two_parameters_are_not_tied_however_alike(make):
    assert not is_tied(make())


@given(seed=SEEDS, std=st.sampled_from([0.02, 0.5]))
@quick
def test_whether_it_is_tied_does_not_hang_on_the_weights(seed, std):
    assert is_tied(fill(Toy(V, width=C, layers=1, heads=2, context=CONTEXT), seed, std))
    assert not is_tied(fill(Toy(V, width=C, layers=1, heads=2, context=V, tie=False), seed, std))


def test_whether_it_is_tied_can_be_asked_where_gradients_are_off():
    with torch.no_grad():
        assert is_tied(gpt())
        assert not is_tied(gpt(tied=False))
    tied, apart = gpt(), frozen(gpt(tied=False))
    with torch.inference_mode():
        assert is_tied(tied)
        assert not is_tied(apart)
        assert torch.is_inference_mode_enabled()
    assert not any(p.requires_grad for p in apart.parameters())


def test_a_model_without_numbers_or_gradients_is_refused_by_the_cause():
    with torch.device("meta"):
        model = gpt()
    with pytest.raises(ValueError, match="meta device"):
        is_tied(model)
    with torch.inference_mode():
        model = gpt()
    for mode in (True, False):
        with pytest.raises(ValueError, match="inference_mode"), torch.inference_mode(mode):
            is_tied(model)


@pytest.mark.parametrize("make", [bert, lambda: Pair(tied, padding_idx=0)], ids=["bert", "pair"])
def test_a_tied_model_whose_padding_is_token_0_is_tied(make):
    assert is_tied(make())


def centred(pair):
    tied(pair)
    pair.wte.register_forward_hook(lambda wte, args, x: x - wte.weight.mean(0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pair(tied, lambda x: x / x.norm(dim=-1, keepdim=True)),
        lambda: Pair(centred),
        lambda: Pair(lambda pair: (tied(pair), nn.init.zeros_(pair.between.weight))),
    ],
    ids=["normalised logits", "centred table", "nothing read gets through"],
)
def test_what_it_says_it_cannot_see_it_calls_untied(make):
    assert not is_tied(make())


def test_two_tables_are_the_default_of_transformers_llama():
    assert LlamaConfig().tie_word_embeddings is False


def test_a_head_tied_to_the_positions_does_not_count():
    assert not is_tied(Pair(lambda pair: tie_weights(pair.wpe, pair.lm_head)))


def test_an_untied_table_with_sparse_gradients_is_not_tied():
    assert not is_tied(Pair(copied, sparse=True))


def no_gradient(x):
    return x.detach()


def three_tokens(x):
    return x[..., :3]


def no_number(x):
    return x * torch.nan


@pytest.mark.parametrize(
    ("finish", "error", "said"),
    [
        (no_gradient, ValueError, "no gradient"),
        (three_tokens, ValueError, "3 tokens are too few to tell; it takes 4"),
        (no_number, ValueError, "NaN"),
        (lambda x: None, TypeError, "no logits"),
    ],
)
def test_where_it_cannot_tell_it_says_so_and_leaves_the_model_alone(finish, error, said):
    model = lived_in(gpt(dropout=0.5))
    model.wrap = finish
    before = state_of(model)
    with pytest.raises(error, match=said):
        is_tied(model)
    assert state_of(model) == before


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_table_of_fewer_than_four_tokens_is_refused_by_name(rows):
    with pytest.raises(ValueError, match="tokens are too few to tell"):
        is_tied(Pair(tied, rows=rows))


def test_no_grad_within_the_model_is_named():
    class Closed(Functional):
        @torch.no_grad()
        def forward(self, ids):
            return super().forward(ids)

    with pytest.raises(ValueError, match="no_grad"):
        is_tied(Closed())
