"""Lesson 03: a model whose layers hide in a list, a dict and tuples, to be registered."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from companion.lab.comparing import first_difference
from companion.lab.exercise import Exercise, Mistake
from companion.registration import (
    unregistered_leaves,
    unregistered_modules,
    unregistered_parameters,
)

NONE = "none"
MISSING, EXTRA = "names that are missing", "names that are not in the checkpoint"
SAME = "names of one and the same parameter"
PARAMETERS, LAYERS = "parameters that hide", "layers that hide"
UNPACKED = "containers filled and not kept"
ANEW = "parameters used and nowhere in the model"
GIVEN = "parameters that parameters() gives"
UNTRAINED = "parameters that get no gradient"
LATE = "names that come with the first forward"
LOGITS = "logits"
AHEAD = "logits for a longer input and a mask that sees ahead"
TRAINING = "logits in train mode"
MOVED = "whether forward runs once the model is moved"
Seen = dict[str, Any]


class Mix(nn.Module):
    """The lesson's block: at each position, a Linear of the mean of what the mask lets it see."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.linear = nn.Linear(C, C)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x + self.linear(mask @ x / mask.sum(-1, keepdim=True))


def pairs(C: int, layers: int) -> list[tuple[nn.Module, nn.Module]]:
    return [(nn.LayerNorm(C), nn.Linear(C, C)) for _ in range(layers)]


def listed(items: Any) -> nn.ModuleList:
    """A list of tuples, registered as deep as it goes."""
    return nn.ModuleList(nn.ModuleList(item) for item in items)


class Reader(nn.Module):
    """The exercise's model; `blocks`, `steps` and `heads` make its three containers."""

    def __init__(
        self,
        V: int,
        C: int,
        layers: int,
        blocks: Callable = nn.ModuleList,
        steps: Callable = listed,
        heads: Callable = nn.ModuleDict,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, C)
        self.blocks = blocks([Mix(C) for _ in range(layers)])
        self.steps = steps(pairs(C, layers))
        self.heads = heads({"next": nn.Linear(C, V), "before": nn.Linear(C, V)})

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block, (norm, linear) in zip(self.blocks, self.steps):
            x = block(x, mask)
            x = x + linear(norm(x))
        return x

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = self.through(self.wte(ids), mask)
        return {name: head(x) for name, head in self.heads.items()}


HIDING = {"blocks": list, "steps": list, "heads": dict}
SAID = {"blocks": "the list", "steps": "the list of tuples", "heads": "the dict"}


# --- what the check looks at --------------------------------------------------------------------


def look(answer: Callable[..., Any], V: int, C: int, layers: int) -> Seen:
    """Make a model, and write down what it registered and, with a checkpoint, what it computes."""
    filled: list[nn.Module] = []
    hook = torch_module.register_module_module_registration_hook(
        lambda container, name, layer: filled.append(container)
    )
    try:
        model = answer(V, C, layers)
    finally:
        hook.remove()
    if model is None or model is ...:
        return model
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model, an nn.Module; this is a {type(model).__name__}")
    right = example(V, C, layers)
    checkpoint, own = right.state_dict(), model.state_dict()
    ids, mask = causal(V)
    loss = sum(x.sum() for x in logits_in(model(ids, mask)))
    missing = [n for n, x in checkpoint.items() if n not in own or own[n].shape != x.shape]
    parameters, layers_ = unregistered_parameters(model), unregistered_modules(model)
    found = {id(x) for x in parameters.values()}
    names: dict[int, list[str]] = {}
    for name, x in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(x), []).append(name)
    return {
        MISSING: Names.of(missing),
        EXTRA: Names.of([name for name in own if name not in checkpoint]),
        SAME: Names.of([" = ".join(same) for same in names.values() if len(same) > 1]),
        PARAMETERS: Names.of(list(parameters)),
        LAYERS: Names.of(list(layers_)),
        UNPACKED: Names.of(unpacked(filled, model, layers_)),
        ANEW: len([x for x in unregistered_leaves(model, loss) if id(x) not in found]),
        GIVEN: len(list(model.parameters())),
        LATE: Names.of([name for name in model.state_dict() if name not in own]),
        UNTRAINED: Names.of(untrained(model, loss)),
        **(dict.fromkeys((LOGITS, AHEAD, TRAINING)) if missing else logits(model, checkpoint, V)),
        MOVED: bool(missing or parameters or layers_) or runs_elsewhere(model, V),
    }


