"""What the machine at hand is good for."""

import re
import shutil
from pathlib import Path

import torch

__all__ = ["can_compile", "has_fast_bfloat16"]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32.

    On GPUs since 2020; on CPUs with AMX or AVX512-BF16 (lesson 17 measures it).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpus = Path("/proc/cpuinfo")
    return cpus.exists() and re.search(r"\b(amx|avx512)_bf16\b", cpus.read_text()) is not None


def can_compile(device: torch.device) -> bool:
    """Whether torch.compile finds a compiler: triton on a GPU, C++ on a CPU."""
    if device.type == "cuda":
        try:
            import triton  # noqa: F401
        except ImportError:
            return False
        return True
    return any(shutil.which(name) for name in ("g++", "clang++", "c++"))
