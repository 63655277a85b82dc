"""parity.compare names the module that differs, and finds nothing between equal models."""

import json
import re
from collections import OrderedDict
from dataclasses import asdict
from functools import partial
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from companion import gpt as companion_gpt
from companion.bert_config import BertConfig
from companion.bert_heads import BertForPreTraining
from companion.bert_inputs import additive_mask
from companion.gpt2_format import our_tensors
from companion.parity import compare
from companion.parity_tokens import far, same
from companion.release import fill_

SIZES = {
    "vocab_size": 61,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}
IDS = torch.randint(1, 61, (3, 7), generator=torch.Generator().manual_seed(0))
MASK = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
TYPES = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * 3)
THEIRS = {"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}
OURS = {"ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}


def randomise(model, seed=0, scale=0.2):
    """Every parameter random, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1 if p.dim() == 1 and name.endswith("weight") else 0
            p.copy_(centre + scale * torch.randn(p.shape, generator=generator))
    return model


def released(*, dropout=0.1, attention="sdpa"):
    """transformers' BERT with the heads of pre-training."""
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = transformers.BertConfig(**SIZES, **rates, attn_implementation=attention)
    return randomise(transformers.BertForPreTraining(config).eval())


def ours(reference, *, dropout=0.1, fused=False):
    """companion's BERT with the reference's weights."""
    model = BertForPreTraining(BertConfig(**SIZES, dropout=dropout)).eval()
    theirs = dict(reference.named_parameters())
    theirs["cls.predictions.decoder.bias"] = theirs["cls.predictions.bias"]
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(theirs[name])
    model.bert.fused = fused
    return model


def rewrite(module, forward):
    module.forward = MethodType(forward, module)


# Faults, each a function that plants it in a candidate


def eps(model):
    model.bert.embeddings.LayerNorm.eps = 1e-3


def eps_of_its_own(model):
    """The same in a LayerNorm that is written by hand and keeps its eps in its code."""

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * self.weight + self.bias

    rewrite(model.bert.encoder.layer[1].output.LayerNorm, forward)


def std_with_correction(model):
    def forward(self, x):
        x = (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)
        return x * self.weight + self.bias

    rewrite(model.bert.encoder.layer[0].attention.output.LayerNorm, forward)


def gelu_tanh(model):
    def forward(self, x):
        return F.gelu(self.dense(x), approximate="tanh")

    rewrite(model.bert.encoder.layer[1].intermediate, forward)


def relu_in_the_head(model):
    rewrite(model.cls.predictions.transform, lambda self, x: self.LayerNorm(F.relu(self.dense(x))))


def pre_norm(model):
    """All in the layer's own code: norm, attention, add; norm, MLP, add."""

    def forward(self, x, mask=None, lengths=None):
        attend, mlp = self.attention, self.output
        y = attend.self(attend.output.LayerNorm(x), mask)
        x = x + attend.output.dense(y)
        return x + mlp.dense(self.intermediate(mlp.LayerNorm(x)))

    for layer in model.bert.encoder.layer:
        rewrite(layer, forward)


def norm_before_adding(model):
    rewrite(
        model.bert.encoder.layer[1].output,
        lambda self, y, x: x + self.LayerNorm(self.dense(y)),
    )


def no_residual(model):
    rewrite(
        model.bert.encoder.layer[0].attention.output,
        lambda self, y, x: self.LayerNorm(self.dense(y)),
    )


def embedding(self, ids, types=None, *, start=0, typed=True):
    x = self.word_embeddings(ids)
    if typed:
        x = x + self.token_type_embeddings(types)
    here = torch.arange(start, start + ids.shape[1])
    return self.LayerNorm(x + self.position_embeddings(here))


def no_types(model):
    rewrite(model.bert.embeddings, partial(embedding, typed=False))


def types_all_zero(model):
    rewrite(
        model.bert.embeddings, lambda self, ids, types: embedding(self, ids, torch.zeros_like(ids))
    )


def positions_from_one(model):
    rewrite(model.bert.embeddings, partial(embedding, start=1))


def swap(one, other):
    with torch.no_grad():
        for p, q in zip(one.parameters(), other.parameters()):
            kept = p.clone()
            p.copy_(q)
            q.copy_(kept)


def q_for_k(model):
    attention = model.bert.encoder.layer[1].attention.self
    swap(attention.query, attention.key)


def q_for_k_in_the_code(model):
    attention = model.bert.encoder.layer[0].attention.self
    attend = type(attention).attend
    attention.attend = lambda q, k, v, mask=None: attend(attention, k, q, v, mask)


def v_for_k_in_the_code(model):
    attention = model.bert.encoder.layer[0].attention.self
    attend = type(attention).attend
    attention.attend = lambda q, k, v, mask=None: attend(attention, q, v, k, mask)


def transposed(model):
    weight = model.bert.encoder.layer[0].attention.output.dense.weight
    with torch.no_grad():
        weight.copy_(weight.T.clone())


def two_heads(model):
    for layer in model.bert.encoder.layer:
        layer.attention.self.n_head = 2


def scores_not_scaled(model):
    attention = model.bert.encoder.layer[1].attention.self

    def attend(q, k, v, mask=None):
        return (q @ k.mT + (0 if mask is None else mask)).softmax(-1) @ v

    attention.attend = attend


def heads_merged_by_view(model):
    attention = model.bert.encoder.layer[0].attention.self
    attend = type(attention).attend

    def wrongly(q, k, v, mask=None):
        B, nh, T, hs = q.shape
        y = attend(attention, q, k, v, mask).reshape(B, T, nh, hs)
        return y.transpose(1, 2)

    attention.attend = wrongly


def looks_back_only(model):
    later = torch.full((7, 7), -1e9).triu(1)

    def attend(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, mask + later)

    model.bert.encoder.layer[0].attention.self.attend = attend


def no_decoder_bias(model):
    model.cls.predictions.decoder.bias = None


def untied_decoder(model):
    own = torch.randn(61, 16, generator=torch.Generator().manual_seed(5))
    model.cls.predictions.decoder.weight = nn.Parameter(own)


def mask_not_added(model):
    """Each layer is given the mask; attention leaves it out."""
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attend = partial(type(attention).attend, attention)
        attention.attend = lambda q, k, v, mask=None, attend=attend: attend(q, k, v)


def mask_not_handed_on(model):
    encoder = model.bert.encoder
    forward = type(encoder).forward
    rewrite(encoder, lambda self, x, mask=None: forward(self, x))


def mask_the_other_way_round(model):
    def forward(self, ids, attention_mask=None, token_type_ids=None):
        x = self.embeddings(ids, token_type_ids)
        mask = attention_mask.clone()
        mask[:, 0] = 0  # else the first text, without padding, has nothing to see
        x = self.encoder(x, additive_mask(1 - mask, x.dtype))
        return x, self.pooler(x)

    rewrite(model.bert, forward)


def mask_of_ones_and_zeros(model):
    """What is added to scores is 1 at tokens and 0 at padding."""
    encoder = model.bert.encoder
    forward = type(encoder).forward
    rewrite(encoder, lambda self, x, mask: forward(self, x, (mask == 0).float()))


def train_mode(model):
    model.train()


def one_attention_in_train_mode(model):
    model.bert.encoder.layer[1].attention.self.train()


def dropout_in_the_code(model):
    rewrite(
        model.bert.encoder.layer[0].intermediate, lambda self, x: F.dropout(F.gelu(self.dense(x)))
    )


def pools_the_last(model):
    rewrite(model.bert.pooler, lambda self, x: self.dense(x[:, -1]).tanh())


def pools_the_mean(model):
    rewrite(model.bert.pooler, lambda self, x: self.dense(x.mean(1)).tanh())


def pools_without_tanh(model):
    rewrite(model.bert.pooler, lambda self, x: self.dense(x[:, 0]))


def layers_swapped(model):
    layers = model.bert.encoder.layer
    layers[0], layers[1] = layers[1], layers[0]


def layers_run_backwards(model):
    def forward(self, x, mask=None, lengths=None):
        for layer in reversed(self.layer):
            x = layer(x, mask, lengths)
        return x

    rewrite(model.bert.encoder, forward)


def a_layer_left_out(model):
    def forward(self, x, mask=None, lengths=None):
        return self.layer[0](x, mask, lengths)

    rewrite(model.bert.encoder, forward)


def norm_without_bias(model):
    model.bert.encoder.layer[0].output.LayerNorm.bias = None


def norm_not_loaded(model):
    model.bert.encoder.layer[1].attention.output.LayerNorm.reset_parameters()


def layer_not_loaded(model):
    torch.manual_seed(3)
    model.bert.encoder.layer[1].intermediate.dense.reset_parameters()


def one_row_overwritten(model):
    with torch.no_grad():
        model.bert.embeddings.word_embeddings.weight[int(IDS[1, 2])] = 0


def next_and_random_swapped(model):
    head = model.cls.seq_relationship
    with torch.no_grad():
        for p in head.parameters():
            p.copy_(p.flip(0))


def rounded_to_bfloat16(model):
    weight = model.bert.pooler.dense.weight
    with torch.no_grad():
        weight.copy_(weight.bfloat16())


LAYER = "bert.encoder.layer"
FAULTS = {
    eps: ("bert.embeddings.LayerNorm", "code", "eps is 0.001"),
    eps_of_its_own: (f"{LAYER}.1.output.LayerNorm", "code", r"eps is the reference's plus 1.0e-03"),
    std_with_correction: (
        f"{LAYER}.0.attention.output.LayerNorm",
        "code",
        "times 0.9682: variance is divided by 15",
    ),
    gelu_tanh: (
        f"{LAYER}.1.intermediate.intermediate_act_fn",
        "code",
        r"GELU \(erf\), the candidate GELU \(tanh\)",
    ),
    relu_in_the_head: ("cls.predictions.transform.transform_act_fn", "code", "candidate ReLU"),
    pre_norm: (f"{LAYER}.0.attention", "code", r"LayerNorm runs before .*query"),
    norm_before_adding: (f"{LAYER}.1.output", "code", "leaves out what .*1.output is given"),
    no_residual: (
        f"{LAYER}.0.attention.output",
        "code",
        "leaves out what .*attention.output is given",
    ),
    no_types: ("bert.embeddings", "code", "leaves out what .*token_type_embeddings gives"),
    types_all_zero: ("bert.embeddings", "code", "all 0"),
    positions_from_one: ("bert.embeddings", "code", "plus 1"),
    q_for_k: (f"{LAYER}.1.attention.self.query", "weights", "1.attention.self.key.weight"),
    q_for_k_in_the_code: (
        f"{LAYER}.0.attention.self",
        "code",
        "k, q, v as queries, keys, values; .* q, k, v",
    ),
    v_for_k_in_the_code: (
        f"{LAYER}.0.attention.self",
        "code",
        "q, v, k as queries, keys, values; .* q, k, v",
    ),
    transposed: (f"{LAYER}.0.attention.output.dense", "weights", "weight is .* transposed"),
    two_heads: (f"{LAYER}.0.attention.self", "code", "2 heads; in the reference 4 heads"),
    scores_not_scaled: (f"{LAYER}.1.attention.self", "code", "scores not divided"),
    heads_merged_by_view: (f"{LAYER}.0.attention.self", "code", "reference has 4 heads"),
    looks_back_only: (f"{LAYER}.0.attention.self", "code", "what comes later hidden"),
    no_decoder_bias: ("cls.predictions.decoder", "weights", "has no bias"),
    untied_decoder: (
        "cls.predictions.decoder",
        "weights",
        "one tensor with .*word_embeddings.* untied",
    ),
    mask_not_added: (
        f"{LAYER}.0.attention.self",
        "code",
        "nothing hidden; in the reference padding hidden",
    ),
    mask_not_handed_on: (f"{LAYER}.0.attention.self", "code", "and the candidate's none"),
    mask_of_ones_and_zeros: (
        f"{LAYER}.0.attention.self",
        "code",
        "^its mask is of numbers 1 and 0",
    ),
    mask_the_other_way_round: ("bert", "code", "other way round"),
    train_mode: ("bert.embeddings.dropout", "chance", "eval"),
    one_attention_in_train_mode: (f"{LAYER}.1.attention.self", "chance", "eval"),
    dropout_in_the_code: (f"{LAYER}.0.intermediate", "chance", "in its code"),
    pools_the_last: ("bert.pooler", "code", "position 6 .* the reference position 0"),
    pools_the_mean: (
        "bert.pooler",
        "code",
        "the mean of all positions .* the reference position 0",
    ),
    pools_without_tanh: ("bert.pooler.activation", "code", "makes tanh, the candidate itself"),
    layers_swapped: (f"{LAYER}.0.attention.self.query", "weights", "layer.1.attention.self.query"),
    layers_run_backwards: (
        "bert.encoder",
        "code",
        "layer.1.attention.self.query runs before .*layer.0.attention.self.query",
    ),
    a_layer_left_out: ("bert.encoder", "code", "gives is what .*layer.0.output.LayerNorm gives"),
    norm_without_bias: (f"{LAYER}.0.output.LayerNorm", "weights", "no bias"),
    norm_not_loaded: (f"{LAYER}.1.attention.output.LayerNorm", "weights", "1 everywhere"),
    layer_not_loaded: (f"{LAYER}.1.intermediate.dense", "weights", "another altogether"),
    one_row_overwritten: ("bert.embeddings.word_embeddings", "weights", "1 of 61 rows"),
    next_and_random_swapped: ("cls.seq_relationship", "weights", r"order \(1, 0\)"),
    rounded_to_bfloat16: ("bert.pooler.dense", "weights", "rounded to torch.bfloat16"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_planted_fault_is_named_with_its_module_and_what_was_measured(fault):
    module, kind, cause = FAULTS[fault]
    reference = released()
    candidate = ours(reference)
    fault(candidate)
    found = compare(reference, candidate, (THEIRS, OURS))
    print(found)
    assert not found
    assert found.first.module == module
    assert found.first.kind == kind
    assert any(re.search(cause, said) for said in found.first.causes), found.first.causes


def test_a_mask_of_ones_and_zeros_is_not_called_lost_and_what_is_right_is_not_blamed():
    reference = released()
    candidate = ours(reference)
    mask_of_ones_and_zeros(candidate)
    assert compare(reference, candidate, (THEIRS, OURS)).first.causes == (
        "its mask is of numbers 1 and 0: added to scores, they hide nothing",
        "attention has 1 added to the scores of tokens, 0 to those of padding; in the reference "
        "padding hidden",
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("fused", [True, False])
def test_nothing_is_found_between_equal_models(attention, fused):
    reference = released(attention=attention)
    found = compare(reference, ours(reference, fused=fused), (THEIRS, OURS))
    assert found
    assert found.equal
    assert found.first is None
    assert found.notes == ()
    assert len(found.agreed) == len(found.pairs) > 40


# A BERT written in another style


class Norm(nn.Module):
    """A LayerNorm of its own, with other names for its weights."""

    def __init__(self, C):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))
        self.small = 1e-12

    def forward(self, x):
        x = x - x.mean(-1, keepdim=True)
        return self.gain * x * (x.square().mean(-1, keepdim=True) + self.small).rsqrt() + self.shift


class Styled(nn.Module):
    """BERT with fused q, k, v, a flat block, its embeddings in the model, no decoder module."""

    def __init__(self, order=None):
        super().__init__()
        C, inner = SIZES["hidden_size"], SIZES["intermediate_size"]
        self.tokens = nn.Embedding(SIZES["vocab_size"], C)
        self.segments = nn.Embedding(2, C)
        self.places = nn.Parameter(torch.zeros(SIZES["max_position_embeddings"], C))
        self.first_norm = Norm(C)
        self.blocks = nn.ModuleList(StyledBlock(C, inner, order) for _ in range(2))
        self.summary = nn.Linear(C, C)
        self.guess, self.guess_norm = nn.Linear(C, C), Norm(C)
        self.guess_bias = nn.Parameter(torch.zeros(SIZES["vocab_size"]))
        self.follows = nn.Linear(C, 2)

    def forward(self, x, seen, part):
        x = self.tokens(x) + self.segments(part) + self.places[: x.shape[1]]
        x = self.first_norm(x)
        for block in self.blocks:
            x = block(x, seen.bool()[:, None, None])
        words = F.linear(self.guess_norm(F.gelu(self.guess(x))), self.tokens.weight)
        return {
            "words": words + self.guess_bias,
            "follows": self.follows(self.summary(x[:, 0]).tanh()),
        }


class StyledBlock(nn.Module):
    def __init__(self, C, inner, order):
        super().__init__()
        self.qkv, self.mix = nn.Linear(C, 3 * C), nn.Linear(C, C)
        self.up, self.down = nn.Linear(C, inner), nn.Linear(inner, C)
        self.norm1, self.norm2 = Norm(C), Norm(C)
        self.order = order  # of the rows of qkv: as it comes, or another
        self.heads, self.approximate = 4, "none"

    def forward(self, x, seen):
        qkv = self.qkv(x)
        if self.order is not None:
            qkv = qkv[..., self.order.argsort()]
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in qkv.chunk(3, -1))
        y = F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2)
        x = self.norm1(x + self.mix(y))
        return self.norm2(x + self.down(F.gelu(self.up(x), approximate=self.approximate)))


def styled(reference, order=None):
    """The other BERT with the reference's weights."""
    model = Styled(order).eval()

    def fill(ours, theirs):
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            p.copy_(q)

    with torch.no_grad():
        bert, head = reference.bert, reference.cls.predictions
        fill(model.tokens, bert.embeddings.word_embeddings)
        fill(model.segments, bert.embeddings.token_type_embeddings)
        model.places.copy_(bert.embeddings.position_embeddings.weight)
        fill(model.first_norm, bert.embeddings.LayerNorm)
        for ours, theirs in zip(model.blocks, bert.encoder.layer, strict=True):
            inside = theirs.attention.self
            parts = (inside.query, inside.key, inside.value)
            ours.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            ours.qkv.bias.copy_(torch.cat([part.bias for part in parts]))
            if order is not None:
                ours.qkv.weight.copy_(ours.qkv.weight[order])
                ours.qkv.bias.copy_(ours.qkv.bias[order])
            fill(ours.mix, theirs.attention.output.dense)
            fill(ours.norm1, theirs.attention.output.LayerNorm)
            fill(ours.up, theirs.intermediate.dense)
            fill(ours.down, theirs.output.dense)
            fill(ours.norm2, theirs.output.LayerNorm)
        fill(model.summary, bert.pooler.dense)
        fill(model.guess, head.transform.dense)
        fill(model.guess_norm, head.transform.LayerNorm)
        model.guess_bias.copy_(head.bias)
        fill(model.follows, reference.cls.seq_relationship)
    return model


STYLED = {"x": IDS, "seen": MASK, "part": TYPES}
BY_HEAD = torch.arange(48).view(3, 4, 4).transpose(0, 1).flatten()  # each head's q, k, v together


@pytest.mark.parametrize("order", [None, BY_HEAD], ids=["q, k, v", "by head"])
def test_nothing_is_found_between_a_bert_and_one_in_another_style(order):
    reference = released()
    candidate = styled(reference, order)
    assert compare(reference, candidate, (THEIRS, STYLED))
    found = compare(
        reference, candidate, (THEIRS, STYLED), mapping={"bert.encoder.layer": "blocks"}
    )
    assert found
    assert ("bert.encoder.layer.1", "blocks.1") in found.pairs


def test_layers_of_other_names_are_paired_in_the_order_in_which_they_work():
    reference = released()
    pairs = compare(reference, styled(reference), (THEIRS, STYLED)).pairs
    wanted = {
        "bert.embeddings.word_embeddings": "tokens",
        "bert.embeddings.token_type_embeddings": "segments",
        "bert.embeddings.LayerNorm": "first_norm",
        "bert.pooler.dense": "summary",
        "cls.predictions.transform.dense": "guess",
        "cls.predictions.transform.LayerNorm": "guess_norm",
        "cls.seq_relationship": "follows",
        "": "",
    }
    for n in range(2):
        wanted |= {
            f"{LAYER}.{n}.attention.self.query": f"blocks.{n}.qkv",
            f"{LAYER}.{n}.attention.self.key": f"blocks.{n}.qkv",
            f"{LAYER}.{n}.attention.self.value": f"blocks.{n}.qkv",
            f"{LAYER}.{n}.attention.output.dense": f"blocks.{n}.mix",
            f"{LAYER}.{n}.attention.output.LayerNorm": f"blocks.{n}.norm1",
            f"{LAYER}.{n}.intermediate.dense": f"blocks.{n}.up",
            f"{LAYER}.{n}.output.dense": f"blocks.{n}.down",
            f"{LAYER}.{n}.output.LayerNorm": f"blocks.{n}.norm2",
        }
    assert dict(pairs) == wanted


def styled_eps(model):
    model.blocks[1].norm1.small = 1e-2


def styled_gelu(model):
    model.blocks[0].approximate = "tanh"


def styled_heads(model):
    model.blocks[1].heads = 8


def styled_query(model):
    with torch.no_grad():
        qkv = model.blocks[1].qkv
        for p in qkv.parameters():
            q, k, v = p.chunk(3)
            p.copy_(torch.cat([k, q, v]))


def styled_transposed(model):
    with torch.no_grad():
        model.blocks[0].mix.weight.copy_(model.blocks[0].mix.weight.T.clone())


def styled_mask(model):
    block = model.blocks[0]
    forward = type(block).forward
    rewrite(block, lambda self, x, seen: forward(self, x, None))


def styled_types(model):
    with torch.no_grad():
        model.segments.weight.zero_()


def styled_places(model):
    with torch.no_grad():
        model.places.copy_(model.places.roll(1, 0))


def styled_decoder_bias(model):
    with torch.no_grad():
        model.guess_bias.zero_()


def styled_norm(model):
    with torch.no_grad():
        model.guess_norm.shift.zero_()


STYLED_FAULTS = {
    styled_eps: (f"{LAYER}.1.attention.output.LayerNorm", "blocks.1.norm1", "plus 1.0e-02"),
    styled_gelu: (f"{LAYER}.0.intermediate.intermediate_act_fn", "blocks.0", r"GELU \(tanh\)"),
    styled_heads: (f"{LAYER}.1.attention.self", "blocks.1", "8 heads; in the reference 4 heads"),
    styled_query: (
        f"{LAYER}.1.attention.self.query",
        "blocks.1.qkv",
        "1.attention.self.key.weight",
    ),
    styled_transposed: (f"{LAYER}.0.attention.output.dense", "blocks.0.mix", "transposed"),
    styled_mask: (f"{LAYER}.0.attention.self", "blocks.0", "nothing hidden"),
    styled_types: ("bert.embeddings.token_type_embeddings", "segments", "weight is 0 everywhere"),
    styled_places: (
        "bert.embeddings",
        "",
        "not measured; usual here|same at every|in another order",
    ),
    styled_decoder_bias: ("cls.predictions.decoder", "", "leaves out cls.predictions.decoder.bias"),
    styled_norm: ("cls.predictions.transform.LayerNorm", "guess_norm", "bias is 0 everywhere"),
}


STYLED_CASES = [(fault, None) for fault in STYLED_FAULTS]
STYLED_CASES += [(fault, BY_HEAD) for fault in (styled_heads, styled_mask, styled_transposed)]


@pytest.mark.parametrize(("fault", "order"), STYLED_CASES)
def test_a_fault_is_named_in_a_bert_of_another_style(fault, order):
    module, counterpart, cause = STYLED_FAULTS[fault]
    reference = released()
    candidate = styled(reference, order)
    fault(candidate)
    found = compare(reference, candidate, (THEIRS, STYLED))
    print(found)
    assert (found.first.module, found.first.counterpart) == (module, counterpart)
    assert any(re.search(cause, said) for said in found.first.causes), found.first.causes


def test_a_transformers_bert_is_compared_with_a_reference_of_another_style():
    candidate = released()
    reference = styled(candidate)
    assert compare(reference, candidate, (STYLED, THEIRS))
    swap(candidate.bert.encoder.layer[1].attention.self.key, candidate.bert.pooler.dense)
    found = compare(reference, candidate, (STYLED, THEIRS))
    assert (found.first.module, found.first.kind) == ("blocks.1.qkv", "weights")
    assert found.first.counterpart == f"{LAYER}.1.attention.self.key"
    assert "summary.weight" in found.first.causes[1]


# GPT-2


GPT = {"vocab_size": 61, "n_layer": 2, "n_head": 4, "n_embd": 16}


def gpts(*, seed=0):
    """transformers' GPT-2 and companion's, with the same weights."""
    rates = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    config = transformers.GPT2Config(**GPT, n_positions=12, **rates)
    theirs = randomise(transformers.GPT2LMHeadModel(config).eval(), seed)
    ours = companion_gpt.GPT(companion_gpt.GPTConfig(**GPT, block_size=12, dropout=0.1)).eval()
    tensors = our_tensors(theirs.state_dict(), bias=True, tied=True)
    fill_(ours, tensors)
    return theirs, ours


def test_nothing_is_found_between_gpt2_and_ours():
    theirs, ours = gpts()
    for found in (compare(theirs, ours, IDS), compare(ours, theirs, IDS)):
        assert found
        assert found.notes == ()
        assert len(found.pairs) > 25


def test_names_that_differ_by_a_prefix_are_paired():
    pairs = dict(compare(*gpts(), IDS).pairs)
    assert pairs["transformer.h.1.attn.c_attn"] == "h.1.attn.c_attn"
    assert pairs["transformer.h.0"] == "h.0"
    assert pairs["lm_head"] == "lm_head"


def gpt_untransposed(model):
    """GPT-2's release keeps c_proj as (in, out), and the square one fits untransposed."""
    with torch.no_grad():
        weight = model.h[1].attn.c_proj.weight
        weight.copy_(weight.T.clone())


def gpt_heads(model):
    model.h[0].attn.n_head = 2


def gpt_erf(model):
    rewrite(model.h[1].mlp, lambda self, x: self.c_proj(F.gelu(self.c_fc(x))))


def gpt_sees_all(model):
    attention = model.h[0].attn
    attention.attend = lambda q, k, v: F.scaled_dot_product_attention(q, k, v)


def gpt_key_value_order(model):
    with torch.no_grad():
        for p in model.h[1].attn.c_attn.parameters():
            q, k, v = p.chunk(3)
            p.copy_(torch.cat([q, v, k]))


def gpt_no_last_norm(model):
    model.ln_f.forward = lambda x: x


def gpt_untied(model):
    model.lm_head.weight = nn.Parameter(model.lm_head.weight + 0.1)


def gpt_eps(model):
    model.h[1].ln_2.eps = 1e-2


def gpt_dropout(model):
    model.h[0].mlp.dropout.train()


def gpt_positions(model):
    model.wpe.forward = lambda here: F.embedding(here + 1, model.wpe.weight)


def gpt_post_norm(model):
    def forward(self, x, cache=None):
        x = self.ln_1(x + self.attn(x))
        return self.ln_2(x + self.mlp(x))

    rewrite(model.h[0], forward)


H = "transformer.h"
GPT_FAULTS = {
    gpt_untransposed: (f"{H}.1.attn.c_proj", "weights", "transposed"),
    gpt_heads: (f"{H}.0.attn", "code", "2 heads; in the reference 4 heads"),
    gpt_erf: (f"{H}.1.mlp.act", "code", r"GELU \(tanh\), the candidate GELU \(erf\)"),
    gpt_sees_all: (f"{H}.0.attn", "code", "nothing hidden; in the reference what comes later"),
    gpt_key_value_order: (f"{H}.1.attn.c_attn", "weights", r"3 parts, in the order \(0, 2, 1\)"),
    gpt_no_last_norm: ("transformer.ln_f", "code", "gives is what transformer.ln_f is given"),
    gpt_untied: ("lm_head", "weights", "one tensor with transformer.wte.weight"),
    gpt_eps: (f"{H}.1.ln_2", "code", "eps is 0.01; in the reference it is 1e-05"),
    gpt_dropout: (f"{H}.0.mlp.dropout", "chance", "turns off h.0.mlp.dropout"),
    gpt_positions: ("transformer.wpe", "code", ""),
    gpt_post_norm: (f"{H}.0", "code", "ln_1|c_attn"),
}


@pytest.mark.parametrize("fault", GPT_FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_in_a_gpt(fault):
    module, kind, cause = GPT_FAULTS[fault]
    reference, candidate = gpts()
    fault(candidate)
    found = compare(reference, candidate, IDS)
    print(found)
    assert (found.first.module, found.first.kind) == (module, kind)
    assert any(re.search(cause, said) for said in found.first.causes), found.first.causes


# What is said


def test_a_weight_that_differs_is_found_where_it_is_whichever_it_is():
    reference = released()
    candidate = ours(reference)
    for name, p in candidate.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)))
        found = compare(reference, candidate, (THEIRS, OURS))
        with torch.no_grad():
            p.copy_(kept)
        if name.endswith("key.bias"):
            assert found, "it moves all scores of a query alike: softmax does not see it"
            continue
        wanted = name.rpartition(".")[0]
        if name == "cls.predictions.bias":
            wanted += ".decoder"  # tied: one tensor with decoder.bias
        assert (found.first.module, found.first.kind) == (wanted, "weights"), name
        last = name.rpartition(".")[2]
        assert any(said.startswith(f"its {last} ") for said in found.first.causes), name
    assert compare(reference, candidate, (THEIRS, OURS))


