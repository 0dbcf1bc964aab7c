"""Training on a machine in use: steps/s alone, and beside one and two busy processes.

Takes nothing; gives lines that set this repository's bounded OpenMP spin
(lib/base/processes.py) beside torch's default, measured by turns. Each measurement is a process
of its own, since a spin is set before torch loads: `python -m benchmarks.busy SECONDS`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.training import bench_traces
from commands.estimate import COMPILE_SKIP, StepTimes, training_speed
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.base.processes import SPINS, python_environment
from lib.models.llama import build_model
from lib.models.tokenizer import build_tokenizer
from lib.profiles.load import Profile, load_profile
from lib.profiles.recipe import Recipe

SIZE = (96, 3, 4)  # width, layers, heads: so small that threads meet at barriers all the time
BATCH_SIZE, MOST_STEPS = 64, 400
SECONDS, ROUNDS = 6.0, 3
#: What libgomp spins where nobody says how much: torch's default on Linux.
DEFAULT_SPINS = "300000"
LOADS = (0, 1, 2)
NAMES = ("alone", "beside one busy process", "beside two busy processes")


class Enough(Exception):
    """The time of a measurement is over."""


def steps_per_s(profile: Profile, seconds: float) -> float:
    """Training steps a second of this process, once the first are made."""
    end = None

    class Timed(StepTimes):
        def __call__(self, step: int, last: int, loss: float) -> None:
            nonlocal end
            super().__call__(step, last, loss)
            if step == COMPILE_SKIP:
                end = time.perf_counter() + seconds
            if end is not None and step > COMPILE_SKIP and time.perf_counter() > end:
                raise Enough

    tokenizer = build_tokenizer(profile.load_task().pieces)
    traces = bench_traces(profile, tokenizer, BATCH_SIZE * MOST_STEPS)
    model = build_model(tokenizer, *SIZE, 0)
    recipe = Recipe(optimizer="muon", batch_size=BATCH_SIZE, compile=False, packing=True)
    times = Timed(COMPILE_SKIP, 1)
    with suppress(Enough):
        training_speed(model, tokenizer, traces, recipe, times)
    return times.examples_per_s()


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that use a core each, for as long as the block lasts."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def measured(spins: str, busy: int, seconds: float = SECONDS) -> float:
    """`steps_per_s` of a new process, beside so many busy ones."""
    environment = python_environment() | {"GOMP_SPINCOUNT": spins}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, "-m", "benchmarks.busy", str(seconds)]
    with busy_processes(busy):
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"the measurement beside {busy} busy processes failed: {reason}")
    return float(done.stdout.split()[-1])


def bench_busy() -> Iterator[str]:
    """A line for each number of busy processes: ours, torch's default, and both against alone."""
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(ROUNDS):
        for busy in LOADS:
            for spins in (SPINS, DEFAULT_SPINS):
                found.setdefault((spins, busy), []).append(measured(spins, busy))
    rates = {key: statistics.median(values) for key, values in found.items()}
    for busy, name in zip(LOADS, NAMES, strict=True):
        ours, theirs = rates[SPINS, busy], rates[DEFAULT_SPINS, busy]
        slower = [rates[spins, 0] / rates[spins, busy] for spins in (SPINS, DEFAULT_SPINS)]
        than = f"; {slower[0]:.1f} and {slower[1]:.1f} times slower than alone" if busy else ""
        yield (
            f"training {name:25} {ours:6.2f} steps/s, torch's default {theirs:6.2f}:"
            f" {ours / theirs:.2f}x{than}"
        )


if __name__ == "__main__":
    print(steps_per_s(load_profile("cpu"), float(sys.argv[1])))
