"""Lesson 12: a table and a head, to be made one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[nn.Embedding, nn.Linear], Any]
Seen = dict[str, Any]

ONE = "parameters in table and head"
READS, SCORES = "what the table reads", "what the head scores"
STEPPED = "table and head equal after a step"
MOVED = "how far the table went in that step"


def look(answer: Answer, V: int, C: int) -> Seen:
    """Make a table and a head, let the answer tie them, take a step; write down what is seen."""
    torch.manual_seed(V)
    table, head = nn.Embedding(V, C), nn.Linear(C, V, bias=False)
    answer(table, head)
    parameters = list(nn.ModuleList([table, head]).parameters())
    ids = torch.arange(V)[None, ::2]
    x = table(ids)  # (1, T, C)
    logits = head(x.tanh())  # (1, T, V)
    before = table.weight.detach().clone()
    logits.logsumexp(-1).sum().backward()
    torch.optim.SGD(parameters, lr=0.1).step()
    return {
        READS: x.detach().clone(),
        SCORES: logits.detach().clone(),
        ONE: len(parameters),
        STEPPED: head.weight.shape == table.weight.shape and same(head.weight, table.weight),
        MOVED: (table.weight.detach() - before).abs().sum().item(),
    }


def same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.detach(), b.detach()))


# --- answers ------------------------------------------------------------------------------------


def tie(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = table.weight


def other_way(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight = head.weight


def cloned(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(table.weight.detach().clone())


@torch.no_grad()
def copied(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight.copy_(table.weight)


def data_swapped(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight.data = table.weight.data


def wrapped(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(table.weight)


def transposed(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = nn.Parameter(table.weight.T)


def modules_swapped(table: nn.Embedding, head: nn.Linear) -> None:
    head = table  # noqa: F841  only the name here is another one


def nothing(table: nn.Embedding, head: nn.Linear) -> None:
    pass


def unassignable(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = table.weight.data


# --- what tells a mistake ------------------------------------------------------------------------


def reads_right(seen: Seen, want: Seen) -> bool:
    return same(seen[READS], want[READS])


def is_other_way(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] == 1 and not reads_right(seen, want)


def starts_equal(seen: Seen, want: Seen) -> bool:
    return reads_right(seen, want) and torch.allclose(seen[SCORES], want[SCORES])


def is_copy(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] == 2 and starts_equal(seen, want) and not seen[STEPPED]


def is_one_memory(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] == 2 and starts_equal(seen, want) and seen[STEPPED]


def is_untouched(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] == 2 and reads_right(seen, want) and not starts_equal(seen, want)


one_table = Exercise(
    reference=tie,
    probes=[(7, 4), (5, 5), (3, 8)],
    look=look,
    mistakes=[
        Mistake(
            "the head's numbers stay",
            "the two are one Parameter, as they should be, but the table lost its numbers to the "
            "head's. Which of the two is assigned to?",
            other_way,
            is_other_way,
        ),
        Mistake(
            "a copy",
            "they are equal until the first step. Then each goes its own way, for there are two "
            "Parameters. Hand over the Parameter itself, not its numbers.",
            cloned,
            is_copy,
        ),
        Mistake(
            "two Parameters in one memory",
            "both see the same numbers, so it looks tied. But there are two Parameters with a "
            "gradient each, and an optimizer steps both. One object has to have both names.",
            data_swapped,
            is_one_memory,
        ),
        Mistake(
            "nothing tied",
            "the head still scores with a weight of its own. To assign to a name inside a "
            "function changes only what the name stands for: assign to an attribute of a layer.",
            nothing,
            is_untouched,
        ),
        Mistake(
            "turned round",
            "a Linear from C to V keeps its weight as (V, C), which is the table's own shape: "
            "nothing has to be turned.",
            transposed,
        ),
        Mistake(
            "a tensor for a Parameter",
            "what stands in a layer as its weight has to be a Parameter. .data is the bare tensor "
            "inside, and what is computed from a Parameter is none either. The table has one.",
            unassignable,
        ),
    ],
)
