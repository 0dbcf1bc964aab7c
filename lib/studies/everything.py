"""All rows that explain a run: instruments, verdicts, selection, compute, hypotheses, sweep.

Takes an experiment; gives tidy rows. A study whose section the profile leaves out gives none, so
that any part can be run alone. Knows nothing of figures.
"""

from __future__ import annotations

import pandas as pd

from lib.evaluation.claims import claims_rows
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.studies.beyond import (
    audit,
    equal_compute,
    expansions,
    larger_model,
    mined_errors,
    rollbacks,
    selection_rules,
    step_coverage,
    sweep,
    targets,
    verdicts,
)
from lib.studies.paper import ratios, self_improvement
from lib.studies.paper.tables import (
    baselines,
    figure_3,
    figure_4,
    figure_5,
    figure_6,
    figure_7,
    figure_13,
    table_1,
    table_2,
)


def everything(experiment: Experiment) -> pd.DataFrame:
    """Every row of results.json."""
    parts = [
        measure(experiment, model)
        for model in experiment.profile.models
        for measure in (table_1, baselines, figure_3, figure_4, figure_5, figure_6)
    ]
    parts += [measure(experiment, "S") for measure in (table_2, figure_7)]
    parts.append(figure_13(experiment, "S"))
    parts += [ratios.ratio_rows(experiment), audit.audit_rows(experiment)]
    for model in experiment.profile.models:
        parts += [targets.by_target(experiment, model), self_improvement.rows(experiment, model)]
        parts.append(rollbacks.rows(experiment, model))
    parts.append(study_rows(experiment))
    rows = table(pd.concat(parts, ignore_index=True).to_dict("records"))
    return table([*rows.to_dict("records"), *claims_rows(rows).to_dict("records")])


EACH_MODEL = (
    step_coverage.instrument_rows,
    verdicts.verdict_table,
    selection_rules.selection_rows,
    equal_compute.compute_rows,
    expansions.expansion_rows,
)
WHOLE = (mined_errors.mining_rows, larger_model.hypothesis_rows, sweep.sweep_rows)


def study_rows(experiment: Experiment) -> pd.DataFrame:
    """Every study's rows; an empty table where the profile asks for none."""
    parts = [measure(experiment, model) for model in experiment.profile.models
             for measure in EACH_MODEL]  # fmt: skip
    parts += [measure(experiment) for measure in WHOLE]
    found = [record for part in parts if len(part) for record in part.to_dict("records")]
    return table(found)
