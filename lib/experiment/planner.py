"""A planner: an experiment that makes nothing, and counts the work that it is asked for.

Takes an experiment; is asked for artifacts as the experiment would be (a study's `requests`), and
adds up what making them will take, or took. What was asked for before counts as nothing, so that a
search which serves two studies is counted once. The problems alone it makes: all else is asked for
by them. Knows nothing of studies, or of how long anything takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from lib.base.errors import UserError
from lib.experiment.artifacts import MADE, Artifact, Run, versions
from lib.experiment.experiment import Experiment
from lib.experiment.work import NO_WORK, Work
from lib.profiles.load import Profile
from lib.profiles.settings import ModelSettings
from lib.tasks.task import Task

Known = TypeVar("Known")
PROBLEMS = "data"  # the one artifact that a planner makes


@dataclass
class Asked:
    """What a planner and its parts were asked for."""

    places: set[Path] = field(default_factory=set)  # of artifacts, there or not
    work: Work = field(default_factory=Work)  # that was not handed out yet
    parts: dict[str, Planner] = field(default_factory=dict)  # by their label, itself among them


@dataclass
class Planner(Experiment):
    """See above. `label` stands before its models' names in the work."""

    asked: Asked = field(default_factory=Asked)
    label: str = ""

    def __post_init__(self) -> None:
        self.asked.parts.setdefault(self.label, self)
        # Every search asks for its problems, which are found in a table of all.
        self.problems = cache(super().problems)

    @classmethod
    def of(cls, experiment: Experiment) -> Planner:
        """A planner of what this experiment would make."""
        run = Run(experiment.run.folder)
        return cls(experiment.profile, experiment.source, experiment.seed, run)

    def part(self, profile: Profile, folder: str, label: str = "") -> Planner:
        """A planner of an experiment that is a part of this one; its work is this one's."""
        run = Run(self.run.folder / folder)
        return Planner(profile, self.source, self.seed, run, self.asked, label)

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
        if place not in self.asked.places:
            self.asked.places.add(place)
            self.asked.work.add(Work(spent=artifact.duration_s) if there else work, self.label)
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
            work, self.asked.work = self.asked.work, Work()
        return work

    def models(self) -> dict[str, tuple[Planner, ModelSettings]]:
        """The models that work is counted of, by the names that it has: its own and its parts'."""
        return {
            label + name: (part, sizes)
            for label, part in self.asked.parts.items()
            for name, sizes in part.profile.models.items()
        }
