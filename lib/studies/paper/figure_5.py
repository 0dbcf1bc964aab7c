"""Figures 5 and 9 to 12: what the failures are, of greedy decoding and of search.

Takes an experiment; gives shares of the failures by the task's error names (artifact `figure_5`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.drawing.style import METHODS, PALETTE, SPLITS, legend, panels, pick, present, styled
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.studies.measurements import Searched, chosen, decoding_outcomes, searches
from lib.studies.study import Figure, Study
from lib.tasks.task import COMMON_ERRORS

ERROR_COLOURS = [PALETTE[number] for number in (7, 4, 1, 9, 5, 6, 8)]
DECODED = (("sft", "sft_greedy"), ("backtracking", "backtracking_data_greedy"))


def model_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Self-Backtracking at the largest N, at every b."""
    search = experiment.profile.search
    for depth in search.depths:
        yield from searches(experiment, model, experiment.spec(max(search.breadths), depth))


def requests(experiment: Experiment) -> Iterator[object]:
    """The greedy decodings and searches."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for stage, _ in DECODED:
            yield experiment.decoding(experiment.checkpoint(model, stage), problems)
        yield from model_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Error types of SFT greedy, backtracking data greedy, and Self-Backtracking."""
    search, rows = experiment.profile.search, []
    for model in experiment.profile.models:
        for stage, method in DECODED:
            found = decoding_outcomes(experiment, model, stage, 1)
            rows += scoring.error_rows(found, method=method, model=model, seed=experiment.seed)
        for each in model_searches(experiment, model):
            columns = {"method": "self_backtracking", "N": each.spec.breadth, "b": each.spec.depth}
            columns |= {"selection": search.selection, "temperature": search.temperature}
            columns |= {"model": model, "seed": experiment.seed}
            rows += scoring.error_rows(chosen(experiment, each), **columns)
    return table(rows)


@styled
def error_types(rows: pd.DataFrame) -> Drawn:
    """Figures 5 and 9 to 12: which of the task's errors the failures are, as stacked bars."""
    found = pick(rows, "figure_5", need=["error", "share"])
    found = found.assign(b=found["b"].astype(object), N=found["N"].astype(object))
    found["name"] = [
        METHODS.get(method, method.replace("_", " "))
        + "".join(f" {k}={v}" for k, v in (("b", b), ("N", n)) if not pd.isna(v))
        + f", {model}"
        for method, b, n, model in found[["method", "b", "N", "model"]].itertuples(index=False)
    ]
    place = found["method"].map({name: number for number, name in enumerate(METHODS)})
    rows = found.assign(place=place.fillna(len(METHODS))).drop_duplicates("name")
    rows = rows.sort_values(["model", "place", "b", "N"])
    order = [name for model in ("L", "S") for name in rows[rows["model"] == model]["name"][::-1]]
    splits = present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.42 * len(order) + 0.7)
    # Errors that tasks share come first, in one order and colour whatever the task.
    own = sorted({*found["error"]} - {*COMMON_ERRORS})
    colours = dict(zip((*COMMON_ERRORS, *own), itertools.cycle(ERROR_COLOURS), strict=False))
    names = [*present(found["error"], COMMON_ERRORS), *own]
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        shares = here.pivot_table("share", "name", "error", aggfunc="mean").reindex(
            index=order, columns=names, fill_value=0.0
        )
        left = pd.Series(0.0, index=order)
        for error in names:
            share = shares[error].fillna(0.0)
            panel.barh(range(len(order)), share, 0.72, left=left, color=colours[error])
            for at, (value, start) in enumerate(zip(share, left, strict=True)):
                if value >= 0.09:
                    text = f"{100 * value:.0f}"
                    panel.text(start + value / 2, at, text, ha="center", va="center", fontsize=9)
            left += share
        panel.set_title(SPLITS[split])
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(-0.6, len(order) - 0.4)
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("share of the failures")
        panel.tick_params(axis="y", grid_alpha=0)
    handles = [matplotlib.patches.Patch(color=colours[name], label=name) for name in names]
    legend(figure, handles, columns=4 if len(splits) > 1 else 2)
    return figure


STUDY = Study(
    name="figure_5",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_5",
            error_types,
            "What the failures are (figures 5 and 9 to 12).",
            ("figure_5",),
            columns=("error", "share"),
        ),
    ),
)
