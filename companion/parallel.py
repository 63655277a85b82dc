"""Several processes, one model: who one is, what is added up, and who speaks."""

# Exported from lessons/19_data_parallel.md: edit that, then run `make lessons`.

__all__ = ["Rank", "all_sum", "gradients_follow", "this_rank"]

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Rank:
    """Which process this is: `rank` of `world`, `local` on its machine; its device."""

    rank: int = 0
    world: int = 1
    local: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process prints, saves and draws."""
        return self.rank == 0


@contextmanager
def this_rank(device: str = "auto") -> Iterator[Rank]:
    """Join the processes that torchrun started; alone where it did not.

    torchrun sets RANK, WORLD_SIZE and LOCAL_RANK. On GPUs they talk by NCCL, one GPU
    for each process of a machine; else by gloo. ValueError for a GPU that is not there.
    """
    rank, world, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local} of this machine has no GPU of its own")
        torch.cuda.set_device(local)
        place = torch.device("cuda", local)
    else:
        place = torch.device(device)
    if world == 1:
        yield Rank(device=place)
        return
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield Rank(rank, world, local, place)
    finally:
        dist.destroy_process_group()


def all_sum(numbers: Tensor) -> Tensor:
    """The numbers of all processes, added up; the same in each.

    In place: `numbers` itself becomes the sum.
    """
    if dist.is_initialized():
        dist.all_reduce(numbers)
    return numbers


@contextmanager
def gradients_follow(model: nn.Module, last: bool) -> Iterator[None]:
    """Let DDP average gradients only for the last micro-batch of a step.

    DDP decides it in forward: the forward has to be inside, too. A model that has no
    `no_sync` is left as it is; one compiled around DDP has it.
    """
    keep_back = getattr(model, "no_sync", nullcontext)
    with nullcontext() if last else keep_back():
        yield
