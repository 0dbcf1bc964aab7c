"""Searches in several processes that stay: takes a checkpoint's folder and batches of prompts,
gives how long all of them took together. For measuring speed without counting how long processes
take to start; searches that are kept go through lib/dealing.py.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lib.models import load_model, load_tokenizer
from lib.precision import with_fast_products
from lib.sampler import make_sampler
from lib.search import search

_here: dict = {}  # this process's own: sampler and tokenizer


def _open(checkpoint: str, step_end: str, limit: int, precision: str) -> None:
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(checkpoint)
    model = with_fast_products(load_model(checkpoint), precision, "cpu")
    _here.update(tokenizer=tokenizer, sampler=make_sampler(model, tokenizer, step_end, limit))


def _search(job: tuple[Sequence[str], int, int, float, int]) -> int:
    prompts, *settings = job
    return len(search(_here["sampler"], _here["tokenizer"], prompts, *settings))


class SearchPool:
    """As many processes of one thread as there are cores, each with the checkpoint loaded."""

    def __init__(self, checkpoint: Path, step_end: str, limit: int, precision: str):
        self.processes = os.cpu_count() or 1
        # Forking a process whose torch has threads can hang.
        self._pool = multiprocessing.get_context("spawn").Pool(
            self.processes, _open, (str(checkpoint), step_end, limit, precision)
        )

    def __enter__(self) -> SearchPool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.terminate()
        self._pool.join()

    def seconds(
        self, batches: Sequence[Sequence[str]], breadth: int, depth: int, temperature: float
    ) -> float:
        """Wall-clock time until every batch is searched."""
        jobs = [(list(batch), breadth, depth, temperature, i) for i, batch in enumerate(batches)]
        start = time.perf_counter()
        self._pool.map(_search, jobs, chunksize=1)
        return time.perf_counter() - start
