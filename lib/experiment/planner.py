"""Looking ahead: an experiment that makes nothing, and counts the work that it is asked for.

Takes an experiment; gives the training and sampling that its run still lacks, in examples and
tokens by model. What the run has already, and what was asked for before, counts as nothing. Knows
nothing of how long anything takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from lib.base.errors import UserError
from lib.experiment.artifacts import MADE, Artifact, Run
from lib.experiment.experiment import Experiment
from lib.profiles.recipe import Recipe

#: A search's tokens for each problem, over its breadth, where no two samples share a token:
#: roll-backs add a third.
TOKENS_PER_SAMPLE = {0: 20, 1: 27}
#: Samples of a trained model share most of their first tokens: what N of them cost, in tokens that
#: nothing is shared with, fitted to the searches of a whole `cpu` run at N = 2 to 64 (within 20%).
SHARED, EXPONENT = 54, 0.56
ROLL_BACK = 0.35  # what b = 1 adds; each further one adds a third of it
#: What beams cost beside as many independent samples: measured there too.
EXPANSION_COST = {"sample": 1.0, "beam_sample": 2.5, "stochastic_beam": 2.0}
BEAM_SEARCH_COST, LONG_RESPONSE_COST = 2.7, 2.0
FORWARD = 1 / 3  # of a training example's work


def search_tokens(problems: int, breadth: int, depth: int, expansion: str = "sample") -> float:
    """What a search costs, in sampled tokens that nothing is shared with, about."""
    rolled_back = 1 + (ROLL_BACK * (2 + depth) / 3 if depth else 0)
    each = SHARED * breadth**EXPONENT * rolled_back
    return problems * each * EXPANSION_COST[expansion]


def decoded_tokens(problems: int, beams: int) -> float:
    """Sampled tokens that cost as much as decoding these problems, about."""
    return search_tokens(problems, beams, 0) * (BEAM_SEARCH_COST if beams > 1 else 1)


@dataclass
class Work:
    """Examples to train on (a forward pass alone is a part of one) and tokens to sample, by model.

    A model is one of the profile's, or one of the sweep's: `sweep S`. spent: the seconds that the
    rest took, which is done.
    """

    examples: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    spent: float = 0.0


@dataclass
class LookedAt(Run):
    """A run's folder of which nothing changes; what it is asked for is noted.

    missing: what is not there; found: the seconds that the rest took to make.
    """

    missing: set[Path] = field(default_factory=set)
    found: dict[Path, float] = field(default_factory=dict)

    def make(
        self, name: str, inputs: Mapping[str, Any], function: Callable[[Path], None]
    ) -> Artifact:
        """The artifact, or where it would lie."""
        place, key = self.place(name, inputs)
        if (place / MADE).exists():
            artifact = super().make(name, inputs, function)
            self.found[place] = artifact.duration_s
            return artifact
        self.missing.add(place)
        return Artifact(place, key, 0.0)


@dataclass
class Ahead(Experiment):
    """An experiment in a run's folder that makes nothing; `work` grows with what it is asked for.

    `prefix` stands before its models' names in `work`.
    """

    work: Work = field(default_factory=Work)
    prefix: str = ""

    @classmethod
    def of(cls, experiment: Experiment) -> Ahead:
        """A look at what this experiment would make."""
        run = LookedAt(experiment.run.folder)
        return cls(experiment.profile, experiment.source, experiment.seed, run)

    def within(self, experiment: Experiment, prefix: str) -> Ahead:
        """A look at an experiment that is a part of this one; its work is this one's."""
        run = LookedAt(experiment.run.folder, missing=self.run.missing, found=self.run.found)
        return Ahead(experiment.profile, experiment.source, experiment.seed, run, self.work, prefix)

    def __post_init__(self) -> None:
        # A table of all problems is searched for every one of many searches.
        self.problems = cache(super().problems)

    def lacks(self, ask: Callable[[], object], name: str = "") -> bool:
        """Whether `ask()` asks for an artifact (of this name) that is not there, for the first
        time. What it then cannot read is no error."""
        before = set(self.run.missing)
        with suppress(UserError):
            ask()
        folder = str(self.run.folder / name)
        return any(str(place).startswith(folder) for place in self.run.missing - before)

    def add_examples(self, model: str, count: float) -> None:
        """So many examples more to train on."""
        if count:
            self.work.examples[self.prefix + model] += count

    def add_tokens(self, model: str, count: float) -> None:
        """So many tokens more to sample."""
        if count:
            self.work.tokens[self.prefix + model] += count

    def train(
        self,
        name: str,
        inputs: dict,
        start: Callable[[], tuple],
        traces: Callable[[], pd.DataFrame],
        recipe: Recipe,
        max_tokens: int = 0,
    ) -> Artifact:
        """Where the checkpoint is or would be; its examples are counted."""
        asked: list[Artifact] = []
        ask = super().train

        def training() -> None:
            asked.append(ask(name, inputs, start, traces, recipe, max_tokens))

        if self.lacks(training):
            # An improved model's traces are at hand; the others say how many they will be.
            count = inputs["examples"] if "examples" in inputs else len(traces())
            self.add_examples(model_of(asked[0]), count * recipe.epochs)
        return asked[0]

    def search(
        self,
        checkpoint: Artifact,
        problems: pd.DataFrame,
        breadth: int,
        depth: int,
        temperature: float,
        variant: Any = None,
        expansion: str = "sample",
    ) -> Artifact:
        """Where the search is or would be; its tokens are counted."""
        asked: list[Artifact] = []
        ask, setting = super().search, (breadth, depth, temperature, variant, expansion)
        if self.lacks(lambda: asked.append(ask(checkpoint, problems, *setting))):
            drawn = breadth * getattr(variant, "oversampling", 1)
            tokens = search_tokens(len(problems), drawn, depth, expansion)
            self.add_tokens(model_of(checkpoint), tokens)
        return asked[0]

    def decode(self, checkpoint: Artifact, problems: pd.DataFrame, beams: int = 1) -> pd.DataFrame:
        """The responses; where they are not there, their tokens are counted, and `UserError`."""
        asked: list[pd.DataFrame] = []
        ask = super().decode
        if self.lacks(lambda: asked.append(ask(checkpoint, problems, beams))):
            self.add_tokens(model_of(checkpoint), decoded_tokens(len(problems), beams))
        if not asked:
            raise UserError(f"responses of {checkpoint.name}: not made yet")
        return asked[0]


def model_of(checkpoint: Artifact) -> str:
    """S or L: checkpoints are called after their model."""
    return checkpoint.name.split("-")[0]
