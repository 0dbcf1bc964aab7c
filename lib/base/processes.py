"""This process and its children: what surrounds them, a port, how they end.

`lib/__init__.py` calls `settle` before any library loads: it takes a process's environment
variables and shuts out those that would change a result, stop a run or slow it down. Children
inherit it: kernels, workers, compilers. What is honoured as it is: CUDA_VISIBLE_DEVICES,
OMP_NUM_THREADS, TMPDIR, proxies, and where caches lie. Knows nothing of what a process does, and
imports the standard library alone.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Of an outer launcher (torchrun, accelerate, MPI): this would be taken for one of its processes.
LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "CROSS_RANK")
LAUNCHER += ("CROSS_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "GROUP_RANK")
LAUNCHER += ("GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "TORCHELASTIC_")
LAUNCHER += ("PET_", "ACCELERATE_", "FSDP_", "OMPI_", "PMI_", "PMIX_", "MV2_COMM_WORLD_")
#: The processes that launchers of this repository start; what theirs says is meant.
WORKERS = {"lib.training.deepspeed_worker", "lib.search.parallel"}
#: GPUs that a user granted, kept from a launcher that would take the machine's first.
GRANTED = "SELF_BACKTRACKING_GPUS"
#: Of a user's other work. Each is a variable's name, or with `_` at its end a beginning of names.
OTHERS = (
    "GIT_DIR",  # another repository's commit would be recorded
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_COMMON_DIR",
    "JUPYTER_PATH",  # another Python's kernel called python3
    "JUPYTER_PREFER_ENV_PATH",
    "PIP_TARGET",  # packages would land outside the environment
    "PIP_PREFIX",
    "PIP_ROOT",
)
FIXED = {
    "HF_HUB_DISABLE_TELEMETRY": "1",  # TRL's trainers would report each training run to the hub
    "MATPLOTLIBRC": os.devnull,  # a user's file may ask for TeX, or cut figures
    "PIP_USER": "0",
}
#: Spins of a thread that waits for others; libgomp's own are 300,000. Beside a busy process a
#: partner has lost its core, and spinning would keep that core from it.
SPINS = "1000"
#: How ipykernel says that a notebook shows its figures; any other is a user's.
INLINE = "module://matplotlib_inline"


def settle(variables: MutableMapping[str, str], root: Path, command: Sequence[str]) -> None:
    """Change `variables` (os.environ) in place; `root` is the repository, `command` this process's.

    A child finds this repository's `lib` first, whatever `lib` an environment or PYTHONPATH has.
    """
    closed = OTHERS if WORKERS & set(command) else OTHERS + LAUNCHER
    for name in list(variables):
        if any(name == shut or (shut[-1] == "_" and name.startswith(shut)) for shut in closed):
            del variables[name]
    if GRANTED in variables:
        variables["CUDA_VISIBLE_DEVICES"] = variables.pop(GRANTED)
    if not variables.get("MPLBACKEND", "").startswith(INLINE):
        variables.pop("MPLBACKEND", None)
    variables.update(FIXED)
    if "OMP_WAIT_POLICY" not in variables:
        variables.setdefault("GOMP_SPINCOUNT", SPINS)
    paths = [path for path in variables.get("PYTHONPATH", "").split(os.pathsep) if path]
    variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(root), *paths]))


def python_environment() -> dict[str, str]:
    """This process's environment, which lib/base/processes.py settled, for a child that forks."""
    return {**os.environ, "TOKENIZERS_PARALLELISM": "false"}


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_group(
    process: subprocess.Popen, patience_s: float, signals: Iterable[int | None] = (signal.SIGTERM,)
) -> None:
    """End a process that leads a session, and all its children: politely, at last by force.

    After each of `signals` (None is no signal) it has `patience_s` seconds to end.
    """
    for number in (*signals, signal.SIGKILL):
        if number is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(None if number == signal.SIGKILL else patience_s)


def end_with_parent() -> None:
    """Exit when standard input closes: the launching process was killed, and may start anew."""
    while os.read(0, 1024):
        pass
    os._exit(1)
