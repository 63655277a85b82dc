"""Lesson 22: a layer of BERT, and one vector for a text."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from companion.lab.exercise import Exercise, Mistake

Step = Callable[[Tensor], Tensor]

# --- a layer --------------------------------------------------------------------------------------


def bert(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = norm_1(x + attend(x))
    return norm_2(x + mlp(x))


def gpt(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(norm_1(x))
    return x + mlp(norm_2(x))


def branches_normed(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + norm_1(attend(x))
    return x + norm_2(mlp(x))


def without_the_stream(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return norm_2(mlp(norm_1(attend(x))))


def first_stream_lost(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = norm_1(attend(x))
    return norm_2(x + mlp(x))


def second_stream_lost(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return norm_2(mlp(norm_1(x + attend(x))))


def old_stream(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return norm_2(x + mlp(norm_1(x + attend(x))))


def mlp_of_the_old(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return norm_2(norm_1(x + attend(x)) + mlp(x))


def side_by_side(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return norm_2(x + attend(x) + mlp(x))


def first_norm_lost(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(x)
    return norm_2(x + mlp(x))


def last_norm_lost(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = norm_1(x + attend(x))
    return x + mlp(x)


def both_norms_lost(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(x)
    return x + mlp(x)


def mlp_of_the_sum(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(x)
    return norm_2(norm_1(x) + mlp(x))


def sum_of_the_stream(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(x)
    return norm_2(x + mlp(norm_1(x)))


def normed_before_and_behind(
    x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step
) -> Tensor:
    x = norm_1(x + attend(norm_1(x)))
    return norm_2(x + mlp(norm_2(x)))


def gpt_and_a_last_norm(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    x = x + attend(norm_1(x))
    return norm_2(x + mlp(x))


def swapped(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return bert(x, attend, mlp, norm_2, norm_1)


def mlp_first(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return bert(x, mlp, attend, norm_1, norm_2)


def one_norm_twice(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return bert(x, attend, mlp, norm_1, norm_1)


def other_norm_twice(x: Tensor, attend: Step, mlp: Step, norm_1: Step, norm_2: Step) -> Tensor:
    return bert(x, attend, mlp, norm_2, norm_2)


Probe = tuple[Tensor, Tensor, Tensor]


def _layer_probe(B: int, T: int, C: int) -> Probe:
    """x, and the numbers of the four steps: weights (3, C, C), gains and shifts (2, 2, C)."""
    g = torch.Generator().manual_seed(100 * B + 10 * T + C)
    norms = torch.randn(2, 2, C, generator=g) + torch.tensor([1.0, 0.0])[:, None]
    x = (2 * torch.randn(B, T, C, generator=g)).requires_grad_()
    return x, torch.randn(3, C, C, generator=g), norms


def _with_steps(answer: Callable[..., Tensor], x: Tensor, weights: Tensor, norms: Tensor) -> Tensor:
    look, up, down = weights

    def norm(gain: Tensor, shift: Tensor) -> Step:
        return lambda x: F.layer_norm(x, x.shape[-1:], gain, shift, eps=1e-12)

    return answer(
        x,
        lambda x: (x @ look @ x.mT).softmax(-1) @ x,
        lambda x: F.gelu(x @ up) @ down,
        norm(*norms[0]),
        norm(*norms[1]),
    )


STREAM = "what a half of the layer makes is added to what it was given. "

bert_layer = Exercise(
    reference=bert,
    probes=(_layer_probe(2, 3, 4), _layer_probe(1, 5, 6), _layer_probe(3, 2, 5)),
    look=_with_steps,
    axes="(B, T, C)",
    mistakes=(
        Mistake(
            "pre-norm",
            "this is GPT-2's block: the norms stand before attention and MLP, and the stream "
            "itself is never normed. Where do BERT's stand?",
            gpt,
        ),
        Mistake(
            "norm inside the branch",
            "only what is added was normed. BERT norms the sum.",
            branches_normed,
        ),
        Mistake("no stream", STREAM + "Here neither is.", without_the_stream),
        Mistake("no stream past attention", STREAM + "Here attention's is not.", first_stream_lost),
        Mistake("no stream past the MLP", STREAM + "Here the MLP's is not.", second_stream_lost),
        Mistake(
            "the layer's own input added twice",
            "what the MLP makes was added to what the layer was given. What was the MLP given?",
            old_stream,
        ),
        Mistake(
            "an MLP that has not seen attention",
            "the MLP read what the layer was given. It should read what attention and the first "
            "norm made of that.",
            mlp_of_the_old,
        ),
        Mistake(
            "an MLP that reads the sum",
            "the MLP read the sum before its norm. It reads the same as is passed on.",
            mlp_of_the_sum,
        ),
        Mistake(
            "the sum passed on",
            "the MLP read the norm, and was added to the sum before it. In BERT nothing passes "
            "the first norm by.",
            sum_of_the_stream,
        ),
        Mistake(
            "a norm before and one behind",
            "each norm was used twice, before its half and behind it. BERT's first layer is given "
            "what was normed already.",
            normed_before_and_behind,
        ),
        Mistake(
            "half pre-norm",
            "attention's norm stands before it, as GPT-2's does. Where is BERT's?",
            gpt_and_a_last_norm,
        ),
        Mistake(
            "both at once",
            "attention and MLP read the same, side by side. In BERT the one comes behind the "
            "other, with a norm between.",
            side_by_side,
        ),
        Mistake(
            "first norm missing", "behind attention and its sum no norm was taken.", first_norm_lost
        ),
        Mistake("last norm missing", "the layer ends in a sum that is not normed.", last_norm_lost),
        Mistake("no norm", "nothing was normed. A layer of BERT has two norms.", both_norms_lost),
        Mistake("norms swapped", "each of the two norms stands where the other should.", swapped),
        Mistake("MLP first", "the MLP came before attention; in BERT it comes behind.", mlp_first),
        Mistake(
            "one norm for both",
            "the first norm was used twice, and the second never.",
            one_norm_twice,
        ),
        Mistake(
            "one norm for both",
            "the second norm was used twice, and the first never.",
            other_norm_twice,
        ),
    ),
)

# --- one vector for a text ------------------------------------------------------------------------


def mean(x: Tensor, mask: Tensor) -> Tensor:
    return (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _pool_probe(T: int, C: int, *lengths: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(T + C)
    return torch.randn(len(lengths), T, C, generator=g) + 1, _seen(T, lengths)


def _seen(T: int, lengths: tuple[int, ...]) -> Tensor:
    return torch.arange(T) < torch.tensor(lengths)[:, None]


def _hidden(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask[..., None], -torch.inf)


mean_of_tokens = Exercise(
    reference=mean,
    probes=(
        _pool_probe(5, 3, 2, 5),
        _pool_probe(4, 6, 1, 3, 4),
        _pool_probe(3, 3, 3, 2, 1),
        _pool_probe(2, 4, 1, 1),  # no text fills its row
        _pool_probe(6, 2, 6),
    ),
    axes="(B, C)",
    mistakes=(
        Mistake(
            "padding counted in",
            "what stands at padding went into the mean. The mask says which places are the text's.",
            lambda x, mask: x.mean(1),
        ),
        Mistake(
            "divided by all places",
            "padding was left out of the sum, and yet counted: the sum of n tokens was divided by "
            "more than n. The direction is right, the length is not.",
            lambda x, mask: (x * mask[..., None]).mean(1),
        ),
        Mistake(
            "padding in the sum, not in the count",
            "it was divided by the number of the text's tokens, and what was added up has the "
            "padding in it.",
            lambda x, mask: x.sum(1) / mask.sum(1, keepdim=True),
        ),
        Mistake(
            "an axis short",
            "the mask is (B, T), and what it is multiplied with is (B, T, C). PyTorch lines up "
            "axes from the last, so here tokens would meet channels.",
            lambda x, mask: (x * mask).sum(1) / mask.sum(1, keepdim=True),
        ),
        Mistake(
            "an axis short",
            "the counts are (B,), and the sums (B, C). PyTorch lines up axes from the last, so "
            "here texts would meet channels.",
            lambda x, mask: (x * mask[..., None]).sum(1) / mask.sum(1),
        ),
        Mistake(
            "without [CLS] and [SEP]",
            "the first and the last place of the row were left out. The mean is over all tokens, "
            "these too, and a short text's last is not the row's.",
            lambda x, mask: mean(x[:, 1:-1], mask[:, 1:-1]),
        ),
        Mistake(
            "divided by the batch",
            "each text's sum was divided by the number of tokens in the whole batch.",
            lambda x, mask: (x * mask[..., None]).sum(1) / mask.sum(),
        ),
        Mistake(
            "a sum",
            "the tokens were added up, and not divided by how many they are.",
            lambda x, mask: (x * mask[..., None]).sum(1),
        ),
        Mistake(
            "the other way round",
            "these are means over padding. What does True say in this mask?",
            lambda x, mask: mean(x, ~mask),
        ),
        Mistake(
            "one vector for the batch",
            "all tokens of all texts went into one mean. Each text should have its own.",
            lambda x, mask: x[mask].mean(0),
        ),
        Mistake(
            "the first token",
            "this is the vector at [CLS]. The mean is over all tokens of the text.",
            lambda x, mask: x[:, 0],
        ),
        Mistake(
            "the mean over channels",
            "the mean went over the channels of each token. Over which axis do the tokens run?",
            lambda x, mask: x.mean(-1),
        ),
        Mistake(
            "the mean over channels",
            "the mean went over the channels of each token. Over which axis do the tokens run?",
            lambda x, mask: (x * mask[..., None]).mean(-1),
        ),
        Mistake(
            "the largest, not the mean",
            "this is each channel's largest number among the text's tokens.",
            lambda x, mask: _hidden(x, mask).amax(1),
        ),
        Mistake(
            "of length 1",
            "the means were divided by their length as well. That comes later, where vectors are "
            "compared.",
            lambda x, mask: F.normalize(mean(x, mask), dim=-1),
        ),
    ),
)
