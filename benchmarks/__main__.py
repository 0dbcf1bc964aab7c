"""`make bench`: speeds on this machine, each beside its plain counterpart, measured in one run.

Takes the names of what to measure (all but `vllm` by default); prints rates and ratios: the problem
generator, traces, training (transformers' Trainer as it comes against ours, same model and data),
search (one problem at a time with `generate(num_beams=N, do_sample=True)` against ours, same
checkpoint), `busy`: training beside busy processes, torch's default against ours, and `vllm`:
search with vLLM beside ours. Machines are noisy: quote the ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.busy import bench_busy
from benchmarks.search import bench_search, bench_vllm
from benchmarks.training import bench_training
from lib.base import hardware
from lib.base.errors import exit_status
from lib.base.files import ROOT
from lib.profiles.load import Profile
from lib.tasks.task import Task
from studies.catalogue import load_profile


def rate(function: Callable[[], object], count: int) -> float:
    """Items a second of one call that handles `count` of them."""
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


def bench_data(profile: Profile, problems: int = 200_000) -> list[str]:
    """Problems and traces a second, on one core: the paper's problems, this profile's traces."""
    task, paper = profile.load_task(), load_profile("paper").load_task()
    table = paper.make_problems({"train": 20_000}, 0)
    made = rate(lambda: paper.make_problems({"train": problems}, 1), problems)
    optimal = rate(lambda: task.optimal_traces(table), len(table))
    wrong = rate(lambda: task.backtracking_traces(table, 0, profile.traces), len(table))
    return [
        f"problem generator   {made:10,.0f} problems/s (the paper's, each with a solution)",
        f"D_op traces         {optimal:10,.0f} examples/s",
        f"D_back traces       {wrong:10,.0f} examples/s",
    ]


def shipped(profile: Profile) -> tuple[Task, Path]:
    """The profile's task, and the checkpoint of it that ships."""
    task = profile.load_task()
    return task, ROOT / "models" / f"{task.name}-s"


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parts = {
        "data": bench_data,
        "training": bench_training,
        "search": lambda profile: bench_search(*shipped(profile)),
        "busy": lambda _: bench_busy(),
        "vllm": lambda profile: bench_vllm(*shipped(profile)),
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    # On a GPU the cores have little to do.
    usual = ["data", "training", "search", *(["busy"] if hardware.device() == "cpu" else [])]
    chosen = parser.parse_args(arguments).parts or usual
    if unknown := set(chosen) - set(parts):
        parser.error(f"{min(unknown)}: no such part; choose from {', '.join(parts)}")
    profile = load_profile("cpu")
    print(f"{hardware.processor()} ({hardware.describe()['instructions']})", flush=True)

    def work() -> None:
        for part in chosen:
            for line in parts[part](profile):
                print(line, flush=True)

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
