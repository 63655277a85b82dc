"""The bank of exercises: mistakes are told apart, and no answer makes a check fall over."""

import contextlib
import itertools
import math
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from companion.bert import Bert
from companion.bert_config import BertConfig
from companion.lab.bank import check, lesson_03, lesson_12, lesson_22
from companion.lab.exercise import CANNOT_READ, NOT_WRITTEN, RETURNED_NOTHING, Exercise, Mistake
from companion.lab.running import Run
from companion.masks import causal_mask
from companion.parity import compare

EXERCISES = vars(check)
MISTAKES = [(name, mistake) for name, ex in EXERCISES.items() for mistake in ex.mistakes]


def identify(case):
    return f"{case[0]}-{case[1].name.replace(' ', '_')}"


@pytest.mark.parametrize("case", MISTAKES, ids=identify)
def test_each_mistake_is_called_by_its_own_name(case):
    name, mistake = case
    verdict = EXERCISES[name].verdict(mistake.answer)
    assert f"{mistake.name}: {mistake.hint}" in verdict


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_is_right(name):
    exercise = EXERCISES[name]
    assert exercise.verdict(exercise.reference).startswith("right")


@pytest.mark.parametrize("name", EXERCISES)
def test_the_reference_runs_on_every_probe(name):
    exercise = EXERCISES[name]
    made = partial(exercise.look, exercise.reference) if exercise.look else exercise.reference
    for probe in exercise.probes:
        assert Run.of(made, probe, 60.0).error is None


@pytest.mark.parametrize("name", EXERCISES)
def test_an_error_of_its_own_is_no_known_mistake(name):
    exercise = EXERCISES[name]
    verdict = exercise.verdict(lambda *_: raise_error(LookupError("mine alone")))
    assert "mine alone" in verdict
    assert not any(mistake.hint in verdict for mistake in exercise.mistakes)


def test_an_error_that_every_mistake_raises_names_none_of_them():
    def breaks(x):
        raise LookupError("everywhere")

    mistakes = [Mistake(n, "a hint that is not for this answer", breaks) for n in ("one", "two")]
    assert "hint" not in grades(mistakes=mistakes).verdict(breaks)
    assert "hint" in grades(mistakes=mistakes[:1]).verdict(breaks)


@pytest.mark.parametrize("name", EXERCISES)
def test_no_mistake_is_right(name):
    exercise = EXERCISES[name]
    assert not any(exercise.verdict(m.answer).startswith("right") for m in exercise.mistakes)


@pytest.mark.parametrize("name", EXERCISES)
def test_hints_name_what_is_wrong_without_the_code(name):
    for mistake in EXERCISES[name].mistakes:
        assert len(mistake.hint.split()) >= 6
        assert "@" not in mistake.hint
        assert "[:, " not in mistake.hint


@pytest.mark.parametrize("name", EXERCISES)
def test_no_constant_is_right(name):
    exercise = EXERCISES[name]
    made = partial(exercise.look, exercise.reference) if exercise.look else exercise.reference
    first = made(*exercise.probes[0])
    assert not exercise.verdict(lambda *_: first).startswith("right")


def loop_logits(logits, ids):
    total = 0
    for b, t in itertools.product(range(ids.shape[0]), range(ids.shape[1] - 1)):
        total = total - logits[b, t].log_softmax(0)[ids[b, t + 1]]
    return total / (ids.shape[0] * (ids.shape[1] - 1))


def stop_by_places(evaluated, patience):
    best = None
    for n, (_, _, val) in enumerate(evaluated):
        if val == val and (best is None or val < evaluated[best][2]):
            best = n
        if n - (-1 if best is None else best) >= patience:
            break
    return [evaluated[best or 0][0], evaluated[n][0]]


def stop_by_recursion(evaluated, patience, keep=None, lowest=float("inf"), left=None):
    left = patience if left is None else left
    keep = evaluated[0][0] if keep is None else keep
    (step, _, val), rest = evaluated[0], evaluated[1:]
    if val < lowest:
        keep, lowest, left = step, val, patience
    else:
        left -= 1
    if not rest or not left:
        return keep, step
    return stop_by_recursion(rest, patience, keep, lowest, left)


def stop_by_slices(evaluated, patience):
    vals = [np.inf if np.isnan(val) else val for _, _, val in evaluated]
    for end in range(1, len(vals) + 1):
        best = vals[:end].index(min(vals[:end]))
        misses = end - 1 - best if vals[best] < np.inf else end
        if misses >= patience:
            break
    return evaluated[best][0], evaluated[end - 1][0]


def stop_in_numpy(evaluated, patience):
    steps = np.array([step for step, _, _ in evaluated])
    vals = np.nan_to_num(np.array([val for _, _, val in evaluated]), nan=np.inf)
    before = np.concatenate([[np.inf], np.minimum.accumulate(vals)[:-1]])
    places = np.arange(len(vals))
    last = np.maximum.accumulate(np.where(vals < before, places, -1))
    over = np.flatnonzero(places - last >= patience)
    end = over[0] if len(over) else len(vals) - 1
    return steps[max(last[end], 0)], steps[end]


def batch_row_by_row(tokens, B, T, step):
    whole = (len(tokens) - 1) // (B * T)
    starts = [(step % whole * B + b) * T for b in range(B)]
    windows = torch.stack([tokens[start : start + T + 1] for start in starts])
    return windows[:, :T], windows[:, 1:]


def share_by_parts(parameters, block_size, layers, width, T, rows, seconds, peak):
    """Forward of a text, layer by layer; backward is twice that."""
    forward = 2 * T * (parameters - block_size * width)
    for _ in range(layers):
        forward += 2 * T * T * width + 2 * T * T * width  # scores, then values
    return rows * (forward + 2 * forward) / seconds / peak


def endings_one_by_one(logits, ids, ends):
    means = []
    for row in range(len(ids)):
        found = [
            -logits[row, t - 1].log_softmax(0)[ids[row, t]]
            for t in range(ids.shape[1])
            if ends[row, t]
        ]
        means.append(sum(found) / len(found))
    return torch.stack(means)


def rate_between_corners(step, steps, warmup, lr, min_lr):
    """By NumPy: a line through the corners of the schedule, the middle one bent."""
    done = np.clip((step - warmup) / max(1, steps - warmup), 0, 1)
    bent = (1 - np.cos(np.pi * done)) / 2
    top = np.interp(step, [-1, warmup - 1], [0, lr]) if warmup else lr
    return np.where(step < warmup, top, lr + (min_lr - lr) * bent if step < steps else min_lr)


def rate_by_torch(step, steps, warmup, lr, min_lr):
    """As nanoGPT's get_lr is written, with torch in place of math."""
    if step < warmup:
        return torch.tensor(lr * (step + 1) / warmup)
    if step > steps - 1:
        return torch.tensor(min_lr)
    ratio = torch.tensor((step - warmup) / (steps - warmup), dtype=torch.float64)
    return min_lr + 0.5 * (1.0 + torch.cos(torch.pi * ratio)) * (lr - min_lr)


def rate_step_by_step(step, steps, warmup, lr, min_lr):
    """All rates in a list, the last one for ever."""
    up = [lr * n / warmup for n in range(1, warmup + 1)]
    left = steps - warmup
    squares = [math.cos(math.pi * n / (2 * left)) ** 2 for n in range(left)]
    rates = [*up, *(min_lr * (1 - share) + lr * share for share in squares), min_lr]
    return rates[min(step, steps)]


def merge_in_place(ids, pair, new):
    ids, at = list(ids), 0
    while at < len(ids) - 1:
        if ids[at] == pair[0] and ids[at + 1] == pair[1]:
            ids[at : at + 2] = [new]
        at += 1
    return ids


def merge_by_recursion(ids, pair, new):
    if len(ids) < 2:
        return ids
    if tuple(ids[:2]) == pair:
        return [new, *merge_by_recursion(ids[2:], pair, new)]
    return [ids[0], *merge_by_recursion(ids[1:], pair, new)]


def merge_on_a_stack(ids, pair, new):
    stack = []
    for id in ids:
        if stack and (stack[-1], id) == pair:
            stack[-1] = new
        else:
            stack.append(id)
    return stack


def encode_by_ranks_in_order(word, ranks):
    """Each merge in the order of learning, at all its places, whether or not it occurs."""
    parts = [word[at : at + 1] for at in range(len(word))]
    for token, _ in sorted(ranks.items(), key=lambda item: item[1]):
        at = 0
        while at < len(parts) - 1:
            if parts[at] + parts[at + 1] == token:
                parts[at : at + 2] = [token]
            at += 1
    return [ranks[part] for part in parts]


def encode_by_recursion(word, ranks, parts=None):
    parts = parts or tuple(map(bytes, zip(word)))
    joined = [left + right for left, right in itertools.pairwise(parts)]
    best = min((token for token in joined if token in ranks), key=ranks.get, default=None)
    if best is None:
        return [*map(ranks.__getitem__, parts)]
    at = joined.index(best)
    return encode_by_recursion(word, ranks, (*parts[:at], best, *parts[at + 2 :]))


def encode_with_infinity(word, ranks):
    ids = [ranks[bytes([byte])] for byte in word]
    token_of = {id: token for token, id in ranks.items()}
    while len(ids) > 1:
        both = [token_of[left] + token_of[right] for left, right in itertools.pairwise(ids)]
        at = min(range(len(both)), key=lambda n: ranks.get(both[n], float("inf")))
        if both[at] not in ranks:
            break
        ids[at : at + 2] = [ranks[both[at]]]
    return tuple(ids)


def attend(q, k, v):
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v


