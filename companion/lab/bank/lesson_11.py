"""Lesson 11: a model of GPT-2's layers, as PyTorch left it, to be filled as GPT-2 starts."""

from collections.abc import Callable, Iterable
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from companion.lab.exercise import Exercise, Mistake
from companion.lab.toy import Toy, torch_init

Answer = Callable[[nn.Module, int], Any]
Seen = dict[str, Any]

CLOSE = 0.06  # of a standard deviation: five times the chance in that of 4,096 numbers
BELL = 2.1  # of the fourth moment over the squared second: 1.8 is uniform, 3 normal
UNTIED = "tied to the table"
BIASES, NORMS, SHAPE = "largest bias", "norms (weight, bias)", "uniform numbers"
OFF, SAME = "weights whose mean is not 0", "blocks with the same numbers"
FROZEN = "parameters that want no gradient"


def look(answer: Answer, n_layer: int) -> Seen:
    """Make a model, let the answer fill it, and write down what its tensors are like."""
    torch.manual_seed(n_layer)
    model = Toy(100, width=64, layers=n_layer, heads=4, context=64, init=torch_init)
    answer(model, n_layer)
    weights = {n: x.detach() for n, x in model.named_parameters() if x.dim() == 2}
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and m.bias is not None]
    wanted = stds(n_layer)
    return {
        **{f"std of {name}": snapped(x, wanted[name]) for name, x in weights.items()},
        BIASES: max(layer.bias.abs().max().item() for layer in linears),
        NORMS: [furthest(1.0, (m.weight for m in norms)), furthest(0.0, (m.bias for m in norms))],
        SHAPE: sum(uniform(x) for x in weights.values()),
        OFF: sum(bool(x.mean().abs() > 0.2 * x.std()) for x in weights.values()),
        SAME: repeated(list(weights.values())),
        FROZEN: sum(not x.requires_grad for x in model.parameters()),
        UNTIED: model.lm_head.weight is model.wte.weight,
    }


