"""Accuracy target by target: is the gap between new and seen targets one of many, or of a few?

Takes an experiment; gives one tidy row for each target of both test splits, and their figure. The
`new` split is drawn from a handful of held-out targets, so that its interval over problems says
little of how another handful would do: this shows each of them. Beyond the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.drawing.style import SPLITS, errors, handle, legend, panels, percent, pick, present, styled
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.evaluation.statistics import difference, wilson_interval
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.studies import measurements

NEAR = 3  # a seen target is like a held-out one within so much
COLOURS = {"seen": "#9a9a9a", "new": "#d55e00"}


def by_target(experiment: Experiment, model: str) -> pd.DataFrame:
    """Self-Backtracking at the largest N and depth, and SFT greedy: a row a target (artifact
    `targets`, extra column `target`); none where the task's problems have no target."""
    if "target" not in experiment.table:
        return table([])
    search = experiment.profile.search
    breadth, depth = max(search.breadths), max(search.depths)
    plain = measurements.decoding_outcomes(experiment, model, "sft", 1)
    rows = []
    for split in TEST_SPLITS:
        problems = experiment.test_problems(model, split)
        found = measurements.outcomes(experiment, model, split, breadth, depth)
        found = found[found["selection"] == search.selection]["correct"]
        settings = {"N": breadth, "b": depth, "selection": search.selection}
        settings |= {"temperature": search.temperature}
        for method, correct, columns in (
            ("self_backtracking", found, settings),
            ("sft_greedy", plain[plain["split"] == split]["correct"], {}),
        ):
            for target, cell in correct.reset_index(drop=True).groupby(problems["target"]):
                rows.append(
                    scoring.accuracy_row(
                        cell,
                        artifact="targets",
                        method=method,
                        model=model,
                        split=split,
                        checker="strict",
                        seed=experiment.seed,
                        target=int(target),
                        **columns,
                    )
                )
    return table(rows)


@dataclass(frozen=True)
class LikeTargets:
    """Accuracy (a share) on seen targets like the held-out ones, on `problems` problems; weighted
    unequally, they tell as much as `effective` equal ones (Kish)."""

    accuracy: float
    problems: int
    effective: float


def at_like_targets(seen: pd.DataFrame, new: pd.DataFrame) -> LikeTargets | None:
    """The rows of seen targets within `NEAR` of each held-out one, weighted as those are asked.

    None where a held-out target has no such neighbour. Targets are not equally hard, and a handful
    is held out: which one it is moves the accuracy on new targets by itself.
    """
    targets = [part["target"].to_numpy(int) for part in (new, seen)]
    near = np.abs(np.subtract.outer(*targets)) <= NEAR
    problems, weights = (part["problems"].to_numpy(float) for part in (seen, new))
    asked = near @ problems
    if not len(asked) or not asked.all():
        return None
    each = (weights / weights.sum() / asked) @ near  # the weight of one problem of a seen target
    accuracy = float(each @ (problems * seen["accuracy"].to_numpy(float)))
    return LikeTargets(accuracy, int(problems[each > 0].sum()), float(1 / (problems @ each**2)))


def _told(model: str, seen: pd.DataFrame, new: pd.DataFrame) -> str:
    like = at_like_targets(seen, new)
    if like is None:
        return f"for {model}, a held-out target has no seen one near it"
    asked = float(new["problems"].sum())
    share = float((new["accuracy"] * new["problems"]).sum()) / asked
    apart = difference(model, _measured(share, asked), _measured(like.accuracy, like.effective))
    told = f"{like.problems} problems that, so weighted, tell as much as {like.effective:.0f}"
    return f"{apart} (of {told})"


def _measured(share: float, problems: float) -> pd.Series:
    low, high = wilson_interval(share * problems, problems)
    return pd.Series({"accuracy": share, "low": low, "high": high})


def like_targets_text(rows: pd.DataFrame) -> str:
    """What new targets score beside seen targets like them; empty where the run has no targets."""
    if "target" not in rows:
        return ""
    found = rows[(rows["artifact"] == "targets") & (rows["method"] == "self_backtracking")]
    told = []
    for model in present(found["model"], ("S", "L")):
        parts = [found[(found["model"] == model) & (found["split"] == each)] for each in SPLITS]
        if not any(part.empty for part in parts):
            told.append(_told(model, *parts))
    if not told:
        return ""
    return (
        "Of claim 5, target by target: a handful of targets is held out, and targets are not "
        f"equally hard. New targets against seen ones within {NEAR} of each, as often as that one "
        f"is asked: {'; '.join(told)}. This is no part of the verdict."
    )


@styled
def accuracy_by_target(rows: pd.DataFrame) -> Figure:
    """Accuracy of Self-Backtracking for every target, the held-out ones beside those seen."""
    found = pick(rows, "targets", need=["target"])
    found = found[found["method"] == "self_backtracking"]
    models = present(found["model"], ("S", "L"))
    figure, axes = panels(len(models), 1)
    figure.set_figwidth(9.0)
    for (panel,), model in zip(axes, models, strict=True):
        for split, colour in COLOURS.items():
            line = found[(found["model"] == model) & (found["split"] == split)]
            panel.errorbar(
                line["target"].astype(float),
                line["accuracy"],
                yerr=errors(line),
                linestyle="none",
                color=colour,
                marker="o" if split == "seen" else "D",
                markersize=4 if split == "seen" else 6.5,
                elinewidth=0.9,
                zorder=3 if split == "seen" else 4,
            )
        panel.set_title(f"{model}, b={found['b'].max()} N={found['N'].max()}")
        panel.set_xlabel("target")
        panel.set_ylabel("accuracy")
        percent(panel, from_zero=True)
    legend(
        figure,
        [
            handle(SPLITS[split], colour, linestyle="none", marker="oD"[split == "new"])
            for split, colour in COLOURS.items()
        ],
    )
    return figure
