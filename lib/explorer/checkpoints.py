"""Which checkpoints there are, and what task each was trained on.

Takes the repository's root; gives folders that transformers wrote, tasks, and engines. Imports no
torch before an engine is loaded, so that the form is there at once.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.profiles.settings import MOVED
from lib.tasks.task import Task, load_task


def checkpoint_choices(
    root: Path, run: str = "", extra: str | Path = "", task: Task | None = None
) -> dict[str, str]:
    """What the checkpoint menu offers: label -> folder, below `root`; the first is the default.

    Those that are known to be of another task than `task` are left out.

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
            if "ForSequenceClassification" in config.read_text("utf-8", "replace"):
                continue
            of = _task_table(root, str(folder)) if task else None
            if of is None or _same(of["module"], task):
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
    try:
        table = _profile_table(root, profile)
        return _task(table["module"], table["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        known = ", ".join(sorted(file.stem for file in (root / "profiles").glob("*.toml")))
        raise UserError(
            f"profile {profile!r}: no readable profile; choose one of {known}"
        ) from error


def trained_on(root: Path, folder: str | None, task: Task) -> Task | None:
    """The task with the settings that the checkpoint in `folder` was trained with, where known."""
    table = _task_table(root, folder) if folder else None
    if table is None or not _same(table["module"], task):
        return None
    try:
        return _task(table["module"], table["settings"])
    except (UserError, ValueError, KeyError, TypeError):
        return None


def load_engine(folder: str, task: Task) -> Any:
    """The checkpoint in `folder`, ready to work on the task's prompts."""
    from lib.explorer.engine import Engine  # imports torch

    form = task.form
    example = form.prompt(form.random_problem(random.Random(0))) + form.step_example
    return Engine(folder, example + task.step_end, task.step_end, task.max_response_tokens)


def _profile_table(root: Path, profile: str) -> dict[str, Any]:
    path = Path(profile) if profile.endswith(".toml") else root / "profiles" / f"{profile}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["task"]


def _task_table(root: Path, folder: str) -> dict[str, Any] | None:
    """The `[task]` that a checkpoint was trained with, where it is known.

    A shipped checkpoint has it in its manifest.json; one of a run, in its run's profile.
    """
    manifest, run = Path(folder) / "manifest.json", re.search(r"runs/([^/]+)-\d+/", folder)
    try:
        if manifest.is_file():
            table = json.loads(manifest.read_text(encoding="utf-8"))["settings"]["task"]
        else:
            table = _profile_table(root, run.group(1)) if run else {}
        return {name: table[name] for name in ("module", "settings")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same(module: str, task: Task) -> bool:
    """Whether a `[task]`'s module is that of `task`, which may lie in a file of its folder."""
    module = MOVED.get(module, module)
    return f"{type(task).__module__}.".startswith(f"{module}.")


def _task(module: str, settings: dict[str, Any]) -> Task:
    task = load_task(MOVED.get(module, module), settings)
    if task.form is None:
        raise UserError(f"task {task.name}: it has no form, and so no explorer")
    return task
