"""Where a search is lost: the first step after which no sample can reach the target any more.

Takes an experiment whose task has an exact solver (for another there are no rows); gives rows of
the tables' searches at the largest N (artifact `search_loss`). Section 4.4 of the paper: the larger
model computes better and often fails to reach the target.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lib.base.checked import Count, checked
from lib.drawing.style import (
    LOSS_COLOUR,
    MODEL_COLOURS,
    SPLITS,
    artifact_rows,
    found_rows,
    legend,
    panels,
    present,
    problems_of,
    styled,
    whole,
)
from lib.evaluation.results import row, table
from lib.evaluation.statistics import clustered_share
from lib.experiment.experiment import Experiment
from studies.measurements import SAMPLE, Searched, chosen, state_outcomes, widest_searches
from studies.study import Figure, Study


@checked
class InstrumentSettings:
    """How many searches are taken apart; they are those of the tables, at the largest N."""

    problems: Count  # of each test split: the first so many


#: What can become of a problem, the last being success; `lost at step k` stands between them.
GAVE_UP, NOT_CHOSEN, SOLVED = "solution found, not finished", "found, not chosen", "solved"
LOST_AT = "lost at step "


def judged_searches(
    experiment: Experiment, depths: Sequence[int]
) -> Iterator[tuple[str, Searched]]:
    """The tables' searches at the largest N and these b, by model, whose states can be judged."""
    if experiment.task.solver is not None:
        for model in experiment.profile.models:
            for found in widest_searches(experiment, model, depths, expansion=SAMPLE):
                yield model, found


def requests(experiment: Experiment) -> Iterator[object]:
    """The searches at every b."""
    for _, found in judged_searches(experiment, experiment.profile.search.depths):
        yield found


def states(experiment: Experiment, found: Searched) -> pd.DataFrame:
    """The states of the trees that are taken apart."""
    count = experiment.profile.settings(InstrumentSettings).problems
    return state_outcomes(experiment, found.made, found.problems, count)


def rows(experiment: Experiment) -> pd.DataFrame:
    """The rows of every model, split and b."""
    search, made = experiment.profile.search, []
    for model, found in judged_searches(experiment, search.depths):
        named, known = found.columns(model), states(experiment, found)
        named |= {"selection": search.selection}
        solver, asked = experiment.task.solver, found.problems.itertuples(index=False)
        lengths = [len(solver.complete(problem, [])) for problem in asked]
        made += loss_rows(known, chosen(experiment, found), lengths, **named)
    return table(made)


def loss_rows(
    states: pd.DataFrame,
    outcomes: pd.DataFrame,
    lengths: Sequence[int] = (),
    **columns: object,
) -> list[dict]:
    """Where in the path each problem's search is lost: shares of all problems, summing to 1.

    outcomes: one row a problem (problem, correct, covered), the selection rule's. lengths: the
    steps of each problem's solution; without them all have as many as the longest path that is
    right so far.
    """
    alive = states[states["alive"].astype(bool)]
    last = int(alive["step"].max()) if len(alive) else 0
    last = max([last, *lengths])
    deepest = alive.groupby("problem")["step"].max()
    known = outcomes.set_index("problem").loc[sorted(states["problem"].unique())]
    places = []
    for problem, found in known.iterrows():
        if found["correct"]:
            places.append(SOLVED)
        elif found["covered"]:
            places.append(NOT_CHOSEN)
        else:
            reached = int(deepest.get(problem, 0))
            steps = lengths[problem] if len(lengths) else last
            places.append(GAVE_UP if reached == steps else f"{LOST_AT}{reached + 1}")
    rows, count = [], len(places)
    for name in (*(f"{LOST_AT}{step}" for step in range(1, last + 1)), GAVE_UP, NOT_CHOSEN, SOLVED):
        hits = [place == name for place in places]
        share, low, high = clustered_share(hits, np.ones(count), range(count))
        measured = {"share": share, "low": low, "high": high, "problems": count}
        rows.append(row("search_loss", quantity=name, **measured) | columns)
    return rows


