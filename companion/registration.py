"""Whether a model has registered all the layers and parameters that it uses."""

# Exported from lessons/03_sequential_vs_modulelist.md: edit that, then run `make lessons`.

__all__ = ["unregistered_leaves", "unregistered_modules", "unregistered_parameters"]

from jaxtyping import Float
from torch import Tensor, nn

from companion.holding import held, registered_ids


def unregistered_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Parameters that hide in a model's attributes, by the path that leads to each.

    {"blocks[0].weight": parameter}, the nearest first, each once. A plain leaf tensor
    that wants a gradient is reported too; what is registered under some name is not.
    Reads what is stored (see companion.holding), and runs no code of the model's.

    Not seen: globals, what forward makes anew, hooks, keys of dicts, iterators, weak
    references, a tensor computed from a parameter, TorchScript; more than 30 steps
    deep, 100,000 items in one row or 1,000,000 things in all. `unregistered_leaves`
    sees most of them.
    """
    known = registered_ids(model)
    return {path: x for path, x in held(model) if isinstance(x, Tensor) and id(x) not in known}


def unregistered_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Layers that hide in a model's attributes, by path; the outermost ones.

    Those without parameters too: `model.eval()` does not reach such a Dropout. Looks
    where `unregistered_parameters` looks.
    """
    known = registered_ids(model)
    found = {path: x for path, x in held(model) if isinstance(x, nn.Module) and id(x) not in known}
    inner = {i for x in found.values() for i in registered_ids(x) - {id(x)}}
    return {path: x for path, x in found.items() if id(x) not in inner}


def unregistered_leaves(model: nn.Module, loss: Float[Tensor, "..."]) -> list[Tensor]:
    """Tensors that get a gradient from this loss, and are none of `model.parameters()`.

    Wherever they hide: in globals, or made anew in forward. An input that wants a
    gradient is one of them. Not seen: a frozen parameter, which gets none, and
    what is used under torch.utils.checkpoint with use_reentrant=True.
    ValueError for a loss that carries no gradient.
    """
    if not loss.requires_grad:
        raise ValueError("the loss carries no gradient: nothing can be trained by it")
    known = {id(p) for p in model.parameters()}
    leaves, seen, todo = [], set(), [loss.grad_fn]
    while todo:
        step = todo.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if type(step).__name__ == "AccumulateGrad":  # it fills a leaf's .grad
            leaves.append(step.variable)
        todo += [before for before, _ in step.next_functions]
    if loss.is_leaf:
        leaves.append(loss)
    return [x for x in leaves if id(x) not in known]
