"""Accuracy target by target: is the gap between new and seen targets one of many, or of a few?

Takes an experiment; gives one tidy row for each target of both test splits, and their figure. The
`new` split is drawn from a handful of held-out targets, so that its interval over problems says
little of how another handful would do: this shows each of them. Beyond the paper.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from lib import evaluation, measurements
from lib.drawing import SPLITS, errors, handle, legend, panels, percent, pick, present, styled
from lib.experiment import TEST_SPLITS, Experiment
from lib.results import table

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