def stds(n_layer: int) -> dict[str, float]:
    """GPT-2's standard deviation for each weight of the model that `look` makes."""
    small = 0.02 / sqrt(2 * n_layer)
    blocks = {
        f"h.{n}.{name}.weight": small if name.endswith("c_proj") else 0.02
        for n in range(n_layer)
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    return {"wte.weight": 0.02, "wpe.weight": 0.01, "lm_head.weight": 0.02} | blocks


def snapped(weight: Tensor, wanted: float) -> float:
    """The standard deviation in two digits; exactly what was wanted where chance explains it."""
    std = weight.std().item()
    return wanted if abs(std / wanted - 1) < CLOSE else float(f"{std:.2g}")


def furthest(wanted: float, parameters: Iterable[Tensor]) -> float:
    """The number that is least what was wanted."""
    x = torch.cat([x.detach().flatten() for x in parameters])
    return x[(x - wanted).abs().argmax()].item()


def repeated(weights: list[Tensor]) -> bool:
    """Whether two of the weights have the same numbers, but for their size."""
    shapes = [(x.shape, x.flatten()[:8] / x.std()) for x in weights]
    return any(
        a == b and torch.allclose(x, y, atol=1e-4)
        for n, (a, x) in enumerate(shapes)
        for b, y in shapes[:n]
    )


def uniform(weight: Tensor) -> bool:
    """Whether the numbers end at a bound, with no tails."""
    x = weight - weight.mean()
    spread = x.square().mean()
    return bool(spread) and (x**4).mean().item() < BELL * spread.item() ** 2


# --- answers ------------------------------------------------------------------------------------


def branch_ends(name: str) -> bool:
    return name.endswith("c_proj.weight")


@torch.no_grad()
def fill(
    model: nn.Module,
    n_layer: int,
    *,
    small: Callable[[str], bool] = branch_ends,
    factor: Callable[[int], float] = lambda n: 1 / sqrt(2 * n),
    table: float = 0.02,
    positions: float = 0.01,
    biases: bool = True,
    draw: Callable[..., Tensor] = nn.init.normal_,
) -> None:
    """GPT-2's start; every argument is a place to go wrong."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            if biases:
                parameter.zero_()
        elif parameter.dim() == 2:
            std = {"wte.weight": table, "wpe.weight": positions}.get(name, 0.02)
            draw(parameter, 0, std * (factor(n_layer) if small(name) else 1))


def uniform_to(parameter: Tensor, mean: float, bound: float) -> Tensor:
    return nn.init.uniform_(parameter, -bound, bound)


def all_linears(name: str) -> bool:
    return name.startswith("h.")


def of_the_mlp(name: str) -> bool:
    return name.endswith("mlp.c_proj.weight")


def of_attention(name: str) -> bool:
    return name.endswith("attn.c_proj.weight")


def c_fc(name: str) -> bool:
    return name.endswith("c_fc.weight")


def nothing(model: nn.Module, n_layer: int) -> None:
    pass


def by_depth_so_far(model: nn.Module, n_layer: int) -> None:
    """Each block is scaled by the number of branches up to its own."""
    fill(model, n_layer, small=lambda name: False)
    with torch.no_grad():
        for depth, block in enumerate(model.h, start=1):
            for layer in (block.attn.c_proj, block.mlp.c_proj):
                layer.weight /= sqrt(2 * depth)


def twice(model: nn.Module, n_layer: int) -> None:
    """c_proj is scaled as it came from PyTorch, and not filled first."""
    kept = {n: x.detach().clone() for n, x in model.named_parameters() if branch_ends(n)}
    fill(model, n_layer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in kept:
                parameter.copy_(kept[name] / sqrt(2 * n_layer))


def untied(model: nn.Module, n_layer: int) -> None:
    fill(model, n_layer)
    model.lm_head.weight = nn.Parameter(0.02 * torch.randn_like(model.lm_head.weight))


def mean_for_std(parameter: Tensor, mean: float, std: float) -> Tensor:
    return nn.init.normal_(parameter, std)  # the first number is the mean


def the_same_each_time(parameter: Tensor, mean: float, std: float) -> Tensor:
    torch.manual_seed(0)
    return nn.init.normal_(parameter, mean, std)


def norms_too(model: nn.Module, n_layer: int) -> None:
    fill(model, n_layer)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight, std=0.02)


def start_reference(model: nn.Module, n_layer: int) -> None:
    fill(model, n_layer)


# --- what tells a mistake ------------------------------------------------------------------------


def is_untied(seen: Seen, want: Seen, n_layer: int) -> bool:
    return not seen[UNTIED]


def keeps_biases(seen: Seen, want: Seen, n_layer: int) -> bool:
    """All else right, or as the fill went: the biases are what PyTorch drew."""
    return seen[BIASES] > 0 and all(seen[key] == want[key] for key in want if key != BIASES)


def is_uniform(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen[SHAPE] > 0


def is_off_zero(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen[OFF] > 0 or seen["std of h.0.mlp.c_fc.weight"] > 0.5


def repeats(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen[SAME]


def fills_norms(seen: Seen, want: Seen, n_layer: int) -> bool:
    return abs(seen[NORMS][0] - 1) > 0.01 or abs(seen[NORMS][1]) > 1e-6


def seen_wrong(seen: Seen, want: Seen) -> list[str]:
    return [key.removeprefix("std of ") for key in want if seen.get(key) != want[key]]


def scales(factor: Callable[[int], float], small: Callable[[str], bool] = branch_ends) -> Any:
    """Whether just these weights have this factor, and c_proj's own is missing elsewhere."""

    def shows(seen: Seen, want: Seen, n_layer: int) -> bool:
        for name in stds(n_layer):
            if not name.startswith("h."):
                continue
            std = 0.02 * (factor(n_layer) if small(name) else 1)
            if abs(seen[f"std of {name}"] / std - 1) > 1.5 * CLOSE:
                return False
        return True

    return shows


def depth_so_far(seen: Seen, want: Seen, n_layer: int) -> bool:
    got = [seen[f"std of h.{n}.mlp.c_proj.weight"] for n in range(n_layer)]
    wanted = [0.02 / sqrt(2 * (n + 1)) for n in range(n_layer)]
    return all(abs(a / b - 1) < 1.5 * CLOSE for a, b in zip(got, wanted))


def pytorchs_scaled(seen: Seen, want: Seen, n_layer: int) -> bool:
    pytorchs = 1 / sqrt(3 * 64) / sqrt(2 * n_layer)  # U(-1/8, 1/8) has std 1/8/sqrt(3)
    return abs(seen["std of h.0.attn.c_proj.weight"] / pytorchs - 1) < 1.5 * CLOSE


def is_untouched(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen["std of wte.weight"] > 0.9 and seen["std of h.0.mlp.c_fc.weight"] > 0.03


def table_left(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen["std of wte.weight"] > 0.9


def positions_like_the_rest(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen_wrong(seen, want) == ["wpe.weight"] and abs(seen["std of wpe.weight"] - 0.02) < 2e-3


def positions_left(seen: Seen, want: Seen, n_layer: int) -> bool:
    return seen["std of wpe.weight"] > 0.9


root = lambda n: 1 / sqrt(2 * n)  # noqa: E731

start_as_gpt2 = Exercise(
    reference=start_reference,
    probes=[(2,), (8,)],
    look=look,
    mistakes=[
        Mistake(
            "untied",
            "the head and the table of tokens were one tensor, and are two now. Fill what is "
            "there, in place; a new Parameter is another tensor.",
            untied,
            is_untied,
        ),
        Mistake(
            "a mean of 0.02",
            "these numbers do not lie around 0. The first number that normal_ takes is the mean, "
            "the second the standard deviation, which it has 1 of by itself.",
            partial(fill, draw=mean_for_std),
            is_off_zero,
        ),
        Mistake(
            "the same numbers in every block",
            "the first block and the last start with the same numbers. Then their branches agree, "
            "and it is not their variances that add up. What sets the seed again?",
            partial(fill, draw=the_same_each_time),
            repeats,
        ),
        Mistake(
            "norms filled, too",
            "a norm starts with weight 1 and bias 0, so that it only norms. Here its numbers were "
            "drawn, or set to 0, like the others.",
            norms_too,
            fills_norms,
        ),
        Mistake(
            "nothing was filled",
            "the table still has standard deviation 1 and the Linears PyTorch's uniform numbers. "
            "The functions of nn.init whose names end in an underscore write into a tensor.",
            nothing,
            is_untouched,
        ),
        Mistake(
            "the table left out",
            "the tokens' vectors have standard deviation 1, as nn.Embedding made them. Since the "
            "head shares that table, each logit adds up 64 numbers of that size.",
            partial(fill, table=1.0),
            table_left,
        ),
        Mistake(
            "the positions left out",
            "wpe still has standard deviation 1, as nn.Embedding made it, beside tokens of 0.02: "
            "the blocks would read where a token stands, and hardly which it is.",
            partial(fill, positions=1.0),
            positions_left,
        ),
        Mistake(
            "PyTorch's numbers, scaled",
            "what c_proj has is what PyTorch drew, made smaller. It should first be drawn anew, "
            "from 0.02 like the other Linears.",
            twice,
            pytorchs_scaled,
        ),
        Mistake(
            "bounds for a standard deviation",
            "these numbers are uniform: they end at a bound. GPT-2's are normal, and 0.02 is "
            "their standard deviation.",
            partial(fill, draw=uniform_to),
            is_uniform,
        ),
        Mistake(
            "not scaled",
            "all Linears start alike. Which of them write to the residual stream, and how many "
            "such additions are there in the whole model?",
            partial(fill, factor=lambda n: 1.0),
            scales(lambda n: 1.0),
        ),
        Mistake(
            "one branch a block",
            "the standard deviation is divided by sqrt(n_layer), as if each block added once to "
            "the stream. Count the plus signs in a block's forward.",
            partial(fill, factor=lambda n: 1 / sqrt(n)),
            scales(lambda n: 1 / sqrt(n)),
        ),
        Mistake(
            "divided by the number of branches",
            "what adds up is the variance. Dividing the standard deviation by 2 * n_layer divides "
            "the variance by its square, and the branches nearly vanish.",
            partial(fill, factor=lambda n: 1 / (2 * n)),
            scales(lambda n: 1 / (2 * n)),
        ),
        Mistake(
            "multiplied",
            "the ends of the branches start larger than the rest, not smaller: the factor is "
            "upside down.",
            partial(fill, factor=lambda n: sqrt(2 * n)),
            scales(lambda n: sqrt(2 * n)),
        ),
        Mistake(
            "all Linears scaled",
            "c_attn and c_fc write to no stream: what they give stays inside the branch. Only the "
            "last Linear of each branch should start smaller.",
            partial(fill, small=all_linears),
            scales(root, all_linears),
        ),
        Mistake(
            "c_fc for c_proj",
            "the MLP's first layer is scaled, and what writes to the stream is not. With so small "
            "numbers GELU is nearly a straight line.",
            partial(fill, small=c_fc),
            scales(root, c_fc),
        ),
        Mistake(
            "attention forgotten",
            "only the MLP's c_proj starts smaller. Attention has a layer that writes to the "
            "stream, too.",
            partial(fill, small=of_the_mlp),
            scales(root, of_the_mlp),
        ),
        Mistake(
            "the MLP forgotten",
            "only attention's c_proj starts smaller. The MLP has a layer that writes to the "
            "stream, too.",
            partial(fill, small=of_attention),
            scales(root, of_attention),
        ),
        Mistake(
            "by the depth so far",
            "each block is scaled by the branches up to its own. Then the first blocks add most, "
            "and the sum still grows with depth. One number, for the whole model's count.",
            by_depth_so_far,
            depth_so_far,
        ),
        Mistake(
            "positions like the rest",
            "the positions have standard deviation 0.02, as Hugging Face starts them. Here they "
            "should have half of that, as OpenAI's code has.",
            partial(fill, positions=0.02),
            positions_like_the_rest,
        ),
        Mistake(
            "biases left out",
            "the weights are right, and the biases are still PyTorch's uniform numbers. GPT-2's "
            "start at zero.",
            partial(fill, biases=False),
            keeps_biases,
        ),
    ],
)