def heads_by_einsum(q, k, v, n_head):
    q, k, v = (x.unflatten(-1, (n_head, -1)) for x in (q, k, v))  # (B, T, nh, hs)
    scores = torch.einsum("bqhc,bkhc->bhqk", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), v).flatten(2)


def heads_stacked_over_the_batch(q, k, v, n_head):
    B, T, _ = q.shape
    parts = (x.reshape(B, T, n_head, -1).transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    return attend(*parts).view(B, n_head, T, -1).transpose(1, 2).contiguous().view(B, T, -1)


def heads_in_front(q, k, v, n_head):
    heads = (x.unflatten(-1, (n_head, -1)).permute(2, 0, 1, 3) for x in (q, k, v))
    return attend(*heads).permute(1, 2, 0, 3).flatten(2)


def heads_stacked_of_splits(q, k, v, n_head):
    hs = q.shape[-1] // n_head
    stacked = (torch.stack(x.split(hs, dim=-1), dim=1) for x in (q, k, v))
    return torch.cat(attend(*stacked).unbind(1), dim=-1)


def heads_laid_behind_one_another(q, k, v, n_head):
    """The heads as more rows of the batch, cut out of the channels slice by slice."""
    hs, B = q.shape[-1] // n_head, len(q)
    cuts = [slice(h * hs, (h + 1) * hs) for h in range(n_head)]
    longer = (torch.cat([x[..., cut] for cut in cuts]) for x in (q, k, v))  # (nh * B, T, hs)
    return torch.cat(attend(*longer).split(B), dim=-1)


def heads_by_vmap(q, k, v, n_head):
    q, k, v = (x.unflatten(-1, (n_head, -1)) for x in (q, k, v))
    return torch.vmap(attend, in_dims=2, out_dims=2)(q, k, v).flatten(2)


class PairsInSequential(lesson_03.Reader):
    """Each norm and linear in one nn.Sequential, which is called."""

    def __init__(self, V, C, layers):
        chained = lambda steps: nn.Sequential(*[nn.Sequential(*step) for step in steps])  # noqa: E731
        super().__init__(V, C, layers, steps=chained)

    def through(self, x, mask):
        for block, step in zip(self.blocks, self.steps):
            x = block(x, mask)
            x = x + step(x)
        return x


REGISTERED = {"blocks": nn.ModuleList, "steps": lesson_03.listed, "heads": nn.ModuleDict}


def mended_afterwards(V, C, layers):
    model = lesson_03.Reader(V, C, layers, **lesson_03.HIDING)
    for name in lesson_03.HIDING:
        setattr(model, name, REGISTERED[name](getattr(model, name)))
    return model


class OneByOne(nn.Module):
    """No container of PyTorch's at all: each layer is set under its number."""

    def __init__(self, V, C, layers):
        super().__init__()
        self.wte, self.layers = nn.Embedding(V, C), layers
        self.blocks, self.steps, self.heads = nn.Module(), nn.Module(), nn.Module()
        for n in range(layers):
            setattr(self.blocks, str(n), lesson_03.Mix(C))
            setattr(self.steps, str(n), nn.Sequential(nn.LayerNorm(C), nn.Linear(C, C)))
        self.heads.next, self.heads.before = nn.Linear(C, V), nn.Linear(C, V)

    def forward(self, ids, mask):
        x = self.wte(ids)
        for n in map(str, range(self.layers)):
            x = getattr(self.blocks, n)(x, mask)
            x = x + getattr(self.steps, n)(x)
        return {"before": self.heads.before(x), "next": self.heads.next(x)}


def one_for_two_by_probing(w1, b1, w2, b2):
    """Feeds zeros to both layers for the bias, then each input number alone."""
    bias = F.linear(F.linear(torch.zeros(w1.shape[1]), w1, b1), w2, b2)
    columns = F.linear(F.linear(torch.eye(w1.shape[1]), w1, b1), w2, b2) - bias
    return columns.T, bias


def gpt2s_start_by_apply(model, n_layer):
    """By modules, as most implementations do; then the ends of branches again."""

    def fill(module):
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data.normal_(0, 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.data.zero_()

    model.apply(fill)
    model.wpe.weight.data.normal_(0, 0.01)
    for block in model.h:
        for end in (block.attn.c_proj, block.mlp.c_proj):
            end.weight.data /= (2 * n_layer) ** 0.5


def gpt2s_start_with_tails_cut(model, n_layer):
    """Normal numbers within two, and the model is returned."""
    nn.init.trunc_normal_(model.wte.weight, std=0.02)
    nn.init.trunc_normal_(model.wpe.weight, std=0.01)
    for name, layer in model.h.named_modules():
        if isinstance(layer, nn.Linear):
            std = 0.0227 * ((2 * n_layer) ** -0.5 if "c_proj" in name else 1)  # 0.02 once cut
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.constant_(layer.bias, 0)
    return model


def row_by_row(scores, block_size):
    weights = torch.zeros_like(scores)
    for i in range(scores.shape[-1]):
        weights[..., i, : i + 1] = scores[..., i, : i + 1].softmax(-1)
    return weights


def query_by_query(scores, block_size):
    rows = [
        torch.cat([row[: i + 1].softmax(0), row.new_zeros(len(row) - i - 1)])
        for head in scores.flatten(0, 1)
        for i, row in enumerate(head)
    ]
    return torch.stack(rows).view(scores.shape)


def by_hand(scores, block_size):
    places = torch.arange(scores.shape[-1])
    hidden = places > places[:, None]
    top = scores.masked_fill(hidden, -torch.inf).amax(-1, keepdim=True)
    exps = (scores - top).exp().masked_fill(hidden, 0)
    return exps / exps.sum(-1, keepdim=True)


def cut(scores, block_size, last=False):
    tril, T = torch.tril(torch.ones(block_size, block_size)), scores.shape[-1]
    tril = tril[-T:, -T:] if last else tril[:T, :T]
    return F.softmax(scores.masked_fill(tril == 0, float("-inf")), dim=-1)


def dropout_by_bernoulli(x, p, training):
    if not training:
        return x
    if p == 1:
        return torch.zeros_like(x)
    keep = torch.full(x.shape, 1 - p)
    return x * torch.bernoulli(keep) / keep


def dropout_by_where(x, p, training):
    if not training or p == 0:
        return x
    lost = torch.rand_like(x) < p
    return torch.where(lost, 0.0, x / (1 - p) if p < 1 else x)


def dropout_by_masked_fill(x, p, training):
    scale = 1 / max(1 - p, 1e-9)
    return x.masked_fill(torch.rand(x.shape) < p, 0) * scale if training else x


def dropout_by_numpy(x, p, training):
    if not training or p in (0, 1):
        return x * (1.0 if not training else 1.0 - p)
    keep = torch.from_numpy(np.random.random(x.shape) >= p)
    return keep * x / (1 - p)


def dropout_by_rows(x, p, training):
    if not training:
        return x.clone()
    scale = 0.0 if p == 1 else 1 / (1 - p)
    rows = [row * torch.empty(row.shape).bernoulli_(1 - p).mul_(scale) for row in x]
    return torch.stack(rows)


class Buffered(lesson_03.Reader):
    """A tensor of its own: registered, and not saved."""

    def __init__(self, V, C, layers):
        super().__init__(V, C, layers)
        self.register_buffer("scale", torch.ones(C), persistent=False)

    def through(self, x, mask):
        made_where_x_is = torch.zeros(x.shape[-1], device=x.device)
        return super().through(x * self.scale + made_where_x_is, mask)


def tied_by_name(table, head):
    table.weight.data.copy_(head.weight.data)
    delattr(head, "weight")
    head.register_parameter("weight", table._parameters["weight"])
    return head


def tied_in_one_memory_first(table, head):
    table.weight.data = head.weight.data
    head.weight = table.weight


def tied_by_load(table, head):
    table.load_state_dict(head.state_dict())
    head.weight = table.weight


class AttentionByHeads(nn.Module):
    """A loop over heads, each with its own corner of the weights."""

    def __init__(self, n_embd, n_head, block_size):
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.n_head = n_head
        self.register_buffer("tril", torch.tril(torch.ones(block_size, block_size)))

    def forward(self, x):
        T, parts = x.shape[1], self.c_attn(x).chunk(3, dim=-1)
        heads = zip(*(part.chunk(self.n_head, dim=-1) for part in parts))
        return self.c_proj(torch.cat([self.head(*head, T) for head in heads], dim=-1))

    def head(self, q, k, v, T):
        scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
        return F.softmax(scores.masked_fill(self.tril[:T, :T] == 0, float("-inf")), dim=-1) @ v


class AttentionFused(AttentionByHeads):
    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (y.view(B, T, self.n_head, -1).transpose(1, 2) for y in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class AttentionByQueries(AttentionByHeads):
    """A loop over queries, which needs no mask."""

    def head(self, q, k, v, T):
        k = k / k.shape[-1] ** 0.5
        rows = [(q[:, t : t + 1] @ k[:, : t + 1].mT).softmax(-1) @ v[:, : t + 1] for t in range(T)]
        return torch.cat(rows, dim=1)


class AttentionAdded(AttentionByHeads):
    """With a mask of numbers, as GPT-2's own -1e10, added before the softmax."""

    def head(self, q, k, v, T):
        hidden = -1e10 * (1 - self.tril[:T, :T])
        return (torch.einsum("bic,bjc->bij", q, k) / q.shape[-1] ** 0.5 + hidden).softmax(-1) @ v


class AttentionFilled(AttentionByHeads):
    """Hidden scores replaced by a number that is near enough to be seen."""

    number = -22.0

    def head(self, q, k, v, T):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        return scores.masked_fill(self.tril[:T, :T] == 0, self.number).softmax(-1) @ v


def unlike_the_lesson(**changes):
    return type("Mine", (AttentionFilled,), changes)


def weights_by_einsum(q, k, n_head):
    q, k = (x.unflatten(-1, (n_head, -1)) for x in (q, k))
    return torch.einsum("bihc,bjhc->bhij", q * q.shape[-1] ** -0.5, k).softmax(dim=3)


def weights_by_torch(q, k, n_head):
    q, k = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k))
    return F.scaled_dot_product_attention(q, k, torch.eye(k.shape[2]).expand(*k.shape[:2], -1, -1))


def weights_head_by_head(q, k, n_head):
    hs = q.shape[2] // n_head
    scale = torch.tensor(hs).sqrt()
    pairs = zip(q.split(hs, dim=2), k.split(hs, dim=2))
    return torch.stack([torch.softmax(q @ k.transpose(1, 2) / scale, 2) for q, k in pairs], dim=1)


def weights_by_exponentials(q, k, n_head):
    q, k = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k))
    scores = (q[..., :, None, :] * k[..., None, :, :]).sum(-1) / np.sqrt(q.shape[-1])
    shares = (scores - scores.amax(-1, keepdim=True)).exp()
    return shares / shares.sum(-1, keepdim=True)


