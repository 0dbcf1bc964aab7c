"""Expansion without waste: independent samples against beams, by accuracy and pass@N at the tokens
that they generate.

Takes an experiment and a model; gives tidy rows (artifact `expansions`, with a column `expansion`)
on the same problems throughout. The beams' b = 0 is the first level of their search at the largest
b. A comparison that the paper does not make. Knows nothing of figures.
"""

from __future__ import annotations

import pandas as pd

from lib import evaluation, measurements
from lib.experiment import TEST_SPLITS, Experiment
from lib.results import table

ARTIFACT = "expansions"


def expansion_outcomes(
    experiment: Experiment, model: str, split: str, expansion: str, breadth: int, depths: tuple
) -> pd.DataFrame:
    """One row a problem, depth and selection rule."""
    settings, search = experiment.profile.expansions, experiment.profile.search
    problems = experiment.test_problems(model, split).iloc[: settings.problems]
    if expansion == "sample":
        parts = []
        for depth in depths:
            if breadth in search.breadths and depth in search.depths:  # a table's, cut
                found = measurements.outcomes(experiment, model, split, breadth, depth)
                parts.append(found[found["problem"] < settings.problems])
            else:
                checkpoint = experiment.checkpoint(model, "backtracking")
                made = experiment.search(checkpoint, problems, breadth, depth, search.temperature)
                parts.append(measurements.search_outcomes(experiment, made, problems))
        return pd.concat(parts, ignore_index=True)
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(
        checkpoint, problems, breadth, max(depths), search.temperature, expansion=expansion
    )
    return measurements.outcomes_at_depths(experiment, made, problems, depths)


def expansion_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Every row of artifact `expansions` for one model; empty where the profile does not ask."""
    settings, search = experiment.profile.expansions, experiment.profile.search
    if settings is None or model not in settings.models:
        return table([])
    rows = []
    for expansion in settings.kinds:
        for breadth in settings.breadths:
            found = pd.concat(
                [
                    expansion_outcomes(
                        experiment, model, split, expansion, breadth, settings.depths
                    ).assign(split=split)
                    for split in TEST_SPLITS
                ],
                ignore_index=True,
            )
            found = found[found["selection"] == search.selection]
            rows.append(
                evaluation.search_rows(found, artifact=ARTIFACT, model=model, expansion=expansion)
            )
    return table(pd.concat(rows, ignore_index=True))
