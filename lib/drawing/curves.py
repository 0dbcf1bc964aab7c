"""Curves of accuracy: against N, tokens, temperature, rounds of self-improvement and D_op : D_back.

Takes the rows of lib/evaluation/results.py (each function picks the artifact that it draws, and
says so when there is none); shows 95% intervals, and the paper's own numbers as hollow diamonds
where it has them. Knows nothing of how a row was measured.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from lib.drawing.style import (
    PAPER_MARK,
    curve,
    grid,
    handle,
    legend,
    look,
    paper_handle,
    percent,
    pick,
    styled,
)
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.paper import ratio_value


def searches_of(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """The searches that rows are of, as (b, N)."""
    return sorted(rows[["b", "N"]].drop_duplicates().itertuples(index=False, name=None))


def search_handles(keys: Sequence[tuple[int, int]]) -> list:
    """A legend's entry for each search, in the look of its place."""
    return [
        handle(f"b={depth} N={breadth}", **look(number))
        for number, (depth, breadth) in enumerate(keys)
    ]


@styled
def accuracy_against_ratio(rows: pd.DataFrame) -> Figure:
    """Tables 3 and 4: accuracy against D_op : D_back, for each N and b."""
    found = pick(rows, "table_3", "table_4", need=["ratio", "N", "b"])
    found = found[found["method"] == "self_backtracking"]
    found = found.assign(ratio=found["ratio"].map(ratio_value))
    found = beside_paper(found)
    ratios = sorted(found["ratio"].unique())
    figure, grid_panels = grid(found)
    keys = searches_of(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(keys):
            colour = look(number)["colour"]
            line = here[(here["b"] == depth) & (here["N"] == breadth)].sort_values("ratio")
            # The ratios' places, not their values: intervals of neighbours would overlap.
            shift = 0.08 * (number - (len(keys) - 1) / 2)
            line = line.assign(place=line["ratio"].map(ratios.index) + shift)
            curve(panel, line, "place", **look(number))
            mark = PAPER_MARK | {"markeredgecolor": colour, "linestyle": ":", "color": colour}
            panel.plot(line["place"], line["paper"], **mark)
        panel.set_xticks(range(len(ratios)), [f"1:{ratio:g}" for ratio in ratios])
        panel.set_xlabel("D_op : D_back")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = search_handles(keys)
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=5)
    return figure