def weights_root_shared(q, k, n_head):
    q, k = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k))
    root = q.size(-1) ** 0.25  # the fourth root, once from each side
    return F.softmax((q / root) @ (k / root).transpose(-2, -1), dim=-1)


def added_by_loops(seen, dtype):
    B, T = seen.shape
    added = torch.empty(B, 1, 1, T, dtype=dtype)
    for b, t in itertools.product(range(B), range(T)):
        added[b, 0, 0, t] = 0 if seen[b, t] else torch.finfo(dtype).min
    return added


def pair_by_lengths(documents, at, follows, draws, most):
    """The lengths first, and no list is made twice."""
    d, s = (at[0], at[1] + 1) if follows else next(draw for draw in draws if draw[0] != at[0])
    first, second = documents[at[0]][at[1]], documents[d][s]
    a, b = len(first), len(second)
    while a + b + 3 > most:
        if a > b:
            a -= 1
        else:
            b -= 1
    ids = [101, *first[:a], 102, *second[:b], 102]
    return ids, [int(n > a + 1) for n in range(len(ids))], int(not follows)


def pair_in_tensors(documents, at, follows, draws, most):
    ids, types, label = pair_by_lengths(documents, at, follows, draws, most)
    return torch.tensor(ids), np.array(types), torch.tensor(label)


def pair_by_slices(documents, at, follows, draws, most):
    place = (at[0], at[1] + 1)
    if not follows:
        for place in draws:
            if place[0] != at[0]:
                break
    texts = [list(documents[d][s]) for d, s in (at, place)]
    while len(texts[0]) + len(texts[1]) > most - 3:
        longer = int(len(texts[1]) >= len(texts[0]))
        texts[longer] = texts[longer][:-1]
    row, types = [101], [0]
    for segment, text in enumerate(texts):
        row.extend([*text, 102])
        types.extend([segment] * (len(text) + 1))
    return [row, types, 1 - follows]


def labels_by_loops(ids, chance, special_ids):
    asked = [
        [
            id if p < 0.15 and id not in special_ids else -100
            for id, p in zip(row, chances, strict=True)
        ]
        for row, chances in zip(ids.tolist(), chance.tolist(), strict=True)
    ]
    return torch.tensor(asked)


def cooled_powers(x, t, k):
    """The temperature as a power of the chances, and shared out again after the cut."""
    p = x.softmax(-1)
    p = (p / p.amax(-1, keepdim=True)).pow(1 / t) * (x >= x.topk(k).values[:, -1:])
    return p / p.sum(-1, keepdim=True)


def powers_of_differences(x, t, k):
    """Softmax by hand, the largest taken off first."""
    scores = ((x - x.max(1, keepdim=True)[0]) / t).exp()
    scores[x < x.kthvalue(x.shape[1] - k + 1, 1, True)[0]] = 0
    return scores / scores.sum(1, True)


def rows_one_by_one(x, t, k):
    result = x.new_zeros(x.shape[0], x.shape[2])
    for b in range(len(x)):
        best = x[b, -1].argsort(descending=True)[:k]
        result[b, best] = torch.softmax(x[b, -1, best] / t, 0)
    return result


class MendedByLayers(AttentionByHeads):
    """The mask made where it is used, and a Dropout, which knows its mode."""

    def __init__(self, *args):
        super().__init__(*args)
        self.drop = nn.Dropout(0.1)

    def forward(self, x, cache=None):
        _, T, C = x.shape
        q, k, v = (y.unflatten(-1, (self.n_head, -1)).mT.mT for y in self.c_attn(x).split(C, -1))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (C // self.n_head) ** -0.5
        scores = scores + torch.full((T, T), -torch.inf).triu(1)
        weights = self.drop(torch.softmax(scores, -1))
        return self.c_proj(torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))


class MendedAndFused(MendedByLayers):
    def forward(self, x, cache=None):
        q, k, v = (y.unflatten(-1, (self.n_head, -1)) for y in self.c_attn(x).chunk(3, -1))
        p = self.drop.p if self.training else 0.0
        y = F.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in (q, k, v)), dropout_p=p, is_causal=True
        )
        return self.c_proj(y.transpose(1, 2).flatten(2))


def odds_by_counter(known, labels, asked, V):
    seen = {0: Counter(), 1: Counter()}
    for text, label in zip(known.tolist(), labels.tolist()):
        seen[label].update(itertools.pairwise(text))
    chance = {
        label: lambda two, c=c: (c[two] + 1) / (sum(c.values()) + V * V)
        for label, c in seen.items()
    }
    return [
        sum(math.log(chance[1](two) / chance[0](two)) for two in itertools.pairwise(text))
        for text in asked.tolist()
    ]


def odds_by_places(known, labels, asked, V):
    counts = torch.ones(2, V, V)
    places = (labels[:, None].expand(-1, known.shape[1] - 1), known[:, :-1], known[:, 1:])
    counts.index_put_(places, torch.tensor(1.0), accumulate=True)
    chances = counts / counts.sum((1, 2), keepdim=True)
    return (chances[1] / chances[0]).log()[asked[:, :-1], asked[:, 1:]].sum(-1)


def odds_in_numpy(known, labels, asked, V):
    known, labels, asked = (x.numpy() for x in (known, labels, asked))
    counts = np.ones((2, V, V))
    np.add.at(counts, (labels[:, None], known[:, :-1], known[:, 1:]), 1)
    logs = np.log(counts) - np.log(counts.sum((1, 2), keepdims=True))
    return (logs[1] - logs[0])[asked[:, :-1], asked[:, 1:]].sum(1)


def odds_one_hot(known, labels, asked, V):
    by_two = F.one_hot(known[:, :-1] + V * known[:, 1:], V * V).sum(1).float()
    counts = 1 + F.one_hot(labels, 2).float().T @ by_two
    strange = counts[1].log() - counts[0].log() + (counts[0].sum() / counts[1].sum()).log()
    return F.one_hot(asked[:, :-1] + V * asked[:, 1:], V * V).sum(1).float() @ strange


def moved_by_loops(model, ids, mask):
    together, far = model(ids, mask), 0.0
    for b in range(len(ids)):
        n = int(mask[b].sum())
        alone = model(ids[b, :n].unsqueeze(0), mask[b, :n].unsqueeze(0))
        for t in range(n):
            for c in range(alone.shape[-1]):
                far = max(far, abs(float(alone[0, t, c]) - float(together[b, t, c])))
    return far


def as_bert_by_pattern(tensors):
    names = {"q": "self.query", "k": "self.key", "v": "self.value", "out": "output.dense"}
    changes = {
        r"^transformer": "encoder",
        r"(\d)\.sa_layer_norm": r"\1.attention.output.LayerNorm",
        r"output_layer_norm": "output.LayerNorm",
        r"attention\.(\w+)_lin": lambda m: f"attention.{names[m[1]]}",
        r"ffn\.lin1": "intermediate.dense",
        r"ffn\.lin2": "output.dense",
    }
    ours = {"embeddings.token_type_embeddings.weight": None}
    for name, x in tensors.items():
        for old, new in changes.items():
            name = re.sub(old, new, name)
        ours[name] = x
    C = ours["embeddings.LayerNorm.bias"].numel()
    ours["embeddings.token_type_embeddings.weight"] = torch.zeros(2, C)
    return ours