def test_where_by_how_much_and_what_is_what_the_tensors_hold():
    reference = released()
    candidate = ours(reference)
    table = candidate.bert.embeddings.word_embeddings
    with torch.no_grad():
        table.weight[IDS[1, 2], 5] += 2
    first = compare(reference, candidate, (THEIRS, OURS)).first
    was = reference.bert.embeddings.word_embeddings.weight[IDS[1, 2], 5].item()
    assert first.first == first.first_counterpart == "bert.embeddings.word_embeddings"
    at = (first.where["batch"], first.where["position"])
    assert IDS[at] == IDS[1, 2]
    assert first.where["channel"] == 5
    assert first.values == pytest.approx((was, was + 2))
    assert first.size == pytest.approx(2)
    tokens = MASK.bool()
    seen = reference.bert.embeddings.word_embeddings(IDS)[tokens]
    assert first.scale == pytest.approx(seen.square().mean().sqrt().item())
    assert first.share == pytest.approx((IDS[tokens] == IDS[1, 2]).sum().item() / seen.numel())


def test_padding_is_not_compared():
    reference = released()
    candidate = ours(reference, fused=True)  # leaves 0 where the release leaves numbers
    theirs = reference(**THEIRS).prediction_logits
    mine = candidate(**OURS).prediction_logits
    assert not torch.allclose(theirs, mine)
    assert compare(reference, candidate, (THEIRS, OURS))


