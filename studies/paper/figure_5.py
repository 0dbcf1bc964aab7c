"""Figures 5 and 9 to 12: what the failures are, of greedy decoding and of search.

Takes an experiment; gives shares of the failures by the task's error names (artifact `figure_5`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lib.drawing.style import (
    METHODS,
    MODEL_COLOURS,
    SPLITS,
    legend,
    panels,
    pick,
    present,
    setting,
    styled,
    whole,
)
from lib.evaluation import scoring
from lib.evaluation.results import headline, table
from lib.experiment.experiment import Experiment
from lib.tasks.task import COMMON_ERRORS
from studies.measurements import chosen, decoding_outcomes, widest_searches
from studies.study import Figure, Study

#: No other figure has these.
ERROR_COLOURS = ("#c9d2d6", "#37474f", "#e57373", "#a2a02c", "#8d6e63", "#80cbc4", "#f3d1dc")
SMALLEST = 0.06  # a share with room for its number
DECODED = (("sft", "sft_greedy"), ("backtracking", "backtracking_data_greedy"))


def requests(experiment: Experiment) -> Iterator[object]:
    """The greedy decodings and searches."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for stage, _ in DECODED:
            yield experiment.decoding(experiment.checkpoint(model, stage), problems)
        yield from widest_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Error types of SFT greedy, backtracking data greedy, and Self-Backtracking."""
    search, names, rows = experiment.profile.search, experiment.task.errors, []
    for model in experiment.profile.models:
        known = {"model": model, "seed": experiment.seed}
        for stage, method in DECODED:
            found = decoding_outcomes(experiment, model, stage, 1)
            rows += scoring.error_rows(found, names, method=method, **known)
        known |= {"selection": search.selection, "temperature": search.temperature}
        for each in widest_searches(experiment, model):
            known |= {"N": each.spec.breadth, "b": each.spec.depth}
            found = chosen(experiment, each)
            rows += scoring.error_rows(found, names, method="self_backtracking", **known)
    return table(rows)


def remark(rows: pd.DataFrame) -> str:
    """The most frequent error of each method, of all its failures; empty without rows."""
    found = headline(rows, ["figure_5"])
    told = []
    for method in present(found["method"], METHODS):
        cells = found[found["method"] == method]
        counts = (cells["share"] * cells["failures"]).groupby(cells["error"]).sum()
        if counts.sum():
            share = whole(counts.max() / counts.sum())
            told.append(f"{METHODS[method]}: {counts.idxmax()} ({share}%)")
    return f"The most frequent failure of each method. {'; '.join(told)}." if told else ""


@styled
def error_types(rows: pd.DataFrame) -> Drawn:
    """Figures 5 and 9 to 12: which of the task's errors the failures are, as stacked bars."""
    found = pick(rows, "figure_5", need=["error", "share"])
    found["place"] = found["method"].map({name: at for at, name in enumerate(METHODS)})
    found["name"] = [
        f"{row['model']}: {METHODS[row['method']]}{setting(row)}"
        for row in found.to_dict("records")
    ]
    models = list(MODEL_COLOURS)
    found["model"] = found["model"].map(models.index)
    bars = found.sort_values(["model", "place", "b", "N"])["name"].drop_duplicates().tolist()[::-1]
    # Errors that tasks share come first, in one order and colour whatever the task.
    own = sorted({*found["error"]} - {*COMMON_ERRORS})
    colours = dict(zip((*COMMON_ERRORS, *own), itertools.cycle(ERROR_COLOURS), strict=False))
    errors = [*present(found["error"], COMMON_ERRORS), *own]
    splits = present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.42 * len(bars) + 0.7)
    for panel, split in zip(axes[0], splits, strict=True):
        stack(panel, found[found["split"] == split], bars, {name: colours[name] for name in errors})
        panel.set_title(SPLITS[split])
        panel.set_yticks(range(len(bars)), bars)
        panel.set_ylim(-0.6, len(bars) - 0.4)
    legend(figure, [Patch(color=colours[name], label=name) for name in errors])
    return figure


def stack(panel: Axes, rows: pd.DataFrame, bars: list[str], colours: dict[str, str]) -> None:
    """A bar for each of these names, its errors' shares side by side; failures on the right."""
    for at, name in enumerate(bars):
        bar, left = rows[rows["name"] == name].set_index("error"), 0.0
        for error, share in bar["share"].reindex(list(colours)).dropna().items():
            panel.barh(at, share, 0.72, left=left, color=colours[error])
            if share >= SMALLEST:
                dark = colours[error] == ERROR_COLOURS[1]
                look = {"ha": "center", "va": "center", "fontsize": 9}
                panel.text(left + share / 2, at, whole(share), color="w" if dark else "k", **look)
            left += share
        if len(bar) and "failures" in bar:
            known = bar.iloc[0]
            count = f"{known['failures']} of {known['problems']}"
            panel.text(1.02, at, count, va="center", fontsize=9)
    panel.text(1.02, len(bars) - 0.5, "failures", va="center", fontsize=9)
    panel.set_xlim(0, 1.33)
    panel.set_xticks([0, 0.25, 0.5, 0.75, 1])
    panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    panel.set_xlabel("share of the failures")
    panel.tick_params(axis="y", grid_alpha=0)


STUDY = Study(
    name="figure_5",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_5",
            error_types,
            "What the failures are (figures 5 and 9 to 12), and how many there are.",
            ("figure_5",),
            columns=("error", "share"),
        ),
    ),
    remark=remark,
    title="Figures 5 and 9 to 12: what the failures are",
)
