"""What this machine's processor can do, as far as speed depends on it, and what else it does.

Takes nothing but time; gives facts for choosing the fast path and for a run's manifest, and, while
a process works, the cores that other programs keep busy and its own memory. Once imported, torch
has a thread for each core that is granted, in place of each that the machine has.
"""

from __future__ import annotations

import gc
import logging
import os
import platform
import re
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from lib.base.errors import UserError

INTERVAL_S = 5.0
#: Below so many cores nobody would notice.
NOTICED = 0.3


class Watch:
    """Within the block a thread looks every few seconds."""

    def __init__(
        self, interval_s: float = INTERVAL_S, on_look: Callable[[Watch], object] | None = None
    ) -> None:
        self.interval_s, self.on_look = interval_s, on_look
        self.held = 0  # bytes, the most that this process and its children had in memory
        self._others, self._seen_s = 0.0, 0.0
        self._last: tuple[float, float, dict[int, float]] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def other_cores(self) -> float:
        """Cores that other programs kept busy, on average."""
        return self._others / self._seen_s if self._seen_s else 0.0

    def others(self) -> str:
        """A sentence on other programs; empty where they did next to nothing."""
        if self.other_cores < NOTICED:
            return ""
        cores = psutil.cpu_count() or 1
        return f"other programs kept {self.other_cores:.1f} of {cores} cores busy"

    def _run(self) -> None:
        while not self._over.wait(self.interval_s):
            self.look()
            if self.on_look is not None:
                self.on_look(self)

    def look(self) -> None:
        """Count what happened since the last look."""
        at, busy, (own, held) = time.monotonic(), _busy_s(), _own_s()
        if self._last is not None:
            last_at, last_busy, last_own = self._last
            spent = sum(seconds - last_own.get(pid, 0.0) for pid, seconds in own.items())
            self._others += max(0.0, busy - last_busy - spent)
            self._seen_s += at - last_at
        self._last, self.held = (at, busy, own), max(self.held, held)


def _busy_s() -> float:
    """Seconds that all cores together have worked."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def _own_s() -> tuple[dict[int, float], int]:
    """Seconds that this process and each of its children have worked, and the bytes they hold."""
    me, spent, held = psutil.Process(), {}, 0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error), process.oneshot():  # it may have just ended
            times = process.cpu_times()
            spent[process.pid] = times.user + times.system
            held += process.memory_info().rss
    return spent, held


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


def release_memory() -> None:
    """Give back what torch keeps of a GPU's memory, for other processes to have."""
    gc.collect()  # a Trainer's cycles hold the model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@lru_cache(maxsize=1)
def can_compile() -> bool:
    """Whether `torch.compile` works here; on a processor, one small compilation tells.

    What keeps it from working is told in a line on standard error, once.
    """
    if device() == "cuda":
        return True
    compiler = shlex.split(os.environ.get("CXX", "g++"))[0]
    if shutil.which(compiler) is None:
        why = f"there is no compiler {compiler}"
    else:
        why = _compile_something()
    if why:
        print(f"training runs uncompiled, which is slower: {why}", file=sys.stderr, flush=True)
    return not why


def _compile_something() -> str:
    """Why a small compilation fails; empty where it does not."""
    quote_torch_folder()
    try:
        torch.compile(lambda x: (x + 1).cos())(torch.ones(64))
    except Exception as error:  # of the compiler, of its reading, or of a folder
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        told = [line for line in lines if "error: " in line or "cannot find" in line]
        return (told or lines or [type(error).__name__])[0]
    return ""


#: What is said of a library that is not whole.
BROKEN = re.compile(r"ImportError: (.+\.so): (file too short|invalid ELF|cannot read|ELF load)")


@contextmanager
def whole_compiled_code() -> Iterator[None]:
    """Compiled code that a killed process left unfinished goes: one `UserError` says so."""
    try:
        yield
    except Exception as error:
        found = BROKEN.search(str(error))
        if found is None:
            raise
        Path(found[1]).unlink(missing_ok=True)
        raise UserError(
            f"{found[1]}: compiled code that a killed process left unfinished; it is removed, and "
            "the same command goes on"
        ) from error


def quote_torch_folder() -> None:
    """torch hands this folder to compilers unquoted: with a space in it, it would be two."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # not: no GPU is found
    from torch.utils import cpp_extension

    folder = str(Path(torch.__file__).parent / "lib")
    if folder == cpp_extension.TORCH_LIB_PATH:
        cpp_extension.TORCH_LIB_PATH = shlex.quote(folder)


def available_cores(system: Path = Path("/")) -> int:
    """Cores that this process may use at once: by its affinity and its containers' CPU quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, min([cores, *map(int, _quotas(system))]))


def memory_limit(system: Path = Path("/")) -> int:
    """Bytes of memory that this process may hold: the machine's, or its containers' limit."""
    limits = [psutil.virtual_memory().total]
    for folder in _groups(system, "memory"):
        text = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        limits += [int(text)] if text.strip().isdecimal() else []
    return min(limits)


def _quotas(system: Path) -> Iterator[float]:
    """The CPU quotas, in cores, of this process's control groups."""
    for folder in _groups(system, "cpu"):
        limit = _text(folder / "cpu.max").split() or [
            _text(folder / "cpu.cfs_quota_us").strip(),
            _text(folder / "cpu.cfs_period_us").strip(),
        ]
        if all(number.isdecimal() and int(number) for number in limit):
            yield int(limit[0]) / int(limit[1])


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's control groups (Linux; version 1 and 2)."""
    for group in _text(system / "proc/self/cgroup").splitlines():
        _, names, path = group.split(":", 2)
        if names and controller not in names.split(","):
            continue
        # A container sees its own group as the root, or the host's path that is not there.
        inner = Path(path.lstrip("/"))
        for mount in dict.fromkeys([names, controller if names else ""]):
            yield from (system / "sys/fs/cgroup" / mount / at for at in (inner, *inner.parents))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # another system, say
        return ""


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
    return {
        "processor": processor(),
        "cores": available_cores(),
        "memory_gb": round(memory_limit() / 2**30, 1),
        "instructions": " ".join(fast),
        "device": device(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that results depend on."""
    names = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "pandas")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > available_cores():
    torch.set_num_threads(available_cores())