def test_a_module_given_other_numbers_is_told_from_one_that_computes_otherwise():
    reference = released()
    candidate = ours(reference)
    pools_the_last(candidate)
    assert compare(reference, candidate, (THEIRS, OURS)).first.replayed is True
    with torch.no_grad():
        candidate.bert.pooler.dense.weight.mul_(1.5)
    first = compare(reference, candidate, (THEIRS, OURS)).first
    assert (first.module, first.first) == ("bert.pooler", "bert.pooler.dense")
    assert first.replayed is False
    assert "it differs too" in str(first)


def test_what_is_found_can_be_printed_tested_and_written_down():
    reference = released()
    candidate = ours(reference)
    equal = compare(reference, candidate, (THEIRS, OURS))
    two_heads(candidate)
    found = compare(reference, candidate, (THEIRS, OURS))
    assert bool(equal) is equal.equal is True
    assert bool(found) is found.equal is False
    assert repr(equal) == str(equal) == "equal, to rounding: 49 pairs of modules"
    for part in (found.first.module, found.first.causes[0], "batch", "49 pairs", found.agreed[-1]):
        assert part in repr(found)
    assert max(map(len, repr(found).splitlines())) <= 100
    assert json.loads(json.dumps(asdict(found)))["first"]["module"] == found.first.module
    assert found.agreed == tuple(name for name, _ in found.pairs[: len(found.agreed)])


