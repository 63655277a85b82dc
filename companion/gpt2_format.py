"""How GPT-2's release writes down a model: names, transposed weights, settings."""

# Exported from lessons/13_gpt2_model.md: edit that, then run `make lessons`.

__all__ = [
    "BIAS",
    "DROPOUTS",
    "MASK",
    "SAME",
    "SIZES",
    "TRANSPOSED",
    "our_settings",
    "our_tensors",
    "their_settings",
    "their_tensors",
]

import re
from typing import Any

import torch
from torch import Tensor, nn

TRANSPOSED = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
BIAS = re.compile(r"(ln_f|h\.\d+\.(ln_1|ln_2|(attn|mlp)\.c_(attn|fc|proj)))\.bias")
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # c_attn.bias is a weight: not this


def our_tensors(tensors: dict[str, Tensor], *, bias: bool, tied: bool) -> dict[str, Tensor]:
    """A release's tensors by our names, as our layers hold them; the masks left out.

    ValueError where one name comes twice, or a last layer that should be tied is not.
    """
    ours = {name.removeprefix("transformer."): x for name, x in tensors.items()}
    if len(ours) < len(tensors):
        raise ValueError("the checkpoint has tensors both with and without `transformer.`")
    ours = {name: x for name, x in ours.items() if not MASK.fullmatch(name)}
    for name, x in ours.items():
        if TRANSPOSED.fullmatch(name):
            ours[name] = x.T if x.dim() == 2 else x  # else it is refused, by its shape
    if tied and {"lm_head.weight", "wte.weight"} <= ours.keys():
        head = ours.pop("lm_head.weight")
        if not torch.equal(head, ours["wte.weight"]):
            raise ValueError(
                "lm_head.weight differs from wte.weight, and config.json says they are "
                "one (tie_word_embeddings)"
            )
    if not bias:  # the release knows no such form: `their_tensors` wrote zeros
        ours = {n: x for n, x in ours.items() if x.any() or not BIAS.fullmatch(n)}
    return ours


def their_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A GPT's tensors by the released names, Linear weights as (in, out)."""
    theirs = {}
    for name, x in model.named_parameters():  # a tied weight comes once, as wte
        x = x.detach().T if TRANSPOSED.fullmatch(name) else x.detach()
        theirs[name if name == "lm_head.weight" else f"transformer.{name}"] = x
    for name, module in model.named_modules():
        biased = isinstance(module, nn.Linear | nn.LayerNorm) and name != "lm_head"
        if biased and module.bias is None:
            theirs[f"transformer.{name}.bias"] = module.weight.new_zeros(len(module.weight))
    return theirs


SAME = {  # what GPT-2 is, and a config may not change: these are the defaults
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
SIZES = {  # their name: ours
    "vocab_size": "vocab_size",
    "n_positions": "block_size",
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embd": "n_embd",
}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def our_settings(settings: dict[str, Any], dropout: float | None) -> dict[str, Any]:
    """What a release's config.json says, as GPTConfig. ValueError for no GPT-2."""
    if missing := [name for name in SIZES if not isinstance(settings.get(name), int)]:
        raise ValueError(f"config.json has no whole number for {', '.join(missing)}")
    allowed = SAME | {"n_inner": (None, 4 * settings["n_embd"])}
    for name, values in allowed.items():
        if settings.get(name, values[0]) not in values:
            expected = " or ".join(map(repr, values))
            raise ValueError(
                f"config.json says {name}={settings[name]!r}; in GPT-2 it is {expected}"
            )
    if dropout is None:
        dropout, *others = [settings.get(name, 0.1) for name in DROPOUTS]
        if any(other != dropout for other in others):
            raise ValueError(
                f"config.json has several dropouts, {[dropout, *others]}; say which "
                "one to use: from_pretrained(..., dropout=0.1)"
            )
    return {ours: settings[theirs] for theirs, ours in SIZES.items()} | {
        "dropout": dropout,
        "bias": settings.get("bias", True),
        "tied": settings.get("tie_word_embeddings", True),
    }


def their_settings(ours: dict[str, Any]) -> dict[str, Any]:
    """A GPTConfig's fields as the config.json of a release."""
    end_of_text = 50256 if ours["vocab_size"] > 50256 else None
    return {
        "architectures": ["GPT2LMHeadModel"],
        **{name: values[0] for name, values in SAME.items()},
        **{theirs: ours[name] for theirs, name in SIZES.items()},
        **dict.fromkeys(DROPOUTS, ours["dropout"]),
        "bias": ours["bias"],
        "tie_word_embeddings": ours["tied"],
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }
