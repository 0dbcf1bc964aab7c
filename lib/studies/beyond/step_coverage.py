"""Where a search is lost: coverage step by step, diversity of the samples, and the first dead end.

Takes an experiment and a model; gives tidy rows. Works on any checkpoint whose task has an exact
solver (lib/evaluation/states.py); for another the tables are empty. Issue of the paper's section
4.4: the larger model computes better and often fails to reach the target. Knows nothing of figures.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lib.base import files
from lib.drawing.style import (
    LINES,
    MODEL_COLOURS,
    PALETTE,
    SPLITS,
    WIDTH,
    _error,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation.results import row, table
from lib.evaluation.states import diversity_rows, state_table
from lib.evaluation.statistics import clustered_share
from lib.experiment import artifacts
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.search.tree import TreeFile
from lib.studies import measurements
from lib.tasks.task import COMPUTATION, FORMAT, RULE

#: What can become of a problem, the last being success; `lost at step k` stands between them.
GAVE_UP, NOT_CHOSEN, SOLVED = "solution found, not finished", "found, not chosen", "solved"
LOST_AT = "lost at step "


def wanted(experiment: Experiment) -> bool:
    """Whether the profile asks for instruments and the task has an exact solver."""
    return experiment.profile.instruments is not None and experiment.task.solver is not None


def searched(
    experiment: Experiment, model: str, split: str, depth: int
) -> tuple[artifacts.Artifact, pd.DataFrame]:
    """The search of the tables at the largest N: its artifact and its problems."""
    search = experiment.profile.search
    problems = experiment.test_problems(model, split)
    checkpoint = experiment.checkpoint(model, "backtracking")
    breadth = max(search.breadths)
    return experiment.search(checkpoint, problems, experiment.spec(breadth, depth)), problems


def first_trees(experiment: Experiment, made: artifacts.Artifact) -> TreeFile:
    """The trees that are taken apart: the first `instruments.problems`."""
    return experiment.read_trees(made)[: experiment.profile.instruments.problems]


def states(experiment: Experiment, model: str, split: str, depth: int) -> pd.DataFrame:
    """`lib.evaluation.states.state_table` of a model's search, made once."""
    made, problems = searched(experiment, model, split, depth)
    inputs = {"search": made.key, "problems": experiment.profile.instruments.problems}

    def make(folder: Path) -> None:
        trees = first_trees(experiment, made)
        files.write_parquet(
            folder / "states.parquet", state_table(trees, problems, experiment.task)
        )

    artifact = experiment.run.make(f"states/{made.name}", inputs, make)
    return files.read_parquet(artifact.path / "states.parquet")


def common(experiment: Experiment, model: str, split: str, depth: int) -> dict:
    """The columns that name a search at the largest N."""
    search = experiment.profile.search
    return {
        "method": "self_backtracking",
        "model": model,
        "split": split,
        "N": max(search.breadths),
        "b": depth,
        "temperature": search.temperature,
        "seed": experiment.seed,
    }


def coverage_rows(states: pd.DataFrame, **columns: object) -> list[dict]:
    """By step, of samples whose steps before were all sound: what the step was.

    legal; computed (of the legal); reachable (of those computed right: the target still is); kept,
    the product of the three; gave_up: `<backtrack>` said right after a step that was sound.
    """
    rows = []
    for step, cell in states[(states["step"] > 0) & states["alive_before"]].groupby("step"):
        error = cell["error"]
        legal = ~error.isin([FORMAT, RULE])
        right = legal & (error != COMPUTATION)
        alive = cell["alive"].astype(bool)
        said = cell["backtracked"] / cell["continued"].clip(lower=1)
        for name, hits, among in (
            ("legal", legal, cell["visits"]),
            ("computed", right, cell["visits"] * legal),
            ("reachable", alive, cell["visits"] * right),
            ("kept", alive, cell["visits"]),
            ("gave_up", said, cell["continued"] * alive),
        ):
            share, low, high = clustered_share(hits, among, cell["problem"])
            rows.append(
                row("step_coverage", quantity=name, step=int(step), share=share, low=low, high=high)
                | {"samples": int(among.sum())}
                | {"problems": int(cell["problem"].nunique())}
                | columns
            )
    return rows


def loss_rows(states: pd.DataFrame, outcomes: pd.DataFrame, **columns: object) -> list[dict]:
    """Where in the path each problem's search is lost: shares of all problems, summing to 1.

    outcomes: one row a problem (problem, correct, covered), the selection rule's.
    """
    alive = states[states["alive"].astype(bool)]
    last = int(alive["step"].max()) if len(alive) else 0
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
            places.append(GAVE_UP if reached == last else f"{LOST_AT}{reached + 1}")
    names = [*(f"{LOST_AT}{step}" for step in range(1, last + 1)), GAVE_UP, NOT_CHOSEN, SOLVED]
    rows = []
    for name in names:
        hits = [place == name for place in places]
        share, low, high = clustered_share(hits, np.ones(len(hits)), range(len(hits)))
        rows.append(
            row("search_loss", quantity=name, share=share, low=low, high=high, problems=len(hits))
            | columns
        )
    return rows


