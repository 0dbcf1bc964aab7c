"""Child processes of this repository's own: what their environment needs, a port, how they end.

Takes commands' parts; knows nothing of what a process does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterable
from contextlib import suppress


def python_environment() -> dict[str, str]:
    """This process's environment, which lib/base/environment.py settled, for a child that forks."""
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
