"""What hides in a model is found and named; what is registered is not; nothing stops the search."""

import copy
import dataclasses
import functools
import threading
import weakref
from collections import OrderedDict, UserDict, defaultdict, deque, namedtuple
from types import MappingProxyType, SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from companion.gpt import GPT, GPTConfig
from companion.holding import held, registered_ids
from companion.lab import Toy
from companion.registration import (
    unregistered_leaves,
    unregistered_modules,
    unregistered_parameters,
)

TINY = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}
SMALL = {"vocab": 11, "width": 8, "heads": 2, "layers": 2, "context": 8}


def linear():
    return nn.Linear(3, 3)


def holding(value):
    """A model with a layer of its own, and a value as an attribute."""
    model = nn.Module()
    model.own = linear()
    if issubclass(type(value), nn.Module):
        model.kept = value
    else:
        vars(model)["kept"] = value  # as `model.kept = value`, which asks a value for its kind
    return model


def paths(model):
    return list(unregistered_parameters(model))


# What hides is found, by its path


class Slots:
    __slots__ = ("empty", "layer")

    def __init__(self, layer):
        self.layer = layer


@dataclasses.dataclass
class Data:
    layer: nn.Module


class Row(list):
    """A list that refuses to be read in the usual way, and has an attribute."""

    def __iter__(self):
        raise RuntimeError("no")


Pair = namedtuple("Pair", "name layer")


def closing_over(layer):
    def use(x):
        return layer(x)

    return use


def with_default(layer):
    def use(x, layer=layer, *, other=None):
        return layer(x)

    return use


def own_row(layer):
    row = Row([1])
    row.layer = layer
    return row


HIDING = {
    "list": (lambda x: [x], "[0]"),
    "second of a list": (lambda x: [1, x], "[1]"),
    "tuple": (lambda x: (x,), "[0]"),
    "list of tuples": (lambda x: [("relu", x)], "[0][1]"),
    "named tuple": (lambda x: Pair("a", x), "[1]"),
    "set": (lambda x: {x}, "[0]"),
    "frozenset": (lambda x: frozenset([x]), "[0]"),
    "deque": (lambda x: deque([x]), "[0]"),
    "own kind of list": (lambda x: Row([x]), "[0]"),
    "attribute of a list": (own_row, ".layer"),
    "dict": (lambda x: {"next": x}, "['next']"),
    "dict by number": (lambda x: {7: x}, "[7]"),
    "dict by object": (lambda x: {"a": 1, linear: x}, "[key 1]"),
    "OrderedDict": (lambda x: OrderedDict(next=x), "['next']"),
    "defaultdict": (lambda x: defaultdict(list, next=[x]), "['next'][0]"),
    "UserDict": (lambda x: UserDict(next=x), ".data['next']"),
    "dict in a list in a dict": (lambda x: {"a": [{"b": x}]}, "['a'][0]['b']"),
    "object": (lambda x: SimpleNamespace(layer=x), ".layer"),
    "dataclass": (Data, ".layer"),
    "slots": (Slots, ".layer"),
    "function": (closing_over, "<layer>"),
    "lambda": (lambda x: lambda y: x(y), "<x>"),
    "default": (with_default, ".__defaults__[0]"),
    "bound method": (lambda x: x.forward, ".__self__"),
    "partial": (lambda x: functools.partial(x), ".func"),
    "argument of a partial": (lambda x: functools.partial(F.linear, layer=x), ".keywords['layer']"),
    "object in an object": (lambda x: SimpleNamespace(a=Slots([x])), ".a.layer[0]"),
    "tuples in nn.ParameterList": (lambda x: nn.ParameterList([(x,)]), ".0[0]"),
}


@pytest.mark.parametrize(("hide", "path"), HIDING.values(), ids=HIDING.keys())
def test_a_layer_is_found_where_it_hides(hide, path):
    layer = linear()
    model = holding(hide(layer))
    found = unregistered_parameters(model)
    assert list(found) == [f"kept{path}.weight", f"kept{path}.bias"]
    assert found[f"kept{path}.weight"] is layer.weight
    assert unregistered_modules(model) == {f"kept{path}": layer}


