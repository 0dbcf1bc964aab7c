"""A planner: an experiment that makes nothing, and counts the work that it is asked for.

Takes an experiment; it is asked for artifacts as the experiment would be (a study's `requests`),
and adds up what is not there. What was asked for before counts as nothing, so that a search which
serves two studies is counted once. Problems alone it makes: all else is asked for by them. Knows
nothing of studies, or of how long anything takes.
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
from lib.tasks.task import Task

Known = TypeVar("Known")


@dataclass
class Asked:
    """What a planner was asked for: places not there, and the seconds of those that are."""

    missing: set[Path] = field(default_factory=set)
    found: dict[Path, float] = field(default_factory=dict)
    work: Work = field(default_factory=Work)


@dataclass
class Planner(Experiment):
    """See above. `label` stands before its models' names in the work."""

    asked: Asked = field(default_factory=Asked)
    label: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> Planner:
        """A planner of what this experiment would make."""
        run = Run(experiment.run.folder)
        return cls(experiment.profile, experiment.source, experiment.seed, run)

    def part(self, profile: Profile, folder: str, label: str = "") -> Planner:
        """A planner of an experiment that is a part of this one; its work is this one's."""
        run = Run(self.run.folder / folder)
        return Planner(profile, self.source, self.seed, run, self.asked, label)

    def __post_init__(self) -> None:
        # A table of all problems is searched for every one of many searches.
        self.problems = cache(super().problems)

    def make(
        self,
        name: str,
        inputs: Mapping[str, Any],
        fill: Callable[[Path], None],
        made_by: Sequence[ModuleType | Task] = (),
        work: Work = NO_WORK,
    ) -> Artifact:
        """The artifact, or where it would lie."""
        inputs = {**inputs, "versions": versions(made_by)}
        place, key = self.run.place(name, inputs)
        if name == "data" or (place / MADE).exists():
            artifact = self.run.make(name, inputs, fill)
            self.asked.found[place] = artifact.duration_s
            return artifact
        if place not in self.asked.missing:
            self.asked.missing.add(place)
            self.asked.work.add(work, self.label)
        return Artifact(place, key, 0.0)

    def known(self, read: Callable[[], Known], expected: Known) -> Known:
        """What `read()` gives, or `expected` where what it reads is not there yet."""
        with suppress(UserError):
            return read()
        return expected

    def work_of(self, requests: Iterable[object]) -> Work:
        """What these ask for and nothing before them did; `spent` of what is there already."""
        before = set(self.asked.found)
        self.asked.work = Work()
        for _ in requests:
            pass
        work, found = self.asked.work, self.asked.found
        work.spent = sum(found[place] for place in found.keys() - before)
        return work
