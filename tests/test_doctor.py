"""The doctor names what is wrong with a model, says nothing of a healthy one, and moves nothing."""

import json
import random
import re
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from companion import doctor_behaviour
from companion.doctor import examine
from companion.doctor_names import KNOWN
from companion.doctor_report import Finding, Report, finding
from companion.gpt import GPT, GPTConfig
from companion.heads import merge_heads, split_heads
from companion.init import init_gpt2_
from companion.loss import next_token_loss
from companion.optim import configure_optimizer, decay_groups

V, T, C = 23, 16, 16
SIZES = GPTConfig(V, T, 2, 2, C)


def ids_of(B=4, length=T, seed=0):
    return torch.randint(V, (B, length), generator=torch.Generator().manual_seed(seed))


def gpt(cls=GPT, seed=0, **sizes):
    torch.manual_seed(seed)
    return cls(GPTConfig(**{**vars(SIZES), **sizes}))


def look(model, batch=None, **options):
    return examine(model, batch, vocab_size=V, block_size=T, **options)


def hf(kind, **options):
    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    if kind is GPT2LMHeadModel:
        return kind(
            GPT2Config(
                vocab_size=V, n_positions=T, n_embd=C, n_layer=2, n_head=2, **ends, **options
            )
        )
    config = {GPTNeoXForCausalLM: GPTNeoXConfig, LlamaForCausalLM: LlamaConfig}[kind]
    return kind(
        config(
            vocab_size=V,
            hidden_size=2 * C,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=3 * C,
            max_position_embeddings=T,
            **ends,
            **options,
        )
    )


HEALTHY = {
    "ours": gpt,
    "ours, wider, with dropout": lambda: gpt(n_embd=48, n_head=4, n_layer=3, dropout=0.1),
    "ours, untied, no biases, four layers": lambda: gpt(n_layer=4, tied=False, bias=False),
    "GPT-2 of transformers": lambda: hf(GPT2LMHeadModel),
    "GPTNeoX": lambda: hf(GPTNeoXForCausalLM),
    "Llama": lambda: hf(LlamaForCausalLM),
    "Llama, tied": lambda: hf(LlamaForCausalLM, tie_word_embeddings=True),
}


