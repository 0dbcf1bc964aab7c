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
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lib.base import files
from lib.base.errors import UserError, exit_status
from lib.base.files import ROOT
from lib.commands.estimate import estimate, format_duration, spent
from lib.experiment.artifacts import MADE
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from lib.profiles.load import MODEL_VARIABLE
from lib.report.publish import NOTEBOOKS
from lib.search import vllm
from lib.studies.catalogue import open_experiment


def run_notebook(experiment: Experiment, name: str) -> float:
    """Execute one notebook into the run's folder; returns its duration in seconds.

    Raises `UserError` naming the notebook, the cell and the error where a cell fails.
    """
    source = ROOT / "notebooks" / f"{name}.ipynb"
    folder = experiment.run.folder / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    output, unfinished = folder / f"{name}.ipynb", folder / f".{name}.tmp.ipynb"
    config = Config()
    config.KernelManager.transport = "ipc"  # no port is opened
    # A kernel that is ended while it answers logs a traceback of its own.
    config.NotebookClient.extra_arguments = ["--log-level=CRITICAL"]
    start = time.monotonic()
    try:
        papermill.execute_notebook(
            source,
            unfinished,  # papermill rewrites it after each cell, and not as a whole
            parameters={"profile": experiment.source, "seed": experiment.seed},
            kernel_name="python3",
            cwd=ROOT,
            progress_bar=False,
            stderr_file=sys.stderr,
            config=config,
        )
    except PapermillExecutionError as error:
        os.replace(unfinished, output)
        first, *more = error.evalue.splitlines() or [""]
        raise UserError(
            f"notebooks/{name}.ipynb, cell {error.cell_index}: {error.ename}: {first}",
            *more,
            f"what was made is kept; the same command goes on from there (see {output})",
        ) from error
    executed = nbformat.read(unfinished, as_version=4)
    keep_last_progress(executed)
    files.write_atomic(output, nbformat.writes(executed))
    html, _ = HTMLExporter().from_notebook_node(executed)
    files.write_atomic(output.with_suffix(".html"), html)
    unfinished.unlink()
    return time.monotonic() - start


def keep_last_progress(notebook: nbformat.NotebookNode) -> None:
    """Of each progress bar, keep what a terminal would show in the end."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines = output.text.split("\n")
                output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def reproduce(experiment: Experiment) -> None:
    """Run everything; print the plan first, and what each notebook took last."""
    profile = experiment.profile
    if profile.search.sampler == "vllm":
        vllm.python()  # not there: better said before anything is trained
    for name, sizes in profile.models.items():
        if sizes.path and not any(experiment.run.folder.glob(f"models/{name}-*/{MADE}")):
            experiment.start(name, None)  # the same of a model that cannot be had, or not searched
    print(f"{profile.name}: {profile.description}", flush=True)
    print(f"run folder: {shown(experiment.run.folder)}", flush=True)
    print(estimate(experiment), flush=True)
    durations = {}
    for name in NOTEBOOKS:
        print(f"\n== notebooks/{name}.ipynb", flush=True)
        durations[name] = round(run_notebook(experiment, name), 1)
        print(f"== {name}: {format_duration(durations[name])}", flush=True)
    record_durations(experiment, durations)


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
    parser = argparse.ArgumentParser(prog="python -m lib.commands.reproduce", description=__doc__)
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
            except OSError as error:
                if reason := files.unwritable(error):
                    folder = shown(experiment.run.folder)
                    raise UserError(f"{folder}: cannot be written ({reason})") from error
                raise

    return exit_status(work)


if __name__ == "__main__":
    # Ended politely, as by Ctrl-C, it ends its notebook too and tells so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
