"""Tables 3 and 4: how much D_back for each D_op. One branch a ratio, all of the same size.

Takes an experiment whose profile has a section `[ratios]`; gives branches of S and rows with a
column `ratio` (artifacts `table_3` on seen targets, `table_4` on new ones). Source: section 4.5 of
the paper. A search with roll-backs begins with the one without, so that serves both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import pandas as pd
from matplotlib.figure import Figure as Drawn
from pydantic import StrictInt

from lib.base.checked import Count, Counts, Naturals, Positives, at_least, checked
from lib.drawing.markdown import accuracy, markdown_table
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
    setting,
    styled,
)
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.paper import ratio_value
from lib.evaluation.results import headline, table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.recipe import PaddingLossRecipe
from studies.branches import small_branch
from studies.measurements import depth_rows, depth_searches
from studies.study import Figure, Study

MODEL = "S"
ARTIFACTS = {"seen": "table_3", "new": "table_4"}


@checked
class RatioSettings:
    """Tables 3 and 4: a branch of S for each D_op : D_back = 1 : ratio, all of one size."""

    ratios: Positives
    examples: Annotated[StrictInt, at_least(2)]  # of each branch, D_op and D_back together
    problems: Count  # of each test split
    breadths: Counts
    depths: Naturals


def ratio_branch(
    experiment: Experiment, model: str, ratio: float, examples: int, padding_loss: bool = False
) -> Artifact:
    """A branch of `examples` examples, `ratio` of D_back for each of D_op.

    `padding_loss` is the audit's switch of `lib.profiles.recipe.Recipe`.
    """
    recipe, name, inputs = experiment.profile.training.branch, f"ratio{ratio:g}", {}
    if padding_loss:
        recipe = PaddingLossRecipe(**(asdict(recipe) | {"packing": False}))
        name, inputs = f"{name}-padding_loss", {"padding_loss": True}
    return small_branch(experiment, model, name, examples, recipe, ratio, **inputs)


def branch_searches(
    experiment: Experiment,
) -> Iterator[tuple[float, pd.DataFrame, Iterator[tuple[Artifact, list[int]]]]]:
    """Each ratio and test split's problems, and the searches of them at each N."""
    settings = experiment.profile.settings(RatioSettings)
    for ratio in settings.ratios:
        checkpoint = ratio_branch(experiment, MODEL, ratio, settings.examples)
        for split in TEST_SPLITS:
            problems = experiment.problems(split).iloc[: settings.problems]
            for breadth in settings.breadths:
                how = (checkpoint, problems, breadth, settings.depths)
                yield ratio, problems, depth_searches(experiment, *how)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every branch and search."""
    for *_, found in branch_searches(experiment):
        yield from found


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each ratio, N, b and split."""
    parts = []
    for ratio, problems, found in branch_searches(experiment):
        named = {"artifact": ARTIFACTS[problems["split"].iloc[0]], "model": MODEL}
        parts.append(depth_rows(experiment, found, problems, **named).assign(ratio=ratio))
    return table(pd.concat(parts, ignore_index=True))


def remark(rows: pd.DataFrame) -> str:
    """The best ratio of each search, by its two splits; empty where there are no rows."""
    found = headline(rows, ARTIFACTS.values())
    found = found[found["method"] == "self_backtracking"]
    told = []
    for _, cells in found.groupby(["b", "N"]):
        by_ratio = cells.groupby(cells["ratio"].map(ratio_value))["accuracy"].mean()
        told.append(f"1:{by_ratio.idxmax():g} for{setting(cells.iloc[0])}")
    return f"The best D_op : D_back, both test splits together: {', '.join(told)}." if told else ""


def ratio_table(rows: pd.DataFrame) -> str:
    """Tables 3 and 4 in Markdown, ours beside the paper's; empty where there are no such rows."""
    found = headline(rows, ARTIFACTS.values())
    found = found[found["method"] == "self_backtracking"]
    if found.empty:
        return ""
    found = beside_paper(found.assign(ratio=found["ratio"].map(ratio_value)))
    ratios, lines = sorted(found["ratio"].unique()), []
    for (_, split, breadth, depth), cell in found.groupby(["artifact", "split", "N", "b"]):
        by_ratio = {row["ratio"]: row for row in cell.to_dict("records")}
        shown = [accuracy(by_ratio[ratio]) if ratio in by_ratio else "" for ratio in ratios]
        lines.append([split, f"b={depth} N={breadth}", *shown])
    return markdown_table(["split", "", *(f"1:{ratio:g}" for ratio in ratios)], lines)


@styled
def accuracy_against_ratio(rows: pd.DataFrame) -> Drawn:
    """Tables 3 and 4: accuracy against D_op : D_back, for each N and b."""
    found = pick(rows, *ARTIFACTS.values(), need=["ratio", "N", "b"])
    found = found[found["method"] == "self_backtracking"]
    found = beside_paper(found.assign(ratio=found["ratio"].map(ratio_value)))
    # The ratios' places, not their values: intervals of neighbours would overlap.
    ratios = sorted(found["ratio"].unique())
    cells, largest = list(found.groupby(["b", "N"]).groups), found["N"].max()
    styles = {n: {} if n == largest else {"linestyle": "--", "mfc": "white"} for _, n in cells}
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(cells):
            line = here[(here["b"] == depth) & (here["N"] == breadth)].sort_values("ratio")
            shift = 0.1 * (number - (len(cells) - 1) / 2)
            line = line.assign(place=line["ratio"].map(ratios.index) + shift)
            curve(panel, line, "place", **look(depth), **styles[breadth])
            mark = PAPER_MARK | {"markeredgecolor": look(depth)["colour"]}
            panel.plot(line["place"], line["paper"], **mark)
        panel.set_xticks(range(len(ratios)), [f"1:{ratio:g}" for ratio in ratios])
        panel.set_xlabel("D_op : D_back")
    for panel, *_ in grid_panels:
        percent(panel, from_zero=True)
    handles = [handle(f"b={depth} N={n}", **look(depth), **styles[n]) for depth, n in cells]
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=5)
    return figure


STUDY = Study(
    name="tables_3_and_4",
    section="ratios",
    settings=RatioSettings,
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "table_3",
            accuracy_against_ratio,
            "Accuracy against D_op : D_back (Tables 3 and 4).",
            ("table_3", "table_4"),
            ("self_backtracking",),
            ("ratio", "N", "b"),
        ),
    ),
    remark=remark,
    title="Tables 3 and 4: how much D_back for each D_op",
    text=ratio_table,
)
