"""A planner: an experiment that makes nothing, and counts the work that it is asked for.

Takes an experiment; is asked for artifacts as the experiment would be (a study's `requests`), and
adds up what making them will take, or took. What was asked for before counts as nothing, so that a
search which serves two studies is counted once. The problems alone it makes: all else is asked for
by them. Knows nothing of studies, or of how long anything takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from lib.base.errors import UserError
from lib.experiment.artifacts import MADE, Artifact, versions
from lib.experiment.experiment import Experiment
from lib.experiment.work import NO_WORK, Work
from lib.tasks.task import Task

Known = TypeVar("Known")
PROBLEMS = "data"  # the one artifact that a planner makes


@dataclass
class Planner(Experiment):
    """See above."""

    places: set[Path] = field(default_factory=set)  # of artifacts asked for, there or not
    work: Work = field(default_factory=Work)  # that was not handed out yet

    def __post_init__(self) -> None:
        # Every search asks for its problems, which are found in a table of all.
        self.problems = cache(super().problems)

    @classmethod
    def of(cls, experiment: Experiment) -> Planner:
        """A planner of what this experiment would make."""
        run = replace(experiment.run, made={})
        return cls(experiment.profile, experiment.source, experiment.seed, run)

    def make(
        self,
        name: str,
        inputs: Mapping[str, Any],
        fill: Callable[[Path], None],
        made_by: Sequence[ModuleType | Task | Callable] = (),
        work: Work = NO_WORK,
    ) -> Artifact:
        """The artifact, or where it would lie; what it takes or took is counted the first time."""
        inputs = {**inputs, "versions": versions(made_by)}
        place, key = self.run.place(name, inputs)
        there = name == PROBLEMS or (place / MADE).exists()
        artifact = self.run.make(name, inputs, fill) if there else Artifact(place, key, 0.0)
        if place not in self.places:
            self.places.add(place)
            self.work.add(Work(spent=artifact.duration_s) if there else work)
        return artifact

    def known(self, read: Callable[[], Known], expected: Known) -> Known:
        """What `read()` gives, or `expected` where what it reads is not there yet."""
        with suppress(UserError):
            return read()
        return expected

    def work_of(self, requests: Iterable[object]) -> Work:
        """What these ask for and nothing before them did, since work was handed out last."""
        try:
            for _ in requests:
                pass
        finally:
            work, self.work = self.work, Work()
        return work
