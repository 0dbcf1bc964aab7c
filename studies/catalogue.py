"""The catalogue: every study of this repository, in the order of a run and of its page.

Takes nothing; gives STUDIES, what a run asks of all of them, and profiles and experiments with the
sections that they add. A new study is a file beside the others and a line here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from lib.base.files import ROOT
from lib.evaluation.claims import claims_rows
from lib.evaluation.outcomes import outcome_table
from lib.evaluation.results import table
from lib.experiment.artifacts import Run
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from lib.profiles import load
from lib.profiles.load import MODEL_VARIABLE, Profile, with_model
from studies.beyond import (
    ablations,
    audit,
    bfloat16,
    checkers,
    equal_compute,
    expansions,
    guess_depth,
    larger_model,
    leakage,
    rollback_gain,
    search_loss,
    verdicts,
)
from studies.measurements import with_targets
from studies.paper import (
    best_of_n,
    dpo_kto,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_13,
    paper_recipe,
    self_improvement,
    table_1,
    table_2,
    tables_3_and_4,
)
from studies.study import Figure, Study

STUDIES: tuple[Study, ...] = (
    table_1.STUDY,
    paper_recipe.STUDY,
    *table_2.STUDIES,
    best_of_n.STUDY,
    dpo_kto.STUDY,
    figure_4.STUDY,
    figure_3.STUDY,
    self_improvement.STUDY,
    figure_5.STUDY,
    figure_7.STUDY,
    tables_3_and_4.STUDY,
    leakage.STUDY,
    audit.STUDY,
    checkers.STUDY,
    figure_13.STUDY,
    search_loss.STUDY,
    verdicts.STUDY,
    rollback_gain.STUDY,
    equal_compute.STUDY,
    guess_depth.STUDY,
    expansions.STUDY,
    larger_model.STUDY,
    bfloat16.STUDY,
    figure_6.STUDY,
    ablations.STUDY,
)


def sections() -> dict[str, type]:
    """Every section that a profile may add for a study, with the class that checks it."""
    return {study.section: study.settings for study in STUDIES if study.section}


def load_profile(name: str) -> Profile:
    """The profile called `name`, or in the TOML file at this path, with its studies' sections."""
    return load.load_profile(name, sections())


def open_experiment(profile: str, seed: int) -> Experiment:
    """The experiment of a profile (name or TOML path), in `runs/<profile>-<seed>/`.

    One that extends another goes on in the artifacts of that profile's run of the same seed.
    The environment variables that `make reproduce MODEL=... RUNS=...` sets name its pretrained
    model, and a folder in place of `runs`.
    """
    loaded = with_model(load_profile(profile), os.environ.get(MODEL_VARIABLE, ""))
    return experiment_in(ROOT / (os.environ.get(RUNS_VARIABLE) or "runs"), loaded, profile, seed)


def experiment_in(runs: Path, profile: Profile, source: str, seed: int) -> Experiment:
    """The experiment of a loaded profile in its folder of `runs`, and where its artifacts lie."""
    shared = runs / f"{profile.extends}-{seed}" if profile.extends else None
    return Experiment(profile, source, seed, Run(runs / f"{profile.name}-{seed}", shared=shared))


def wanted(experiment: Experiment) -> list[Study]:
    """The studies that the profile asks for."""
    return [study for study in STUDIES if study.wanted(experiment)]


def figures() -> Iterator[Figure]:
    """Every study's figures."""
    for study in STUDIES:
        yield from study.figures


def everything(experiment: Experiment, outcomes: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every row of results.json: all studies', and the paper's claims judged by them.

    With the run's outcomes, the claims' differences are paired.
    """
    parts = [study.measured(experiment) for study in wanted(experiment)]
    rows = table(pd.concat(parts, ignore_index=True).to_dict("records"))
    return table([*rows.to_dict("records"), *claims_rows(rows, outcomes).to_dict("records")])


def every_outcome(experiment: Experiment) -> pd.DataFrame:
    """Every row of outcomes.parquet: what studies measured problem by problem."""
    parts = [study.outcomes(experiment) for study in wanted(experiment) if study.outcomes]
    found = with_targets(experiment, pd.concat(parts, ignore_index=True))
    return outcome_table([leakage.with_numbers_seen(experiment, found)])