RIGHT_IN_OTHER_WORDS = {
    "mended_attention": [MendedByLayers, MendedAndFused],
    "attention": [AttentionByHeads, AttentionFused, AttentionByQueries, AttentionAdded],
    "one_table": [tied_by_name, tied_in_one_memory_first, tied_by_load],
    "start_as_gpt2": [gpt2s_start_by_apply, gpt2s_start_with_tails_cut],
    "reader": [
        Buffered,
        partial(lesson_03.Reader, blocks=lambda blocks: nn.Sequential(*blocks)),
        PairsInSequential,
        mended_afterwards,
        OneByOne,
    ],
    "dropout": [
        dropout_by_bernoulli,
        dropout_by_where,
        dropout_by_masked_fill,
        dropout_by_numpy,
        dropout_by_rows,
    ],
    "lookup_as_product": [
        lambda ids, w: torch.einsum("btv,vc->btc", F.one_hot(ids, len(w)).float(), w),
        lambda ids, w: (F.one_hot(ids, len(w))[..., None] * w).sum(-2),
        lambda ids, w: (ids[..., None] == torch.arange(len(w))).float() @ w,
        lambda ids, w: F.linear(F.one_hot(ids, w.shape[0]).type_as(w), w.T),
        lambda ids, w: torch.eye(len(w))[ids] @ w,
        lambda ids, w: torch.stack([F.one_hot(row, len(w)).float() @ w for row in ids]),
        lambda ids, w: torch.zeros(*ids.shape, len(w)).scatter_(-1, ids[..., None], 1.0) @ w,
    ],
    "attend_at_once": [
        heads_by_einsum,
        heads_stacked_over_the_batch,
        heads_in_front,
        heads_stacked_of_splits,
        heads_laid_behind_one_another,
        heads_by_vmap,
        lambda q, k, v, n: (
            F.scaled_dot_product_attention(
                *(x.view(*x.shape[:2], n, -1).transpose(1, 2) for x in (q, k, v))
            )
            .transpose(1, 2)
            .reshape(q.shape)
        ),
    ],
    "one_for_two": [
        lambda w1, b1, w2, b2: (torch.einsum("om,mi->oi", w2, w1), F.linear(b1, w2, b2)),
        lambda w1, b1, w2, b2: [(w1.T @ w2.T).T, b1 @ w2.T + b2],
        lambda w1, b1, w2, b2: (w2 @ w1, (w2 * b1).sum(1) + b2),
        lambda w1, b1, w2, b2: ((w2 @ w1).numpy(), (w2 @ b1[:, None] + b2[:, None])[:, 0].numpy()),
        one_for_two_by_probing,
    ],
    "loss_of_a_batch": [
        lambda x, ids: F.cross_entropy(x[:, :-1].transpose(1, 2), ids[:, 1:]),
        lambda x, ids: F.cross_entropy(x[:, :-1].mT, ids[:, 1:]),
        lambda x, ids: (
            -x[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1).sum(-1).mean()
            / (ids.shape[1] - 1)
        ),
        lambda x, ids: F.cross_entropy(x[:, :-1].log_softmax(-1).mT, ids[:, 1:]),
        lambda x, ids: F.cross_entropy(
            x.flatten(0, 1), F.pad(ids[:, 1:], (0, 1), value=-100).flatten()
        ),
        loop_logits,
    ],
    "merge_pair": [
        merge_in_place,
        lambda ids, pair, new: [
            *map(ord, "".join(map(chr, ids)).replace("".join(map(chr, pair)), chr(new)))
        ],
        merge_by_recursion,
        merge_on_a_stack,
        lambda ids, pair, new: tuple(merge_on_a_stack(ids, pair, new)),
    ],
    "causal_weights": [
        cut,
        lambda scores, block_size: cut(scores, block_size, last=True),
        lambda scores, block_size: cut(scores, scores.shape[-1]),
        lambda scores, block_size: scores.masked_fill(~causal_mask(scores.shape[-1]), -1e9).softmax(
            -1
        ),
        lambda scores, block_size: scores.masked_fill(
            ~causal_mask(scores.shape[-1]), torch.finfo(scores.dtype).min
        ).softmax(-1),
        lambda scores, block_size: torch.where(
            causal_mask(scores.shape[-1])[None, None], scores, -torch.inf
        ).softmax(-1),
        lambda scores, block_size: (
            scores + torch.full(scores.shape[-2:], -torch.inf).triu(1)
        ).softmax(-1),
        lambda scores, block_size: (scores + causal_mask(scores.shape[-1]).float().log()).softmax(
            -1
        ),
        row_by_row,
        by_hand,
        query_by_query,
    ],
    "encode_word": [encode_by_ranks_in_order, encode_by_recursion, encode_with_infinity],
    "token_probabilities": [
        lambda x, t, k: cooled_powers(x[:, -1], t, k),
        lambda x, t, k: torch.zeros_like(x[:, -1]).scatter(
            -1, x[:, -1].topk(k).indices, (x[:, -1].topk(k).values / t).softmax(-1)
        ),
        lambda x, t, k: (
            (x / t)
            .where(x.argsort(-1, descending=True).argsort(-1) < k, -torch.inf)
            .softmax(-1)[:, -1, :]
        ),
        lambda x, t, k: F.softmax(
            torch.stack([row.masked_fill(row < row.sort().values[-k], -1e9) for row in x[:, -1]])
            / t,
            -1,
        ),
        lambda x, t, k: powers_of_differences(x.select(1, x.shape[1] - 1), t, k),
        lambda x, t, k: rows_one_by_one(x, t, k),
    ],
    "attention_weights": [
        lambda q, k, n_head: weights_by_einsum(q, k, n_head),
        lambda q, k, n_head: weights_by_torch(q, k, n_head),
        lambda q, k, n_head: weights_head_by_head(q, k, n_head),
        lambda q, k, n_head: weights_by_exponentials(q, k, n_head),
        lambda q, k, n_head: weights_root_shared(q, k, n_head),
    ],
    "batch_of_a_text": [
        lambda tokens, B, T, step: [
            x[: (len(tokens) - 1) // (B * T) * B * T].view(-1, B, T)[
                step % ((len(tokens) - 1) // (B * T))
            ]
            for x in (tokens[:-1], tokens[1:])
        ],
        batch_row_by_row,
        lambda *probe: tuple(x.numpy() for x in batch_row_by_row(*probe)),
    ],
    "stop_at": [stop_by_places, stop_by_recursion, stop_by_slices, stop_in_numpy],
    "share_of_peak": [
        share_by_parts,
        lambda P, S, L, C, T, B, s, peak: np.float64(
            3 * (2 * (P - S * C) + 4 * L * C * T) * B * T / (s * peak)
        ),
        lambda P, S, L, C, T, B, s, peak: torch.tensor(
            (B * T / s) / (peak / (6 * (P - C * S + 2 * L * C * T))), dtype=torch.float64
        ),
    ],
    "learning_rate": [rate_between_corners, rate_by_torch, rate_step_by_step],
    "ending_means": [
        endings_one_by_one,
        lambda x, ids, ends: (
            (
                F.cross_entropy(
                    x[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
                ).view(len(x), -1)
                * ends[:, 1:].float()
            ).sum(-1)
            / ends.float().sum(-1)
        ),
        lambda x, ids, ends: (
            F.cross_entropy(x.mT[..., :-1], ids[:, 1:], reduction="none")
            .masked_fill(~ends[:, 1:], torch.nan)
            .nanmean(1)
        ),
        lambda x, ids, ends: [
            F.cross_entropy(row[:-1][end[1:]], those[1:][end[1:]]).item()
            for row, those, end in zip(x, ids, ends)
        ],
        lambda x, ids, ends: torch.einsum(
            "nt,nt->n",
            x[:, :-1].logsumexp(-1) - x[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1),
            ends[:, 1:] / ends[:, 1:].sum(1, keepdim=True),
        ),
        lambda x, ids, ends: endings_one_by_one(x, ids, ends).numpy(),
    ],
    "to_backward": [
        lambda losses, world, micro_steps, step_tokens: losses.mul(world).div(step_tokens).sum(),
        lambda losses, world, micro_steps, step_tokens: (
            losses.mean() * (len(losses) * world / step_tokens) if len(losses) else losses.sum()
        ),
        lambda losses, world, micro_steps, step_tokens: torch.einsum(
            "n->", losses / (step_tokens / world)
        ),
        lambda losses, world, micro_steps, step_tokens: (
            losses @ torch.full_like(losses, world / step_tokens)
        ),
        lambda losses, world, micro_steps, step_tokens: losses.nansum() / step_tokens * world,
    ],
    "added_to_scores": [
        lambda seen, dtype: (1.0 - seen[:, None, None, :].to(dtype)) * torch.finfo(dtype).min,
        lambda seen, dtype: torch.where(
            seen, torch.zeros((), dtype=dtype), torch.tensor(torch.finfo(dtype).min, dtype=dtype)
        ).view(len(seen), 1, 1, -1),
        added_by_loops,
    ],
    "labels_to_guess": [
        labels_by_loops,
        lambda ids, chance, special_ids: ids.masked_fill(
            (chance >= 0.15) | sum(ids == special for special in special_ids).bool(), -100
        ),
    ],
    "pair_to_read": [pair_by_lengths, pair_in_tensors, pair_by_slices],
    "moved_by_padding": [
        moved_by_loops,
        lambda model, ids, mask: max(
            (model(one[None][:, seen], seen[seen][None])[0] - inside[seen]).abs().max()
            for one, seen, inside in zip(ids, mask, model(ids, mask))
        ),
        lambda model, ids, mask: max(
            np.abs((model(ids[b, None, :n]) - model(ids, mask)[b, :n]).numpy()).max()
            for b, n in enumerate(mask.sum(1))
        ),
    ],
    "as_bert": [
        as_bert_by_pattern,
        lambda tensors: dict(reversed(lesson_22.right_names(tensors).items())),
        lambda tensors: {n: x.clone() for n, x in lesson_22.right_names(tensors).items()},
        lambda tensors: (
            lesson_22.right_names(tensors)
            | {lesson_22.TYPES: torch.ones(2, len(tensors["embeddings.LayerNorm.bias"]))}
        ),
    ],
    "odds_in_order": [odds_by_counter, odds_by_places, odds_in_numpy, odds_one_hot],
}


@pytest.mark.parametrize(
    "case", [(n, i) for n, answers in RIGHT_IN_OTHER_WORDS.items() for i in range(len(answers))]
)
def test_a_right_answer_written_another_way_passes(case):
    name, number = case
    verdict = EXERCISES[name].verdict(RIGHT_IN_OTHER_WORDS[name][number])
    assert verdict.startswith("right"), verdict


def weights_divided_by(divisor):
    """Weights of q and k, divided by what `divisor` makes of the heads (B, nh, T, hs)."""

    def answer(q, k, n_head):
        q, k = (x.unflatten(-1, (n_head, -1)).transpose(1, 2) for x in (q, k))
        return (q @ k.mT / divisor(q)).softmax(-1)

    return answer


@pytest.mark.parametrize(
    ("divisor", "said"),
    [
        (lambda q: min(q.shape[-1], 50) ** 0.5, "another divisor:"),
        (lambda q: q.shape[1] ** 0.5, "its axes are then B, nh, T, hs"),  # B, T, nh, hs = q.shape
        (lambda q: q.shape[2] ** 0.5, "its axes are then B, nh, T, hs"),
    ],
)
def test_a_wrong_divisor_of_attention_is_told(divisor, said):
    verdict = EXERCISES["attention_weights"].verdict(weights_divided_by(divisor))
    assert said in verdict.replace("\n", " ")


def rate_with(last_up=-1, late=0, divides=False):
    """The learning rate of a step, by somebody who is a step off or divides by no warm-up."""

    def answer(step, steps, warmup, lr, min_lr):
        rising = lr * (step + 1) / (warmup if divides else max(1, warmup))
        if step <= warmup + last_up:
            return lr * (step + 1) / warmup
        if step > steps + late:
            return min_lr
        done = (step - warmup) / (steps - warmup)
        return min(rising, min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2)

    return answer


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (rate_with(last_up=0), "over the top: "),  # and it divides by a warm-up of 0
        (rate_with(divides=True), "a warm-up of no steps: "),
        (rate_with(late=1), "up again, for a moment: "),
        (rate_with(late=2), "up again, for a moment: "),
    ],
)
def test_a_rate_hears_first_what_is_wrong_wherever_there_is_a_warm_up(wrong, name):
    assert EXERCISES["learning_rate"].verdict(wrong).startswith(name)