def example(V: int, C: int, layers: int) -> Reader:
    """A right model with every number drawn at random, norms too."""
    right, order = Reader(V, C, layers), torch.Generator().manual_seed(V * C)
    with torch.no_grad():
        for p in right.parameters():
            p.copy_(torch.randn(p.shape, generator=order))
    return right


def some_ids(V: int, T: int) -> Tensor:
    return torch.randint(V, (2, T), generator=torch.Generator().manual_seed(V))


def causal(V: int, T: int = 5) -> tuple[Tensor, Tensor]:
    """Ids, and the mask of the lesson: each position sees itself and what came before."""
    return some_ids(V, T), torch.ones(T, T).tril()


def ahead(V: int) -> tuple[Tensor, Tensor]:
    """More ids, and a mask that is no triangle: each position sees itself and the next two."""
    return some_ids(V, 7), torch.ones(7, 7).triu().tril(2)


def logits_in(output: Any) -> list[Tensor]:
    if isinstance(output, dict):
        output = list(output.values())
    parts = list(output) if isinstance(output, list | tuple) else [output]
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"forward returned a {type(part).__name__} where logits should be")
    return parts


def untrained(model: nn.Module, loss: Tensor) -> list[str]:
    """Names of registered parameters that this loss would not train."""
    wanting = {name: x for name, x in model.named_parameters() if x.requires_grad}
    grads = torch.autograd.grad(loss, list(wanting.values()), allow_unused=True)
    got = {name for name, g in zip(wanting, grads) if g is not None}
    return [name for name, _ in model.named_parameters() if name not in got]


def logits(model: nn.Module, checkpoint: dict[str, Tensor], V: int) -> Seen:
    """What the model computes once it has the checkpoint's numbers."""
    model.load_state_dict(checkpoint, strict=False)
    with torch.no_grad():
        evaluated = {LOGITS: model.eval()(*causal(V)), AHEAD: model(*ahead(V))}
        return evaluated | {TRAINING: model.train()(*causal(V))}


def runs_elsewhere(model: nn.Module, V: int) -> bool:
    """Whether all that forward uses goes along when the model is moved to another device.

    "meta" is one that every machine has. Asked last, for the model has no numbers afterwards.
    """
    ids, mask = causal(V)
    try:
        model.to("meta")(ids.to("meta"), mask.to("meta"))
    except RuntimeError:
        return False
    return True


def unpacked(filled: list[nn.Module], model: nn.Module, hidden: dict[str, nn.Module]) -> list[str]:
    """Containers that registered what now hides in the model, and are no part of it."""
    kept, hiding = set(model.modules()), set(hidden.values())
    lost = [c for c in dict.fromkeys(filled) if c not in kept and hiding & set(c.children())]
    containers = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
    return [type(c).__name__ for c in lost if isinstance(c, containers)]


class Names(str):
    """Names in one line; `none` is what is wanted. Shown short."""

    @classmethod
    def of(cls, names: list[str]) -> "Names":
        return cls(", ".join(names) or NONE)

    def __repr__(self) -> str:
        names = self.split(", ")
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return ", ".join(names[:3]) + more


# --- mistakes -----------------------------------------------------------------------------------


def hiding(seen: Seen) -> list[str]:
    """Which of the three containers still hide layers."""
    paths = seen[LAYERS].split(", ")
    return [name for name in HIDING if any(path.startswith(name) for path in paths)]


def hides(*containers: str) -> Callable[..., bool]:
    return lambda seen, want, *probe: hiding(seen) == list(containers)


def leaving(*containers: str) -> Callable[..., nn.Module]:
    """An answer in which these containers are as they were."""
    return partial(Reader, **{name: HIDING[name] for name in containers})


