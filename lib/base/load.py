"""What else a machine does while a process works: cores that other programs keep busy, and memory.

Takes nothing but time; gives averages since it began. Knows nothing of what the process does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

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