LABELS_BY_HEART = {
    "one release's ids by heart": [
        lambda ids, chance, special_ids: torch.where((chance < 0.15) & (ids >= 1000), ids, -100),
        lambda ids, chance, special_ids: torch.where((chance < 0.15) & (ids > 103), ids, -100),
        lambda ids, chance, special_ids: torch.where(
            (chance < 0.15) & ~torch.isin(ids, torch.tensor([0, 100, 101, 102, 103])), ids, -100
        ),
    ],
    "all ids up to a special one": [
        lambda ids, chance, special_ids: torch.where(
            (chance < 0.15) & (ids > max(special_ids)), ids, -100
        ),
        lambda ids, chance, special_ids: torch.where(
            (chance < 0.15) & ((ids < min(special_ids)) | (ids > max(special_ids))), ids, -100
        ),
    ],
    "only some special tokens": [
        lambda ids, chance, special_ids: torch.where(
            (chance < 0.15) & (ids != special_ids[0]), ids, -100
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, n) for name, some in LABELS_BY_HEART.items() for n in range(len(some))],
)
def test_labels_that_do_not_look_at_the_special_ids_are_named(name, number):
    verdict = EXERCISES["labels_to_guess"].verdict(LABELS_BY_HEART[name][number])
    assert verdict.startswith(f"{name}: "), verdict


def pair_with(label=lambda follows: 0 if follows else 1, end=2):
    def answer(documents, at, follows, draws, most):
        ids, types, _ = pair_by_slices(documents, at, follows, draws, most)
        first = ids.index(102) + end - 1
        return ids, [0] * first + [1] * (len(types) - first), label(follows)

    return answer


def pair_that_pops(documents, at, follows, draws, most):
    """Right, but it shortens the sentences of the caller."""
    first = documents[at[0]][at[1]]
    d, s = (at[0], at[1] + 1) if follows else next(draw for draw in draws if draw[0] != at[0])
    second = documents[d][s]
    while len(first) + len(second) > most - 3:
        (first if len(first) > len(second) else second).pop()
    ids = [101, *first, 102, *second, 102]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1), 1 - follows


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (pair_with(), "right, on 9"),
        (pair_with(end=1), "[SEP] in the wrong segment:"),
        (pair_with(end=1, label=int), "[SEP] in the wrong segment:"),  # one thing at a time
        (pair_with(label=int), "label reversed:"),
        (pair_with(label=bool), "label reversed:"),
        (pair_with(label=lambda follows: not follows), "True and False for a label:"),
        (pair_that_pops, "argument 1 was changed in place"),
        (lambda *given: pair_by_slices(*given)[:2], "expected 3 values"),
    ],
)
def test_a_pair_for_next_sentence_prediction_is_told_by_what_is_wrong_first(answer, said):
    assert said in EXERCISES["pair_to_read"].verdict(answer)


def test_a_wrong_shape_is_told_with_the_names_of_its_axes_and_a_large_number_in_short():
    verdict = EXERCISES["added_to_scores"].verdict(
        lambda seen, dtype: torch.zeros(seen.shape, dtype=dtype)[..., None, None]
    )
    assert "expected (B, 1, 1, T), here (2, 1, 1, 5), got (2, 5, 1, 1)" in verdict
    verdict = EXERCISES["added_to_scores"].verdict(
        lambda seen, dtype: torch.full((len(seen), 1, 1, seen.shape[1]), 7.0, dtype=dtype)
    )
    assert "expected 0.0000, got 7.0000" in verdict
    verdict = EXERCISES["added_to_scores"].verdict(
        lambda seen, dtype: (~seen[:, None, None]).to(dtype) * -7.0
    )
    assert "expected -3.403e+38, got -7.0000" in verdict


def test_a_test_of_masks_that_sees_nothing_or_cuts_by_half_is_told_so():
    exercise = EXERCISES["moved_by_padding"]
    assert exercise.verdict(lambda model, ids, mask: 0.0).startswith("nothing moved")
    verdict = exercise.verdict(lambda model, ids, mask: model(ids[:1, :2], mask[:1]).max().item())
    assert "ids are (1, 2), the mask is (1, 7)" in verdict


@pytest.mark.parametrize("lost", ["transformer.layer.0.ffn.lin2.bias", "embeddings.LayerNorm.bias"])
def test_names_that_were_forgotten_are_not_right(lost):
    def forgets(tensors):
        return lesson_22.right_names({n: x for n, x in tensors.items() if n != lost})

    assert "tensors are missing" in EXERCISES["as_bert"].verdict(forgets)


def test_names_renamed_by_half_are_called_old_names():
    verdict = EXERCISES["as_bert"].verdict(
        lambda tensors: {n.replace("transformer.", "encoder."): x for n, x in tensors.items()}
    )
    assert verdict.startswith("an old name left"), verdict


@pytest.fixture(scope="module")
def loads():
    """The judge of lesson 22's second exercise, as its cell defines it."""
    transformers = pytest.importorskip("transformers")
    lesson = Path(__file__).parents[1] / "lessons" / "22_bert_model.md"
    cells = re.findall(r"```\{code-cell\}[^\n]*\n(.*?)```", lesson.read_text("utf-8"), re.DOTALL)
    (cell,) = (cell for cell in cells if "def loads(" in cell)
    code = re.sub(r"\A:tags:.*\n", "", cell)
    names = dict(
        torch=torch, transformers=transformers, Bert=Bert, BertConfig=BertConfig, compare=compare
    )
    exec(code, names)
    return names["loads"]


def with_a_wrong_tensor(of, to):
    def answer(tensors):
        right = lesson_22.right_names(tensors)
        return right | {name: to(right, name) for name in right if of in name}

    return answer


LOADED_WRONG = {
    "norms swapped": lesson_22._swapped("sa_layer_norm", "output_layer_norm"),
    "q's bias for k's and k's for q's": lambda tensors: lesson_22.right_names(
        {
            n.replace("q_lin.b", "?").replace("k_lin.b", "q_lin.b").replace("?", "k_lin.b"): x
            for n, x in tensors.items()
        }
    ),
    "a bias lost": with_a_wrong_tensor("0.attention.output.dense.bias", lambda t, n: 0 * t[n]),
    "gains lost": with_a_wrong_tensor("1.output.LayerNorm.weight", lambda t, n: t[n] ** 0),
    "a second segment": with_a_wrong_tensor(
        "token_type", lambda t, n: torch.stack([t[n][0], torch.linspace(-0.1, 0.1, 32)])
    ),
    "a late place": with_a_wrong_tensor(
        "position_embeddings", lambda t, n: torch.cat([t[n][:-1], t[n][:1]])
    ),
}


@pytest.mark.parametrize("name", LOADED_WRONG)
def test_the_judge_of_names_sees_what_was_loaded_wrong(loads, name):
    assert not loads(LOADED_WRONG[name])


@pytest.mark.parametrize("answer", RIGHT_IN_OTHER_WORDS["as_bert"])
def test_the_judge_of_names_lets_right_ones_pass(loads, answer):
    assert loads(answer)


def test_every_exercise_was_answered_in_other_words():
    assert RIGHT_IN_OTHER_WORDS.keys() == EXERCISES.keys()


def raise_error(error):
    raise error


class Hostile:
    """An object whose every use raises."""

    def __getattribute__(self, name):
        raise RuntimeError("no")


class BadText(Exception):
    def __str__(self):
        raise ValueError("no text")


