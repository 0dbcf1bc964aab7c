"""A finished run's results in the repository: checked first, then copied; nothing is made.

Takes an experiment and folders; copies results.json, durations, executed notebooks and S's
checkpoint. An experiment whose run is not finished, or whose profile has changed since, is a
`UserError`. Knows nothing of figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from lib import results
from lib.errors import UserError
from lib.executed import shown_notebook
from lib.experiment import Experiment
from lib.profiles import Profile, with_model
from lib.reproduce import NOTEBOOKS
from lib.store import MADE, Run, read_json, write_atomic
from lib.tomltable import build

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
    return Experiment(profile, source, experiment.seed, Run(folder, makes=False))


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
        return _as_written(build(Profile, _without_none(settings))) == now
    except UserError:
        return False


def _as_written(profile: Profile) -> Any:
    return json.loads(results.dumps({"settings": asdict(profile)}, []))["manifest"]["settings"]


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return value


def publish(experiment: Experiment, folder: Path, root: Path) -> None:
    """Copy a finished run's results, durations and executed notebooks into `folder`, or nothing.

    `root` is the repository, to which the notebooks' paths become relative.
    """
    run = experiment.run.folder
    shown = {f"{name}.ipynb": shown_notebook(run / "notebooks" / f"{name}.ipynb", root)
             for name in NOTEBOOKS}  # fmt: skip
    for source in (run / "figures" / "results.json", run / "timings.json"):
        write_atomic(folder / source.name, source.read_bytes())
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
