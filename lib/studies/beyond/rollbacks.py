"""What a roll-back adds: the same search with and without it, problem by problem.

Takes an experiment; gives tidy rows (artifact `rollback`). A search with b > 0 begins with the very
samples of b = 0, so the two are paired, and the interval of their difference is much narrower than
those of the two accuracies. Beyond the paper, whose tables give no intervals.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from lib.evaluation.statistics import paired_difference
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.studies import measurements

ARTIFACT = "rollback"


def rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """A row for each split, N and b > 0: accuracy, and `gain` over b=0 with its 95% interval.

    `gained` and `lost` count the problems that only one of the two solves. No rows without b=0.
    """
    search = experiment.profile.search
    if 0 not in search.depths:
        return table([])
    found = []
    for split in TEST_SPLITS:
        for breadth in search.breadths:
            base = _correct(experiment, model, split, breadth, 0)
            for depth in sorted(set(search.depths) - {0}):
                correct = _correct(experiment, model, split, breadth, depth)
                named = {"artifact": ARTIFACT, "method": "self_backtracking", "model": model}
                named |= {"split": split, "N": breadth, "b": depth, "seed": experiment.seed}
                named |= {"temperature": search.temperature, "selection": search.selection}
                row = accuracy_row(correct, checker="strict", **named)
                gain, low, high = paired_difference(correct, base)
                row |= {"gain": gain, "gain_low": low, "gain_high": high}
                row |= {
                    "gained": int((correct & ~base).sum()),
                    "lost": int((base & ~correct).sum()),
                }
                found.append(row)
    return table(found)


def _correct(
    experiment: Experiment, model: str, split: str, breadth: int, depth: int
) -> np.ndarray:
    """Which problems are solved `[problems]`, by the profile's selection rule."""
    found = measurements.outcomes(experiment, model, split, breadth, depth)
    found = found[found["selection"] == experiment.profile.search.selection]
    return found.sort_values("problem")["correct"].to_numpy(bool)
