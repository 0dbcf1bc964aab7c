"""Figure 4: accuracy against the breadth N for every depth b, and what a roll-back adds.

Takes an experiment; gives rows for each selection rule with the ceiling that none can pass
(artifact `figure_4`), and the same searches with and without roll-backs, problem by problem
(artifact `rollback`): a search with b > 0 begins with the very samples of b = 0, so that the two
are paired, and the interval of their difference is much narrower than those of the accuracies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.drawing.style import (
    METHODS,
    PAPER_MARK,
    curve,
    grid,
    handle,
    legend,
    look,
    paper_handle,
    percent,
    pick,
    powers,
    styled,
)
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from lib.evaluation.statistics import paired_difference
from lib.experiment.experiment import Experiment
from lib.studies.measurements import Searched, chosen, search_rows, searches
from lib.studies.study import Figure, Study


def model_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Every N and b of the profile."""
    search = experiment.profile.search
    for breadth in search.breadths:
        for depth in search.depths:
            yield from searches(experiment, model, experiment.spec(breadth, depth))


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search of the figure."""
    for model in experiment.profile.models:
        yield from model_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """The figure's rows, and those of what a roll-back adds."""
    parts = []
    for model in experiment.profile.models:
        parts.append(search_rows(experiment, model, model_searches(experiment, model), "figure_4"))
        parts.append(rollback_rows(experiment, model))
    return table(pd.concat(parts, ignore_index=True))


def rollback_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """A row for each split, N and b > 0: accuracy, and `gain` over b=0 with its 95% interval.

    `gained` and `lost` count the problems that only one of the two solves. No rows without b=0.
    """
    search = experiment.profile.search
    if 0 not in search.depths:
        return table([])
    right = {
        (each.split, each.spec.breadth, each.spec.depth): solved(experiment, each)
        for each in model_searches(experiment, model)
    }
    found = []
    for (split, breadth, depth), correct in right.items():
        if depth == 0:
            continue
        base = right[split, breadth, 0]
        named = {"artifact": "rollback", "method": "self_backtracking", "model": model}
        named |= {"split": split, "N": breadth, "b": depth, "seed": experiment.seed}
        named |= {"temperature": search.temperature, "selection": search.selection}
        gain, low, high = paired_difference(correct, base)
        row = accuracy_row(correct, checker="strict", **named)
        row |= {"gain": gain, "gain_low": low, "gain_high": high}
        row |= {"gained": int((correct & ~base).sum()), "lost": int((base & ~correct).sum())}
        found.append(row)
    return table(found)


def solved(experiment: Experiment, searched: Searched) -> np.ndarray:
    """Which problems are solved `[problems]`, by the profile's selection rule."""
    return chosen(experiment, searched).sort_values("problem")["correct"].to_numpy(bool)


@styled
def accuracy_against_breadth(rows: pd.DataFrame) -> Drawn:
    """Figure 4: accuracy against N for each b, and the ceiling that no selection can pass."""
    found = beside_paper(pick(rows, "figure_4", need=["N", "b"]))
    found = found[found["method"].isin(["self_backtracking", "pass_at_n"])]
    figure, grid_panels = grid(found)
    depths = sorted(found["b"].unique())
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, depth in enumerate(depths):
            colour = look(number)["colour"]
            at = here[here["b"] == depth]
            # A little apart, so that intervals do not hide each other.
            apart = 2 ** (0.07 * (number - (len(depths) - 1) / 2))
            at = at.assign(x=at["N"].astype(float) * apart).sort_values("x")
            ceiling = at[at["method"] == "pass_at_n"]
            panel.plot(ceiling["x"], ceiling["accuracy"], "--", color=colour)
            chosen = at[at["method"] == "self_backtracking"]
            curve(panel, chosen, "x", **look(number))
            panel.plot(chosen["x"], chosen["paper"], **PAPER_MARK | {"markeredgecolor": colour})
        powers(panel, found["N"])
        panel.set_xlabel("breadth N")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(f"b={depth}", **look(number)) for number, depth in enumerate(depths)]
    if (found["method"] == "pass_at_n").any():
        handles.append(handle(METHODS["pass_at_n"], "#555555", linestyle="--", marker=""))
    legend(figure, handles + ([paper_handle("the paper")] if found["paper"].notna().any() else []))
    return figure


STUDY = Study(
    name="figure_4",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_4",
            accuracy_against_breadth,
            "Accuracy against the breadth N (figure 4).",
            ("figure_4",),
            ("self_backtracking", "pass_at_n"),
            ("N", "b"),
        ),
    ),
)