def test_an_own_copy_of_a_tied_weight_is_noted_though_no_number_differs():
    reference = released()
    candidate = ours(reference)
    decoder = candidate.cls.predictions.decoder
    decoder.weight = nn.Parameter(decoder.weight.detach().clone())
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found
    assert len(found.notes) == 1
    assert "cls.predictions.decoder.weight is one tensor with" in found.notes[0]
    assert found.notes[0] in " ".join(repr(found).split())


def test_the_first_of_two_faults_is_named():
    reference = released()
    for early, late in [(gelu_tanh, pools_the_last), (two_heads, train_mode), (no_types, eps)]:
        candidate = ours(reference)
        early(candidate)
        alone = compare(reference, candidate, (THEIRS, OURS)).first.module
        late(candidate)
        if late is train_mode:
            candidate.bert.embeddings.eval()
            candidate.bert.encoder.layer[0].attention.self.eval()
        assert compare(reference, candidate, (THEIRS, OURS)).first.module == alone


def test_dropout_left_on_in_the_reference_is_said_to_be_there():
    reference = released()
    candidate = ours(reference)
    reference.train()
    first = compare(reference, candidate, (THEIRS, OURS)).first
    assert (first.module, first.kind) == ("bert.embeddings.dropout", "chance")
    assert "the reference gives other numbers in each run" in first.causes[0]
    assert "reference.eval()" in first.causes[1]
    reference.eval()
    for model in (reference, candidate):  # what drops nothing is no difference
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.train()
    assert compare(reference, candidate, (THEIRS, OURS))


