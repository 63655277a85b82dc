"""Lesson 12: a head that was loaded by assignment, to be made one with its table again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from companion.lab.exercise import Exercise, Mistake

Answer = Callable[[nn.Embedding, nn.Linear], Any]
Seen = dict[str, Any]

ONE = "table and head have one Parameter"
HAS = "the head has a Parameter called weight"
HELD = "the optimizer's Parameter is the table's"
READS, SCORES = "what the table reads", "what the head scores"
EXACT = "the table's numbers are the file's to the last digit"
OPTIONS = "options of the table"
BIAS = "a bias at the head"
TRAINED = "the table takes a gradient"
STEPPED = "table and head equal after a step"
TABLE = "the table after a step"


def look(answer: Answer, V: int, C: int) -> Seen:
    """A table, its optimizer, a head loaded apart: let the answer tie them, take a step."""
    torch.manual_seed(V)
    table, head = nn.Embedding(V, C), nn.Linear(C, V, bias=False)
    held, file = table.weight, head.weight.detach().clone()
    optimizer = torch.optim.SGD([held], lr=0.1)
    answer(table, head)
    ids = torch.arange(V)[None, :-1]
    x = table(ids)  # (1, T, C)
    logits = head(x.tanh())  # (1, T, V)
    seen = {
        ONE: head._parameters.get("weight") is table._parameters.get("weight") is not None,
        HAS: "weight" in head._parameters,
        HELD: table.weight is held,
        OPTIONS: table.extra_repr(),
        BIAS: head.bias is not None,
        TRAINED: table.weight.requires_grad,
        EXACT: table.weight.dtype == file.dtype and same(table.weight, file),
        READS: x.detach().clone(),
        SCORES: logits.detach().clone(),
    }
    if logits.requires_grad:
        optimizer.zero_grad()
        logits.logsumexp(-1).sum().backward()
        optimizer.step()
    stepped = head.weight.shape == table.weight.shape and same(head.weight, table.weight)
    return seen | {STEPPED: stepped, TABLE: table.weight.detach().clone()}


def same(a: Tensor, b: Tensor) -> bool:
    return bool(torch.equal(a.detach(), b.detach()))


# --- answers ------------------------------------------------------------------------------------


@torch.no_grad()
def fill(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight.copy_(head.weight)


def tie(table: nn.Embedding, head: nn.Linear) -> None:
    fill(table, head)
    head.weight = table.weight


def other_way(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight = head.weight


def numbers_lost(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = table.weight


def rounded(table: nn.Embedding, head: nn.Linear) -> None:
    with torch.no_grad():
        table.weight.copy_(head.weight.half())
    head.weight = table.weight


def overwritten(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight.data = table.weight.data


def frozen(table: nn.Embedding, head: nn.Linear) -> None:
    tie(table, head)
    table.weight.requires_grad_(False)


def copied(table: nn.Embedding, head: nn.Linear) -> None:
    fill(table, head)


def data_swapped(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight.data = head.weight.data


def nothing(table: nn.Embedding, head: nn.Linear) -> None:
    pass


def biased(table: nn.Embedding, head: nn.Linear) -> None:
    tie(table, head)
    head.bias = nn.Parameter(torch.zeros(len(head.weight)))


def padded(table: nn.Embedding, head: nn.Linear) -> None:
    tie(table, head)
    table.padding_idx = 0


def function_for_parameter(table: nn.Embedding, head: nn.Linear) -> None:
    fill(table, head)
    del head.weight
    object.__setattr__(head, "weight", table.weight)


def hooked(table: nn.Embedding, head: nn.Linear) -> None:
    tie(table, head)
    table.weight.register_hook(lambda gradient: -gradient)


def unassignable(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = table.weight.data


def layer_for_weight(table: nn.Embedding, head: nn.Linear) -> None:
    head.weight = table


def head_for_weight(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight = head


def with_gradients(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight.copy_(head.weight)


def turned(table: nn.Embedding, head: nn.Linear) -> None:
    table.weight.data = head.weight.data.T
    head.weight = table.weight


def copied_turned(table: nn.Embedding, head: nn.Linear) -> None:
    with torch.no_grad():
        table.weight.copy_(head.weight.T)


# --- what tells a mistake ------------------------------------------------------------------------


def keeps(*names: str) -> Callable[[Seen, Seen], bool]:
    """Whether all of these came out as they should."""

    def kept(seen: Seen, want: Seen) -> bool:
        return all(
            seen[name].shape == want[name].shape and torch.allclose(seen[name], want[name])
            if isinstance(want[name], Tensor)
            else seen[name] == want[name]
            for name in names
        )

    return kept


plain = keeps(OPTIONS, BIAS)
right_numbers = keeps(READS, SCORES)


def lost_the_optimizer(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] and not seen[HELD] and plain(seen, want) and right_numbers(seen, want)


def lost_the_numbers(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] and plain(seen, want) and not keeps(READS)(seen, want)


def lost_digits(seen: Seen, want: Seen, V: int, C: int) -> bool:
    near = seen[READS].shape == want[READS].shape and torch.allclose(
        seen[READS].float(), want[READS], rtol=0.01, atol=0.01
    )
    return near and not seen[EXACT]


def lost_to_the_table(seen: Seen, want: Seen, V: int, C: int) -> bool:
    fresh = look(nothing, V, C)
    given = keeps(READS)(seen, fresh) and not keeps(SCORES)(seen, fresh)
    return given and seen[HAS] and not seen[ONE]


def is_frozen(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return not seen[TRAINED] and plain(seen, want) and right_numbers(seen, want)


def is_copy(seen: Seen, want: Seen, V: int, C: int) -> bool:
    two = not seen[ONE] and not seen[STEPPED]
    return two and plain(seen, want) and right_numbers(seen, want)


def is_one_memory(seen: Seen, want: Seen, V: int, C: int) -> bool:
    two = seen[HAS] and not seen[ONE] and seen[STEPPED]
    return two and plain(seen, want) and right_numbers(seen, want)


def is_untouched(seen: Seen, want: Seen, V: int, C: int) -> bool:
    fresh = look(nothing, V, C)
    return keeps(*fresh)(seen, fresh)


def has_no_parameter(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return not seen[HAS]


def has_a_bias(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] and seen[BIAS]


def has_an_option(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return seen[ONE] and not keeps(OPTIONS)(seen, want)


def steps_otherwise(seen: Seen, want: Seen, V: int, C: int) -> bool:
    return keeps(*(set(seen) - {TABLE}))(seen, want) and not keeps(TABLE)(seen, want)


NO_PARAMETER = (
    "only a Parameter may stand there. What is computed from one (.data, .T, a clone) is a bare "
    "tensor. And turning is not needed: a Linear from C to V keeps its weight as (V, C), as the "
    "table does."
)
NO_LAYER = "a layer is not its weight: what the two are to share is an attribute that each has."
TURNED = (
    "a Linear from C to V keeps its weight as (V, C), which is the table's own shape: nothing has "
    "to be turned."
)

one_table = Exercise(
    reference=tie,
    probes=[(7, 4), (5, 5), (3, 8)],
    look=look,
    mistakes=[
        Mistake(
            "the optimizer's Parameter is gone",
            "table and head are one Parameter and have the file's numbers, but it is not the one "
            "that the optimizer holds: that goes on stepping a tensor which no layer uses. Which "
            "Parameter has to stay, and what has to get into it?",
            other_way,
            lost_the_optimizer,
        ),
        Mistake(
            "frozen",
            "the numbers are right, but the table's weight takes no gradient any more "
            "(requires_grad is False), so no step of the optimizer can move it.",
            frozen,
            is_frozen,
        ),
        Mistake(
            "changed numbers",
            "the table has the file's numbers nearly, or in another type. A plain copy keeps type "
            "and digits; which step does more than copy?",
            rounded,
            lost_digits,
        ),
        Mistake(
            "the file's numbers are overwritten",
            "the head was given the table's numbers, and only the head had those of the file. "
            "There are still two Parameters, too. Which way have the numbers to go?",
            overwritten,
            lost_to_the_table,
        ),
        Mistake(
            "the file's numbers are gone",
            "the two are one Parameter, but it does not have the head's numbers, which came out of "
            "the file. Mind the order: once the head's Parameter is dropped, so are its numbers.",
            numbers_lost,
            lost_the_numbers,
        ),
        Mistake(
            "a copy",
            "they are equal until the first step. Then each goes its own way, for there are two "
            "Parameters. The numbers are where they should be; now share the Parameter itself.",
            copied,
            is_copy,
        ),
        Mistake(
            "two Parameters in one memory",
            "both see the same numbers, so it looks tied. But there are two Parameters, with a "
            "gradient each, and the optimizer has only one. One object has to have both names.",
            data_swapped,
            is_one_memory,
        ),
        Mistake(
            "nothing changed",
            "table and head are as they came. Assigning to the name of an argument, or returning "
            "something, changes neither layer: change what the layers hold.",
            nothing,
            is_untouched,
        ),
        Mistake(
            "a bias more",
            "the two share a Parameter, but the head has a bias, which it did not have before.",
            biased,
            has_a_bias,
        ),
        Mistake(
            "another kind of table",
            "the two share a Parameter, but the table was given options that it did not have "
            "before, and they change how it reads or trains. Leave all but the weight alone.",
            padded,
            has_an_option,
        ),
        Mistake(
            "no Parameter at the head",
            "the head uses the table's numbers, but has no Parameter called weight: its "
            "state_dict is empty, and nothing that looks for a shared Parameter finds one.",
            function_for_parameter,
            has_no_parameter,
        ),
        Mistake(
            "another step",
            "table and head are one Parameter with the right numbers, and yet a step moves it "
            "otherwise than the sum of its two gradients would. Is there a hook on it?",
            hooked,
            steps_otherwise,
        ),
        Mistake("a tensor for a Parameter", NO_PARAMETER, unassignable),
        Mistake("a layer for its weight", NO_LAYER, layer_for_weight),
        Mistake("a layer for the table's weight", NO_LAYER, head_for_weight),
        Mistake(
            "filled under gradients",
            "PyTorch records what is done to a Parameter, and lets nobody write into one while it "
            "records. Filling one is no part of the forward pass: tell PyTorch not to record it.",
            with_gradients,
        ),
        Mistake("turned round", TURNED, turned),
        Mistake("copied turned round", TURNED, copied_turned),
    ],
)
