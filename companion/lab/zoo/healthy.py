"""Models that have nothing wrong: ours at three sizes, and three of transformers'."""

from functools import partial

from torch import nn

from companion.gpt import GPT, GPTConfig
from companion.lab.zoo.case import BLOCK_SIZE, Case, gpt

HEALTHY = Case("nothing wrong", "nothing", "", gpt)


def ours(vocab: int, layers: int, heads: int, width: int) -> nn.Module:
    return GPT(GPTConfig(vocab, BLOCK_SIZE, layers, heads, width, dropout=0.1, tied=layers > 2))


def gpt2(vocab: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 48, "n_layer": 3, "n_head": 4, "n_positions": BLOCK_SIZE}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab, **sizes, **no_ends(vocab)))


def neox(vocab: int) -> nn.Module:
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(vocab_size=vocab, **sizes(), **no_ends(vocab)))


def llama(vocab: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(vocab_size=vocab, **sizes(), **no_ends(vocab)))


def sizes() -> dict[str, int]:
    return {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 96,
        "max_position_embeddings": BLOCK_SIZE,
    }


def no_ends(vocab: int) -> dict[str, int]:
    """Their configs' tokens for a text's two ends, moved into a small vocabulary."""
    return {"bos_token_id": vocab - 1, "eos_token_id": vocab - 1}


MODELS = {
    "ours, 1 layer": partial(ours, layers=1, heads=2, width=32),
    "ours, 2 layers": partial(ours, layers=2, heads=4, width=64),
    "ours, 6 layers": partial(ours, layers=6, heads=4, width=48),
    "GPT2LMHeadModel": gpt2,
    "GPTNeoXForCausalLM": neox,
    "LlamaForCausalLM": llama,
}
RIGHT = {name: Case(name, "nothing", "", make) for name, make in MODELS.items()}
