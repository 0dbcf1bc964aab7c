"""Accuracy target by target: is the gap between new and seen targets one of many, or of a few?

Takes an experiment; gives one tidy row for each target of both test splits, and their figure. The
`new` split is drawn from a handful of held-out targets, so that its interval over problems says
little of how another handful would do: this shows each of them. Beyond the paper.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib import evaluation, measurements
from lib.drawing import SPLITS, errors, handle, legend, panels, percent, pick, present, styled
from lib.experiment import TEST_SPLITS, Experiment
from lib.results import table

NEAR = 3  # a seen target is like a held-out one within so much
COLOURS = {"seen": "#9a9a9a", "new": "#d55e00"}


def by_target(experiment: Experiment, model: str) -> pd.DataFrame:
    """Self-Backtracking at the largest N and depth, and SFT greedy: a row a target (artifact
    `targets`, extra column `target`)."""
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
                    evaluation.accuracy_row(
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


def at_like_targets(rows: pd.DataFrame, method: str, model: str) -> tuple[float, int] | None:
    """Accuracy on seen targets within `NEAR` of each held-out one, weighted as those are asked, and
    on how many problems; None where a held-out target has no such neighbour.

    Targets are not equally hard, and a handful is held out: which one it is moves the accuracy on
    new targets by itself.
    """
    found = pick(rows, "targets", need=["target"])
    found = found[(found["method"] == method) & (found["model"] == model)]
    seen, new = (found[found["split"] == split] for split in ("seen", "new"))
    distance = np.abs(np.subtract.outer(new["target"].to_numpy(int), seen["target"].to_numpy(int)))
    near = (distance <= NEAR) * seen["problems"].to_numpy(float)
    if new.empty or not near.sum(axis=1).all():
        return None
    like = near @ seen["accuracy"].to_numpy(float) / near.sum(axis=1)
    weights = new["problems"].to_numpy(float)
    return float(like @ weights / weights.sum()), int(near.max(axis=0).sum())


def like_targets_text(rows: pd.DataFrame) -> str:
    """What new targets score beside seen targets like them; empty where the run has no targets."""
    if not (rows["artifact"] == "targets").any():
        return ""
    found = rows[(rows["artifact"] == "targets") & (rows["method"] == "self_backtracking")]
    told = []
    for model in present(found["model"], ("S", "L")):
        of_model = found[found["model"] == model]
        whole = {
            split: np.average(
                cell["accuracy"].astype(float), weights=cell["problems"].astype(float)
            )
            for split, cell in of_model.groupby("split")
        }
        like = at_like_targets(rows, "self_backtracking", model)
        if like is not None:
            told.append(
                f"{model} solves {100 * like[0]:.1f} of those ({like[1]} problems), where it "
                f"solves {100 * whole['seen']:.1f} of all seen and {100 * whole['new']:.1f} of new "
                "ones"
            )
    if not told:
        return ""
    return (
        "Of claim 5, target by target: a handful of targets is held out, and targets are not "
        f"equally hard. Taking seen targets within {NEAR} of each held-out one, as often as that "
        f"one is asked: {'; '.join(told)}."
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