@pytest.mark.parametrize(("hide", "path"), HIDING.values(), ids=HIDING.keys())
def test_it_is_found_in_a_child_by_the_childs_name(hide, path):
    model = nn.Sequential(linear(), holding(hide(linear())))
    assert paths(model) == [f"1.kept{path}.weight", f"1.kept{path}.bias"]


@pytest.mark.parametrize(("hide", "path"), HIDING.values(), ids=HIDING.keys())
def test_what_is_registered_elsewhere_does_not_hide(hide, path):
    layer = linear()
    model = holding(hide(layer))
    model.layer = layer
    assert unregistered_parameters(model) == {}
    assert unregistered_modules(model) == {}


CONTAINERS = {
    "list": (lambda x: [None, x], "[1]"),
    "tuple": (lambda x: ("a", 2, x), "[2]"),
    "dict": (lambda x: {"a": x}, "['a']"),
    "object": (lambda x: SimpleNamespace(a=x), ".a"),
    "function": (lambda x: lambda: x, "<x>"),
}


@given(
    nested=st.lists(st.sampled_from(list(CONTAINERS)), min_size=1, max_size=8),
    shape=st.lists(st.integers(0, 3), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_any_nesting_is_gone_through_and_written_down(nested, shape):
    value, path = nn.Parameter(torch.zeros(shape)), ""
    for name in nested:
        wrap, step = CONTAINERS[name]
        value, path = wrap(value), step + path
    assert paths(holding(value)) == [f"kept{path}"]


def test_a_layer_of_the_class_is_found():
    class Model(nn.Module):
        layer = linear()
        several = (linear(),)

        def forward(self, x):
            return self.layer(x)

    class Child(Model):
        several = None

    assert [path for path in paths(Model()) if "weight" in path] == [
        "layer.weight",
        "several[0].weight",
    ]
    assert paths(Child()) == ["layer.weight", "layer.bias"]


def test_what_a_method_closes_over_is_found():
    hidden = linear()

    class Model(nn.Module):
        def forward(self, x):
            return hidden(x)

    assert paths(Model()) == ["forward<hidden>.weight", "forward<hidden>.bias"]


def test_a_plain_tensor_that_wants_a_gradient_is_found_and_others_are_not():
    model = holding(torch.ones(2, requires_grad=True))
    model.values = torch.ones(2)
    model.computed = model.kept * 2
    model.output = model.own(torch.ones(1, 3))
    model.register_buffer("mask", torch.ones(2))
    model.masks = [model.mask]
    assert paths(model) == ["kept"]


def test_a_frozen_parameter_hides_as_well():
    assert paths(holding([linear().requires_grad_(False)])) == ["kept[0].weight", "kept[0].bias"]


def test_a_parameter_that_hides_alone_is_found():
    x = nn.Parameter(torch.ones(2))
    model = holding([x, [x]])
    assert unregistered_parameters(model) == {"kept[0]": x}
    assert unregistered_modules(model) == {}


def test_each_is_reported_once_by_its_shortest_path():
    layer = linear()
    model = holding([[[layer]], {"a": layer}])
    model.near = SimpleNamespace(layer=layer)
    assert paths(model) == ["near.layer.weight", "near.layer.bias"]


def test_layers_without_parameters_and_layers_in_layers_are_reported_once():
    inner, outer = holding([nn.Dropout()]), nn.Sequential(linear(), nn.ReLU())
    model = holding([nn.Dropout(), outer, inner])
    found = unregistered_modules(model)
    assert list(found) == ["kept[0]", "kept[1]", "kept[2]", "kept[2].kept[0]"]


def test_the_parameters_are_those_that_the_optimizer_would_miss():
    model, right = Toy(**SMALL, keep=list), Toy(**SMALL)
    found = unregistered_parameters(model)
    known = {id(p) for p in model.parameters()}
    assert not known & {id(p) for p in found.values()}
    assert len(found) + len(known) == len(list(right.parameters()))
    names = [path.replace("[", ".").replace("]", "") for path in found]
    assert names == [name for name, _ in right.named_parameters() if name.startswith("h.")]
    assert list(unregistered_modules(model)) == ["h[0]", "h[1]"]


def test_what_is_registered_is_held_under_its_own_name():
    model = Toy(**SMALL)
    tensors = {path: x for path, x in held(model) if isinstance(x, nn.Parameter)}
    names = dict(model.named_parameters())
    assert tensors.keys() == names.keys()
    assert all(tensors[name] is x for name, x in names.items())
    layers = {path: x for path, x in held(model) if isinstance(x, nn.Module)}
    assert layers == dict(model.named_modules())
    assert {id(x) for _, x in held(model)} <= registered_ids(model)


# What is right has nothing to report


def gpt2():
    return GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=8, n_embd=8, n_layer=2, n_head=2))


