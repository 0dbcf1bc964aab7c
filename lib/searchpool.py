"""Processes that stay and search: takes how many, and calls of functions that can be imported; each
process computes with one thread.

Small models gain more from a process for each core than from threads within one: most of a search's
time is not in its matrix products. Starting a process takes seconds, as long as a small search, so
that they are started once and kept. Knows nothing of what is searched.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch

from lib import hardware
from lib.errors import UserError

MOST_PROCESSES = 16  # each holds torch and a model: about half a gigabyte


def process_count(wanted: int) -> int:
    """How many processes are meant: 0 is one for each core."""
    return wanted or min(MOST_PROCESSES, hardware.available_cores())


class SearchPool:
    """Processes of one thread; `processes` of 0 are one for each core."""

    def __init__(self, processes: int = 0) -> None:
        self.processes = process_count(processes)
        others = set(multiprocessing.active_children())
        # Forking a process whose torch has threads can hang.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.processes, context, _begin, (os.getpid(),))
        with _without_main():
            for _ in range(self.processes):  # they start with the first calls
                self._pool.submit(os.getpid)
        self._children = set(multiprocessing.active_children()) - others

    def __enter__(self) -> SearchPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def run(self, function: Callable[..., object], calls: Iterable[tuple]) -> Iterator[object]:
        """Call `function` with each of the arguments; results come as they are there, in any order.

        Raises what a call raised, and `UserError` where a process was killed. Then, as when whoever
        waits is interrupted, every process ends: what runs is not finished.
        """
        try:
            left = {self._pool.submit(function, *arguments) for arguments in calls}
            while left:
                done, left = wait(left, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            self.end()
            raise UserError("a search process ended early: out of memory, perhaps") from error
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End every process at once."""
        for child in self._children:
            child.kill()
        self._pool.shutdown(cancel_futures=True)
        if _shared.get(self.processes) is self:
            del _shared[self.processes]


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start within the block do not run the calling script once more.

    Python would import it in each of them, and a script that trains a model, say, without asking
    whether it is the main one would train it there again. What they call is in modules.
    """
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in ("__file__",) if name in main.__dict__}
    spec, main.__spec__ = getattr(main, "__spec__", None), None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
        main.__spec__ = spec


_shared: dict[int, SearchPool] = {}


def shared_pool(processes: int) -> SearchPool:
    """This process's one pool of so many processes (0: one for each core); kept to its end."""
    processes = process_count(processes)
    if processes not in _shared:
        end_shared()
        _shared[processes] = SearchPool(processes)
    return _shared[processes]


def end_shared() -> None:
    """End the processes that are kept, if any."""
    for pool in list(_shared.values()):
        pool.end()


atexit.register(end_shared)


def _begin(parent: int) -> None:
    """What a process does first."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for it is interrupted, and ends it
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # it was killed, and nobody waits any longer
