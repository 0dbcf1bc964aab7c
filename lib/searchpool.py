"""Searches in several processes that stay: takes a checkpoint's folder and batches of prompts,
gives how long all of them took together. For measuring speed without counting how long processes
take to start; searches that are kept go through lib/dealing.py.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from lib.models import load_model, load_tokenizer
from lib.precision import with_fast_products
from lib.sampler import make_sampler
from lib.search import search

MOST_PROCESSES = 16  # each holds torch and a model: about half a gigabyte

_here: dict = {}  # this process's own: sampler and tokenizer


def _open(checkpoint: str, step_end: str, limit: int, precision: str) -> None:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(checkpoint)
    model = with_fast_products(load_model(checkpoint), precision)
    _here.update(tokenizer=tokenizer, sampler=make_sampler(model, tokenizer, step_end, limit))


def _search(job: tuple[Sequence[str], int, int, float, int]) -> int:
    prompts, *settings = job
    return len(search(_here["sampler"], _here["tokenizer"], prompts, *settings))


class SearchPool:
    """Processes of one thread, each with the checkpoint loaded: as many as this process has cores.

    A process that fails or is killed raises `BrokenProcessPool` in whoever waits for it.
    """

    def __init__(
        self, checkpoint: Path, step_end: str, limit: int, precision: str, processes: int = 0
    ):
        self.processes = processes or min(MOST_PROCESSES, available_cores())
        # Forking a process whose torch has threads can hang.
        self._pool = ProcessPoolExecutor(
            self.processes,
            multiprocessing.get_context("spawn"),
            _open,
            (str(checkpoint), step_end, limit, precision),
        )

    def __enter__(self) -> SearchPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def seconds(
        self, batches: Sequence[Sequence[str]], breadth: int, depth: int, temperature: float
    ) -> float:
        """Wall-clock time until every batch is searched."""
        jobs = [(list(batch), breadth, depth, temperature, i) for i, batch in enumerate(batches)]
        start = time.perf_counter()
        for _ in self._pool.map(_search, jobs):
            pass
        return time.perf_counter() - start


def available_cores() -> int:
    """Cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
