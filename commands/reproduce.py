"""`make reproduce`: all notebooks of a profile in order, each executed once, figures at the end.

Takes a profile and a seed from the command line; leaves executed notebooks (ipynb and HTML),
figures and results.json in the run's folder. Knows nothing of what the notebooks do. A failing
cell stops the run with the notebook's name, the cell and the error; what was made stays, and the
next call goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from commands import notebooks
from commands.estimate import estimate, format_duration, spent
from lib.base import files
from lib.base.errors import UserError, exit_status
from lib.base.files import ROOT
from lib.base.hardware import Watch
from lib.experiment.artifacts import MADE
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from lib.profiles.load import MODEL_VARIABLE
from lib.search import vllm
from studies.catalogue import open_experiment
from studies.report.publish import NOTEBOOKS


def reproduce(experiment: Experiment) -> None:
    """Run everything; print the plan first, and what each notebook took last."""
    profile = experiment.profile
    if profile.search.sampler == "vllm":
        vllm.python()  # not there: better said before anything is trained
    for name, sizes in profile.models.items():
        if sizes.path and not any(experiment.run.artifacts.glob(f"models/{name}-*/{MADE}")):
            experiment.start(name, None)  # the same of a model that cannot be had, or not searched
    print(f"{profile.name}: {profile.description}", flush=True)
    print(f"run folder: {shown(experiment.run.folder)}", flush=True)
    start = time.monotonic()
    with Watch() as before:
        plan = estimate(experiment)
        before.look()
    print(plan.text, *(f"  {told}" for told in [before.others()] if told), sep="\n", flush=True)
    watch = Watch(on_look=slowness(plan.seconds))
    with watch:
        durations = execute(experiment, watch)
    record_durations(experiment, durations)
    if told := late(plan.seconds, time.monotonic() - start, watch):
        print(told, flush=True)


#: A run is late where it takes so many times its plan, which counts no compiling and no checks, and
#: so many seconds more.
LATE, GRACE_S = 2.0, 300.0


def late(planned_s: float | None, spent_s: float, watch: Watch) -> str:
    """That a run goes much slower than planned, and why; empty where it does not, or who knows."""
    if planned_s is None or spent_s < LATE * planned_s + GRACE_S:
        return ""
    why = watch.others() or "other programs did not: the plan was too low, or memory is short"
    planned, taken = format_duration(planned_s), format_duration(spent_s)
    return f"slower than planned: {taken}, where the plan said {planned}; {why}"


def slowness(planned_s: float | None) -> Callable[[Watch], None]:
    """What tells once, while a run goes on, that it is `late`."""
    start, told = time.monotonic(), False

    def look(watch: Watch) -> None:
        nonlocal told
        if not told and (text := late(planned_s, time.monotonic() - start, watch)):
            told = True
            print(f"\n{text} (docs/speed.md)", flush=True)

    return look


def execute(experiment: Experiment, watch: Watch) -> dict[str, float]:
    """Execute the notebooks in order -> how many seconds each took."""
    parameters = {"profile": experiment.source, "seed": experiment.seed}
    durations = {}
    for name in NOTEBOOKS:
        print(f"\n== notebooks/{name}.ipynb", flush=True)
        start = time.monotonic()
        notebooks.execute(name, parameters, experiment.run.folder, watch)
        durations[name] = round(time.monotonic() - start, 1)
        print(f"== {name}: {format_duration(durations[name])}", flush=True)
    return durations


def record_durations(experiment: Experiment, durations: dict[str, float]) -> None:
    """Print what each notebook took now, and what each part took whenever it was made."""
    made = experiment.run.durations()
    files.write_atomic(experiment.run.folder / "timings.json", json.dumps(made, indent=1))
    print("\nnotebooks, this time:")
    for name, seconds in durations.items():
        print(f"  {name:26} {format_duration(seconds):>10}")
    print("what each part took to make, this time or before:")
    taken = spent(experiment)
    taken["checks and tables"] = max(0.0, sum(made.values()) - sum(taken.values()))
    for part, seconds in [*taken.items(), ("together", sum(made.values()))]:
        print(f"  {part:26} {format_duration(seconds):>10}")
    print(f"\nfigures and results.json: {shown(experiment.run.folder)}/figures/")


def shown(folder: Path) -> Path:
    """A folder as a message shows it: from the repository's root on, where it lies in there."""
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commands.reproduce", description=__doc__)
    parser.add_argument("--profile", default="cpu", help="name of a profile, or a TOML file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="", help="the pretrained model: a folder or hub name")
    parser.add_argument("--runs", default="", help="where run folders lie, in place of runs/")
    options = parser.parse_args(arguments)
    if options.runs:
        os.environ[RUNS_VARIABLE] = str(Path(options.runs).expanduser().resolve())
    if options.model:
        os.environ[MODEL_VARIABLE] = options.model  # the notebooks' kernels inherit it
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a warning of the kernel's

    def work() -> None:
        experiment = open_experiment(options.profile, options.seed)
        with experiment.run.lock():
            try:
                reproduce(experiment)
            except UserError:
                raise
            except Exception as error:
                if reason := files.unwritable(error, shown(experiment.run.folder)):
                    raise UserError(reason) from error
                raise

    return exit_status(work)


if __name__ == "__main__":
    # Ended politely, as by Ctrl-C, it ends its notebook too and tells so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
