"""`make bench`: speeds on this machine, each beside its plain counterpart, measured in one run.

Takes the names of what to measure (all but `vllm` by default); prints rates and ratios: the problem
generator, traces, training (transformers' Trainer as it comes against ours, same model and data),
search (one problem at a time with `generate(num_beams=N, do_sample=True)` against ours, same
checkpoint), and `vllm`: search with vLLM beside ours. Machines are noisy: quote the ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from lib.base import hardware
from lib.base.errors import exit_status
from lib.base.files import ROOT
from lib.commands.bench_search import bench_search, bench_vllm
from lib.commands.bench_training import bench_training
from lib.profiles.load import load_profile
from lib.tasks.countdown.problems import Settings, make_problems
from lib.tasks.task import Task

PAPER_TASK = Settings(4, 99, 10, 100, 9999, 0.1)
CHECKPOINT = ROOT / "models" / "countdown-s"


def rate(function: Callable[[], object], count: int) -> float:
    """Items a second of one call that handles `count` of them."""
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


def bench_data(task: Task, problems: int = 200_000) -> list[str]:
    """Problems and traces a second, on one core."""
    table = make_problems(PAPER_TASK, {"train": 20_000}, 0)
    made = rate(lambda: make_problems(PAPER_TASK, {"train": problems}, 1), problems)
    optimal = rate(lambda: task.optimal_traces(table), len(table))
    wrong = rate(lambda: task.backtracking_traces(table, 0, "honest", 0.3), len(table))
    return [
        f"problem generator   {made:10,.0f} problems/s (4 numbers to 99, each with a solution)",
        f"D_op traces         {optimal:10,.0f} examples/s",
        f"D_back traces       {wrong:10,.0f} examples/s",
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parts = {
        "data": bench_data,
        "training": bench_training,
        "search": lambda task: bench_search(task, CHECKPOINT),
        "vllm": lambda task: bench_vllm(task, CHECKPOINT),
    }
    parser = argparse.ArgumentParser(prog="python -m lib.commands.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    chosen = parser.parse_args(arguments).parts or ["data", "training", "search"]
    if unknown := set(chosen) - set(parts):
        parser.error(f"{min(unknown)}: no such part; choose from {', '.join(parts)}")
    profile = load_profile("cpu")
    task = profile.load_task()
    print(f"{hardware.processor()} ({hardware.describe()['instructions']})", flush=True)

    def work() -> None:
        for part in chosen:
            for line in parts[part](task):
                print(line, flush=True)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
