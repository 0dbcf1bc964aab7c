"""A run's folder: every artifact made once, written atomically, keyed by what made it.

Takes names, inputs and functions that fill a folder; gives paths of finished artifacts. Knows
nothing of what is inside them. An artifact lives in `<name>-<key>/`, where the key is a hash of
its inputs; its `made.json` is written last, so its existence means that the rest is complete.
Until then the folder is called `<name>-<key>.partial`, and a killed run resumes in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from inspect import isfunction
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.base.files import (
    culprit,
    digest,
    held,
    read_json,
    remove_temporary,
    unwritable,
    write_atomic,
)

MADE = "made.json"


def versions(producers: Iterable[Any]) -> dict[str, int]:
    """What an artifact's key says of the code that makes it: each producer's VERSION by its name.

    A producer is a module, a task, or a function, which stands for its module. Whoever changes what
    it produces raises its VERSION, and what was made before is made again.
    """
    modules = [sys.modules[p.__module__] if isfunction(p) else p for p in producers]
    return {getattr(p, "__name__", type(p).__name__): p.VERSION for p in modules}


@dataclass(frozen=True)
class Artifact:
    """A finished artifact: its folder, its key (an input of what is made from it), its cost."""

    path: Path
    key: str
    duration_s: float

    @property
    def name(self) -> str:
        """The artifact's name without its folder and key."""
        return self.path.name.removesuffix(f"-{self.key}")


@dataclass
class Run:
    """A run's folder and the artifacts in it."""

    folder: Path
    made: dict[str, Artifact] = field(default_factory=dict)
    makes: bool = True  # False: an artifact that is not there is a `UserError`
    shared: Path | None = None  # the folder of another run, in whose artifacts it goes on

    @property
    def artifacts(self) -> Path:
        """Where its artifacts lie."""
        return self.shared or self.folder

    def place(self, name: str, inputs: Mapping[str, Any]) -> tuple[Path, str]:
        """Where the artifact `name` for these inputs lies once it is made, and its key."""
        key = digest({"name": name, **inputs})
        return self.artifacts / f"{name}-{key}", key

    def make(
        self, name: str, inputs: Mapping[str, Any], function: Callable[[Path], None]
    ) -> Artifact:
        """The artifact `name` for these inputs, made by `function(folder)` if it is not there.

        `function` fills the folder and may find there what an interrupted call of it left. An
        artifact of the same name made from other inputs is left where it is. Where another process
        makes it, its artifact is waited for; `UserError` where that takes long.
        """
        final, key = self.place(name, inputs)
        partial = final.with_name(final.name + ".partial")
        if not (final / MADE).exists():
            if not self.makes:
                raise UserError(f"{final}: not made yet")
            try:
                if final.exists() and not (partial.exists() or (final / MADE).exists()):
                    os.replace(final, partial)  # its record was deleted
                partial.mkdir(parents=True, exist_ok=True)
                with held(partial):
                    if not (final / MADE).exists():
                        record = {"name": name, "inputs": inputs}
                        record["duration_s"] = round(self._fill(partial, function), 1)
                        write_atomic(partial / MADE, json.dumps(record, indent=1, default=str))
                        os.replace(partial, final)
                if partial.exists():  # another process had just finished it
                    partial.rmdir()
            except Exception as error:
                if isinstance(error, UserError):
                    raise
                if reason := unwritable(error, final):
                    raise UserError(reason) from error
                if isinstance(error, OSError):
                    file = None if error.filename else culprit(error)
                    why = f"{file}: {error}" if file else error
                    raise UserError(f"{final}: cannot be made ({why})") from error
                raise
        record = read_json(final / MADE)
        try:
            artifact = Artifact(final, key, float(record["duration_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{final / MADE}: not an artifact's record; delete it and run again"
            ) from error
        self.made[name] = artifact
        return artifact

    @staticmethod
    def _fill(partial: Path, function: Callable[[Path], None]) -> float:
        """Call `function(partial)` -> the seconds that it and interrupted calls before it took."""
        spent_file, spent = partial / ".spent", 0.0
        with suppress(OSError, ValueError):
            spent = float(spent_file.read_text())
        start = time.monotonic()
        try:
            function(partial)
        except BaseException:
            with suppress(OSError):
                write_atomic(spent_file, str(spent + time.monotonic() - start))
            raise
        spent_file.unlink(missing_ok=True)
        remove_temporary(partial)
        return spent + time.monotonic() - start

    def durations(self) -> dict[str, float]:
        """Seconds that the finished artifacts took to make, by the folder that they lie in."""
        spent: dict[str, float] = {}
        for path in sorted(self.artifacts.glob(f"**/{MADE}")):
            stage = path.relative_to(self.artifacts).parts[0].split("-")[0]
            # A record that no artifact of this run has may be an older version's, or broken.
            with suppress(UserError, KeyError, TypeError, ValueError):
                seconds = float(read_json(path)["duration_s"])
                spent[stage] = round(spent.get(stage, 0.0) + seconds, 1)
        return spent

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run folder, and tidy it up; `UserError` where another process holds it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w")
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror or error})"
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(
                    f"{self.folder}: another run is at work here; wait for it"
                ) from error
            remove_temporary(self.folder)
            yield
