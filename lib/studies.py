"""All rows that explain a run: instruments, verdicts, selection, compute, hypotheses, sweep.

Takes an experiment; gives tidy rows. A study whose section the profile leaves out gives none, so
that any part can be run alone. Knows nothing of figures.
"""

from __future__ import annotations

import pandas as pd

from lib import choosing, compute, expansions, hypotheses, instruments, mined, sweep, verdicts
from lib.experiment import Experiment
from lib.results import table

EACH_MODEL = (
    instruments.instrument_rows,
    verdicts.verdict_table,
    choosing.selection_rows,
    compute.compute_rows,
    expansions.expansion_rows,
)
WHOLE = (mined.mining_rows, hypotheses.hypothesis_rows, sweep.sweep_rows)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Every study's rows; an empty table where the profile asks for none."""
    parts = [measure(experiment, model) for model in experiment.profile.models
             for measure in EACH_MODEL]  # fmt: skip
    parts += [measure(experiment) for measure in WHOLE]
    found = [record for part in parts if len(part) for record in part.to_dict("records")]
    return table(found)
