"""Which checkpoints there are, and what task each was trained on.

Takes the repository's root; gives folders that transformers wrote, and tasks. Knows nothing of
models: it imports no torch, so that a menu is there at once.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.tasks.task import Task, load_task


def checkpoint_choices(root: Path, run: str = "", extra: str | Path = "") -> dict[str, str]:
    """What the checkpoint menu offers: label -> folder, below `root`; the first is the default.

    `extra` comes first, even if it is missing (Run then says so); then what ships in models/, then
    the folder runs/`run`, then other runs. Within a run, models that learned to backtrack lead.
    """
    found = []
    for top in ("models", "runs"):
        for weights in (root / top).rglob("*.safetensors"):
            folder = weights.parent
            config = folder / "config.json"
            if not config.is_file() or ".partial" in str(folder):
                continue
            # A reward model, of Table 1's best-of-N, writes no text.
            if "ForSequenceClassification" not in config.read_text("utf-8", "replace"):
                found.append(str(folder.relative_to(root)))

    def rank(label: str) -> tuple[bool, bool, bool, str]:
        shipped, own = label.startswith("models"), label.startswith(f"runs/{run}/")
        return (not shipped, not own, "backtrack" not in label, label)

    choices = {label: str(root / label) for label in sorted(set(found), key=rank)}
    if not extra:
        return choices
    folder = Path(extra).expanduser()
    folder = folder if folder.is_absolute() or folder.exists() else root / folder
    return {str(extra): str(folder), **choices}


def profile_task(root: Path, profile: str) -> Task:
    """The task of a profile; it needs a form."""
    path = Path(profile) if profile.endswith(".toml") else root / "profiles" / f"{profile}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["task"]
        return _task(table["module"], table["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        known = ", ".join(sorted(file.stem for file in (root / "profiles").glob("*.toml")))
        raise UserError(
            f"profile {profile!r}: no readable profile; choose one of {known}"
        ) from error


def trained_on(root: Path, folder: str | None, task: Task) -> Task | None:
    """The task that the checkpoint in `folder` was trained on, with its settings, where known.

    A shipped checkpoint has them in its manifest.json; one of a run, in its run's profile.
    """
    if folder is None:
        return None
    try:
        manifest = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
        return _task(type(task).__module__, manifest["settings"]["task"]["settings"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        pass  # not a shipped one, or one of another task
    run = re.search(r"runs/([^/]+)-\d+/", folder)
    try:
        return profile_task(root, run.group(1)) if run else None
    except UserError:
        return None


def default_task() -> Task:
    """Countdown in the paper's ranges, for want of a profile."""
    ranges = {"numbers": 4, "max_number": 99, "target_low": 10, "target_high": 100}
    return _task("lib.tasks.countdown", ranges | {"max_result": 9999, "held_out": 0.1})


def _task(module: str, settings: dict[str, Any]) -> Task:
    task = load_task(module, settings)
    if task.form is None:
        raise UserError(f"task {task.name}: it has no form, and so no explorer")
    return task
