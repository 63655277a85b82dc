"""The rest of the model typed wrong: positions, blocks, norms, what is registered, state."""

import torch
import torch.nn.functional as F
from torch import nn

from companion.gpt import GPT, Block
from companion.lab.zoo.case import WIDTH, Case, gpt, part


class Model(GPT):
    """Right: `hidden` in two steps, so that one of them can be typed wrong."""

    def hidden(self, ids, cache=None):
        x = self.embed(ids)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def embed(self, ids):
        return self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))


class NoPositions(Model):
    def embed(self, ids):
        return self.wte(ids)  # + self.wpe(...)


class OnePlace(Model):
    def embed(self, ids):
        return self.wte(ids) + self.wpe(torch.zeros_like(ids))  # torch.arange(T)


class FromTheEnd(Model):
    def embed(self, ids):
        T = ids.shape[1]
        return self.wte(ids) + self.wpe(torch.arange(T - 1, -1, -1))  # torch.arange(T)


class LastBlockIdle(Model):
    def hidden(self, ids, cache=None):
        x = self.embed(ids)
        for n in range(1, len(self.h)):  # range(len(self.h))
            x = self.h[n](x)
        return self.ln_f(x)


class NoLastNorm(Model):
    def hidden(self, ids, cache=None):
        x = self.embed(ids)
        for block in self.h:
            x = block(x)
        return x  # self.ln_f(x)


class LayerInForward(Model):
    def hidden(self, ids, cache=None):
        x = super().hidden(ids)
        return x + nn.Linear(WIDTH, WIDTH)(x)  # made in __init__


class DropoutStaysOn(Model):
    def embed(self, ids):
        return F.dropout(super().embed(ids), 0.1)  # training=self.training


class DropoutInList(Model):
    def __init__(self, config):
        super().__init__(config)
        self.drops = [nn.Dropout(0.1)]  # nn.ModuleList

    def embed(self, ids):
        return self.drops[0](super().embed(ids))


class Remembers(Model):
    """Takes the mean of what it has read so far, in all calls, out of the stream."""

    mean = 0.0

    def embed(self, ids):
        x = super().embed(ids)
        self.mean = 0.9 * self.mean + 0.1 * x.mean(dim=(0, 1)).detach()
        return x - self.mean


class Probabilities(Model):
    def forward(self, ids, targets=None, cache=None):
        return super().forward(ids).softmax(dim=-1)  # logits, as they are


class FloatHead(Model):
    def forward(self, ids, targets=None, cache=None):
        return self.lm_head(self.hidden(ids).double())  # float32


class NormOverTexts(nn.Module):
    """Batch norm for layer norm: over all rows and places at once."""

    def __init__(self, n_embd):
        super().__init__()
        self.norm = nn.BatchNorm1d(n_embd)  # nn.LayerNorm

    def forward(self, x):
        return self.norm(x.mT).mT


class NormOverTime(nn.LayerNorm):
    def forward(self, x):
        y = F.layer_norm(x, x.shape[1:])  # x.shape[-1:]
        return y * self.weight + self.bias


class Doubled(Block):
    def forward(self, x, cache=None):
        x = x + self.attn(self.ln_1(x)) + x  # + x once
        return x + self.mlp(self.ln_2(x))


class Cut(Block):
    def forward(self, x, cache=None):
        x = x + self.attn(self.ln_1(x)).detach()  # no .detach()
        return x + self.mlp(self.ln_2(x))


class InBfloat16(Block):
    def __init__(self, config):
        super().__init__(config)
        self.mlp.to(torch.bfloat16)  # autocast

    def forward(self, x, cache=None):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x).to(torch.bfloat16))


def plain_list(vocab):
    model = gpt(vocab)
    blocks = list(model.h)
    del model.h
    model.h = blocks  # nn.ModuleList(blocks)
    return model


def idle_module(vocab):
    model = gpt(vocab)
    for block in model.h:
        block.ln_3 = nn.LayerNorm(WIDTH)  # in no forward
    return model


def frozen_table(vocab):
    model = gpt(vocab)
    model.wte.requires_grad_(False)  # thawed again after a first stage
    return model


def float64_head(vocab):
    model = gpt(vocab, model=FloatHead, tied=False)
    model.lm_head.double()
    return model


