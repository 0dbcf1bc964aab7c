"""A notebook executed into a run's folder, in a kernel of this Python and of nobody's settings.

Takes a notebook's file, its parameters and the run's folder; leaves the executed notebook (ipynb
and HTML) in there. Whatever a kernel needs lies in the run's folder too, and goes with it. Each way
in which a cell or its kernel can end is a `UserError` that names notebook and cell. Knows nothing
of experiments.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from lib.base import files, hardware
from lib.base.errors import UserError, first_line
from lib.base.files import ROOT
from lib.base.hardware import Watch

#: What Jupyter and IPython read and write, beneath the folder of a run's kernels.
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
LOG, CONNECTION = "log.txt", "kernel.json"
STARTS_WITHIN_S = 600  # beside other work even a start can take long
GOES_ON = "what was made is kept; the same command goes on from there"


class RunKernel(AsyncKernelManager):
    """A kernel whose own messages go into a file, and whose process is known once it has ended."""

    process: subprocess.Popen | None = None

    async def start_kernel(self, **how: Any) -> None:
        """As `AsyncKernelManager` does it."""
        with open(Path(self.connection_file).with_name(LOG), "wb") as log:
            await super().start_kernel(stderr=log, **how)
        RunKernel.process = self.provisioner.process


def execute(
    name: str, parameters: Mapping[str, Any], run: Path, watch: Watch | None = None
) -> Path:
    """Execute notebooks/`name`.ipynb into the folder `run`; returns the executed notebook.

    `watch` knows how much memory the run has held. Raises `UserError` naming the notebook, the cell
    and what happened where it does not end well.
    """
    folder = run / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    output, unfinished = folder / f"{name}.ipynb", folder / f".{name}.tmp.ipynb"
    RunKernel.process = None
    with _place(run) as place:
        try:
            papermill.execute_notebook(
                # Papermill fills in what stands in braces; it rewrites its output after each cell,
                # and not as a whole.
                *(_braced(path) for path in (ROOT / "notebooks" / output.name, unfinished)),
                parameters=dict(parameters),
                kernel_name="python3",
                cwd=ROOT,
                progress_bar=False,
                start_timeout=STARTS_WITHIN_S,
                stderr_file=sys.stderr,
                config=_config(place),
            )
        except PapermillExecutionError as error:
            os.replace(unfinished, output)
            first, *more = error.evalue.splitlines() or [""]
            raise UserError(
                f"notebooks/{name}.ipynb, cell {error.cell_index}: {error.ename}: {first}",
                *more,
                f"{GOES_ON} (see {output})",
            ) from error
        except Exception as error:  # what Jupyter's parts raise has no common kind
            if files.unwritable(error, run):
                raise
            where, why = _cell_at_work(unfinished), _why(error, place, watch)
            raise UserError(f"notebooks/{name}.ipynb{where}: {why}; {GOES_ON}") from error
        executed = nbformat.read(unfinished, as_version=4)
        keep_last_progress(executed)
        files.write_atomic(output, nbformat.writes(executed))
        html, _ = HTMLExporter().from_notebook_node(executed)
        files.write_atomic(output.with_suffix(".html"), html)
    unfinished.unlink()
    return output


def keep_last_progress(notebook: nbformat.NotebookNode) -> None:
    """Of each progress bar, keep what a terminal would show in the end."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                lines = output.text.split("\n")
                output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


@contextmanager
def _place(run: Path) -> Iterator[Path]:
    """A folder of this run's own for a kernel; what a killed run left there goes first.

    A user's IPython profile, Jupyter settings and kernels are elsewhere, and are not read.
    """
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it says, the error says
    place = run / ".kernel"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    before = {name: os.environ.get(name) for name in FOLDERS}
    os.environ.update({name: str(place / name.lower()) for name in FOLDERS})
    try:
        yield place
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(place, ignore_errors=True)


def _config(place: Path) -> Config:
    """What Jupyter's parts are told. Kernels are spoken to through sockets that are files, so that
    no port is opened; where neither folder can hold one, through ports of this machine alone."""
    config = Config()
    config.KernelManager.connection_file = str(place / CONNECTION)
    temporary = Path(tempfile.gettempdir()) / f"kernel-{os.getpid()}"
    for sockets in (place / "socket", temporary):
        if _holds_sockets(sockets):
            config.KernelManager.transport, config.KernelManager.ip = "ipc", str(sockets)
            break
    config.NotebookClient.kernel_manager_class = RunKernel
    # A kernel that is ended while it answers logs a traceback of its own.
    config.NotebookClient.extra_arguments = [
        "--log-level=CRITICAL",
        "--HistoryManager.enabled=False",
    ]
    return config


def _holds_sockets(stem: Path) -> bool:
    """Whether sockets `stem`-1 and so on can be made: some file systems have none, and a path is
    short."""
    path = stem.with_name(f"{stem.name}-0")
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.bind(str(path))
        path.unlink()
    except (OSError, AttributeError):
        return False
    return True


def _braced(path: Path) -> str:
    return str(path).replace("{", "{{").replace("}", "}}")


def _cell_at_work(unfinished: Path) -> str:
    """`, cell 7` where that was the last to begin, by what papermill wrote."""
    try:
        cells = nbformat.read(unfinished, as_version=4).cells
    except Exception:  # cut off in the middle
        return ""
    begun = [index for index, cell in enumerate(cells) if cell.metadata.papermill.get("start_time")]
    return f", cell {begun[-1]}" if begun else ""


def _why(error: Exception, place: Path, watch: Watch | None) -> str:
    """How its kernel ended, or why it did not start."""
    process = RunKernel.process
    status = process.poll() if process is not None else None
    if status is not None and status < 0:
        how = signal.Signals(-status).name
        return f"its kernel was ended by {how}" + (_memory(watch) if how == "SIGKILL" else "")
    said = _last_line(place / LOG) or first_line(error)
    if status is not None:
        return f"its kernel ended with status {status} ({said})"
    if process is None:
        return f"no kernel can be started ({said}); `make env` installs what it needs"
    return f"its kernel does not answer ({said})"


def _memory(watch: Watch | None) -> str:
    """What a process that the system ended is told to have lacked."""
    text = ": too little memory, or somebody ended it"
    if watch is None:
        return text
    held, limit = watch.held / 2**30, hardware.memory_limit() / 2**30
    return f"{text} (the run held {held:.1f} of {limit:.1f} GB)"


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
