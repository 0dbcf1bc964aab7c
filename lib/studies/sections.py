"""Settings of the studies: a profile's optional sections, each checked on its own.

Takes profiles; gives them with all their sections, and experiments of them. Knows nothing of how a
study is done.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

from pydantic import StrictFloat, StrictInt

from lib.base.checked import (
    NOT_EMPTY,
    Count,
    Counts,
    Natural,
    Naturals,
    Positive,
    Positives,
    Share,
    at_least,
    checked,
    one_of,
    rule,
)
from lib.base.files import ROOT
from lib.experiment.artifacts import Run
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from lib.profiles import load
from lib.profiles.load import MODEL_VARIABLE, Profile, with_model
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import EXPANSIONS
from lib.studies.beyond.audit import AuditSettings
from lib.studies.beyond.step_coverage import InstrumentSettings
from lib.studies.paper.best_of_n import BaselineSettings
from lib.studies.paper.table_2 import DfsSettings, StreamSettings
from lib.studies.paper.tables_3_and_4 import RatioSettings

Pair = Annotated[
    tuple[StrictInt, ...],
    rule(
        lambda pair: len(pair) == 2 and pair[0] >= 1 and pair[1] >= 0,
        "must be pairs of N >= 1 and b >= 0",
    ),
]


@checked
class ComputeSettings:
    """Accuracy against what it costs. Searches that a table has already are taken from there."""

    models: tuple[str, ...]
    problems: Count  # of each test split
    breadths: Counts  # of independent samples: N of the SFT model, and of b = 0
    searches: tuple[Pair, ...]  # further (N, b) of Self-Backtracking
    temperatures: Positives
    temperature_breadth: Count
    beams: Counts


@checked
class HypothesisSettings:
    """Experiments that could close the gap between S and L at one N and b."""

    problems: Count  # of each test split
    validation_problems: Count  # on which the shift of <backtrack> is chosen
    breadth: Count
    depth: Natural
    temperatures: Positives  # tried beside the profile's own (hypothesis a)
    oversampling: Count  # samples drawn for each distinct one (hypothesis a)
    #: Of the <backtrack> logit, tried beside 0 (hypothesis b).
    shifts: Annotated[tuple[Annotated[StrictFloat, at_least(-50, " each")], ...], NOT_EMPTY]
    loss_examples: Count  # traces on which train and test loss are measured (hypothesis c)


@checked
class SweepModel:
    """One of the sweep's two sizes."""

    hidden_size: Count
    layers: Count
    heads: Count


@checked
class SweepSettings:
    """Small models of two sizes over data size, epochs and learning rate (hypotheses c and e)."""

    task: dict[str, Any]  # the task's settings, easier than the profile's
    models: Annotated[
        dict[str, SweepModel], rule(lambda found: set(found) == {"S", "L"}, "must be S and L")
    ]
    trunk_examples: Count  # D_op, once, from random weights: the sizes' stand-in for pretraining
    examples: Counts  # distinct examples of each branch
    epochs: Counts
    rates: Positives  # times the branch recipe's learning rates
    batch_size: Count
    test_problems: Count
    breadth: Count
    depth: Natural


@checked
class ExpansionSettings:
    """Independent samples against beams, at the tokens that they generate."""

    models: tuple[str, ...]
    #: Of lib/search/expansion.py.
    kinds: tuple[Annotated[str, one_of(EXPANSIONS, f"choose from {', '.join(EXPANSIONS)}")], ...]
    problems: Count  # of each test split: the first so many
    breadths: Counts
    depths: Naturals


@checked
class MiningSettings:
    """D_back from the model's own wrong paths, against as many examples more of the usual kind."""

    problems: Count  # training problems searched
    breadth: Count
    temperature: Positive
    examples: Count  # of each of the two branches, from the backtracking checkpoint on
    share: Share  # of these that are mined; the rest are D_op and D_back of fresh problems
    test_problems: Count  # of each test split: the first so many
    recipe: Recipe


#: Every section that a profile may add, by name.
SECTIONS: dict[str, Any] = {
    "baselines": BaselineSettings,
    "instruments": InstrumentSettings,
    "compute": ComputeSettings,
    "hypotheses": HypothesisSettings,
    "sweep": SweepSettings,
    "stream": StreamSettings,
    "dfs": DfsSettings,
    "ratios": RatioSettings,
    "audit": AuditSettings,
    "expansions": ExpansionSettings,
    "mining": MiningSettings,
}


def load_profile(name: str) -> Profile:
    """The profile called `name`, or in the TOML file at this path, with its studies' sections."""
    return load.load_profile(name, SECTIONS)


def open_experiment(profile: str, seed: int) -> Experiment:
    """The experiment of a profile (name or TOML path), in `runs/<profile>-<seed>/`.

    The environment variables that `make reproduce MODEL=... RUNS=...` sets name its pretrained
    model, and a folder in place of `runs`.
    """
    loaded = with_model(load_profile(profile), os.environ.get(MODEL_VARIABLE, ""))
    runs = ROOT / (os.environ.get(RUNS_VARIABLE) or "runs")
    return Experiment(loaded, profile, seed, Run(runs / f"{loaded.name}-{seed}"))
