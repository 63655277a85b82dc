"""How BERT's releases write down a model: two spellings, two prefixes, settings."""

# Exported from lessons/22_bert_model.md: edit that, then run `make lessons`.

__all__ = [
    "BUFFER",
    "DROPOUTS",
    "HEADS",
    "SAME",
    "SIZES",
    "SPELLING",
    "head_of",
    "our_settings",
    "plain_name",
    "plain_tensors",
    "their_settings",
]

import re
from typing import Any

import torch
from torch import Tensor

BUFFER = re.compile(r"embeddings\.(position_ids|token_type_ids)")  # not learned
HEADS = ("pooler", "cls.predictions", "cls.seq_relationship", "classifier")
SPELLING = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def plain_name(name: str) -> str:
    """A tensor's name without `bert.`, its norms' weight and bias spelt so."""
    plain = name.removeprefix("bert.")
    for old, new in SPELLING.items():
        if plain.endswith(old):
            plain = plain.removesuffix(old) + new
    return plain


def head_of(name: str) -> str | None:
    """The head that a tensor belongs to; None for one of the encoder."""
    plain = plain_name(name)
    return next((head for head in HEADS if plain.startswith(f"{head}.")), None)


def plain_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A release's tensors by plain names: no buffers, no tied weight, one decoder bias.

    ValueError where one tensor comes by two names, or a tied one is not the same.
    """
    plain: dict[str, Tensor] = {}
    for name, x in tensors.items():
        if plain_name(name) in plain:
            raise ValueError(
                f"the checkpoint has {plain_name(name)} by two names, {name} and "
                "another: with and without `bert.`, or as gamma/beta and weight/bias"
            )
        plain[plain_name(name)] = x
    plain = {name: x for name, x in plain.items() if not BUFFER.fullmatch(name)}
    for tied, kept in (
        ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ):
        if tied in plain:
            x = plain.pop(tied)
            if not torch.equal(x, plain.setdefault(kept, x)):
                raise ValueError(f"{tied} differs from {kept}; in BERT they are one")
    return plain


SAME = {  # what BERT is, and a config may not change: these are the defaults
    "model_type": ("bert",),
    "hidden_act": ("gelu",),
    "layer_norm_eps": (1e-12,),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def our_settings(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """config.json as BertConfig's fields, with changes. ValueError for no BERT."""
    if missing := [name for name in SIZES if not isinstance(settings.get(name), int)]:
        raise ValueError(f"config.json has no whole number for {', '.join(missing)}")
    for name, values in SAME.items():
        if settings.get(name, values[0]) not in values:
            raise ValueError(
                f"config.json says {name}={settings[name]!r}; in BERT it is {values[0]!r}"
            )
    ours = {name: settings[name] for name in SIZES}
    ours["num_labels"] = len(settings.get("id2label") or "01")
    if "dropout" not in changes:
        ours["dropout"], *others = [settings.get(name, 0.1) for name in DROPOUTS]
        if settings.get("classifier_dropout") is not None:
            others.append(settings["classifier_dropout"])
        if any(other != ours["dropout"] for other in others):
            raise ValueError(
                f"config.json has several dropouts, {[ours['dropout'], *others]}; say "
                "which one to use: from_pretrained(..., dropout=0.1)"
            )
    return ours | changes


def their_settings(ours: dict[str, Any], architecture: str) -> dict[str, Any]:
    """A BertConfig's fields as the config.json of a release."""
    labels = {n: f"LABEL_{n}" for n in range(ours["num_labels"])}
    return {
        "architectures": [architecture],
        **{name: values[0] for name, values in SAME.items()},
        **{name: ours[name] for name in SIZES},
        **dict.fromkeys(DROPOUTS, ours["dropout"]),
        "pad_token_id": 0,
        "id2label": labels,
        "label2id": {label: n for n, label in labels.items()},
    }
