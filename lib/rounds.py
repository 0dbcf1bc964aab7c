"""Search after each round of self-improvement: does slow thinking stay, and how varied is it?

Takes an experiment; gives tidy rows (artifacts `round_search` and `round_diversity`), none where
the profile's `improvement.test_problems` is 0. Beyond the paper, whose section 3.4 measures greedy
decoding alone. Knows nothing of figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lib import evaluation, improvement, measurements
from lib.experiment import TEST_SPLITS, Experiment
from lib.instruments import diversity_rows
from lib.results import table
from lib.store import Artifact

SEARCH, DIVERSITY = "round_search", "round_diversity"


def searches(
    experiment: Experiment, model: str, number: int
) -> Iterator[tuple[str, pd.DataFrame, Artifact]]:
    """Each test split with its problems, and their search by the model after round `number`."""
    settings = experiment.profile.improvement
    if not settings.test_problems:
        return
    checkpoint = improvement.self_improved(experiment, model, number)
    for split in TEST_SPLITS:
        problems = experiment.problems(split, 0, settings.test_problems)
        how = (settings.breadth, settings.depth, settings.temperature)
        yield split, problems, experiment.search(checkpoint, problems, *how)


def rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Accuracy, pass@N and the number of distinct paths of these searches, by round."""
    depth, rule = experiment.profile.improvement.depth, experiment.profile.search.selection
    found = []
    for number in range(experiment.profile.rounds(model) + 1):
        for split, problems, made in searches(experiment, model, number):
            outcomes = measurements.outcomes_at_depths(experiment, made, problems, [depth])
            outcomes = outcomes[outcomes["selection"] == rule]
            accuracy = evaluation.search_rows(outcomes, artifact=SEARCH, model=model)
            named = {"model": model, "split": split, "seed": experiment.seed}
            varied = [
                row | {"artifact": DIVERSITY}
                for row in diversity_rows(experiment.read_trees(made), **named)
                if row["quantity"].startswith("distinct")
            ]
            parts = [accuracy, table(varied)]
            found += [part.assign(round=number) for part in parts]
    return table(pd.concat(found, ignore_index=True)) if found else table([])
