"""The bench that the lessons work at. Each name is one line in a notebook."""

from companion.lab.asking import predict, reveal
from companion.lab.bank import check
from companion.lab.blocks import block
from companion.lab.holding import added_memory
from companion.lab.launching import launch
from companion.lab.longrun import pretrain, shards
from companion.lab.mapping import draw_map, maps
from companion.lab.masking import Attended, attended, mask_chart, outcome
from companion.lab.memory import draw_memory, memory
from companion.lab.multiples import multiples
from companion.lab.overlap import overlap_rule, shared_words
from companion.lab.pictures import show_figure
from companion.lab.plots import bars, draw_bars, grid, panels, plot
from companion.lab.progress import progress
from companion.lab.prose import docstrings, minilm_words, prose
from companion.lab.reading import documents, minilm, random_rows, wordpiece
from companion.lab.ready import ready
from companion.lab.records import benchmark, recorded
from companion.lab.scaling import scale
from companion.lab.sliding import Range, slider
from companion.lab.tables import show
from companion.lab.timing import afresh, seconds, spent
from companion.lab.tokens import tokens
from companion.lab.toy import SITES, Toy, gpt2_init, torch_init
from companion.lab.training import corpus, held_out_loss, sample, train
from companion.lab.trigrams import counted_loss, trigram_loss

__all__ = [
    "SITES",
    "Attended",
    "Range",
    "Toy",
    "added_memory",
    "afresh",
    "attended",
    "bars",
    "benchmark",
    "block",
    "check",
    "corpus",
    "counted_loss",
    "docstrings",
    "documents",
    "draw_bars",
    "draw_map",
    "draw_memory",
    "gpt2_init",
    "grid",
    "held_out_loss",
    "launch",
    "maps",
    "mask_chart",
    "memory",
    "minilm",
    "minilm_words",
    "multiples",
    "outcome",
    "overlap_rule",
    "panels",
    "plot",
    "predict",
    "pretrain",
    "progress",
    "prose",
    "random_rows",
    "ready",
    "recorded",
    "reveal",
    "sample",
    "scale",
    "seconds",
    "shards",
    "shared_words",
    "show",
    "show_figure",
    "slider",
    "spent",
    "tokens",
    "torch_init",
    "train",
    "trigram_loss",
    "wordpiece",
]
