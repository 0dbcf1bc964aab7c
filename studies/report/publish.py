"""A finished run's results in the repository: checked first, then copied; nothing is made.

Takes an experiment and folders; copies results.json, outcomes, durations, executed notebooks and
S's checkpoint. An experiment whose run is not finished, or whose profile has changed since, is a
`UserError`. Knows nothing of figures.
"""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat

from lib.base.errors import UserError
from lib.base.files import read_json, write_atomic
from lib.evaluation import outcomes, results
from lib.experiment.artifacts import MADE
from lib.experiment.experiment import Experiment
from lib.profiles.load import Profile, make_profile, with_model
from studies.catalogue import sections

#: In the order of a run; `make reproduce` executes them all.
NOTEBOOKS = (
    "01_data",
    "02_training",
    "03_backtrack_inference",
    "04_self_improvement",
    "05_analysis",
)
WRITTEN_ELSEWHERE = (MADE, "loss.json")


def finished_experiment(experiment: Experiment) -> Experiment:
    """The experiment as its finished run was made: it hands artifacts out and makes none.

    Raises `UserError` where notebooks or results are missing or older than a later run's, or where
    the run was made with other settings.
    """
    folder, source = experiment.run.folder, experiment.source
    again = f"run `make reproduce PROFILE={source} SEED={experiment.seed}` first"
    unfinished = UserError(f"{folder}: this run is not finished; {again}")
    path = folder / "figures" / "results.json"
    if not path.exists() or not (folder / "timings.json").exists():
        raise unfinished
    ended = None
    for name in NOTEBOOKS:
        begun, end = _executed(folder / "notebooks" / f"{name}.ipynb") or (None, None)
        # An earlier notebook that ended later belongs to a run that has not come to this one yet.
        if begun is None or (ended is not None and begun < ended):
            raise unfinished
        ended = end
    manifest, _ = results.read_results(path)
    profile = _with_recorded_model(experiment.profile, manifest.get("settings"))
    if not _made_with(manifest.get("settings"), profile):
        raise UserError(f"{folder}: made with other settings than {source} has now; {again}")
    run = replace(experiment.run, makes=False, made={})
    return replace(experiment, profile=profile, run=run)


def _executed(path: Path) -> tuple[datetime, datetime] | None:
    """When a notebook's execution began and ended; None where it did not end, or failed."""
    if not path.exists():
        return None
    record = read_json(path)
    try:
        record = record["metadata"]["papermill"]
        if record["exception"]:
            return None
        return datetime.fromisoformat(record["start_time"]), datetime.fromisoformat(
            record["end_time"]
        )
    except (KeyError, TypeError, ValueError):
        return None


def _with_recorded_model(profile: Profile, settings: Any) -> Profile:
    """MODEL=... may have named another pretrained model than the profile's."""
    try:
        path = settings["models"]["S"]["path"]
    except (KeyError, TypeError):
        return profile
    return with_model(profile, path) if profile.models["S"].path else profile


def _made_with(settings: Any, profile: Profile) -> bool:
    """Whether a results file's settings are this profile's; a setting that is new has its default.

    Both are compared as results.json writes them, which rounds.
    """
    now = _as_written(profile)
    if settings == now:
        return True
    try:
        return _as_written(make_profile(_without_none(settings), sections())) == now
    except UserError:
        return False


def _as_written(profile: Profile) -> Any:
    return json.loads(results.dumps({"settings": profile.table()}, []))["manifest"]["settings"]


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def publish(experiment: Experiment, folder: Path, root: Path) -> None:
    """Copy a finished run's results, outcomes, durations and executed notebooks into `folder`.

    Nothing is where a notebook cannot be shown. `root` is the repository, to which the notebooks'
    paths become relative.
    """
    run = experiment.run.folder
    shown = {f"{name}.ipynb": shown_notebook(run / "notebooks" / f"{name}.ipynb", root)
             for name in NOTEBOOKS}  # fmt: skip
    for source in (run / "figures" / "results.json", run / "timings.json"):
        write_atomic(folder / source.name, source.read_bytes())
    if (source := run / "figures" / outcomes.FILE).exists():
        write_atomic(folder / source.name, source.read_bytes())
    else:  # an earlier run's may be there
        (folder / source.name).unlink(missing_ok=True)
    for name, text in shown.items():
        write_atomic(folder / "notebooks" / name, text)


def ship(experiment: Experiment, manifest: Mapping, folder: Path) -> None:
    """Copy a finished run's backtracking checkpoint of S, and how it was made, into `folder`.

    Nothing is written where the same checkpoint is there already.
    """
    made = experiment.checkpoint("S", "backtracking")
    files = [
        path
        for path in sorted(made.path.iterdir())
        if path.suffix in (".safetensors", ".json") and path.name not in WRITTEN_ELSEWHERE
    ]
    if all(_same(path, folder / path.name) for path in files):
        return
    for path in files:
        write_atomic(folder / path.name, path.read_bytes())
    manifest = {**manifest, "checkpoint": read_json(made.path / MADE)}
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, default=str))


def _same(path: Path, other: Path) -> bool:
    return other.exists() and path.read_bytes() == other.read_bytes()