# What is rounding


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fused", [True, False])
def test_rounding_is_no_difference_in_any_dtype(dtype, fused):
    reference = released(attention="eager").to(dtype)
    candidate = ours(reference, fused=fused).to(dtype)
    assert compare(reference, candidate, (THEIRS, OURS))


def adds_and_takes_away(model):
    """Computes the same, and in float32 loses the last digits of it."""
    dense = model.bert.encoder.layer[0].attention.output.dense
    rewrite(dense, lambda self, x: F.linear(x, self.weight, self.bias) + 1000 - 1000)


def test_rounding_is_told_from_a_difference_by_a_run_in_float64():
    reference = released()
    candidate = ours(reference)
    adds_and_takes_away(candidate)
    assert not compare(reference, candidate, (THEIRS, OURS), tolerance=1e-5)
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found
    assert "in float64 do not: rounding" in found.notes[0]
    gelu_tanh(candidate)  # behind it, and found in spite of it
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found.first.module == FAULTS[gelu_tanh][0]
    assert reference.dtype == next(candidate.parameters()).dtype == torch.float32


def test_a_model_that_insists_on_its_dtype_is_compared_as_it_is():
    reference = released()
    candidate = ours(reference)
    rewrite(candidate.bert.pooler, lambda self, x: (self.dense(x[:, 0].float()) + 1).tanh())
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found.first.module == "bert.pooler.activation"


