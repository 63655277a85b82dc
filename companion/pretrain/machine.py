"""What the machine at hand is good for, and what to ask of it."""

import ctypes
import re
import shutil
from pathlib import Path

import torch

__all__ = ["can_compile", "has_fast_bfloat16", "keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


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


def keep_memory() -> bool:
    """Ask the C library to keep the memory that tensors free, for the tensors that come next.

    Else each large tensor of a step on the CPU gets fresh pages from the kernel, and gives them
    back: a share of the step that is not training. Holds for the whole process, to its end, and
    memory is given back to others only then. False where there is no glibc to ask: nothing changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
        ctypes.CDLL(None).gnu_get_libc_version  # noqa: B018 (another library's numbers may differ)
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