def bert():
    sizes = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    return BertForMaskedLM(BertConfig(**sizes, intermediate_size=16))


def pruned():
    layer = linear()
    prune.l1_unstructured(layer, "weight", 2)
    return layer


def compiled():
    return torch.compile(nn.Sequential(linear()))


RIGHT = {
    "GPT": lambda: GPT(GPTConfig(**TINY)),
    "GPT, untied": lambda: GPT(GPTConfig(**TINY, tied=False)),
    "Toy": lambda: Toy(**SMALL),
    "transformers' GPT-2": gpt2,
    "transformers' BERT": bert,
    "LSTM": lambda: nn.LSTM(3, 4, 2),
    "Transformer": lambda: nn.Transformer(8, 2, 2, 2, 16),
    "ModuleDict": lambda: nn.ModuleDict({"a": linear()}),
    "ParameterList": lambda: nn.ParameterList([torch.ones(2), torch.ones(3)]),
    "ParameterDict": lambda: nn.ParameterDict({"a": torch.ones(2)}),
    "batch norm": lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()),
    "weight norm": lambda: parametrizations.weight_norm(linear()),
    "pruned": pruned,
    "lazy": lambda: nn.LazyLinear(3),
    "compiled": compiled,
    "scripted": lambda: torch.jit.script(nn.Sequential(linear())),
    "traced by fx": lambda: torch.fx.symbolic_trace(nn.Sequential(linear())),
    "nothing": nn.Module,
}
right = pytest.mark.parametrize("make", RIGHT.values(), ids=RIGHT.keys())


@right
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*enable_nested_tensor")
def test_a_right_model_hides_nothing(make):
    model = make()
    assert unregistered_parameters(model) == {}
    assert unregistered_modules(model) == {}


@right
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*enable_nested_tensor")
def test_a_right_model_held_by_another_in_a_list_is_found_whole(make):
    model = make()
    if isinstance(model, torch.jit.ScriptModule):
        pytest.skip("its children are in C++")
    found = unregistered_parameters(holding([model]))
    assert {id(p) for p in found.values()} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("make", [lambda: GPT(GPTConfig()), lambda: GPT2LMHeadModel(GPT2Config())])
def test_at_gpt2s_own_size_nothing_hides(make):
    with torch.device("meta"):
        model = make()
    assert unregistered_parameters(model) == {}


def test_after_a_step_of_training_nothing_hides():
    model = GPT(GPTConfig(**TINY))
    model.optimizer = torch.optim.AdamW(model.parameters())
    loss = model(torch.zeros(2, 4, dtype=torch.long), torch.ones(2, 4, dtype=torch.long))
    loss.backward()
    model.optimizer.step()
    assert unregistered_parameters(copy.deepcopy(model)) == {}
    model.last_loss, model.cache = loss, model.new_cache()
    model.generate(torch.zeros(1, 2, dtype=torch.long), 3)
    assert unregistered_parameters(model) == {}
    assert unregistered_leaves(model, loss) == []


# Nothing stops it


class Hostile:
    """Whatever is asked of it is an error."""

    def __getattribute__(self, name):
        raise RuntimeError("no")

    def __iter__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