def test_models_in_float64_show_what_float32_hides():
    reference = released()
    candidate = ours(reference)
    candidate.cls.predictions.transform.LayerNorm.eps = 1e-8
    assert compare(reference, candidate, (THEIRS, OURS))
    found = compare(reference.double(), candidate.double(), (THEIRS, OURS))
    assert found.first.module == "cls.predictions.transform.LayerNorm"
    assert "eps is 1e-08" in found.first.causes[0]


def test_a_tolerance_decides_what_differs():
    reference = released()
    candidate = ours(reference)
    with torch.no_grad():
        candidate.cls.seq_relationship.bias.add_(1e-3)
    assert not compare(reference, candidate, (THEIRS, OURS))
    assert compare(reference, candidate, (THEIRS, OURS), tolerance=1e-1)
    assert not compare(reference, candidate, (THEIRS, OURS), tolerance=1e-4)


# Models as they were


class Moody(nn.Module):
    """Counts its runs in a buffer, normalises by the batch, draws numbers, adds in place."""

    def __init__(self):
        super().__init__()
        self.table, self.norm = nn.Embedding(61, 4), nn.BatchNorm1d(7)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 3)
        self.register_buffer("runs", torch.zeros(()))
        self.fail = False

    def forward(self, ids):
        self.runs += 1
        self.runs = self.runs.clone()
        x = self.norm(self.table(ids))
        x += self.drop(x)
        if self.fail:
            raise RuntimeError("on purpose")
        return self.head(x)