def copied_tie(vocab):
    model = gpt(vocab, tied=False)
    model.lm_head.weight = nn.Parameter(model.wte.weight.clone())  # model.wte.weight
    return model


def broken_tie(vocab):
    model = gpt(vocab)
    model.load_state_dict(gpt(vocab).state_dict(), assign=True)  # tied again
    return model


def shared_memory(vocab):
    model = gpt(vocab, tied=False)
    model.lm_head.weight.data = model.wte.weight.data  # without .data
    return model


def new_head(vocab):
    model = gpt(vocab)  # its config says: tied
    model.lm_head = nn.Linear(WIDTH, vocab, bias=False)  # tie_weights, once more
    nn.init.normal_(model.lm_head.weight, std=0.02)
    return model


def loud_start(vocab):
    model = gpt(vocab)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.2)  # 0.02
    return model


def torchs_start(vocab):
    model = gpt(vocab)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding) and module is not model.lm_head:
            module.reset_parameters()  # init_gpt2_
    return model


POSITIONS, UNREGISTERED, TIE = "blind-to-positions", "unregistered", "tie-copied"
NO_GRADIENT, EVAL, START = "no-gradient", "eval-random", "initial-loss"

CASES = [
    Case("no positions", "wte(ids), without wpe", POSITIONS, part(model=NoPositions)),
    Case(
        "one position for all",
        "wpe(zeros) for wpe(arange(T))",
        POSITIONS,
        part(model=OnePlace),
    ),
    Case(
        "positions from the end",
        "arange(T - 1, -1, -1) for arange(T)",
        "short-differs",
        part(model=FromTheEnd),
    ),
    Case("plain list of blocks", "a list for an nn.ModuleList", UNREGISTERED, plain_list),
    Case(
        "layer made in forward",
        "an nn.Linear made anew at each call",
        UNREGISTERED,
        part(model=LayerInForward),
    ),
    Case(
        "dropout in a list",
        "[nn.Dropout(0.1)], which eval() does not reach",
        EVAL,
        part(model=DropoutInList),
    ),
    Case(
        "F.dropout",
        "without training=self.training, so that it stays on",
        EVAL,
        part(model=DropoutStaysOn),
    ),
    Case(
        "kept from the last call",
        "a running mean that no call resets",
        "state-kept",
        part(model=Remembers),
    ),
    Case("module not used", "a norm that is in no forward", NO_GRADIENT, idle_module),
    Case("first block left out", "range(1, n_layer)", NO_GRADIENT, part(model=LastBlockIdle)),
    Case("last norm left out", "ln_f is made and not used", NO_GRADIENT, part(model=NoLastNorm)),
    Case("detached", "a .detach() behind attention", NO_GRADIENT, part(block=Cut)),
    Case("frozen table", "requires_grad_(False), and never True again", "frozen", frozen_table),
    Case(
        "tie copied",
        "nn.Parameter(wte.weight.clone()) for wte.weight",
        TIE,
        copied_tie,
    ),
    Case("tie lost in loading", "load_state_dict(..., assign=True)", TIE, broken_tie),
    Case(
        "tie by .data",
        "lm_head.weight.data = wte.weight.data: two Parameters",
        TIE,
        shared_memory,
    ),
    Case("tie lost with a new head", "lm_head made anew, and not tied", "tie-broken", new_head),
    Case("batch norm", "over rows and places", "mixes-batch", part(norm=NormOverTexts)),
    Case(
        "norm over time",
        "layer_norm over (T, C) for C",
        "sees-future",
        part(norm=NormOverTime),
    ),
    Case(
        "residual twice",
        "x + attention + x, in 4 layers",
        "residual-growth",
        part(block=Doubled, layers=4),
    ),
    Case("weights ten times too large", "std=0.2 for 0.02", START, loud_start),
    Case("PyTorch's own start", "no init: a table of std 1, tied to the head", START, torchs_start),
    Case(
        "softmax in forward",
        "probabilities for logits",
        "probabilities",
        part(model=Probabilities),
    ),
    Case(
        "MLP in bfloat16", "its weights too, for autocast", "dtypes-mixed", part(block=InBfloat16)
    ),
    Case("head in float64", ".double() left from a search for NaN", "dtypes-mixed", float64_head),
]
