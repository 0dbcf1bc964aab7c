"""What this machine's processor can do, as far as speed depends on it.

Takes nothing; gives facts for choosing the fast path and for a run's manifest.
"""

from __future__ import annotations

import os
import platform
import shutil
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets by Linux's names; empty where there is no /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), ":")
    return frozenset(flags.split(":", 1)[1].split())


def has_bfloat16(device: str) -> bool:
    """Whether bfloat16 products run in hardware: elsewhere they are hundreds of times slower."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(cpu_flags() & {"amx_bf16", "avx512_bf16"})


def device() -> str:
    """Where models run: `cuda` where there is a GPU, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def can_compile() -> bool:
    """Whether `torch.compile` can work: it needs a C++ compiler on a CPU."""
    return device() == "cuda" or shutil.which(os.environ.get("CXX", "g++")) is not None


def available_cores() -> int:
    """Cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, and the GPU's where there is one."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass  # a Mac, say
    return f"{name} + {torch.cuda.get_device_name()}" if torch.cuda.is_available() else name


def describe() -> dict[str, str | int | float]:
    """The hardware part of a run's manifest."""
    fast = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"})
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(pages / 2**30, 1),
        "instructions": " ".join(fast),
        "device": device(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that results depend on."""
    names = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