@pytest.mark.parametrize("fail", [False, True])
def test_both_models_and_the_random_state_are_left_as_they_were(fail):
    models = [randomise(Moody()), randomise(Moody(), seed=1)]
    models[0].table.eval()
    models[1].head.weight.requires_grad_(False)
    models[1].head.register_forward_hook(lambda *_: None)
    models[1].fail = fail
    models[0](IDS).sum().backward()

    def state():
        return [
            [
                {name: x.clone() for name, x in model.state_dict().items()},
                {name: p.requires_grad for name, p in model.named_parameters()},
                {
                    n: None if p.grad is None else p.grad.clone()
                    for n, p in model.named_parameters()
                },
                [module.training for module in model.modules()],
                [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
            ]
            for model in models
        ] + [torch.get_rng_state(), IDS.clone(), torch.is_grad_enabled()]

    names = [sorted(vars(module)) for model in models for module in model.modules()]
    before = state()
    if fail:
        with pytest.raises(ValueError, match=r"candidate refuses the batch.*on purpose"):
            compare(*models, IDS)
    else:
        assert not compare(*models, IDS)
    after = state()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert names == [sorted(vars(module)) for model in models for module in model.modules()]


def test_nothing_needs_gradients_and_inference_mode_does_no_harm():
    theirs, mine = gpts()
    with torch.inference_mode():
        ids = IDS.clone()
        assert compare(theirs, mine, ids)
        gpt_heads(mine)
        assert compare(theirs, mine, ids).first.module == "transformer.h.0.attn"
    assert all(p.grad is None for p in mine.parameters())


# Models of all kinds


class Twice(nn.Module):
    """One layer in two places, a branch that returns several things, and one never called."""

    def __init__(self, shared=True):
        super().__init__()
        self.table = nn.Embedding(61, 8)
        self.first = nn.Linear(8, 8)
        self.second = self.first if shared else nn.Linear(8, 8)
        self.branch = Branch()
        self.functional = nn.Linear(8, 5)
        self.never = nn.Linear(3, 3)

    def forward(self, ids):
        x = self.second(self.first(self.table(ids)).relu())
        x, _, named = self.branch(x)
        return F.linear(x + named["more"], self.functional.weight, self.functional.bias)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        y = self.inner(x)
        return y, None, {"more": y.tanh(), "number": 3}


def twice(seed=0, *, shared=True):
    """Random, and a layer that is not shared has the shared one's numbers."""
    model = randomise(Twice(shared), seed)
    with torch.no_grad():
        for p, q in zip(model.second.parameters(), model.first.parameters()):
            p.copy_(q)
    return model


def test_a_layer_that_runs_twice_is_compared_each_time():
    found = compare(twice(), twice(), IDS)
    assert found
    assert [name for name, _ in found.pairs].count("first") == 2
    apart = twice(shared=False)
    for p in apart.parameters():
        assert p is not None
    fixed = dict(twice().named_parameters())
    with torch.no_grad():
        for name, p in apart.named_parameters():
            p.copy_(fixed[name.replace("second", "first")])
    for found in (compare(twice(), apart, IDS), compare(apart, twice(), IDS)):
        assert found
        assert len(found.pairs) >= 6
    with torch.no_grad():
        apart.second.weight.add_(1)
    found = compare(twice(), apart, IDS)
    assert (found.first.module, found.first.counterpart) == ("first", "second")
    found = compare(apart, twice(), IDS)
    assert (found.first.module, found.first.counterpart) == ("second", "first")


def test_modules_that_return_several_things_are_compared_in_each():
    candidate = twice()
    rewrite(candidate.branch, lambda self, x: (y := self.inner(x), None, {"more": y.sigmoid()}))
    found = compare(twice(), candidate, IDS)
    assert (found.first.module, found.first.kind) == ("branch", "code")
    assert "makes tanh, the candidate sigmoid" in found.first.causes[0]


def test_what_a_layer_that_is_never_called_holds_is_seen_in_the_module_around_it():
    candidate = twice()
    with torch.no_grad():
        candidate.functional.weight.add_(1)
        candidate.never.weight.add_(1)
    found = compare(twice(), candidate, IDS)
    assert (found.first.module, found.first.kind) == ("", "weights")
    assert "functional.weight" in " ".join(found.first.causes)
    assert "the whole model" in repr(found)


def test_a_mapping_pairs_what_it_names_and_what_is_inside():
    class Renamed(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.body = nn.ModuleDict({"lookup": model.wte, "stack": model.h})
            self.rest = nn.ModuleList([model.wpe, model.ln_f, model.lm_head])

        def forward(self, ids):
            x = self.body["lookup"](ids) + self.rest[0](torch.arange(ids.shape[1]))
            for block in self.body["stack"]:
                x = block(x)
            return self.rest[2](self.rest[1](x))

    theirs, mine = gpts()
    model = Renamed(mine)
    mapping = {"transformer.h": "body.stack", "transformer.wte": "body.lookup"}
    pairs = dict(compare(theirs, model, IDS, mapping=mapping).pairs)
    assert pairs["transformer.h.1.attn"] == "body.stack.1.attn"
    assert pairs["transformer.wte"] == "body.lookup"
    assert pairs["transformer.ln_f"] == "rest.1"
    gpt_heads(mine)
    found = compare(theirs, model, IDS, mapping=mapping)
    assert found.first.counterpart == "body.stack.0.attn"


def test_a_model_without_ids_is_compared_too():
    def mlp():
        return randomise(nn.Sequential(nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 2)))

    reference, candidate = mlp(), mlp()
    x = torch.randn(5, 6)
    assert compare(reference, candidate, x)
    candidate[1].approximate = "tanh"
    found = compare(reference, candidate, x)
    assert (found.first.module, found.first.where.keys()) == ("1", {"batch", "channel"})
    assert "approximate is 'tanh'; in the reference it is 'none'" in found.first.causes


# Errors


def test_a_batch_that_a_model_refuses_is_an_error_that_says_which_and_why():
    reference = released()
    candidate = ours(reference)
    with pytest.raises(
        ValueError, match=r"(?s)candidate refuses the batch .input_ids.*pair of dicts"
    ):
        compare(reference, candidate, THEIRS)
    with pytest.raises(ValueError, match="reference refuses the batch"):
        compare(reference, candidate, OURS)
    with pytest.raises(ValueError, match=r"ids \(3, 7\)"):
        compare(*gpts(), IDS + 100)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("batch", [[[1, 2]], "ids", None, (IDS, None), (IDS, IDS, IDS)])
def test_what_is_no_batch_is_named(batch):
    with pytest.raises(TypeError, match=r"batch is (list|str|NoneType|a tuple of 3);"):
        compare(*gpts(), batch)


def test_models_that_return_other_shapes_are_refused_with_the_first_module_that_differs():
    theirs, _ = gpts()
    wide = companion_gpt.GPT(companion_gpt.GPTConfig(**GPT | {"vocab_size": 64}, block_size=12))
    with pytest.raises(ValueError, match=r"\(3, 7, 61\).*\(3, 7, 64\).*first at lm_head"):
        compare(theirs, wide.eval(), IDS)
    with pytest.raises(ValueError, match="candidate none"):
        compare(theirs, Returning(None), IDS)


class Returning(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what, self.layer = what, nn.Linear(2, 2)

    def forward(self, ids):
        return self.what


def test_a_reference_that_returns_nan_is_refused_and_a_candidate_that_does_is_found():
    theirs, mine = gpts()
    with torch.no_grad():
        mine.h[1].mlp.c_proj.bias[3] = float("nan")
    found = compare(theirs, mine, IDS)
    assert found.first.module == "transformer.h.1.mlp.c_proj"
    assert "its bias is not finite in 1 places" in found.first.causes
    with pytest.raises(ValueError, match=r"reference returns NaN, first from h\.1\.mlp\.c_proj"):
        compare(mine, theirs, IDS)


def test_a_row_that_sees_nothing_is_found_by_its_nan():
    reference = released()
    candidate = ours(reference)
    attention = candidate.bert.encoder.layer[0].attention.self

    def attend(q, k, v, mask):
        hidden = torch.full((3, 1, 1, 7), -torch.inf)
        hidden[:2] = mask[:2]
        return ((q @ k.mT) / 2 + hidden).softmax(-1) @ v

    attention.attend = attend
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found.first.module == f"{LAYER}.0.attention.self"
    assert "48 numbers are NaN: scores all -inf" in found.first.causes[0]
    assert found.first.where["batch"] == 2


def test_models_without_a_module_in_common_are_refused_with_the_names_that_were_tried():
    theirs, _ = gpts()
    with pytest.raises(
        ValueError, match=r"no module.*transformer\.wte.*and [0-9]+ more.*none.*mapping"
    ):
        compare(theirs, Returning(torch.zeros(3, 7, 61)), IDS)


@pytest.mark.parametrize(
    ("mapping", "wrong"),
    [({"h.0": "h.0"}, "'h.0'"), ({"transformer.h.0": "h.9"}, "'h.9'")],
)
def test_a_mapping_of_names_that_are_not_there_is_refused(mapping, wrong):
    with pytest.raises(ValueError, match=f"mapping names .{wrong}.*has"):
        compare(*gpts(), IDS, mapping=mapping)


def test_images_are_not_taken_for_masks():
    def network():
        layers = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3), nn.Flatten(), nn.Linear(32, 4)]
        return randomise(nn.Sequential(*layers))

    reference, candidate = network(), network()
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert compare(reference, candidate, images)
    rewrite(candidate, lambda self, x: self[4](self[3](self[2](self[0](x).abs()))))
    found = compare(reference, candidate, images)
    assert (found.first.module, found.first.first) == ("1", "2")
    assert found.first.replayed is True
    candidate = network()
    with torch.no_grad():
        candidate[2].weight[1].neg_()
    found = compare(reference, candidate, images)
    assert (found.first.module, found.first.kind) == ("2", "weights")
    assert "differs in 1 of 2 rows, the first 1" in found.first.causes[0]