def cells(found: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The rows of each model and split that there are, in the order of all tables."""
    for model, split in ((m, s) for m in MODEL_COLOURS for s in SPLITS):
        here = found[(found["model"] == model) & (found["split"] == split)]
        if len(here):
            yield model, split, here


def loss_remark(rows: pd.DataFrame) -> str:
    """Where most of the problems are lost, at the largest b; empty without rows."""
    found, told = artifact_rows(rows, "search_loss"), []
    for model, split, here in cells(found[found["b"] == found["b"].max()]):
        shares = here.set_index("quantity")["share"].astype(float)
        worst = shares.drop(SOLVED).idxmax()
        told.append(
            f"{model}, {SPLITS[split]}: {whole(shares[SOLVED])}% solved; the largest part of the "
            f"others is {worst} ({whole(shares[worst])}%)."
        )
    return f"Of independent samples, at the largest b: {' '.join(told)}" if told else ""


@styled
def where_lost(rows: pd.DataFrame) -> Drawn:
    """Where the problems that are not solved are lost: a bar a model and b, a panel a split."""
    found = found_rows(rows, "search_loss")
    keys = [(m, b) for m in present(found["model"], MODEL_COLOURS) for b in sorted(set(found["b"]))]
    splits = present(found["split"], SPLITS)
    shown = found[found["share"].astype(float) > 0]
    lost = {name for name in shown["quantity"] if name.startswith(LOST_AT)}
    lost = sorted(lost, key=lambda name: int(name.removeprefix(LOST_AT)))
    looks = dict(zip(lost, sns.light_palette(LOSS_COLOUR, len(lost) + 1)[:0:-1], strict=True))
    looks = {name: {"facecolor": colour} for name, colour in looks.items()}
    hatched = {"facecolor": "white", "edgecolor": LOSS_COLOUR, "linewidth": 0.8}
    looks |= {GAVE_UP: hatched | {"hatch": "...."}, NOT_CHOSEN: hatched | {"hatch": "////"}}
    most = 1 - found.loc[found["quantity"] == SOLVED, "share"].astype(float).min()
    figure, axes = panels(1, len(splits), height=0.42 * len(keys) + 0.8)
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        for place, (model, depth) in enumerate(keys):
            cell = here[(here["model"] == model) & (here["b"] == depth)]
            shares, left = cell.set_index("quantity")["share"].astype(float), 0.0
            for number, (name, style) in enumerate(looks.items()):
                if not (share := shares.get(name, 0.0)):
                    continue
                panel.barh(place, share, left=left, height=0.7, **style)
                if share >= 0.07 * most and name in lost:
                    colour = "white" if number < len(lost) / 2 else "#222222"
                    text = {"ha": "center", "va": "center_baseline", "fontsize": 9}
                    panel.text(left + share / 2, place, whole(share), color=colour, **text)
                left += share
            if len(cell):
                text = f" {whole(left)}%"
                panel.text(left, place, text, va="center_baseline", fontsize=9)
        panel.set_title(f"{SPLITS[split]}, N={found['N'].max()}{problems_of(here)}")
        panel.set_yticks(range(len(keys)), [f"{model}, b={depth}" for model, depth in keys])
        panel.set_ylim(len(keys) - 0.4, -0.6)
        panel.set_xlim(0, 1.12 * most or 1)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("share of problems that are not solved")
        panel.tick_params(axis="y", grid_alpha=0)
    legend(figure, [Patch(label=name, **style) for name, style in looks.items()], columns=3)
    return figure


STUDY = Study(
    name="search_loss",
    section="instruments",
    settings=InstrumentSettings,
    rows=rows,
    requests=requests,
    title="Where a search is lost",
    remark=loss_remark,
    figures=(
        Figure(
            "where_lost",
            where_lost,
            "What becomes of the problems that searches by independent samples do not solve: the "
            "first step after which no sample can reach the target, a solution that is not "
            "finished, or one that is not chosen.",
            ("search_loss",),
            columns=("quantity",),
        ),
    ),
)
