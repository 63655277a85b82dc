"""Typed wrong, and yet a language model like any other: a doctor has nothing to hold against it."""

import torch
import torch.nn.functional as F
from torch import nn

from companion.gpt import Block
from companion.lab.zoo.attentions import ByHand
from companion.lab.zoo.case import Case, gpt, part
from companion.mlp import MLP


class NotTaught(ByHand):
    @torch.no_grad()  # left from a look at the weights
    def weights(self, scores, mask):
        return super().weights(scores, mask)


class NoResidual(Block):
    def forward(self, x, cache=None):
        x = self.attn(self.ln_1(x))  # x +
        return x + self.mlp(self.ln_2(x))


class Straight(MLP):
    def forward(self, x):
        return self.c_proj(self.c_fc(x))  # F.gelu between them


def reshaped(logits, targets):
    B, T, V = logits.shape
    return F.cross_entropy(logits.reshape(B, V, T), targets)  # logits.transpose(1, 2)


def no_activation(vocab):
    model = gpt(vocab)
    for block in model.h:
        block.mlp.__class__ = Straight
    return model


def one_block(vocab):
    model = gpt(vocab)
    model.h = nn.ModuleList([model.h[0]] * len(model.h))  # a new Block for each
    return model


CASES = [
    Case(
        "attention under no_grad",
        "@torch.no_grad(), left from a look at the weights",
        "",
        part(attention=NotTaught),
    ),
    Case("no residual", "x + left out before attention", "", part(block=NoResidual)),
    Case("view for transpose", "logits.view(B, V, T), for transpose", "", gpt, loss=reshaped),
    Case("no activation", "an MLP without GELU", "", no_activation),
    Case("one block twice", "[Block(config)] * n_layer", "", one_block),
]