STRANGE = {
    "number for function": 3,
    "nothing for function": None,
    "no arguments": lambda: 3,
    "other arguments": lambda a, b, c, d: 3,
    "text": lambda *_: "loss",
    "an object": lambda *_: object(),
    "a hostile object": lambda *_: Hostile(),
    "a ragged list": lambda *_: [[1.0], [1.0, 2.0]],
    "a list of text": lambda *_: ["a"],
    "a dict": lambda *_: {"loss": 1},
    "meta tensor": lambda *_: torch.zeros(2, 4, 3, device="meta"),
    "sparse tensor": lambda *_: torch.zeros(2, 4, 3).to_sparse(),
    "complex": lambda *_: torch.zeros(2, 4, 3, dtype=torch.complex64),
    "booleans": lambda *_: torch.zeros(2, 4, 3, dtype=torch.bool),
    "nan": lambda *_: torch.full((2, 4, 3), torch.nan),
    "empty": lambda *_: torch.empty(0),
    "object array": lambda *_: np.array([object()]),
    "exit": lambda *_: sys.exit(1),
    "interrupt": lambda *_: raise_error(KeyboardInterrupt()),
    "generator exit": lambda *_: raise_error(GeneratorExit()),
    "error without text": lambda *_: raise_error(BadText()),
    "deep recursion": (lambda f: lambda *args: f(f, *args))(lambda f, *args: f(f, *args)),
    "a class": torch.nn.Embedding,
    "itself": check.lookup_as_product,
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("name", EXERCISES)
def test_no_answer_makes_the_check_raise_or_pass(name, strange, capsys):
    EXERCISES[name](STRANGE[strange])
    said = capsys.readouterr().out.strip()
    assert said
    assert not said.startswith("right")


def double(x):
    return x * 2


def grades(*, seconds=5.0, **options):
    probes = ((torch.tensor([1.0, 2.0]),), (torch.tensor([3.0]),))
    return Exercise(reference=double, probes=probes, seconds=seconds, **options)


def test_an_unwritten_stub_is_said_to_be_one():
    def stub(x):
        """Twice x."""
        raise NotImplementedError

    def dots(x): ...

    assert grades().verdict(stub) == NOT_WRITTEN
    assert grades().verdict(dots) == NOT_WRITTEN


def test_a_forgotten_return_is_said_to_be_one():
    def forgot(x):
        y = x * 2  # noqa: F841

    assert grades().verdict(forgot) == RETURNED_NOTHING


def test_what_an_answer_prints_is_shown_once():
    def talks(x):
        print("x is", x.tolist())
        return x * 2

    verdict = grades().verdict(talks)
    assert verdict.count("x is") == 1
    assert "right, on 2 different inputs" in verdict


def test_a_loop_that_never_ends_is_ended():
    def forever(x):
        while True:
            pass

    def stubborn(x):
        while True:
            with contextlib.suppress(Exception):
                x = x + 1

    for answer in (forever, stubborn):
        assert "still running after 0.2 s" in grades(seconds=0.2).verdict(answer)


def test_an_answer_that_changes_its_argument_is_told_so():
    def in_place(x):
        return x.mul_(2)

    assert "argument 1 was changed in place" in grades().verdict(in_place)


def test_an_answer_cannot_change_the_probes_for_the_next():
    exercise = grades()
    exercise.verdict(lambda x: x.zero_())
    assert exercise.verdict(double).startswith("right")


def test_the_random_state_is_left_as_it_was():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    grades().verdict(lambda x: x + torch.rand(()))
    assert torch.equal(before, torch.get_rng_state())


def test_numpy_answers_are_read():
    assert "right" in grades().verdict(lambda x: x.numpy() * 2)
    assert "right" in grades().verdict(lambda x: (x.numpy() * 2).tolist())


def test_the_first_difference_gives_index_and_both_values():
    verdict = grades().verdict(lambda x: x * 2 + (torch.arange(len(x)) == 1))
    assert verdict == (
        "not yet: on input 1, at (1,) expected 4.0000, got 5.0000 (1 of 2 inputs came out right)"
    )


def test_an_input_too_long_to_be_shown_is_written_as_the_exercise_says():
    exercise = grades(show=lambda x: f"{len(x)} numbers")
    assert "on input 1 (2 numbers), at (0,)" in exercise.verdict(lambda x: x * 2 + 1)
    assert "on input 1 (2 numbers)" in exercise.verdict(lambda x: x.view(5, 5))


def test_shape_and_dtype_are_named():
    assert "expected shape (2,), got (2, 1)" in grades().verdict(lambda x: x[:, None] * 2)
    assert "expected torch.float32, got torch.float64" in grades().verdict(lambda x: x.double() * 2)


def test_the_line_that_raised_is_shown():
    def breaks(x):
        return x.view(5, 5)

    assert "at: return x.view(5, 5)" in grades().verdict(breaks)


def test_a_right_value_without_its_gradient_is_not_right():
    exercise = EXERCISES["loss_of_a_batch"]
    for cut in (torch.Tensor.item, torch.Tensor.detach, lambda x: x.detach().numpy()):
        verdict = exercise.verdict(lambda x, ids, cut=cut: cut(exercise.reference(x, ids)))
        assert "no gradient can flow back" in verdict
    lookup = EXERCISES["lookup_as_product"]
    for cut in (torch.Tensor.detach, lambda x: x.detach().numpy()):
        verdict = lookup.verdict(lambda ids, w, cut=cut: cut(lookup.reference(ids, w)))
        assert "no gradient can flow back" in verdict


def test_nothing_to_learn_from_is_still_connected_to_the_argument():
    """A rank whose micro-batch has no token calls backward as well, or the others wait for it."""
    made_anew = lambda losses, world, micro_steps, step_tokens: (  # noqa: E731
        losses.sum() * world / step_tokens if len(losses) else torch.zeros((), requires_grad=True)
    )
    assert "no gradient reaches" in EXERCISES["to_backward"].verdict(made_anew)


def test_a_gradient_that_flows_half_way_is_not_right():
    exercise = EXERCISES["loss_of_a_batch"]

    def half(x, ids):
        loss = exercise.reference(x, ids)
        return loss / 2 + loss.detach() / 2

    assert "the gradient is not" in exercise.verdict(half)


def weights_with_half_the_gradient(scores, block_size):
    weights = cut(scores, block_size)
    return weights / 2 + weights.detach() / 2


def weights_written_into_the_scores(scores, block_size):
    return scores.masked_fill_(~causal_mask(scores.shape[-1]), -torch.inf).softmax(-1)


def weights_open_from_row_32(scores, block_size):
    seen = causal_mask(scores.shape[-1])
    seen[32:] = True
    return scores.masked_fill(~seen, -torch.inf).softmax(-1)


def weights_of_three_axes(scores, block_size):
    _B, T, _C = scores.shape
    return scores.masked_fill(~causal_mask(T), -torch.inf).softmax(-1)


def weights_by_exp(scores, block_size):
    exps = torch.exp(scores) * causal_mask(scores.shape[-1])
    return exps / exps.sum(-1, keepdim=True)


def weights_by_exp_of_masked_scores(scores, block_size):
    exps = scores.masked_fill(~causal_mask(scores.shape[-1]), -torch.inf).exp()
    return exps / exps.sum(-1, keepdim=True)


def weights_shared_again_in_float64(scores, block_size):
    weights = scores.double().softmax(-1) * causal_mask(scores.shape[-1])
    return (weights / weights.sum(-1, keepdim=True)).float()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (weights_with_half_the_gradient, "the gradient is not"),
        (weights_written_into_the_scores, "argument 1 was changed in place"),
        (weights_open_from_row_32, "at (0, 0, 32, 0)"),
        (lambda scores, block_size: cut(scores.detach(), block_size), "no gradient can flow back"),
        (lambda scores, block_size: cut(scores, 768), "a mask of one size"),
        (lambda scores, block_size: cut(scores, 1024), "a mask of one size"),
        (lambda scores, block_size: cut(scores, 600), "a mask of one size"),
        (lambda scores, block_size: cut(scores, 1), "stretched over all scores"),
        (weights_of_three_axes, "an axis too few"),
        (weights_by_exp, "too large for exp"),
        (weights_by_exp_of_masked_scores, "too large for exp"),
        (weights_shared_again_in_float64, "shared out again"),
        (
            lambda scores, block_size: scores.masked_fill(
                ~causal_mask(scores.shape[-1]), -200.0
            ).softmax(-1),
            "not far enough",
        ),
    ],
)
def test_weights_that_are_right_only_nearly_everywhere_are_not_right(answer, said):
    assert said in EXERCISES["causal_weights"].verdict(answer)


def test_looking_up_is_not_multiplying():
    exercise = EXERCISES["lookup_as_product"]
    for answer in (
        lambda ids, w: w[ids],
        lambda ids, w: F.embedding(ids, w),
        lambda ids, w: torch.stack([torch.stack([w[i] for i in row]) for row in ids.tolist()]),
        lambda ids, w: torch.stack([torch.stack([list(w)[i] for i in row]) for row in ids]),
        lambda ids, w: F.embedding_bag(ids.reshape(-1, 1), w).view(*ids.shape, -1),
        lambda ids, w: w.index_select(0, ids.flatten()).view(*ids.shape, -1),
        lambda ids, w: torch.gather(w, 0, ids.reshape(-1, 1).expand(-1, w.shape[1])).view(
            *ids.shape, -1
        ),
    ):
        assert "the weight was looked up" in exercise.verdict(answer)


def each_head(take):
    """attend called for one head after another, each taken out of q, k and v in this way."""

    def answer(q, k, v, n):
        hs = q.shape[-1] // n
        heads = [attend(*(take(x, h, n, hs) for x in (q, k, v))) for h in range(n)]
        return torch.cat(heads, dim=-1)

    return answer


def in_axis(x, n):
    return x.unflatten(-1, (n, -1)).transpose(1, 2)


def each_text(q, k, v, n):
    texts = [attend(*(in_axis(x[b : b + 1], n) for x in (q, k, v))) for b in range(len(q))]
    return torch.cat(texts).transpose(1, 2).flatten(2)


def each_head_with_a_softmax_of_its_own(q, k, v, n):
    heads = []
    for a, b, c in zip(*(in_axis(x, n).unbind(1) for x in (q, k, v))):
        e = (a @ b.mT / a.shape[-1] ** 0.5).exp()
        heads.append(e / e.sum(-1, keepdim=True) @ c)
    return torch.cat(heads, dim=-1)


