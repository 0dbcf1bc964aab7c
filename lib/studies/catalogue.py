"""The catalogue: every study of this repository, in the order of a run and of its page.

Takes nothing; gives STUDIES, and what a run asks of all of them. A new study is a file beside the
others and a line here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lib.evaluation.claims import claims_rows
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.studies.beyond import expansions
from lib.studies.paper import figure_3, figure_4, figure_5, figure_6, figure_13, table_1
from lib.studies.study import Figure, Study

STUDIES: tuple[Study, ...] = tuple(
    module.STUDY
    for module in (
        table_1,
        figure_4,
        figure_3,
        figure_5,
        figure_13,
        expansions,
        figure_6,
    )
)


def wanted(experiment: Experiment) -> list[Study]:
    """The studies that the profile asks for."""
    return [study for study in STUDIES if study.wanted(experiment)]


def figures() -> Iterator[Figure]:
    """Every study's figures."""
    for study in STUDIES:
        yield from study.figures


def everything(experiment: Experiment) -> pd.DataFrame:
    """Every row of results.json: all studies', and the paper's claims judged by them."""
    parts = [study.rows(experiment) for study in wanted(experiment)]
    rows = table(pd.concat(parts, ignore_index=True).to_dict("records"))
    return table([*rows.to_dict("records"), *claims_rows(rows).to_dict("records")])