def unpacks(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[UNPACKED] != NONE


def keeps_pairs_in_a_list(seen: Seen, want: Seen, *probe: int) -> bool:
    return "steps[0]" in seen[LAYERS].split(", ")


def puts_tuples_in_a_list_of_parameters(seen: Seen, want: Seen, *probe: int) -> bool:
    return "steps.0[0]" in seen[LAYERS]


def lists_parameters_alone(seen: Seen, want: Seen, *probe: int) -> bool:
    return NONE not in (seen[LAYERS], seen[MISSING]) and seen[PARAMETERS] == NONE


def hides_what_has_no_parameters(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[LAYERS] != NONE and seen[MISSING] == seen[PARAMETERS] == NONE


def leaves_behind(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[MOVED] is False


def gives_more_than_it_registers(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[MISSING] != NONE and seen[GIVEN] == want[GIVEN] and seen[PARAMETERS] != NONE


def registers_copies(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[MISSING] == NONE and NONE not in (seen[LAYERS], seen[PARAMETERS])


def makes_anew(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[ANEW] > 0


def registers_twice(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[SAME] != NONE and seen[EXTRA] != NONE


def shares_one_layer(seen: Seen, want: Seen, V: int, C: int, layers: int) -> bool:
    return layers == 1 or (seen[SAME] != NONE and seen[EXTRA] == NONE)


def renames(seen: Seen, want: Seen, *probe: int) -> bool:
    return NONE not in (seen[MISSING], seen[EXTRA]) and seen[LAYERS] == NONE


def registers_late(seen: Seen, want: Seen, *probe: int) -> bool:
    return seen[LATE] != NONE


def loses_the_mask(seen: Seen, want: Seen, V: int, C: int, layers: int) -> bool:
    ids, mask = causal(V)
    with torch.no_grad():
        everywhere = example(V, C, layers)(ids, torch.ones_like(mask))
    return same_logits(seen[LOGITS], everywhere)


def makes_its_own_mask(seen: Seen, want: Seen, V: int, C: int, layers: int) -> bool:
    with torch.no_grad():
        back = example(V, C, layers)(*causal(V, 7))
    return same_logits(seen[LOGITS], want[LOGITS]) and same_logits(seen[AHEAD], back)


def differs_in_training(seen: Seen, want: Seen, *probe: int) -> bool:
    return (
        same_logits(seen[LOGITS], want[LOGITS])
        and same_logits(seen[AHEAD], want[AHEAD])
        and not same_logits(seen[TRAINING], want[TRAINING])
    )


def same_logits(got: Any, want: dict[str, Tensor]) -> bool:
    return first_difference(got, want, 1e-4) is None


class Maskless(Reader):
    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().through(x, torch.ones_like(mask))


class OwnMask(Reader):
    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().through(x, torch.ones_like(mask).tril())


class Drops(Reader):
    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().through(nn.functional.dropout(x, 0.5, self.training), mask)


class NoResidual(Reader):
    """The pairs in Sequentials, and what one returns is not added."""

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block, (norm, linear) in zip(self.blocks, self.steps):
            x = linear(norm(block(x, mask)))
        return x


class Swapped(Reader):
    """In each step the linear first, and then the norm."""

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block, (norm, linear) in zip(self.blocks, self.steps):
            x = block(x, mask)
            x = x + norm(linear(x))
        return x


class TwoLoops(Reader):
    """All the blocks, and then all the steps."""

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        for norm, linear in self.steps:
            x = x + linear(norm(x))
        return x


class OwnTensor(Reader):
    """Uses a tensor that is neither a parameter nor a buffer."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers)
        self.scale = torch.ones(C)

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return super().through(x * self.scale, mask)


class DropsInAList(Reader):
    """All right, and a layer without parameters in a list."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers)
        self.drop = [nn.Dropout(0.5)]


def dicts_of_pairs(steps: list) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleDict({"0": norm, "1": linear}) for norm, linear in steps)


def lists_of_pairs(steps: list) -> list[nn.ModuleList]:
    return [nn.ModuleList(step) for step in steps]


class InSequential(Reader):
    """The blocks in a Sequential that is called with two arguments."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, blocks=lambda blocks: nn.Sequential(*blocks))

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.blocks(x, mask)


class InSequentialAlone(InSequential):
    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.blocks(x)


class Anew(Reader):
    """Its blocks are made in forward."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, blocks=len)
        self.C = C

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for norm, linear in self.steps:
            x = Mix(self.C)(x, mask)
            x = x + linear(norm(x))
        return x


class Late(Reader):
    """Its blocks are registered when forward first runs."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, blocks=list)

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        self.blocks = nn.ModuleList(self.blocks)
        return super().through(x, mask)


class Twice(Reader):
    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers)
        for n, block in enumerate(self.blocks):
            self.add_module(f"block_{n}", block)


class ByNumber(Reader):
    """All hide as before, and are registered one by one under other names."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, **HIDING)
        for n, (block, (norm, linear)) in enumerate(zip(self.blocks, self.steps)):
            for name, layer in (("block", block), ("norm", norm), ("linear", linear)):
                self.add_module(f"{name}{n}", layer)
        for name, head in self.heads.items():
            self.add_module(f"head_{name}", head)


class NamesOfItsOwn(Reader):
    """Two lists where the checkpoint has pairs."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, steps=lambda steps: None)
        norms, linears = zip(*pairs(C, layers))
        self.norms, self.linears = nn.ModuleList(norms), nn.ModuleList(linears)

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block, norm, linear in zip(self.blocks, self.norms, self.linears):
            x = block(x, mask)
            x = x + linear(norm(x))
        return x


class ParametersAlone(Reader):
    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, **HIDING)
        self.all = nn.ParameterList(unregistered_parameters(self).values())


class Rewritten(Reader):
    """parameters() gives what hides, too."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers, **HIDING)

    def parameters(self, recurse: bool = True) -> Any:
        yield from super().parameters(recurse)
        yield from unregistered_parameters(self).values()


class Copies(Reader):
    """A registered copy of the blocks, beside those that are used."""

    def __init__(self, V: int, C: int, layers: int) -> None:
        super().__init__(V, C, layers)
        self.used = list(copy.deepcopy(self.blocks))

    def through(self, x: Tensor, mask: Tensor) -> Tensor:
        for block, (norm, linear) in zip(self.used, self.steps):
            x = block(x, mask)
            x = x + linear(norm(x))
        return x


class NoInit(nn.Module):
    def __init__(self, V: int, C: int, layers: int) -> None:
        self.wte = nn.Embedding(V, C)


SEQUENTIAL = "nn.Sequential hands one thing from layer to layer. How many things does a block need?"
NO_LAYER = (
    "a container of layers takes layers only, and what you gave it has none of PyTorch's "
    "machinery. What can hold the pair, and be a layer itself?"
)
WITHOUT_NAMES = (
    "the heads are registered by number now, and forward asks for their names. Which container "
    "registers under names that you choose?"
)
STILL = "print the names in the state_dict: nothing of {} is there. What kind of thing is it?"

reader = Exercise(
    reference=Reader,
    look=look,
    probes=((7, 4, 3), (5, 6, 1), (11, 3, 2)),
    mistakes=(
        Mistake(
            "wrapped in nn.Sequential and called with two arguments",
            SEQUENTIAL,
            InSequential,
        ),
        Mistake("wrapped in nn.Sequential, the mask left out", SEQUENTIAL, InSequentialAlone),
        Mistake(
            "a tuple where a layer should be",
            NO_LAYER,
            partial(Reader, steps=nn.ModuleList),
        ),
        Mistake(
            "a list where a layer should be",
            NO_LAYER,
            partial(Reader, steps=lambda steps: nn.ModuleList([list(step) for step in steps])),
        ),
        Mistake(
            "the dict in nn.ModuleList",
            WITHOUT_NAMES,
            partial(Reader, heads=lambda heads: nn.ModuleList(heads.values())),
        ),
        Mistake(
            "a dict given to nn.ModuleList",
            "whoever goes through a dict gets its keys, and these are strings: nn.ModuleList was "
            "given the names and not the layers. Which container takes both?",
            partial(Reader, heads=nn.ModuleList),
        ),
        Mistake(
            "a dict unpacked",
            "whoever unpacks a dict gets its keys: norm and linear are names here, and a name "
            "cannot be called. Which container gives the layers themselves, in their order?",
            partial(Reader, steps=dicts_of_pairs),
        ),
        *(
            Mistake(
                "a star too many",
                "nn.ModuleList takes one argument, a list of layers; the star hands it each layer "
                "as an argument of its own, as nn.Sequential wants them.",
                partial(Reader, **{name: lambda layers: nn.ModuleList(*layers)}),
            )
            for name in ("blocks", "steps")
        ),
        Mistake(
            "super().__init__() left out",
            "nn.Module must set up its dictionaries before a layer can be put there. Which call "
            "does that, in the first line?",
            NoInit,
        ),
        Mistake(
            "made anew in forward",
            "some layers are made each time that forward runs, with new random numbers, and are "
            "forgotten afterwards. Where should a layer be made so that it is there next time?",
            Anew,
            shows=makes_anew,
        ),
        Mistake(
            "registered in forward",
            "before forward has run once, the model does not know these layers: an optimizer made "
            "before that misses them, and so does a checkpoint. When should a layer be known?",
            Late,
            shows=registers_late,
        ),
        Mistake(
            "unpacked again",
            "a container registered the layers, and then they were taken out of it: what the "
            "model was given is a plain list or dict again. What should the attribute be?",
            partial(Reader, blocks=lambda blocks: list(nn.ModuleList(blocks))),
            shows=unpacks,
        ),
        Mistake(
            "pairs registered, in a plain list",
            "each pair is a layer now, and knows its two. The list that holds the pairs is still "
            "a plain one: does nn.Module look inside that to find them?",
            partial(Reader, steps=lists_of_pairs),
            shows=keeps_pairs_in_a_list,
        ),
        Mistake(
            "tuples in nn.ParameterList",
            "nn.ParameterList takes anything without complaint, and registers what is a parameter "
            "or a layer. Is a tuple one?",
            partial(Reader, steps=nn.ParameterList),
            shows=puts_tuples_in_a_list_of_parameters,
        ),
        Mistake(
            "parameters without their layers",
            "the optimizer gets the numbers, but eval() does not reach the layers that they belong "
            "to, and the names say nothing. Register the layers; their parameters come along.",
            ParametersAlone,
            shows=lists_parameters_alone,
        ),
        Mistake(
            "a layer without parameters in a list",
            "all that the checkpoint names is known. A layer still hides that no checkpoint would "
            "miss, for it has no numbers; but eval() does not reach it. Is it needed?",
            DropsInAList,
            shows=hides_what_has_no_parameters,
        ),
        Mistake(
            "parameters() rewritten",
            "now the optimizer is told, and nobody else: state_dict(), to() and eval() do not ask "
            "parameters(). Where do all of them look?",
            Rewritten,
            shows=gives_more_than_it_registers,
        ),
        Mistake(
            "a copy registered",
            "the checkpoint loads, into layers that forward does not use: those it uses still "
            "hide. Should there be two of each?",
            Copies,
            shows=registers_copies,
        ),
        Mistake(
            "nothing registered yet",
            "the model knows its table alone. Into which kinds of thing does nn.Module look when "
            "you assign them to self, and which are these three?",
            leaving("blocks", "steps", "heads"),
            shows=hides("blocks", "steps", "heads"),
        ),
        *(
            Mistake(
                f"only {SAID[name]} fixed",
                "these layers are known now. Two containers still hide theirs: "
                + STILL.format("them"),
                leaving(*(other for other in HIDING if other != name)),
                shows=hides(*(other for other in HIDING if other != name)),
            )
            for name in HIDING
        ),
        *(
            Mistake(
                f"{SAID[name]} still hides its layers",
                STILL.format(SAID[name]),
                leaving(name),
                shows=hides(name),
            )
            for name in HIDING
        ),
        Mistake(
            "registered twice",
            "some layers are known under two names, and saved under both. One assignment is "
            "enough to register a layer: which one is too many?",
            Twice,
            shows=registers_twice,
        ),
        Mistake(
            "one layer, many times",
            "the names are all there, and several of them mean the same numbers: one layer was "
            "made, and put into the container again and again. How often is it made?",
            partial(Reader, blocks=lambda blocks: nn.ModuleList(blocks[:1] * len(blocks))),
            shows=shares_one_layer,
        ),
        *(
            Mistake(
                "under other names",
                "every layer is known now, but not by the checkpoint's names. A name is the path "
                "of attributes: which attribute do its first letters name, and what stands "
                "behind it?",
                answer,
                shows=renames,
            )
            for answer in (ByNumber, NamesOfItsOwn)
        ),
        Mistake(
            "the mask got lost",
            "all is registered, and every position sees all others now: forward takes a mask, and "
            "the blocks do not get it. How do they?",
            Maskless,
            shows=loses_the_mask,
        ),
        Mistake(
            "a mask of its own",
            "all is registered, and with the mask of a triangle all is right. With another mask "
            "nothing changes: does forward use the one that it is given?",
            OwnMask,
            shows=makes_its_own_mask,
        ),
        Mistake(
            "other numbers in training",
            "all is registered, and right after eval(). In train mode it computes something that "
            "the model above does not: what was added that acts in training alone?",
            Drops,
            shows=differs_in_training,
        ),
        Mistake(
            "not added",
            "every layer is known, by its right name, and what comes out has changed. In the loop, "
            "what the norm and the linear make of x was added to x. Is it still?",
            NoResidual,
        ),
    ),
)
