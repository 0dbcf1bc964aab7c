"""Figure 13: accuracy against the sampling temperature, at the middle one of the breadths.

Takes an experiment; gives rows of S (artifact `figure_13`) by the profile's selection rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.drawing.markdown import in_words
from lib.drawing.style import (
    CEILING_MARK,
    METHODS,
    curve,
    grid,
    handle,
    legend,
    look,
    percent,
    pick,
    setting,
    styled,
)
from lib.evaluation.results import headline, table
from lib.experiment.experiment import Experiment
from lib.search.beams import BeamSample
from studies.measurements import (
    SAMPLES,
    SEARCH,
    Searched,
    middle_breadth,
    search_kinds,
    search_rows,
    searches,
)
from studies.study import Figure, Study

MODEL = "S"


def requests(experiment: Experiment) -> Iterator[Searched]:
    """A search for each temperature and b."""
    search = experiment.profile.search
    for depth in search.depths:
        for temperature, kind in product(search.temperatures, search_kinds(experiment)):
            how = {"temperature": temperature, **kind}
            spec = experiment.spec(middle_breadth(experiment), depth, **how)
            yield from searches(experiment, MODEL, spec)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Accuracy by temperature and b, and the ceiling."""
    found = search_rows(experiment, MODEL, requests(experiment), "figure_13")
    rule = experiment.profile.search.selection
    return table(found[found["selection"].isna() | (found["selection"] == rule)])


def remark(rows: pd.DataFrame) -> str:
    """What the temperature moves, and the lowest and the highest one's accuracies; empty without
    two of them."""
    every = headline(rows, ["figure_13"])
    found = every[every["method"] == SEARCH]
    if found["temperature"].nunique() < 2:
        return ""
    low, high = found["temperature"].min(), found["temperature"].max()
    told = []
    for _, cells in found.groupby(["b", "N"]):
        ends = [in_words(cells[cells["temperature"] == end]) for end in (low, high)]
        told.append(
            f"{setting(cells.iloc[0]).strip()}: {ends[0]} at {low:g}, {ends[1]} at {high:g}"
        )
    return f"{spread(every)}Accuracy by temperature. {'; '.join(told)}."


def spread(found: pd.DataFrame) -> str:
    """How far accuracy moves with the temperature, by beams and by samples, and why; empty without
    both."""
    spans = {}
    for method, of in found.groupby("method"):
        cells = of.groupby(["model", "split", "b"])["accuracy"]
        spans[method] = 100 * (cells.max() - cells.min()).mean()
    if not {SEARCH, SAMPLES} <= set(spans):
        return ""
    low, high = found["temperature"].min(), found["temperature"].max()
    return (
        f"From {low:g} to {high:g} the temperature moves the accuracy of beams by "
        f"{spans[SEARCH]:.1f} points and that of independent samples by {spans[SAMPLES]:.1f} (mean "
        f"over splits and b). Beam sampling draws {BeamSample.DRAWN}N candidates without "
        "replacement, from scores that the temperature divides all alike, and keeps the N best of "
        "them, so that which ones "
        "stay hardly depends on it; an independent sample is one draw for each token, and each "
        "draw depends on it. "
    )


@styled
def accuracy_against_temperature(rows: pd.DataFrame) -> Drawn:
    """Figure 13: accuracy against the sampling temperature, for each b, below its ceiling."""
    found = pick(rows, "figure_13", need=["temperature", "b"])
    figure, grid_panels = grid(found)
    depths = sorted(found["b"].unique())
    # A little apart, so that intervals do not hide each other.
    step = 0.02 * (found["temperature"].max() - found["temperature"].min())
    found["x"] = found["temperature"] + step * found["b"].map(depths.index)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for depth in depths:
            line, style = here[here["b"] == depth], look(depth)
            curve(panel, line[line["method"] == SEARCH], "x", **style)
            curve(panel, line[line["method"] == SAMPLES], "x", linestyle="--", mfc="white", **style)
            # One ceiling a panel: two would hide the lines.
            ceiling = line[line["method"] == "pass_at_n"]
            panel.plot(ceiling["x"], ceiling["accuracy"], color=style["colour"], **CEILING_MARK)
        panel.set_xticks(sorted(found["temperature"].unique()))
        panel.set_xlabel(f"temperature (N={found['N'].max()})")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(f"b={depth}", **look(depth)) for depth in depths]
    if (found["method"] == SAMPLES).any():
        handles.append(handle("independent samples", "#222222", linestyle="--", mfc="white"))
    if (found["method"] == "pass_at_n").any():
        handles.append(handle(METHODS["pass_at_n"], "#222222", **CEILING_MARK))
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
            "Accuracy against the temperature (figure 13), and its ceiling.",
            ("figure_13",),
            ("self_backtracking",),
            ("b",),
            varied="temperature",
        ),
    ),
    remark=remark,
    title="Figure 13: temperature",
)
