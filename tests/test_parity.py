"""parity.compare names the module that differs, and finds nothing between equal models."""

import re
from functools import partial
from types import MethodType

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from companion.bert_config import BertConfig
from companion.bert_heads import BertForPreTraining
from companion.bert_inputs import additive_mask
from companion.parity import compare

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
    attention = model.bert.encoder.layer[0].attention.self
    attend = type(attention).attend
    later = torch.full((7, 7), -1e9).triu(1)
    attention.attend = lambda q, k, v, mask: attend(attention, q, k, v, mask + later)


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
    eps_of_its_own: (f"{LAYER}.1.output.LayerNorm", "code", "of eps 1.0e-03, .*e-1?[0-9]"),
    std_with_correction: (f"{LAYER}.0.attention.output.LayerNorm", "code", "correction"),
    gelu_tanh: (f"{LAYER}.1.intermediate", "code", r"GELU \(erf\), the candidate GELU \(tanh\)"),
    relu_in_the_head: ("cls.predictions.transform", "code", "candidate ReLU"),
    pre_norm: (f"{LAYER}.0.attention", "code", r"LayerNorm runs before .*query"),
    norm_before_adding: (f"{LAYER}.1.output", "code", "is handed is what .*1.output.dense gives"),
    no_residual: (f"{LAYER}.0.attention.output", "code", "leaves out|is what"),
    no_types: ("bert.embeddings", "code", "leaves out what .*token_type_embeddings gives"),
    types_all_zero: ("bert.embeddings", "code", "all 0"),
    positions_from_one: ("bert.embeddings", "code", "plus 1"),
    q_for_k: (f"{LAYER}.1.attention.self.query", "weights", "1.attention.self.key.weight: the two"),
    q_for_k_in_the_code: (f"{LAYER}.0.attention.self", "code", "k, q, v in the roles of q, k, v"),
    v_for_k_in_the_code: (f"{LAYER}.0.attention.self", "code", "q, v, k in the roles of q, k, v"),
    transposed: (f"{LAYER}.0.attention.output.dense", "weights", "weight is .* transposed"),
    two_heads: (f"{LAYER}.0.attention.self", "code", "computes 2 heads; the reference 4 heads"),
    scores_not_scaled: (f"{LAYER}.1.attention.self", "code", "scores not divided"),
    heads_merged_by_view: (f"{LAYER}.0.attention.self", "code", "reference computes 4 heads"),
    looks_back_only: (f"{LAYER}.0.attention.self", "code", "what comes later hidden"),
    no_decoder_bias: ("cls.predictions.decoder", "weights", "has no bias"),
    untied_decoder: ("cls.predictions.decoder", "weights", "one tensor with .*word_embeddings"),
    mask_not_added: (f"{LAYER}.0.attention.self", "code", "computes nothing hidden; .* padding"),
    mask_not_handed_on: (f"{LAYER}.0.attention.self", "code", "and the candidate's none"),
    mask_the_other_way_round: ("bert", "code", "its mask"),
    train_mode: ("bert.embeddings.dropout", "chance", "eval"),
    one_attention_in_train_mode: (f"{LAYER}.1.attention.self", "chance", "eval"),
    dropout_in_the_code: (f"{LAYER}.0.intermediate", "chance", "in its code"),
    pools_the_last: ("bert.pooler", "code", "position 6 .* the reference position 0"),
    pools_the_mean: (
        "bert.pooler",
        "code",
        "the mean of all positions .* the reference position 0",
    ),
    pools_without_tanh: ("bert.pooler", "code", "makes tanh, the candidate itself"),
    layers_swapped: (f"{LAYER}.0.attention.self.query", "weights", "layer.1.attention.self.query"),
    layers_run_backwards: ("bert.encoder", "code", "runs before|runs after"),
    a_layer_left_out: ("bert.encoder", "code", "is handed|gives"),
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
