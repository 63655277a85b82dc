"""Averaging once a step, however the model is wrapped."""

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from companion.lab.launching import launch
from companion.parallel import Rank, gradients_follow


def sent_by(rank: Rank, compiled: bool) -> list:
    """Numbers sent in each of two steps' four micro-batches, and how far the ranks' sums are."""

    def noted(sent, bucket):
        sent.append(bucket.buffer().numel())
        return allreduce_hook(None, bucket)

    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2, bias=False)
    ddp, sent, counts = DistributedDataParallel(model), [], []
    ddp.register_comm_hook(sent, noted)
    forward = torch.compile(ddp, backend="eager") if compiled else ddp
    rows = torch.randn(2, 4, rank.world, 5, 3)
    for step in range(2):
        model.zero_grad()
        for micro in range(4):
            sent.clear()
            with gradients_follow(forward, last=micro == 3):
                forward(rows[step, micro, rank.rank]).square().mean().backward()
            counts.append(sum(sent))
    had = model.weight.grad.clone()
    model.zero_grad()
    (model(rows[1].flatten(0, 2)).square().mean() * 4).backward()
    return [counts, (had - model.weight.grad).abs().max().item()]


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_sent_once_a_step_and_are_right(compiled):
    for counts, far in launch(sent_by, compiled=compiled):
        assert counts == [0, 0, 0, 6] * 2
        assert far < 1e-5


def test_any_other_model_is_left_as_it_is():
    model = torch.nn.Linear(3, 2)
    with gradients_follow(model, last=False):
        model(torch.ones(1, 3)).sum().backward()
    assert model.weight.grad is not None
