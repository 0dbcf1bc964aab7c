"""Which checkpoints there are, and what task each was trained on.

Takes the repository's root; gives folders that transformers wrote, tasks, and engines. Imports no
torch before an engine is loaded, so that the form is there at once.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from lib.base.checked import Mistake
from lib.base.errors import UserError
from lib.profiles.load import whole_table
from lib.profiles.settings import TaskSettings
from lib.tasks.task import Task, load_task

UNREADABLE = (OSError, ValueError, KeyError, TypeError)


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
            of = _settings(root, str(folder)) if task else None
            if of is None or _same(of, task):
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
        of = _profile_settings(root, profile)
    except (UserError, Mistake, *UNREADABLE) as error:
        raise _unknown(root, profile) from error
    try:
        return _task(of)
    except UNREADABLE as error:
        raise _unknown(root, profile) from error


def _unknown(root: Path, profile: str) -> UserError:
    known = ", ".join(sorted(file.stem for file in (root / "profiles").glob("*.toml")))
    return UserError(f"profile {profile!r}: no readable profile; choose one of {known}")


def trained_on(root: Path, folder: str | None, task: Task) -> Task | None:
    """The task with the settings that the checkpoint in `folder` was trained with, where known."""
    of = _settings(root, folder) if folder else None
    try:
        return _task(of) if of and _same(of, task) else None
    except (UserError, ValueError, KeyError, TypeError):
        return None


def load_engine(folder: str, task: Task) -> Any:
    """The checkpoint in `folder`, ready to work on the task's prompts."""
    from lib.explorer.engine import Engine  # imports torch

    form = task.form
    example = form.prompt(form.random_problem(random.Random(0))) + form.step_example
    return Engine(folder, example + task.step_end, task.step_end, task.max_response_tokens)


def _profile_settings(root: Path, profile: str) -> TaskSettings:
    path = Path(profile) if profile.endswith(".toml") else root / "profiles" / f"{profile}.toml"
    return TaskSettings(**whole_table(path)["task"])


def _settings(root: Path, folder: str) -> TaskSettings | None:
    """What the checkpoint in `folder` was trained on, where it is known.

    A shipped checkpoint has it in its manifest.json; one of a run, in its run's profile.
    """
    manifest, run = Path(folder) / "manifest.json", re.search(r"runs/([^/]+)-\d+/", folder)
    try:
        if manifest.is_file():
            return TaskSettings(**json.loads(manifest.read_text("utf-8"))["settings"]["task"])
        return _profile_settings(root, run.group(1)) if run else None
    except (UserError, Mistake, *UNREADABLE):
        return None


def _same(of: TaskSettings, task: Task) -> bool:
    """Whether `of` names the module of `task`, which may lie in a file of that module's folder."""
    return f"{type(task).__module__}.".startswith(f"{of.module}.")


def _task(of: TaskSettings) -> Task:
    task = load_task(of.module, of.settings)
    if task.form is None:
        raise UserError(f"task {task.name}: it has no form, and so no explorer")
    return task
