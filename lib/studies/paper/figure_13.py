"""Figure 13: accuracy against the sampling temperature, at the middle one of the breadths.

Takes an experiment; gives rows of S (artifact `figure_13`) by the profile's selection rule.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.drawing.curves import search_handles, searches_of
from lib.drawing.style import curve, grid, legend, look, percent, pick, styled
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.studies.measurements import Searched, middle_breadth, search_rows, searches
from lib.studies.study import Figure, Study

MODEL = "S"


def requests(experiment: Experiment) -> Iterator[Searched]:
    """A search for each temperature and b."""
    search = experiment.profile.search
    for depth in search.depths:
        for temperature in search.temperatures:
            spec = experiment.spec(middle_breadth(experiment), depth, temperature=temperature)
            yield from searches(experiment, MODEL, spec)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Accuracy by temperature and b, and the ceiling."""
    found = search_rows(experiment, MODEL, requests(experiment), "figure_13")
    rule = experiment.profile.search.selection
    return table(found[found["selection"].isna() | (found["selection"] == rule)])


@styled
def accuracy_against_temperature(rows: pd.DataFrame) -> Drawn:
    """Figure 13: accuracy against the sampling temperature, for each b."""
    found = pick(rows, "figure_13", need=["temperature", "b"])
    found = found[found["method"] == "self_backtracking"]
    figure, grid_panels = grid(found)
    keys = searches_of(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(keys):
            line = here[(here["b"] == depth) & (here["N"] == breadth)]
            curve(panel, line, "temperature", **look(number))
        panel.set_xlabel("temperature")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = search_handles(keys)
    legend(figure, handles)
    return figure


STUDY = Study(
    name="figure_13",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_13",
            accuracy_against_temperature,
            "Accuracy against the temperature (figure 13).",
            ("figure_13",),
            ("self_backtracking",),
            ("temperature", "b"),
        ),
    ),
)
