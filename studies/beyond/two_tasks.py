"""Two tasks beside each other: does a roll-back earn its tokens where a guess is needed?

Takes the rows of two runs, Countdown's and Sudoku's (one may be the run at hand, the other comes
from the results that are committed); gives one figure, accuracy against the tokens of a problem for
b = 0, 1, 2, 3 and for independent samples of the SFT model, and a paragraph on how deep the wrong
guesses of each task are. Measures nothing: equal_compute.py and guess_depth.py do.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base.files import ROOT
from lib.drawing.markdown import points, points_of
from lib.drawing.style import (
    SPLITS,
    artifact_rows,
    curve,
    handle,
    legend,
    panels,
    percent,
    present,
    problems_of,
    styled,
    token_counts,
)
from lib.evaluation.paper import TASK
from lib.evaluation.results import read_results, table
from studies.beyond import equal_compute, guess_depth
from studies.beyond.equal_compute import EQUAL, OVER

#: A task's name in rows -> how it is called, and the profile whose results are committed.
TASKS = {TASK: ("Countdown", "cpu"), "sudoku": ("Sudoku", "sudoku")}
ARTIFACTS = (equal_compute.ARTIFACT, guess_depth.ARTIFACT)
MODEL = "S"
PAGE = "sudoku"  # the profile whose page shows both
NAME = "two_tasks"
CAPTION = (
    "Accuracy against the tokens that a problem costs, on both tasks: independent samples of the "
    "SFT model, and Self-Backtracking with b roll-backs."
)


def with_task(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are compared, each with its task; those of the paper's task do not name it."""
    found = artifact_rows(rows, *ARTIFACTS)
    found = found[found["model"] == MODEL]
    named = found["task"].fillna(TASK) if "task" in found else TASK
    return found.assign(task=named)


def both(rows: pd.DataFrame, root: Path = ROOT) -> pd.DataFrame | None:
    """A run's rows beside those that are committed of the other task; None where either lacks, or
    the run is of neither."""
    parts = [with_task(rows)]
    if not set(parts[0]["task"]) <= set(TASKS):
        return None
    for task, (_, profile) in TASKS.items():
        path = root / "figures" / profile / "results.json"
        if task not in set(parts[0]["task"]) and path.exists():
            parts.append(with_task(read_results(path)[1]))
    found = table(pd.concat([part for part in parts if len(part)] or [table([])]))
    known = found[found["artifact"] == equal_compute.ARTIFACT] if len(found) else found
    return found if len(known) and set(known["task"]) >= set(TASKS) else None


@styled
def against_tokens(rows: pd.DataFrame) -> Drawn:
    """A column of panels for each task, a row for each split; rows: as `both` gives them."""
    parts = {task: equal_compute.by_series(rows[rows["task"] == task]) for task in TASKS}
    splits = present(pd.concat(parts.values())["split"], SPLITS)
    figure, axes = panels(len(splits), len(TASKS))
    looks: dict = {}
    for column, (task, found) in enumerate(parts.items()):
        looks |= equal_compute.looks(found)
        for line, split in zip(axes, splits, strict=True):
            panel, here = line[column], found[found["split"] == split]
            for name, (_, each) in equal_compute.looks(found).items():
                drawn = here[here["series"] == name]
                style = {"markersize": 4.5, "elinewidth": 1.1, "capsize": 2}
                curve(panel, drawn, "tokens_per_problem", **each, **style)
            token_counts(panel, found["tokens_per_problem"])
            panel.set_title(f"{TASKS[task][0]}, {SPLITS[split]}{problems_of(here)}")
            line[0].set_ylabel("accuracy")
    for panel in axes[-1]:
        panel.set_xlabel("tokens generated for a problem")
    for line in axes:
        percent(line[0], from_zero=True)
    legend(figure, [handle(name, **each) for name, each in looks.values()], columns=3)
    return figure


def remark(rows: pd.DataFrame) -> str:
    """What the widest search with roll-backs gains at equal tokens, and how deep guesses are."""
    return " ".join(_told(rows[rows["task"] == task], name) for task, (name, _) in TASKS.items())


AGAINST = {
    "b0_at_equal_tokens": "more samples without roll-backs",
    "sft_at_equal_tokens": "samples of SFT",
}


def _told(rows: pd.DataFrame, name: str) -> str:
    """The sentences of one task."""
    parts = []
    for split in SPLITS:
        found = equal_compute.equal_tokens(rows[rows["split"] == split])
        found = found.dropna(subset=list(AGAINST), how="all").sort_values(["N", "b"])
        for cell in found.tail(1).to_dict("records"):
            gains = []
            for method, column in EQUAL.items():
                if not pd.isna(cell[column]):  # earlier results have no interval
                    gain = points_of(cell, OVER[method])
                    gain = gain or points(cell["accuracy"] - cell[column])
                    gains.append(f"{gain} points against {AGAINST[column]}")
            setting = f"b={cell['b']} N={cell['N']}"
            parts.append(
                f"{name}, {SPLITS[split]}, {setting}, at equal tokens: {', '.join(gains)}."
            )
    depth = guess_depth.remark(rows).replace(f"{MODEL}, ", f"{name}, ")
    return " ".join([*parts, *([depth] if depth else [])])
