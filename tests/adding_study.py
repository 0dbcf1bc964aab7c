"""A study in one file, for tests: what does one more sample cost? Nothing else has to change for it
but a line in the catalogue (studies/catalogue.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base.checked import Count, Counts, checked
from lib.drawing.markdown import markdown_table
from lib.drawing.style import found_rows, panels, styled
from lib.evaluation.results import row, table
from lib.experiment.experiment import Experiment
from studies.measurements import Searched, outcomes, searches
from studies.study import Figure, Study

ARTIFACT = "sample_cost"


@checked
class SampleCostSettings:
    """A profile's section `[sample_cost]`."""

    problems: Count  # of each test split
    breadths: Counts


def every_search(experiment: Experiment) -> Iterator[Searched]:
    """Searches of S at b = 0: what is asked for and what is measured."""
    settings = experiment.profile.settings(SampleCostSettings)
    for breadth in settings.breadths:
        yield from searches(experiment, "S", experiment.spec(breadth, 0), count=settings.problems)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Tokens of a problem, for each N and split."""
    found = []
    for each in every_search(experiment):
        columns = {"model": "S", "split": each.split, "N": each.spec.breadth}
        tokens = outcomes(experiment, each).drop_duplicates("problem")["tokens"]
        columns |= {"tokens_per_problem": tokens.mean(), "problems": len(tokens)}
        found.append(row(ARTIFACT, "self_backtracking", seed=experiment.seed, **columns))
    return table(found)


@styled
def tokens_by_breadth(rows: pd.DataFrame) -> Drawn:
    """Tokens of a problem against N, a line for each split."""
    figure, [[axes]] = panels(1, 1)
    for split, line in found_rows(rows, ARTIFACT).groupby("split"):
        axes.plot(line["N"], line["tokens_per_problem"], marker="o", label=split)
    axes.set_xlabel("N")
    axes.set_ylabel("tokens a problem")
    axes.legend()
    return figure


def text(rows: pd.DataFrame) -> str:
    """The rows as a table; empty where there are none."""
    found = rows[rows["artifact"] == ARTIFACT]
    lines = [[each["split"], f"{each['N']}", f"{each['tokens_per_problem']:.0f}"]
             for each in found.to_dict("records")]  # fmt: skip
    return markdown_table(["targets", "N", "tokens a problem"], lines) if lines else ""


STUDY = Study(
    name="adding_study",
    section=ARTIFACT,
    settings=SampleCostSettings,
    rows=rows,
    requests=every_search,
    figures=(Figure(ARTIFACT, tokens_by_breadth, "Tokens of a problem against N.", (ARTIFACT,)),),
    title="What one more sample costs",
    text=text,
)