def train(model, steps=200):
    """On a text of which each token hangs on the two before it."""
    order = torch.Generator().manual_seed(0)
    table = torch.randint(V, (V, V), generator=order)
    optimizer = configure_optimizer(model, lr=1e-3)
    model.train()
    for _ in range(steps):
        rows = [*torch.randint(V, (2, 8), generator=order)]
        for _ in range(T - 1):
            chance = torch.randint(V, (8,), generator=order)
            lucky = torch.rand(8, generator=order) < 0.2
            rows.append(chance.where(lucky, table[rows[-2], rows[-1]]))
        ids = torch.stack(rows, 1)
        logits = model(ids[:, :-1])
        loss = next_token_loss(getattr(logits, "logits", logits), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (ids[:, :-1].contiguous(), ids[:, 1:].contiguous()), optimizer


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_has_nothing_fresh_or_trained(name):
    model = HEALTHY[name]()
    fresh = look(model)
    assert (fresh.names, fresh.notes) == ((), ())
    batch, optimizer = train(model)
    trained = look(model, batch, loss_fn=next_token_loss, optimizer=optimizer)
    assert (trained.names, trained.notes) == ((), ())


@pytest.mark.parametrize("name", ["ours", "GPTNeoX", "Llama"])
def test_the_full_examination_of_a_healthy_model_finds_nothing(name):
    report = look(HEALTHY[name](), ids_of(), budget="full")
    assert (report.names, report.notes) == ((), ())


# Broken models: one bug each


class Attention(nn.Module):
    """Attention in the open, put in the place of a block's own."""

    def __init__(self, own, heads=2):
        super().__init__()
        self.c_attn, self.c_proj, self.heads = own.c_attn, own.c_proj, heads

    def forward(self, x, cache=None):
        q, k, v = (split_heads(part, self.heads) for part in self.c_attn(x).chunk(3, -1))
        return self.c_proj(self.merge(self.weigh(self.scores(q, k)) @ v))

    def scores(self, q, k):
        return q @ k.mT / q.shape[-1] ** 0.5

    def mask(self, n):
        return torch.ones(n, n).tril().bool()

    def weigh(self, scores):
        return scores.masked_fill(~self.mask(scores.shape[-1]), -torch.inf).softmax(-1)

    def merge(self, y):
        return merge_heads(y)


class NoMask(Attention):
    def weigh(self, scores):
        return scores.softmax(-1)


class OffByOne(Attention):
    def mask(self, n):
        return torch.ones(n, n).tril(1).bool()


class Triu(Attention):
    def mask(self, n):
        return torch.ones(n, n).triu().bool()


class OverQueries(Attention):
    def weigh(self, scores):
        n = scores.shape[-1]
        return scores.masked_fill(~self.mask(n), -1e9).softmax(-2)


class OnlyItself(Attention):
    def mask(self, n):
        return torch.eye(n).bool()


class Viewed(Attention):
    def merge(self, y):
        B, nh, n, hs = y.shape
        return y.reshape(B, n, nh * hs)


class RowsMixed(Attention):
    def merge(self, y):
        y = merge_heads(y)
        return y.transpose(0, 1).reshape(y.shape)


class Unscaled(Attention):
    def scores(self, q, k):
        return q @ k.mT


class UnscaledFused(Attention):
    def forward(self, x, cache=None):
        q, k, v = (split_heads(part, self.heads) for part in self.c_attn(x).chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        return self.c_proj(merge_heads(y))


class ScaledBefore(Attention):
    def scores(self, q, k):
        return (q / q.shape[-1] ** 0.25) @ (k / k.shape[-1] ** 0.25).mT


class MaskOf(Attention):
    size = 2 * T

    def __init__(self, own):
        super().__init__(own)
        self.register_buffer("tril", torch.ones(self.size, self.size).tril())

    def mask(self, n):
        return self.tril[:n, :n] > 0


class SmallMask(MaskOf):
    size = T - 4


class WholeMask(MaskOf):
    size = T

    def mask(self, n):
        return self.tril > 0


def attending(kind):
    model = gpt()
    for block in model.h:
        block.attn = kind(block.attn)
    return model


class WithoutPositions(GPT):
    def hidden(self, ids, cache=None):
        x = self.drop(self.wte(ids))
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class Positions(GPT):
    def where(self, n):
        return torch.arange(n)

    def hidden(self, ids, cache=None):
        x = self.drop(self.wte(ids) + self.wpe(self.where(ids.shape[1])))
        return self.ln_f(self.blocks(x))

    def blocks(self, x):
        for block in self.h:
            x = block(x)
        return x


class AllAtZero(Positions):
    def where(self, n):
        return torch.zeros(n, dtype=torch.long)


class Shifted(Positions):
    def where(self, n):
        return torch.arange(n) + 1


class FromTheEnd(Positions):
    def where(self, n):
        return torch.arange(T - n, T)


class Halved(Positions):
    def where(self, n):
        return torch.arange(n) // 2


class Dropping(Positions):
    def blocks(self, x):
        return super().blocks(F.dropout(x, 0.1))


class Detached(Positions):
    def blocks(self, x):
        for block in self.h:
            x = x.detach() + block.attn(block.ln_1(x))
            x = x + block.mlp(block.ln_2(x))
        return x


class Severed(Positions):
    def blocks(self, x):
        return super().blocks(x.detach())


class Carrying(Positions):
    carried = 0.0

    def blocks(self, x):
        x = super().blocks(x) + self.carried
        self.carried = x[0, -1].detach()
        return x


class InPlace(Positions):
    def blocks(self, x):
        with torch.no_grad():
            self.wpe.weight[0] += 1.0
        return super().blocks(x)


class Hidden(Positions):
    def __init__(self, config):
        super().__init__(config)
        self.rest = [*self.h]
        self.h = self.h[-1:]

    def blocks(self, x):
        for block in self.rest:
            x = block(x)
        return x


class HiddenDropout(Positions):
    def __init__(self, config):
        super().__init__(config)
        self.drops = [nn.Dropout(0.1)]

    def blocks(self, x):
        return super().blocks(self.drops[0](x))


class NeverEvaluating(GPT):
    def train(self, mode=True):
        return super().train(True)


class Normed(Positions):
    def __init__(self, config):
        super().__init__(config)
        self.bn = nn.BatchNorm1d(config.n_embd)

    def blocks(self, x):
        return self.bn(super().blocks(x).mT).mT


class Growing(Positions):
    def blocks(self, x):
        for block in self.h:
            x = block(4 * x)
        return x


class Casting(Positions):
    dtype = torch.float16

    def blocks(self, x):
        return super().blocks(x.to(self.dtype).float())


class CastingUp(Casting):
    dtype = torch.float64


class FailsTraining(Positions):
    def blocks(self, x):
        if self.training:
            raise KeyError("rate")
        return super().blocks(x)


class WritesToIds(Positions):
    def hidden(self, ids, cache=None):
        ids %= 5
        return super().hidden(ids, cache)


class Outputs(GPT):
    def forward(self, ids, targets=None, cache=None):
        return self.ending(super().forward(ids))

    def ending(self, logits):
        return logits


class Softmaxed(Outputs):
    def ending(self, logits):
        return logits.softmax(-1)


class LogSoftmaxed(Outputs):
    def ending(self, logits):
        return logits.log_softmax(-1)


class TimesZero(Outputs):
    def ending(self, logits):
        return 0 * logits


class NotANumber(Outputs):
    def ending(self, logits):
        return torch.sqrt(logits)


class LastOnly(Outputs):
    def ending(self, logits):
        return logits[:, -1:]


class FewerLogits(Outputs):
    def ending(self, logits):
        return logits[..., :-2]


class Raising(Outputs):
    def ending(self, logits):
        raise RuntimeError("shapes (3, 4) and (5, 6)\nand more")


class MoreArguments(GPT):
    def forward(self, ids, mask):
        return super().forward(ids)


class Halfway(Positions):
    def __init__(self, config):
        super().__init__(config)
        self.h[1].mlp.half()

    def blocks(self, x):
        for block in self.h:
            x = x + block.attn(block.ln_1(x))
            x = x + block.mlp(block.ln_2(x).to(block.mlp.c_fc.weight.dtype)).float()
        return x


def changed(change, **sizes):
    """A model after `change(model)`."""

    def make():
        model = gpt(**sizes)
        with torch.no_grad():
            change(model)
        return model

    return make


def wide(model):
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.normal_(p)


def unscaled(model):
    for name, p in model.named_parameters():
        if name.endswith("c_proj.weight"):
            nn.init.normal_(p, std=0.02)


def copy_tie(model):
    model.lm_head.weight = nn.Parameter(model.wte.weight.detach().clone())


def share_memory(model):
    model.lm_head.weight = nn.Parameter(model.wte.weight.data)


def break_tie(model):
    model.lm_head.weight = nn.Parameter(0.02 * torch.randn(V, C))


def spare(model):
    model.spare = nn.Linear(C, C)


def shorten(model):
    model.wpe = nn.Embedding(T - 4, C)


def freeze(model):
    model.wpe.weight.requires_grad_(False)


def nan_in_a_bias(model):
    model.h[1].mlp.c_fc.bias[3] = torch.nan


BROKEN = {
    "no mask": ("sees-future", lambda: attending(NoMask)),
    "mask off by one": ("sees-future", lambda: attending(OffByOne)),
    "mask transposed": ("sees-future", lambda: attending(Triu)),
    "softmax over queries": ("sees-future", lambda: attending(OverQueries)),
    "heads not put back": ("sees-future", lambda: attending(Viewed)),
    "each sees only itself": ("ignores-past", lambda: attending(OnlyItself)),
    "rows mixed": ("mixes-batch", lambda: attending(RowsMixed)),
    "batch norm": ("mixes-batch", lambda: gpt(Normed)),
    "mask larger than the context": ("mask-too-large", lambda: attending(MaskOf)),
    "mask smaller than the context": ("context-fails", lambda: attending(SmallMask)),
    "mask not cut to T": ("short-fails", lambda: attending(WholeMask)),
    "no positions": ("blind-to-positions", lambda: gpt(WithoutPositions)),
    "all at position 0": ("blind-to-positions", lambda: gpt(AllAtZero)),
    "positions from 1": ("context-fails", lambda: gpt(Shifted)),
    "position table too short": ("context-fails", changed(shorten)),
    "positions from the end": ("short-differs", lambda: gpt(FromTheEnd)),
    "positions in pairs": ("position-rows", lambda: gpt(Halved)),
    "dropout in forward": ("eval-random", lambda: gpt(Dropping)),
    "dropout that eval does not reach": ("eval-random", lambda: gpt(HiddenDropout)),
    "always training": ("eval-random", lambda: gpt(NeverEvaluating, dropout=0.1)),
    "a detached residual": ("wrong-gradient", lambda: gpt(Detached)),
    "tables cut off from the loss": ("no-gradient", lambda: gpt(Severed, tied=False)),
    "a spare layer": ("no-gradient", changed(spare)),
    "something carried over": ("state-kept", lambda: gpt(Carrying)),
    "a weight changed by forward": ("state-kept", lambda: gpt(InPlace)),
    "blocks in a list": ("unregistered", lambda: gpt(Hidden)),
    "frozen positions": ("frozen", changed(freeze)),
    "wide start": ("initial-loss", changed(wide)),
    "scores not divided": ("scores-unscaled", lambda: attending(Unscaled)),
    "scores not divided, fused": ("scores-unscaled", lambda: attending(UnscaledFused)),
    "growth": ("residual-growth", lambda: gpt(Growing, n_layer=4)),
    "branches not scaled": ("residual-growth", changed(unscaled)),
    "softmax at the end": ("probabilities", lambda: gpt(Softmaxed)),
    "logits times 0": ("ignores-ids", lambda: gpt(TimesZero)),
    "NaN in a bias": ("weights-not-finite", changed(nan_in_a_bias)),
    "NaN from forward": ("outputs-not-finite", lambda: gpt(NotANumber)),
    "logits of the last token only": ("no-logits", lambda: gpt(LastOnly)),
    "fewer logits than tokens": ("vocabulary-cut", lambda: gpt(FewerLogits)),
    "an error": ("raises", lambda: gpt(Raising)),
    "another argument": ("raises", lambda: gpt(MoreArguments)),
    "a half part": ("dtypes-mixed", lambda: gpt(Halfway)),
    "a cast down": ("dtypes-mixed", lambda: gpt(Casting)),
    "a cast up": ("dtypes-mixed", lambda: gpt(CastingUp)),
    "an error while training": ("raises", lambda: gpt(FailsTraining)),
    "a double part that raises": ("dtypes-mixed", changed(lambda model: model.h[0].double())),
    "tie copied": ("tie-copied", changed(copy_tie)),
    "tie in one memory": ("tie-copied", changed(share_memory)),
    "tie broken": ("tie-broken", changed(break_tie)),
}


@pytest.mark.parametrize("bug", BROKEN)
def test_the_first_finding_names_the_bug(bug):
    name, make = BROKEN[bug]
    report = look(make())
    assert report.names[:1] == (name,), report
    assert report.notes == ()


def test_log_softmax_at_the_end_is_no_finding():
    assert look(gpt(LogSoftmaxed), loss_fn=next_token_loss).healthy


def test_attention_written_out_is_no_finding():
    assert look(attending(Attention)).healthy
    assert look(attending(ScaledBefore)).healthy


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_another_dtype_throughout_is_no_finding_and_hides_none(dtype):
    assert look(gpt().to(dtype)).healthy
    assert look(attending(OffByOne).to(dtype)).names == ("sees-future",)


def test_a_model_that_writes_to_its_input_does_not_disturb_the_probes():
    ids = ids_of()
    before = ids.clone()
    assert look(gpt(WritesToIds), ids).notes == ()
    assert torch.equal(ids, before)


def test_a_model_made_under_inference_mode_gets_notes_and_no_crash():
    with torch.inference_mode():
        model = gpt()
    report = look(model)
    assert "inference" in str(report).lower()


class PostNorm(nn.Module):
    """GPT-1's block: each norm stands behind its branch."""

    def __init__(self, block):
        super().__init__()
        self.attn, self.mlp = block.attn, block.mlp
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2

    def forward(self, x):
        x = self.ln_1(x + self.attn(x))
        return self.ln_2(x + self.mlp(x))


def post_norm(cls, seed):
    model = gpt(cls, seed, n_embd=64, n_head=4)
    model.h = nn.ModuleList(PostNorm(block) for block in model.h)
    model.ln_f = nn.Identity()
    init_gpt2_(model, n_layer=2)
    return model


@pytest.mark.parametrize("seed", range(3))
def test_an_order_lost_in_rounding_is_told_from_none(seed, monkeypatch):
    assert look(post_norm(Positions, seed)).healthy
    assert look(post_norm(WithoutPositions, seed)).names[0] == "blind-to-positions"
    assert look(post_norm(AllAtZero, seed)).names[0] == "blind-to-positions"
    monkeypatch.setattr(doctor_behaviour, "_tells_faintly", lambda *args: False)
    assert look(post_norm(Positions, seed)).names == ("blind-to-positions",)


def test_untied_alone_is_no_finding():
    assert look(gpt(tied=False)).healthy


# The loss, the batch, the optimizer


def shifted_inside(logits, targets):
    return next_token_loss(logits[:, :-1], targets[:, 1:].contiguous())


def summed(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def double_softmax(logits, targets):
    return next_token_loss(logits.softmax(-1), targets)


def without_softmax(logits, targets):
    return F.nll_loss(logits.flatten(0, 1), targets.flatten())


def three_arguments(logits, ids, targets):
    return next_token_loss(logits, targets)


def smoothed(logits, targets):
    return F.cross_entropy(logits.mT, targets, label_smoothing=0.1)


def a_string(logits, targets):
    return "3.1"


def next_ids(seed=0):
    ids = ids_of(length=T + 1, seed=seed)
    return ids[:, :-1], ids[:, 1:]


def own_ids():
    return ids_of(), ids_of()


def unrelated():
    return ids_of(), ids_of(seed=1)


def two_on():
    ids = ids_of(length=T + 2)
    return ids[:, :-2], ids[:, 2:]


LOSSES = {
    "right": (next_token_loss, next_ids, ()),
    "torch's own": (F.cross_entropy, next_ids, ()),
    "torch's own module": (nn.CrossEntropyLoss(), next_ids, ()),
    "three arguments": (three_arguments, next_ids, ()),
    "smoothed": (smoothed, next_ids, ()),
    "shifted inside": (shifted_inside, own_ids, ()),
    "shifted inside, no batch": (shifted_inside, lambda: None, ()),
    "no targets": (next_token_loss, ids_of, ()),
    "summed": (summed, next_ids, ("loss-not-mean",)),
    "double softmax": (double_softmax, next_ids, ("loss-double-softmax",)),
    "no softmax": (without_softmax, next_ids, ("loss-no-softmax",)),
    "shifted twice": (shifted_inside, next_ids, ("targets-shifted-twice",)),
    "shifted twice by the batch": (next_token_loss, two_on, ("targets-shifted-twice",)),
    "not shifted": (next_token_loss, own_ids, ("targets-unshifted",)),
    "unrelated": (next_token_loss, unrelated, ("targets-unrelated",)),
    "a string": (a_string, next_ids, ("loss-fails",)),
    "detached": (lambda *args: next_token_loss(*args).detach(), next_ids, ("loss-fails",)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_asked_what_it_does(name):
    loss_fn, batch, names = LOSSES[name]
    report = look(gpt(), batch(), loss_fn=loss_fn)
    assert (report.names, report.notes) == (names, ())


def all_of(model):
    return torch.optim.AdamW(model.parameters(), weight_decay=0.1)


def without_tables(model):
    groups = decay_groups(model, 0.1)
    groups[0]["params"] = [p for p in groups[0]["params"] if len(p) not in (V, T)]
    return torch.optim.AdamW(groups)


def matrices_free(model):
    groups = decay_groups(model, 0.1)
    groups[0]["weight_decay"], groups[1]["weight_decay"] = 0.0, 0.1
    return torch.optim.AdamW(groups)


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def doubled(model):
    return torch.optim.AdamW([*model.parameters(), model.wpe.weight], weight_decay=0.0)


def of_another(model):
    return configure_optimizer(deepcopy(model), lr=1e-3)


OPTIMIZERS = {
    "right": (lambda model: configure_optimizer(model, lr=1e-3), ()),
    "no decay at all": (lambda model: torch.optim.Adam(model.parameters()), ()),
    "all decay": (all_of, ("optimizer-decay",)),
    "only vectors decay": (matrices_free, ("optimizer-decay",)),
    "tables left out": (without_tables, ("optimizer-missing",)),
    "doubled": (doubled, ("optimizer-doubled",)),
    "another model's": (of_another, ("optimizer-stale", "optimizer-missing")),
}


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_asked_what_it_steps(name):
    make, names = OPTIMIZERS[name]
    model = gpt()
    report = look(model, optimizer=make(model))
    assert (report.names, report.notes) == (names, ())


def test_an_optimizer_made_before_the_tie_is_stale():
    model = gpt(tied=False)
    optimizer = configure_optimizer(model, lr=1e-3)
    model.lm_head.weight = model.wte.weight
    assert look(model, optimizer=optimizer).names == ("optimizer-stale",)


def test_what_cannot_be_overfitted_is_found_by_the_full_examination():
    class Blurred(Outputs):
        def ending(self, logits):
            return 1e-3 * logits.tanh()

    assert "cannot-overfit" in look(gpt(Blurred), budget="full").names
    assert "cannot-overfit" not in look(gpt(Blurred)).names


def test_a_trained_model_that_does_worse_than_chance_on_its_text():
    model = gpt()
    batch, _ = train(model)
    with torch.no_grad():
        model.ln_f.weight.mul_(-4)
    assert look(model, batch).names == ("worse-than-chance",)


def test_branches_that_start_at_zero_hide_nothing():
    model = attending(NoMask)
    with torch.no_grad():
        for block in model.h:
            block.attn.c_proj.weight.zero_()
            block.mlp.c_proj.weight.zero_()
    assert look(model).names[:1] == ("sees-future",)
    healthy = gpt(tied=False)
    with torch.no_grad():
        healthy.lm_head.weight.zero_()
        for block in healthy.h:
            block.attn.c_proj.weight.zero_()
    assert look(healthy).healthy


# What it leaves behind


def state(model):
    parts = {n: x.detach().clone() for n, x in model.state_dict(keep_vars=True).items()}
    modes = {n: m.training for n, m in model.named_modules()}
    hooks = sum(len(m._forward_hooks) for m in model.modules())
    wants = {n: p.requires_grad for n, p in model.named_parameters()}
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    plain = {n: sorted(vars(m)) for n, m in model.named_modules()}
    return parts, modes, hooks, wants, grads, plain


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple):
        return all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    return a == b


def chances():
    """All random states; the annotations' checks, where they are on, draw from Python's."""
    return torch.get_rng_state(), str(np.random.get_state()), random.getstate()


@pytest.mark.parametrize(
    "bug",
    [
        "no mask",
        "batch norm",
        "an error",
        "something carried over",
        "a weight changed by forward",
        "always training",
        "NaN in a bias",
        "blocks in a list",
        "a half part",
        "mask not cut to T",
    ],
)
def test_a_model_and_all_chance_are_left_as_they_were(unchecked, bug):
    model = BROKEN[bug][1]()
    part = next(model.children())
    part.training = not part.training
    for p in list(model.parameters())[1:]:
        p.grad = torch.ones_like(p)
    before, pointers = state(model), [p.data_ptr() for p in model.parameters()]
    seeds = chances()
    with torch.no_grad():
        look(model, ids_of(), loss_fn=next_token_loss)
        assert not torch.is_grad_enabled()
    assert same(chances(), seeds)
    assert same(state(model), before)
    assert [p.data_ptr() for p in model.parameters()] == pointers


def test_the_full_examination_leaves_the_model_as_it_was(unchecked):
    model = gpt(dropout=0.1)
    before, seeds = state(model), chances()
    look(model, budget="full")
    assert same(state(model), before)
    assert same(chances(), seeds)


def test_two_examinations_find_the_same():
    model = attending(OffByOne)
    one, other = look(model).to_dict(), look(model).to_dict()
    assert one["findings"] == other["findings"]


# The report


def test_a_report_survives_json():
    report = look(gpt(Dropping), loss_fn=summed)
    again = Report.from_json(report.to_json())
    assert again == report
    assert json.loads(report.to_json())["findings"][0]["name"] == "eval-random"
    with pytest.raises(ValueError, match="a report has"):
        Report.from_dict({"findings": []})


def test_findings_stand_by_gravity_and_print_in_full():
    late, early = (finding(name, "3 < 4", "0") for name in ("mask-too-large", "raises"))
    report = Report((late, early), ("one",))
    assert report.names == ("raises", "mask-too-large")
    assert [*report] == [early, late]
    for said in (early.verdict, early.measured, early.expected, early.look, "2 findings"):
        assert said in str(report)
    assert "3 &lt; 4" in report._repr_html_()
    assert not report.healthy
    assert isinstance(early, Finding)


def test_every_name_that_is_known_is_found_by_some_test():
    others = {"optimizer-stale", "cannot-overfit", "worse-than-chance"}
    found = {name for name, _ in BROKEN.values()} | others
    found |= {name for *_, names in [*LOSSES.values(), *OPTIMIZERS.values()] for name in names}
    assert found == set(KNOWN)


# What it is asked with


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"vocab_size": 1}, ValueError, "vocab_size=1 should be a whole number, at least 2"),
        ({"block_size": 2.0}, ValueError, "block_size=2.0 should be a whole number"),
        ({"budget": "all"}, ValueError, "budget='all' should be 'quick' or 'full'"),
        ({"loss_fn": 3}, TypeError, "loss_fn is int"),
        ({"optimizer": "AdamW"}, TypeError, "optimizer is str"),
        ({"batch": "text"}, TypeError, "batch should be ids"),
        ({"batch": torch.zeros(2, 3)}, TypeError, "ids are torch.float32"),
        ({"batch": torch.zeros(3, dtype=torch.long)}, ValueError, "ids have shape"),
        ({"batch": (ids_of(), ids_of(2))}, ValueError, "targets have shape"),
        ({"batch": ids_of() + 9}, ValueError, "vocab_size=23"),
        ({"batch": ids_of(length=T + 1)}, ValueError, "17 tokens a text, and block_size=16"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(unchecked, wrong, error, said):
    with pytest.raises(error, match=said):
        examine(gpt(), **{"vocab_size": V, "block_size": T, **wrong})


def test_a_model_without_numbers_or_that_is_none_is_refused(unchecked):
    with pytest.raises(ValueError, match="meta device"):
        look(gpt().to("meta"))
    with pytest.raises(TypeError, match="model is function"):
        look(lambda ids: ids)


@settings(max_examples=8, deadline=None)
@given(block_size=st.integers(1, 9), vocab_size=st.integers(2, 9), layers=st.integers(1, 2))
def test_the_smallest_models_are_healthy_too(block_size, vocab_size, layers):
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size, block_size, layers, 2, 8))
    report = examine(model, vocab_size=vocab_size, block_size=block_size)
    assert (report.names, report.notes) == ((), ())


def test_a_leak_is_said_with_how_far_it_reaches():
    """A mask one too far shows a place more in each block; none shows all."""
    [near], [far] = (look(attending(kind)).findings[:1] for kind in (OffByOne, NoMask))
    assert re.search(r": up to \d before it$", near.measured)
    assert far.measured.endswith(": all before it")