class Watched(nn.Module):
    """Its properties must not run."""

    def __init__(self):
        super().__init__()
        self.asked = []
        self.kept = [linear()]

    @property
    def tempting(self):
        self.asked.append(1)
        return linear()

    @functools.cached_property
    def once(self):
        self.asked.append(1)
        return linear()

    def __getattr__(self, name):
        self.asked.append(name)
        return super().__getattr__(name)

    def __len__(self):
        self.asked.append("len")
        return 0

    def parameters(self, recurse=True):
        self.asked.append("parameters")
        return super().parameters(recurse)


class Unfinished(nn.Module):
    def __init__(self):
        self.kept = [linear()]


class Impostor:
    """Says that it is a module, and has nothing of one."""

    __class__ = nn.Module


class Tricky(torch.Tensor):
    """A kind of tensor that refuses every function of torch's."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError("no")


def cyclic():
    row = []
    row.append(row)
    model = holding(row)
    model.me = [model]
    model.own.parent = [model]
    model.parts = {"self": model, "row": row}
    return model


def deep(length=50_000):
    row = inner = []
    for _ in range(length):
        inner.append([])
        inner = inner[0]
    inner.append(linear())
    return holding(row)


def broken():
    model = holding(1)
    model.__dict__["_modules"] = None
    model.__dict__["_parameters"] = 3
    return model


def registering_its_ancestor():
    model = holding(1)
    model.own.parent = model
    return model


STRANGE = {
    "hostile": lambda: holding(Hostile()),
    "hostile things": lambda: holding([Hostile(), {"a": Hostile()}, {1: Hostile}]),
    "never initialised": Unfinished,
    "broken": broken,
    "cyclic": cyclic,
    "its own ancestor": registering_its_ancestor,
    "deep": deep,
    "impostor": lambda: holding([Impostor()]),
    "tensor that refuses": lambda: holding(torch.ones(2).as_subclass(Tricky)),
    "mock": lambda: holding(MagicMock()),
    "array of objects": lambda: holding(np.array([object()])),
    "generator": lambda: holding(linear() for _ in range(3)),
    "weak reference": lambda: holding([weakref.ref(torch), weakref.WeakValueDictionary()]),
    "lock and thread": lambda: holding([threading.Lock(), threading.Thread()]),
    "proxy": lambda: holding(MappingProxyType({"a": 1})),
    "module of Python": lambda: holding([torch, nn.Linear, property(linear)]),
    "text and numbers": lambda: holding(["a", b"a", 1, 1j, None, ..., range(9), slice(1)]),
    "odd attribute names": lambda: holding(vars(nn.Module())),
    "many": lambda: holding(list(range(300_000))),
}
strange = pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE.keys())


@strange
def test_no_model_stops_the_search(make):
    model = make()
    assert isinstance(unregistered_parameters(model), dict)
    assert isinstance(unregistered_modules(model), dict)


@strange
def test_what_hides_beside_a_strange_thing_is_still_found(make):
    found = paths(holding([make(), linear()]))
    assert {"kept[1].weight", "kept[1].bias"} <= set(found)


def test_nothing_of_the_models_own_code_is_run():
    model = Watched()
    assert paths(model) == ["kept[0].weight", "kept[0].bias"]
    assert model.asked == []


def test_an_iterator_is_not_used_up():
    row = iter([linear(), linear()])
    unregistered_parameters(holding(row))
    assert len(list(row)) == 2


def test_the_model_is_left_as_it_was():
    model = holding([linear(), nn.Dropout()])
    model.counts = defaultdict(list)
    before = {name: x.clone() for name, x in model.state_dict().items()}, list(vars(model))
    unregistered_parameters(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before[0].items())
    assert list(vars(model)) == before[1]
    assert model.counts == {}


def test_a_long_row_does_not_keep_the_search_from_what_stands_beside_it():
    model = holding([list(range(1000)) for _ in range(1200)])
    model.data, model.blocks = list(range(2_000_000)), [linear()]
    assert paths(model) == ["blocks[0].weight", "blocks[0].bias"]


# The limits that are documented


def test_what_is_documented_as_not_seen_is_not_seen():
    def scaled():
        return nn.Parameter(torch.ones(3)) * 0.02

    hook = holding(1)
    hidden = linear()
    hook.own.register_forward_hook(lambda module, args, output: hidden(output))
    for model in (holding(scaled()), hook, holding({linear(): 1}), holding(iter([linear()]))):
        assert unregistered_parameters(model) == {}


# Leaves


LEAVES = linear()  # a global


class InGlobals(nn.Module):
    def __init__(self):
        super().__init__()
        self.own = linear()

    def forward(self, x):
        return LEAVES(self.own(x))


class Anew(InGlobals):
    def forward(self, x):
        return linear()(self.own(x))


class Scaled(InGlobals):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3)) * 0.02

    def forward(self, x):
        return self.own(x) * self.scale


class Hooked(InGlobals):
    def __init__(self):
        super().__init__()
        hidden = linear()
        self.own.register_forward_hook(lambda module, args, output: hidden(output))

    def forward(self, x):
        return self.own(x)


@pytest.mark.parametrize(("make", "count"), [(InGlobals, 2), (Anew, 2), (Scaled, 1), (Hooked, 2)])
def test_leaves_are_found_where_no_search_can_look(make, count):
    model = make()
    assert unregistered_parameters(model) == {}
    assert len(unregistered_leaves(model, model(torch.ones(1, 3)).sum())) == count


@pytest.mark.parametrize("make", [lambda: GPT(GPTConfig(**TINY)), lambda: Toy(**SMALL), gpt2])
@pytest.mark.parametrize("T", [1, 8])
def test_a_right_models_loss_has_no_other_leaves(make, T):
    model = make()
    output = model(torch.zeros(2, T, dtype=torch.long))
    logits = getattr(output, "logits", output)
    assert unregistered_leaves(model, logits.logsumexp(-1).mean()) == []


def test_the_leaves_of_a_plain_list_are_its_parameters():
    model = Toy(**SMALL, keep=list)
    loss = model(torch.zeros(2, 4, dtype=torch.long)).logsumexp(-1).mean()
    leaves = unregistered_leaves(model, loss)
    assert {id(x) for x in leaves} == {id(x) for x in unregistered_parameters(model).values()}
    assert len(leaves) == len({id(x) for x in leaves})


def test_leaves_are_those_that_get_a_gradient():
    model, x = holding(1), torch.ones(1, 3, requires_grad=True)
    frozen, used, unused = linear().requires_grad_(False), linear(), linear()
    model.kept = [frozen, used, unused]
    loss = used(frozen(model.own(x))).sum()
    leaves = unregistered_leaves(model, loss)
    loss.backward()
    everything = [x, *(p for layer in model.kept for p in layer.parameters())]
    assert {id(p) for p in leaves} == {id(p) for p in everything if p.grad is not None}


def test_a_chain_of_many_steps_is_followed():
    x = torch.ones((), requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1
    (leaf,) = unregistered_leaves(nn.Module(), y)
    assert leaf is x
    assert unregistered_leaves(nn.Module(), x) == [x]


def test_a_loss_without_a_gradient_is_refused():
    with pytest.raises(ValueError, match="carries no gradient"):
        unregistered_leaves(linear(), torch.ones(()))


@pytest.mark.parametrize(("reentrant", "count"), [(False, 2), (True, 0)])
def test_reentrant_checkpointing_hides_leaves(reentrant, count):
    model, hidden = holding(None), linear()
    x = model.own(torch.ones(1, 3))
    loss = checkpoint(hidden, x, use_reentrant=reentrant).sum()
    assert len(unregistered_leaves(model, loss)) == count


@pytest.mark.parametrize("layer", [nn.Dropout(0.1), nn.BatchNorm1d(3, affine=False)])
def test_layers_without_parameters_are_found_as_modules_alone(layer):
    model = holding([layer])
    assert not unregistered_parameters(model)
    assert list(unregistered_modules(model)) == ["kept[0]"]