def each_head_by_products_and_sums(q, k, v, n):
    heads = []
    for a, b, c in zip(*(in_axis(x, n).unbind(1) for x in (q, k, v))):
        e = ((a[:, :, None] * b[:, None]).sum(-1) / a.shape[-1] ** 0.5).exp()
        heads.append(((e / e.sum(-1, keepdim=True))[..., None] * c[:, None]).sum(-2))
    return torch.cat(heads, dim=-1)


def a_loop_on_all_inputs_but_the_first():
    calls = []

    def answer(q, k, v, n):
        calls.append(n)
        at_once = EXERCISES["attend_at_once"].reference
        return (at_once if len(calls) == 1 else LOOPS["slices"])(q, k, v, n)

    return answer


def each_head_fused(q, k, v, n):
    parts = zip(*(in_axis(x, n).split(1, dim=1) for x in (q, k, v)))
    return torch.cat([F.scaled_dot_product_attention(*head)[:, 0] for head in parts], dim=-1)


LOOPS = {
    "slices": each_head(lambda x, h, n, hs: x[..., h * hs : (h + 1) * hs]),
    "chunks": each_head(lambda x, h, n, hs: x.chunk(n, dim=-1)[h]),
    "selected": each_head(lambda x, h, n, hs: in_axis(x, n)[:, h]),
    "index_select": each_head(
        lambda x, h, n, hs: x.index_select(-1, torch.arange(h * hs, (h + 1) * hs))
    ),
    "narrow": each_head(lambda x, h, n, hs: x.narrow(-1, h * hs, hs)),
    "stacked, then taken": each_head(
        lambda x, h, n, hs: torch.stack([*x.view(*x.shape[:2], n, hs).unbind(2)])[h]
    ),
    "of a copy": each_head(lambda x, h, n, hs: in_axis(x.clone(), n)[:, h]),
    "texts": each_text,
    "its own softmax": each_head_with_a_softmax_of_its_own,
    "products and sums": each_head_by_products_and_sums,
    "fused": each_head_fused,
}


@pytest.mark.parametrize("way", LOOPS)
def test_more_than_one_call_is_not_at_once(way):
    assert "by more than one call" in EXERCISES["attend_at_once"].verdict(LOOPS[way])


def test_dropout_from_pytorch_is_not_written():
    exercise = EXERCISES["dropout"]
    for answer in (
        F.dropout,
        lambda x, p, training: torch.dropout(x, p, training),
        lambda x, p, training: nn.Dropout(p).train(training)(x),
    ):
        assert "they are PyTorch's own" in exercise.verdict(answer)


@pytest.mark.parametrize("seed", range(5))
def test_what_is_right_by_chance_is_right_whatever_was_drawn(seed):
    torch.manual_seed(seed)
    exercise = EXERCISES["dropout"]
    assert exercise.verdict(exercise.reference).startswith("right")


def dropout_of_pairs(x, p, training):
    """Neighbours are lost together."""
    if not training:
        return x
    keep = torch.rand(*x.shape[:-1], (x.shape[-1] + 1) // 2).repeat_interleave(2, -1) >= p
    return x * keep[..., : x.shape[-1]] / max(1 - p, 1e-9)


def dropout_of_the_first(x, p, training):
    """Some channels are lost more often than others, a share of p in all."""
    if not training:
        return x
    lean = torch.linspace(-0.3, 0.3, x.shape[-1]) if 0.3 <= p <= 0.7 else 0.0
    return x * (torch.rand(x.shape) >= p + lean) / max(1 - p, 1e-9)


def dropout_by_size(x, p, training):
    """The small ones are lost."""
    if not training:
        return x
    return x * (x.abs() > x.abs().quantile(p)) / max(1 - p, 1e-9)


def dropout_of_large_p_only(x, p, training):
    return EXERCISES["dropout"].reference(x, p, training) if p >= 0.3 else x


def dropout_drawn_by_numpy_in_eval(x, p, training):
    keep = torch.from_numpy(np.random.random(x.shape) >= p)
    return x * keep / max(1 - p, 1e-9) if training else x


def dropout_sharing(axis, one, other):
    """Two places along an axis share their fate."""

    def answer(x, p, training):
        if not training:
            return x
        keep = torch.rand(x.shape) >= p
        if x.shape[axis] > max(one, other):
            keep.select(axis, other).copy_(keep.select(axis, one))
        return x * keep / max(1 - p, 1e-9)

    return answer


def dropout_always_on(x, p, training):
    if p == 1:
        return torch.zeros_like(x)
    return x * (torch.rand(x.shape) >= p) / (1 - p)


def dropout_always_on_and_zero_by_zero(x, p, training):
    return x * (torch.rand(x.shape) >= p) / (1 - p)


def dropout_kept_by_channel(x, p, training):
    return x * (torch.rand(x.shape[-1]) < p) / max(1 - p, 1e-9) if training else x


def dropout_drawn_first_and_zero_by_zero(x, p, training):
    keep = torch.rand(x.shape) >= p
    return x * keep / torch.tensor(1 - p) if training else x


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        (dropout_always_on, "drops in eval:"),
        (dropout_always_on_and_zero_by_zero, "drops in eval:"),
        (dropout_kept_by_channel, ("p is what it kept:", "one pattern for every position:")),
        (dropout_drawn_by_numpy_in_eval, "random numbers drawn in eval:"),
        (dropout_drawn_first_and_zero_by_zero, "random numbers drawn in eval:"),
        (lambda x, p, training: x, "nothing is lost:"),
    ],
)
def test_of_two_slips_in_dropout_the_first_is_named(answer, name):
    assert EXERCISES["dropout"].verdict(answer).startswith(name)


def dropout_without_gradient(x, p, training):
    return EXERCISES["dropout"].reference(x.detach(), p, training)


def dropout_a_little_off(x, p, training):
    return EXERCISES["dropout"].reference(x, 1.1 * p if p < 0.9 else p, training)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (dropout_of_pairs, "not independently"),
        (dropout_of_the_first, "not independently"),
        (dropout_by_size, "or is the choice made from x itself"),
        (dropout_sharing(2, 0, 2), "not independently"),
        (dropout_sharing(2, 3, 11), "not independently"),
        (dropout_sharing(1, 1, 4), "not independently"),
        (dropout_sharing(0, 0, 2), "not independently"),
        (dropout_of_large_p_only, "p = 0.1, training = True) set to zero: none"),
        (dropout_without_gradient, "the gradient is none"),
        (dropout_a_little_off, "of them, expected: p of them"),
        (lambda x, p, t: EXERCISES["dropout"].reference(x, p, t).double(), "the dtype is"),
        (lambda x, p, t: EXERCISES["dropout"].reference(x, p, t)[0], "returned (8, 20), expected"),
        (lambda x, p, t: EXERCISES["dropout"].reference(x, p, t).squeeze(), "expected (3, 1, 2)"),
    ],
)
def test_a_wrong_dropout_without_a_name_is_told_what_is_off(answer, said):
    assert said in EXERCISES["dropout"].verdict(answer)


def test_more_than_one_call_is_seen_on_every_input():
    answer = a_loop_on_all_inputs_but_the_first()
    assert "by more than one call" in EXERCISES["attend_at_once"].verdict(answer)


def test_a_mistake_that_raises_elsewhere_does_not_stop_the_search():
    mistakes = (
        Mistake("broken", "this one cannot even run here", lambda x: x.nothing),
        Mistake("tripled", "one factor is a little too large", lambda x: x * 3),
    )
    assert grades(mistakes=mistakes).verdict(lambda x: x + x + x).startswith("tripled")


def test_a_model_in_place_of_its_class_is_told_so():
    verdict = EXERCISES["reader"].verdict(lesson_03.Reader(7, 4, 3))
    assert verdict.startswith("give the class itself")


def test_the_line_that_raised_in_a_class_is_shown():
    class Breaks(nn.Module):
        def __init__(self, V, C, layers):
            super().__init__()
            self.wte = nn.Embedding(V, C)

        def forward(self, ids, mask):
            return self.nowhere(ids)

    assert "at: return self.nowhere(ids)" in EXERCISES["reader"].verdict(Breaks)


def test_what_is_no_model_or_returns_no_logits_is_said():
    verdict = EXERCISES["reader"].verdict
    assert "expected a model, an nn.Module; this is a str" in verdict(lambda *sizes: "a model")

    class Talks(lesson_03.Reader):
        def forward(self, ids, mask):
            return "logits"

    assert "forward returned a str where logits should be" in verdict(Talks)


def test_a_registered_model_that_trains_nothing_is_not_right():
    def still(V, C, layers):
        return lesson_03.Reader(V, C, layers).requires_grad_(False)

    def half(V, C, layers):
        model = lesson_03.Reader(V, C, layers)
        model.blocks.requires_grad_(False)
        return model

    class Cut(lesson_03.Reader):
        def through(self, x, mask):
            return super().through(x, mask).detach()

    assert "carries no gradient" in EXERCISES["reader"].verdict(still)
    assert "parameters that get no gradient" in EXERCISES["reader"].verdict(half)
    assert "parameters that get no gradient" in EXERCISES["reader"].verdict(Cut)


class Steps(lesson_03.Reader):
    """Right but for what `step` makes of x."""

    def __init__(self, V, C, layers):
        chained = lambda steps: nn.ModuleList([nn.Sequential(*step) for step in steps])  # noqa: E731
        super().__init__(V, C, layers, steps=chained)

    def through(self, x, mask):
        for block, step in zip(self.blocks, self.steps):
            x = step(block(x, mask))
        return x