MOST_BYTES = 2_000_000
#: Papermill's copy of the parameters has a random id of its own.
INJECTED = "injected-parameters"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
PNG, SVG = "image/png", "image/svg+xml"
WIDGETS = "application/vnd.jupyter.widget"
#: What no published text may hold. PNGs are left out: base64 has such letters by chance.
FORBIDDEN = tuple(f"/{name}" for name in ("home/", "Users/", "tmp/", "root"))
FOLDERS = (
    (re.compile(r"/(?:home|Users)/[^/\s'\"<>:]+|/root"), "~"),
    (re.compile(r"(?:/private)?/(?:var/)?tmp/"), "…/"),
    (re.compile(r"(?:/private)?/var/folders/\w+/\w+/"), "…/"),
)
COMMON_NAMES = ("root", "localhost")  # tell nobody anything


def shown_notebook(path: Path, root: Path) -> str:
    """The text of the notebook file that shows the executed notebook at `path`.

    `root` is the repository's folder, to which paths become relative. Raises `UserError` where the
    file is no notebook, would be larger than `MOST_BYTES`, or still names a place of this machine.
    """
    record = read_json(path)
    known = isinstance(record, dict) and record.get("nbformat") == 4
    if not known or not isinstance(record.get("cells"), list):
        raise UserError(f"{path}: not a notebook of format 4; run `make reproduce` again")
    notebook = nbformat.read(path, as_version=4)
    notebook = cleaned(notebook, root)
    for place in places_named(notebook, root):
        raise UserError(f"{path}: {place}; it cannot be published")
    text = nbformat.writes(notebook) + "\n"
    if (size := len(text.encode())) > MOST_BYTES:
        raise UserError(f"{path}: {size} bytes without what only repeats; at most {MOST_BYTES}")
    return text


def cleaned(notebook: nbformat.NotebookNode, root: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs alone, and without the machine's paths and names."""
    words = _hider(root, [])(" ".join(cell.source for cell in notebook.cells))
    hide = _hider(root, _own_names(words))
    cells = []
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        name = INJECTED if INJECTED in tags else cell.get("id", f"cell-{number}")
        kept = {"id": name, "cell_type": cell.cell_type}
        kept |= {"source": hide(cell.source), "metadata": {"tags": tags} if tags else {}}
        if cell.cell_type == "code":
            kept["execution_count"] = cell.execution_count
            kept["outputs"] = [shown for output in cell.outputs if (shown := _output(output, hide))]
        cells.append(kept)
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    made = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict(made)


def _output(output: nbformat.NotebookNode, hide: Callable[[str], str]) -> dict | None:
    """An output without the machine; None where nothing is left of it."""
    kind = output.output_type
    if kind == "stream":
        # The other stream has progress bars, and warnings about this machine.
        shown = {"output_type": kind, "name": output.name, "text": hide(output.text)}
        return shown if output.name == "stdout" else None
    if kind == "error":
        shown = {"ename": output.ename, "evalue": hide(output.evalue), "traceback": []}
        return {"output_type": kind, **shown}
    data = {name: value for name, value in output.data.items() if not name.startswith(WIDGETS)}
    if PNG in data:
        data.pop(SVG, None)
    data = {name: value if name == PNG else _each(value, hide) for name, value in data.items()}
    shown = {"output_type": kind, "data": data, "metadata": {}}
    if kind == "execute_result":
        shown["execution_count"] = output.execution_count
    return shown if data else None


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _each(item, change) for name, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, list) else value


def _own_names(words: str) -> list[str]:
    """This machine's user and host, but for a name that is among the notebook's own words."""
    host = platform.node()
    names = {host, host.split(".")[0]}
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    names = {name for name in names if len(name) > 2} - set(COMMON_NAMES)
    names -= set(re.findall(r"[\w.-]+", words))
    return sorted(names, key=len, reverse=True)


def _hider(root: Path, names: list[str]) -> Callable[[str], str]:
    """A function that hides the repository's folder, other folders of people, and these names."""
    roots = {str(root), str(root.resolve())} - {"/"}
    either = "|".join(re.escape(folder) for folder in sorted(roots, key=len, reverse=True))
    # Not a longer path that only begins like this one.
    repository = re.compile(rf"(?:{either})(?:(/)|(?![\w.-]))")
    named = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")

    def hide(text: str) -> str:
        text = repository.sub(lambda found: "" if found[1] else ".", text)
        for folder, mark in FOLDERS:
            text = folder.sub(mark, text)
        return named.sub("…", text) if names else text

    return hide


def places_named(notebook: nbformat.NotebookNode, root: Path) -> Iterator[str]:
    """What still names a place on a machine: one line for each find, with its cell's number."""
    forbidden = (*FORBIDDEN, str(root), str(root.resolve()))
    for number, cell in enumerate(notebook.cells):
        parts = [cell.source, *(_texts(output) for output in cell.get("outputs", []))]
        found = [name for name in forbidden if name in "\n".join(parts)]
        if found:
            yield f"cell {number} names {found[0]}"


def _texts(output: nbformat.NotebookNode) -> str:
    found: list[str] = []
    data = {name: value for name, value in output.get("data", {}).items() if name != PNG}
    _each({**output, "data": data}, lambda text: found.append(text) or text)
    return "\n".join(found)