def instrument_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Artifacts step_coverage, search_loss and diversity of one model."""
    if not wanted(experiment):
        return table([])
    search = experiment.profile.search
    rows = []
    for depth in search.depths:
        for split in TEST_SPLITS:
            named = common(experiment, model, split, depth)
            found = states(experiment, model, split, depth)
            rows += coverage_rows(found, **named)
            known = measurements.outcomes(experiment, model, split, max(search.breadths), depth)
            known = known[known["selection"] == search.selection]
            rows += loss_rows(found, known, **named, selection=search.selection)
            made, _ = searched(experiment, model, split, depth)
            rows += diversity_rows(first_trees(experiment, made), **named)
    return table(rows)


QUANTITIES = {
    "legal": ("legal", "o"),
    "computed": ("computed right (of the legal)", "s"),
    "reachable": ("target still reachable (of the right)", "D"),
    "kept": ("all three", "^"),
    "gave_up": ("sound, yet <backtrack>", "v"),
}


@styled
def coverage_by_step(rows: pd.DataFrame) -> Figure:
    """Of samples whose steps before were sound, at b = 0: what the next step is."""
    found = found_rows(rows, "step_coverage")
    found = found[found["b"] == found["b"].min()]
    splits, models = present(found["split"], SPLITS), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(1, len(splits), height=3.4)
    for panel, split in zip(axes[0], splits, strict=True):
        for number, (name, (_, marker)) in enumerate(QUANTITIES.items()):
            for model in models:
                line = found[(found["split"] == split) & (found["model"] == model)]
                line = line[line["quantity"] == name].sort_values("step")
                shift = 0.05 * (number - 2) + (0.02 if model == "L" else 0)
                panel.errorbar(
                    line["step"].astype(float) + shift,
                    line["share"].astype(float),
                    yerr=_error(line, "share"),
                    color=PALETTE[number],
                    marker=marker,
                    linestyle=LINES[model],
                    capsize=3,
                    markersize=5,
                )
        panel.set_title(SPLITS[split])
        panel.set_xticks(sorted(found["step"].dropna().unique().astype(int)))
        panel.set_xlabel("step")
        panel.set_ylim(-0.03, 1.05)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0][0].set_ylabel("share of samples")
    handles = [
        handle(label, PALETTE[number], marker=marker)
        for number, (label, marker) in enumerate(QUANTITIES.values())
    ]
    if len(models) > 1:
        handles += [handle(each, "#444444", marker="", linestyle=LINES[each]) for each in models]
    legend(figure, handles, columns=3)
    return figure


@styled
def where_lost(rows: pd.DataFrame) -> Figure:
    """Where each problem's search is lost: one bar a model, split and b, in shares of problems."""
    found = found_rows(rows, "search_loss")
    keys = ["model", "split", "b"]
    bars = [
        (model, split, int(b))
        for model in present(found["model"], MODEL_COLOURS)
        for split in present(found["split"], SPLITS)
        for b in sorted(found["b"].unique())
    ]
    lost = sorted(name for name in found["quantity"].unique() if name.startswith(LOST_AT))
    names = [SOLVED, NOT_CHOSEN, GAVE_UP, *lost[::-1]]
    shades = sns.color_palette("Oranges", len(lost) + 1)[1:]
    colours = [PALETTE[0], PALETTE[4], PALETTE[2], *shades]
    figure = plt.figure(figsize=(WIDTH, 0.42 * len(bars) + 1.6), layout="constrained")
    axes = figure.subplots()
    for place, key in enumerate(bars):
        cell = found[(found[keys] == list(key)).all(axis=1)].set_index("quantity")["share"]
        left = 0.0
        for name, colour in zip(names, colours, strict=True):
            share = float(cell.get(name, 0.0))
            axes.barh(place, share, left=left, color=colour, height=0.72)
            if share >= 0.03:
                light = "white" if name in (SOLVED, GAVE_UP) else "#222222"
                axes.text(left + share / 2, place, f"{100 * share:.0f}", ha="center", va="center",
                          color=light, fontsize=9)  # fmt: skip
            left += share
    axes.set_yticks(range(len(bars)), [f"{m}, {SPLITS[s]}, b={b}" for m, s, b in bars])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("share of problems")
    handles = [Patch(color=c, label=name) for name, c in zip(names, colours, strict=True)]
    legend(figure, handles, columns=3)
    return figure