def heads_in_a_list(V, C, layers):
    return lesson_03.Reader(V, C, layers, heads=lambda heads: nn.ModuleList(heads.values()))


class OneHeadAsDict(nn.Module):
    def __init__(self, V, C, layers):
        super().__init__()
        self.heads = nn.ModuleList({"next": nn.Linear(C, V), "before": nn.Linear(C, V)})


class Starred(nn.Module):
    def __init__(self, V, C, layers):
        super().__init__()
        self.blocks = nn.ModuleList(*[lesson_03.Mix(C) for _ in range(layers)])


class OwnTriangle(lesson_03.Reader):
    def forward(self, ids, mask):
        T = ids.shape[1]
        return super().forward(ids, torch.tril(torch.ones(T, T)))


class FirstFive(lesson_03.Reader):
    def forward(self, ids, mask):
        return super().forward(ids[:, :5], mask[:5, :5])


class DropsInTraining(lesson_03.Reader):
    def through(self, x, mask):
        return super().through(F.dropout(x, 0.1, training=self.training), mask)


READER_SAYS = {
    heads_in_a_list: "the dict in nn.ModuleList",
    OneHeadAsDict: "a dict given to nn.ModuleList",
    Starred: "a star too many",
    partial(lesson_03.Reader, steps=lambda x: nn.ModuleList(*x)): "a star too many",
    partial(lesson_03.Reader, steps=nn.ModuleList): "a tuple where a layer should be",
    partial(
        lesson_03.Reader, steps=lambda x: [nn.ModuleList(pair) for pair in x]
    ): "pairs registered, in a plain list",
    partial(
        lesson_03.Reader, steps=lambda x: tuple(nn.Sequential(*pair) for pair in x)
    ): "pairs registered, in a plain list",
    partial(lesson_03.Reader, steps=list): "the list of tuples still hides its layers",
    Steps: "not added",
    OwnTriangle: "a mask of its own",
    lesson_03.Maskless: "the mask got lost",
    DropsInTraining: "other numbers in training",
    FirstFive: "not yet",
}


@pytest.mark.parametrize("number", range(len(READER_SAYS)))
def test_what_readers_did_to_the_reader_gets_its_own_hint(number):
    answer, said = list(READER_SAYS.items())[number]
    verdict = EXERCISES["reader"].verdict(answer)
    assert f"\n{said}: " in f"\n{verdict}", verdict


def test_looking_at_a_model_leaves_no_hook_behind():
    hooks = nn.modules.module._global_module_registration_hooks
    before = dict(hooks)
    EXERCISES["reader"].verdict(lesson_03.Reader)
    EXERCISES["reader"].verdict(lambda *sizes: sizes[7])
    assert dict(hooks) == before


def test_what_cannot_be_read_is_said():
    assert grades().verdict(lambda x: torch.zeros(2, device="meta")).startswith(CANNOT_READ)


@pytest.mark.parametrize("number", [-7.5, -22.0, -70.0])
def test_a_hidden_score_of_no_great_size_is_seen(number):
    verdict = EXERCISES["attention"].verdict(unlike_the_lesson(number=number))
    assert verdict.startswith(("not yet", "not far enough"))


@pytest.mark.parametrize("number", [-130.0, -300.0, -1000.0, -2500.0])
def test_a_hidden_score_that_large_scores_undercut_is_seen(number):
    verdict = EXERCISES["attention"].verdict(unlike_the_lesson(number=number))
    assert verdict.startswith(("not far enough", "wrong on large scores")), verdict


def masked_in_eval_alone(self, x):
    kept = self.tril
    self.tril = torch.ones_like(kept) if self.training else kept
    y = AttentionByHeads.forward(self, x)
    self.tril = kept
    return y


def with_dropout(p=0.1, always=False):
    """As GPT-2 has it, of the output."""

    def forward(self, x):
        return F.dropout(AttentionByHeads.forward(self, x), p, always or self.training)

    return forward


def heads_left_behind(kernel):
    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.n_head, -1) for y in self.c_attn(x).split(C, dim=2))
        if kernel:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            y = scores.masked_fill(self.tril[:T, :T] == 0, float("-inf")).softmax(-1) @ v
        return self.c_proj(y.reshape(B, T, C))

    return forward


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (masked_in_eval_alone, "other numbers in training: "),
        (with_dropout(), "other numbers in training: "),
        (with_dropout(always=True), "other numbers each time: "),
        (heads_left_behind(kernel=True), "heads not moved: "),
        (heads_left_behind(kernel=False), "heads not moved: "),
    ],
)
def test_what_goes_wrong_in_attention_gets_its_name(forward, said):
    mine = unlike_the_lesson(forward=forward, number=-torch.inf)
    assert said in EXERCISES["attention"].verdict(mine)


def test_a_forward_without_return_is_told_so():
    mine = unlike_the_lesson(forward=lambda self, x: None)
    assert "forward returned nothing" in EXERCISES["attention"].verdict(mine)


def test_attention_with_gpt2s_dropout_layer_passes():
    class Mine(AttentionFused):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.resid_dropout = nn.Dropout(0.1)

        def forward(self, x):
            return self.resid_dropout(super().forward(x))

    assert EXERCISES["attention"].verdict(Mine).startswith("right")


def with_its_middle(weights, divide=lambda q: q.shape[-1] ** 0.5, axes="nh hs"):
    """Written out, with dropout layers of its own, and the head's axes viewed in that order."""

    class Mine(AttentionFused):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.drop = nn.Dropout(0.2)

        def forward(self, x):
            B, T, C = x.shape
            sizes = (-1, self.n_head) if axes == "hs nh" else (self.n_head, -1)
            q, k, v = (y.view(B, T, *sizes) for y in self.c_attn(x).split(C, dim=2))
            q, k, v = (y.mT if axes == "hs nh" else y for y in (q, k, v))
            q, k, v = (y.transpose(1, 2) for y in (q, k, v))
            scores = q @ k.mT / divide(q)
            hidden = torch.ones(T, T).triu(1).bool()
            y = weights(self.drop, scores, hidden) @ v
            return self.c_proj(y.transpose(1, 2).reshape(B, T, C))

    return Mine


def masked_softmax(drop, scores, hidden):
    return scores.masked_fill(hidden, -torch.inf).softmax(-1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            with_its_middle(lambda drop, s, hidden: masked_softmax(drop, drop(s), hidden)),
            "dropout on the scores: ",
        ),
        (
            with_its_middle(
                lambda drop, s, hidden: drop(s.masked_fill(hidden, -torch.inf)).softmax(-1)
            ),
            "dropout on the scores: ",
        ),
        (with_its_middle(masked_softmax, axes="hs nh"), "heads behind their numbers: "),
        (
            with_its_middle(masked_softmax, divide=lambda q: q.shape[1] ** 0.5),
            "scaled by another number: ",
        ),
        (
            with_its_middle(masked_softmax, divide=lambda q: q.shape[2] ** 0.5),
            "scaled by another number: ",
        ),
        (with_its_middle(lambda drop, *given: drop(masked_softmax(drop, *given))), "right"),
    ],
)
def test_what_goes_wrong_in_the_middle_of_attention_gets_its_name(answer, said):
    assert EXERCISES["attention"].verdict(answer).startswith(said)


def test_what_attention_was_given_is_said_in_words():
    """Not as a path into the dict that holds what was seen."""
    verdict = EXERCISES["attention"].verdict(unlike_the_lesson(number=0.3))
    assert "for a short text, at (" in verdict
    assert "['" not in verdict


@pytest.mark.parametrize("size", [48, 200, 600, 1000, 1024])
def test_a_mask_of_any_one_size_is_no_right_answer(size):
    def smaller(self, *args):
        AttentionByHeads.__init__(self, *args)
        self.tril = torch.tril(torch.ones(size, size))

    mine = unlike_the_lesson(__init__=smaller, number=-torch.inf)
    assert "it raised RuntimeError" in EXERCISES["attention"].verdict(mine)


@pytest.mark.parametrize("name", ["c_attn", "c_proj"])
def test_parameters_cut_off_from_the_gradients_are_seen(name):
    def forward(self, x):
        layer = getattr(self, name)
        kept, layer.weight.requires_grad = layer.weight.requires_grad, False
        y = AttentionByHeads.forward(self, x)
        layer.weight.requires_grad = kept
        return y

    mine = unlike_the_lesson(forward=forward, number=-torch.inf)
    assert not EXERCISES["attention"].verdict(mine).startswith("right")


def tied_anew(table, head):
    table.weight = head.weight = nn.Parameter(head.weight.detach().clone())


def tied_to_a_function(table, head):
    lesson_12.fill(table, head)
    del head.weight
    head.forward = lambda x: x @ table.weight.T
    object.__setattr__(head, "weight", table.weight)


def tied_in_a_sequence(table, head):
    return nn.Sequential(table, head)


@torch.no_grad()
def tied_by_bfloat16(table, head):
    table.weight.copy_(head.weight.bfloat16())
    head.weight = table.weight


@torch.no_grad()
def filled_the_wrong_way(table, head):
    head.weight.copy_(table.weight)


def tied_turned(table, head):
    head.weight = head.weight.T


@pytest.mark.parametrize(
    ("answer", "mistake"),
    [
        (tied_anew, "the optimizer's Parameter is gone"),
        (tied_to_a_function, "no Parameter at the head"),
        (tied_in_a_sequence, "nothing changed"),
        (tied_turned, "a tensor for a Parameter"),
        (tied_by_bfloat16, "changed numbers"),
        (filled_the_wrong_way, "the file's numbers are overwritten"),
    ],
)
def test_a_table_and_head_that_only_look_tied_are_told_so(answer, mistake):
    assert f"{mistake}: " in EXERCISES["one_table"].verdict(answer)
