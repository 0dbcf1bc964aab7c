"""A study: one question of the run, in one file. What it needs made, its rows, figures and text.

Takes functions of an experiment and of rows; gives one value that the catalogue lists
(studies/catalogue.py), which is the only other place that names a study. Knows nothing of any
one study.

`requests(experiment)` asks the experiment for everything that takes long (checkpoints, searches,
decodings) and yields what it was given; `rows(experiment)` reads the same things. A planner
(lib/experiment/planner.py) asks `requests` alone, and makes nothing: what a study will take is
counted by the loops that it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd
from matplotlib import figure as matplotlib_figure

from lib.evaluation.paper import TASK
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment


@dataclass(frozen=True)
class Figure:
    """A figure: its file name, what draws it, its caption, and the rows that it needs.

    varied: a column with at least two values, without which there is nothing to see.
    """

    name: str
    draw: Callable[[pd.DataFrame], matplotlib_figure.Figure]
    caption: str
    artifacts: tuple[str, ...]
    methods: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    checkers: tuple[str, ...] = ()
    varied: str = ""

    def has_rows(self, rows: pd.DataFrame) -> bool:
        """Whether these results can be drawn."""
        columns = [*self.columns, self.varied] if self.varied else [*self.columns]
        if not set(columns) <= set(rows.columns):
            return False
        found = rows[rows["artifact"].isin(self.artifacts)].dropna(subset=columns)
        if self.methods:
            found = found[found["method"].isin(self.methods)]
        if self.varied and found[self.varied].nunique() < 2:
            return False
        return not found.empty and set(self.checkers) <= set(found["checker"])


def nothing(experiment: Experiment) -> Iterable[object]:
    """The requests of a study that reads what others have made."""
    return ()


def no_rows(experiment: Experiment) -> pd.DataFrame:
    """The rows of a study that shows other studies' rows."""
    return table([])


@dataclass(frozen=True)
class Study:
    """See above.

    name: its file's; section and settings: the profile's section that asks for it and the class
    that checks it (without one, every run has it). outcomes: its rows problem by problem, as
    lib/evaluation/outcomes.py names their cells. On the run's page and in notebooks, each empty
    where there are no rows: remark, a sentence or two that say what was found, with its numbers
    computed; text, the table in Markdown.
    """

    name: str
    rows: Callable[[Experiment], pd.DataFrame] = no_rows
    requests: Callable[[Experiment], Iterable[object]] = nothing
    outcomes: Callable[[Experiment], pd.DataFrame] | None = None
    section: str = ""
    settings: type | None = None
    figures: tuple[Figure, ...] = ()
    title: str = ""
    remark: Callable[[pd.DataFrame], str] | None = None
    text: Callable[[pd.DataFrame], str] | None = None

    def measured(self, experiment: Experiment) -> pd.DataFrame:
        """Its rows; those of another task than the paper's name it (column `task`), so that no
        number of the paper's is put beside them."""
        rows, name = self.rows(experiment), experiment.task.name
        return rows if name == TASK else rows.assign(task=name)

    def wanted(self, experiment: Experiment) -> bool:
        """Whether the profile asks for it."""
        return not self.section or experiment.profile.sections.get(self.section) is not None
