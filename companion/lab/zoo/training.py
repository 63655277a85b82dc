"""The training typed wrong: losses, targets, optimizers; the model is right."""

import warnings

import torch
import torch.nn.functional as F

from companion.lab.zoo.case import Case, default_optimizer, gpt, shifted
from companion.loss import next_token_loss

LR = 1e-3


def summed(logits, targets):
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")  # "mean"


def softmax_twice(logits, targets):
    return next_token_loss(logits.softmax(-1), targets)  # logits


def logits_for_logs(logits, targets):
    return F.nll_loss(logits.flatten(0, 1), targets.flatten())  # cross_entropy


def shifts_again(logits, targets):
    return next_token_loss(logits[:, :-1], targets[:, 1:])  # targets are the next ids already


def unshifted(window):
    ids, _ = shifted(window)
    return ids, ids  # ids, next ids


def of_blocks_only(model):
    return torch.optim.AdamW(model.h.parameters(), lr=LR)  # model.parameters()


def decays_all(model):
    return torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1)  # decay_groups


def decays_the_others(model):
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.1},  # dim() >= 2
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR)


def doubled(model):
    parameters = [*model.parameters(), model.lm_head.weight]  # tied: it is wte's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own warning, which scrolls by
        return torch.optim.AdamW(parameters, lr=LR, foreach=False)


def made_too_early(model):
    optimizer = default_optimizer(model)
    model.wpe = torch.nn.Embedding(*model.wpe.weight.shape)  # before the optimizer is made
    torch.nn.init.normal_(model.wpe.weight, std=0.01)
    return optimizer


CASES = [
    Case("sum for mean", 'reduction="sum"', "loss-not-mean", gpt, loss=summed),
    Case(
        "softmax before the loss",
        "cross_entropy(logits.softmax(-1), targets)",
        "loss-double-softmax",
        gpt,
        loss=softmax_twice,
    ),
    Case(
        "nll_loss of logits",
        "no log_softmax before it",
        "loss-no-softmax",
        gpt,
        loss=logits_for_logs,
    ),
    Case("targets not shifted", "the ids themselves", "targets-unshifted", gpt, targets=unshifted),
    Case(
        "targets shifted twice",
        "by the loader and by the loss",
        "targets-shifted-twice",
        gpt,
        loss=shifts_again,
    ),
    Case(
        "optimizer of the blocks",
        "model.h.parameters() for model.parameters()",
        "optimizer-missing",
        gpt,
        optimizer=of_blocks_only,
    ),
    Case(
        "one tensor twice",
        "the tied weight under both names",
        "optimizer-doubled",
        gpt,
        optimizer=doubled,
    ),
    Case(
        "optimizer too early",
        "made before wpe was made anew",
        "optimizer-stale",
        gpt,
        optimizer=made_too_early,
    ),
    Case("decays all", "norms and biases too", "optimizer-decay", gpt, optimizer=decays_all),
    Case(
        "decays the others",
        "the two groups swapped",
        "optimizer-decay",
        gpt,
        optimizer=decays_the_others,
    ),
]