def test_a_difference_that_was_not_measured_says_what_is_usual_at_such_a_place():
    theirs, mine = gpts()
    gpt_positions(mine)
    causes = compare(theirs, mine, IDS).first.causes
    assert len(causes) == 1
    assert causes[0].startswith("not measured; usual here: ids that are shifted")
    theirs, mine = gpts()
    rewrite(mine.h[1].mlp, lambda self, x: self.c_proj(self.c_fc(x).sin()))
    causes = compare(theirs, mine, IDS).first.causes
    assert "makes GELU (tanh), the candidate something else" in causes[0]


def test_a_bias_in_code_and_numbers_in_another_order_are_measured_by_their_patterns():
    reference = released()
    candidate = ours(reference)
    more = torch.linspace(-1, 1, 16)
    rewrite(candidate.bert.pooler, lambda self, x: (self.dense(x[:, 0]) + more).tanh())
    rewrite(candidate.bert.encoder.layer[0].intermediate, lambda self, x: F.gelu(self.dense(x)) + 1)
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found.first.module == f"{LAYER}.0.intermediate.intermediate_act_fn"
    candidate = ours(reference)
    first = candidate.bert.encoder.layer[0].attention.output
    forward = type(first).forward
    rewrite(first, lambda self, y, x: forward(self, y, x) + more)
    causes = compare(reference, candidate, (THEIRS, OURS)).first.causes
    assert "the difference is the same at every place, as a bias makes it" in causes
    rewrite(first, lambda self, y, x: forward(self, y, x) * 3)
    causes = compare(reference, candidate, (THEIRS, OURS)).first.causes
    assert "its numbers are the reference's times 3" in causes
    rewrite(first, lambda self, y, x: forward(self, y, x).flip(-1))
    causes = compare(reference, candidate, (THEIRS, OURS)).first.causes
    assert any("in another order" in said for said in causes)


def test_what_a_later_line_changes_in_place_is_recorded_as_it_was():
    class InPlace(nn.Module):
        def __init__(self, more):
            super().__init__()
            self.table, self.inner, self.outer = nn.Embedding(61, 8), nn.Linear(8, 8), nn.ReLU()
            self.more = more

        def forward(self, ids):
            x = self.inner(self.table(ids))
            x += self.more
            return self.outer(x)

    reference, candidate = randomise(InPlace(1)), randomise(InPlace(2))
    found = compare(reference, candidate, IDS)
    assert (found.first.module, found.first.first) == ("", "outer")
    assert found.agreed == ("table", "inner")
    assert found.first.causes[0] == "more is 2; in the reference it is 1"


def test_a_model_that_writes_into_its_batch_spoils_it_for_nobody():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(x.mul_(2))

    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    assert compare(randomise(Overwrites()), randomise(Overwrites()), x)
    assert compare(randomise(Overwrites()), randomise(Overwrites()), {"x": x})
    assert torch.equal(x, before)


def test_a_batch_may_be_what_a_tokenizer_of_transformers_returns():
    reference = released()
    batch = transformers.BatchEncoding(THEIRS)
    assert compare(reference, ours(reference), (batch, OURS))
    assert compare(reference, released(), batch)


def test_modules_of_one_name_and_other_shapes_are_no_pair():
    def network(first, second):
        layers = {first: nn.Linear(8, 6), second: nn.Linear(6, 8)}
        return randomise(nn.Sequential(OrderedDict(table=nn.Embedding(61, 8), **layers)))

    reference, candidate = network("wide", "narrow"), network("narrow", "wide")
    pairs = (("table", "table"), ("wide", "narrow"), ("narrow", "wide"), ("", ""))
    assert compare(reference, candidate, IDS).pairs == pairs
    with torch.no_grad():
        candidate.wide.weight.mul_(2)
    found = compare(reference, candidate, IDS)
    assert (found.first.module, found.first.counterpart) == ("narrow", "wide")


def test_arguments_in_another_order_are_no_other_arguments():
    reference = released()
    candidate = ours(reference)
    for layer in candidate.bert.encoder.layer:
        rewrite(layer.attention, lambda self, x, mask, lengths: self.output(x, self.self(x, mask)))
        norm = layer.attention.output
        rewrite(norm, lambda self, x, y: self.LayerNorm(x + self.dense(y)))
    assert compare(reference, candidate, (THEIRS, OURS))
    rewrite(norm, lambda self, x, y: self.LayerNorm(self.dense(y)))
    found = compare(reference, candidate, (THEIRS, OURS))
    assert found.first.module == f"{LAYER}.1.attention.output"
    assert "leaves out" in found.first.causes[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_large_matrices_are_the_same_where_no_number_is_far_off(dtype):
    """The first row is looked at first; what it settles is what all of them say."""
    torch.manual_seed(0)
    a = (torch.randn(400, 300) * torch.rand(400, 1)).to(dtype)
    eps = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    late, early = a.clone(), a.clone()
    late[399, 7] += 1
    early[0, 7] += 1
    others = [a, a + a * eps / 2, a + a * eps * 4, late, early, a.flip(0), -a, a * 0, a * torch.nan]
    others += [torch.where(a > 2, torch.inf, a), torch.full_like(a, torch.inf)]
    for x in (a, others[-2], a * 0):
        for y in others:
            for tolerance in (None, eps / 10, 1.0):
                assert same(x, y, tolerance) == (far(x, y, tolerance) <= 1)
