"""P(<backtrack>) as a classifier of states: is the target lost?

Takes the states of searches (lib/evaluation/states.py), labelled by the exact solver; gives
precision, recall, ROC and calibration as tidy rows, by step and by kind of error. The paper's claim
2 (section 4.2: `<backtrack>` judges the current state) made measurable. The question itself is no
state here: it can always be solved, and nothing was sampled yet. Each state counts once, however
often it was sampled. Knows nothing of models or trees.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.drawing.style import (
    LINES,
    MODEL_COLOURS,
    PALETTE,
    SPLITS,
    _error,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation.results import row, table
from lib.evaluation.statistics import clustered_auc, clustered_share
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.studies.beyond.step_coverage import (
    common,
    states,
    wanted,
)
from lib.tasks.task import EARLIER, KINDS, VERDICT_THRESHOLD

BINS = 10
# False-positive rates at which the ROC curve is kept: closer where it rises.
CURVE = np.unique(np.round([*np.linspace(0, 0.1, 21), *np.linspace(0, 1, 51)], 3))


def judged(found: pd.DataFrame) -> pd.DataFrame:
    """The states after a step whose P(<backtrack>) is known, with `lost`."""
    known = found[(found["step"] > 0) & found["p_backtrack"].notna()]
    return known.assign(lost=~known["alive"].astype(bool))


def verdict_rows(found: pd.DataFrame, **columns: object) -> list[dict]:
    """precision, recall, specificity, auc, brier and calibration_error: of all states, by step, and
    (recall and auc against every state that is not lost) by kind of error."""
    known = judged(found)
    rows = _scores(known, columns)
    for step, cell in known.groupby("step"):
        rows += _scores(cell, columns | {"step": int(step)})
    for kind in (*KINDS, EARLIER):
        cell = known[(known["error"] == kind) | ~known["lost"]]
        if cell["lost"].any():
            rows += _scores(cell, columns | {"error": kind}, ("recall", "auc"))
    return rows


def _scores(cell: pd.DataFrame, columns: dict, names: tuple[str, ...] | None = None) -> list[dict]:
    lost, doubt, problem = cell["lost"], cell["p_backtrack"], cell["problem"]
    said = doubt >= VERDICT_THRESHOLD
    shares = {
        "precision": (lost, said),
        "recall": (said, lost),
        "specificity": (~said, ~lost),
        "brier": ((doubt - lost) ** 2, lost | True),
    }
    found = {name: clustered_share(hits, of, problem) for name, (hits, of) in shares.items()}
    found["auc"] = clustered_auc(doubt, lost, problem)
    found["calibration_error"] = (_calibration_error(cell), None, None)
    counts = {"states": len(cell), "lost_states": int(lost.sum())}
    counts["problems"] = int(problem.nunique())
    return [
        row("verdicts", quantity=name, share=share, low=low, high=high) | counts | columns
        for name, (share, low, high) in found.items()
        if names is None or name in names
    ]


def _binned(known: pd.DataFrame) -> pd.core.groupby.DataFrameGroupBy:
    places = np.minimum((known["p_backtrack"] * BINS).astype(int), BINS - 1)
    return known.groupby(places.to_numpy())


def _calibration_error(known: pd.DataFrame) -> float:
    """Mean distance, over states, of a bin's mean P(<backtrack>) from its share of lost states."""
    parts = [len(cell) * abs(cell["p_backtrack"].mean() - cell["lost"].mean())
             for _, cell in _binned(known)]  # fmt: skip
    return float(sum(parts) / len(known)) if len(known) else float("nan")


def curve_rows(found: pd.DataFrame, **columns: object) -> list[dict]:
    """The ROC curve (verdict_roc) and the calibration curve (verdict_calibration)."""
    from sklearn.metrics import roc_curve  # slow to import, and few callers need it

    known, rows = judged(found), []
    if known["lost"].nunique() == 2:
        false, true, _ = roc_curve(known["lost"], known["p_backtrack"])
        for at, share in zip(CURVE, np.interp(CURVE, false, true), strict=True):
            rows.append(row("verdict_roc", false_positive=float(at), share=float(share)) | columns)
    for _, cell in _binned(known):
        share, low, high = clustered_share(cell["lost"], np.ones(len(cell)), cell["problem"])
        predicted = {"predicted": float(cell["p_backtrack"].mean()), "states": len(cell)}
        rows.append(
            row("verdict_calibration", share=share, low=low, high=high) | predicted | columns
        )
    return rows


def verdict_table(experiment: Experiment, model: str) -> pd.DataFrame:
    """Artifacts verdicts, verdict_roc and verdict_calibration of one model, at the largest b."""
    if not wanted(experiment):
        return table([])
    depth, rows = max(experiment.profile.search.depths), []
    for split in TEST_SPLITS:
        found = states(experiment, model, split, depth)
        named = common(experiment, model, split, depth)
        rows += verdict_rows(found, **named) + curve_rows(found, **named)
    return table(rows)


@styled
def verdict_curves(rows: pd.DataFrame) -> Figure:
    """P(<backtrack>) against the exact solver: ROC curve and calibration, by model and split."""
    found = found_rows(rows, "verdict_roc", "verdict_calibration")
    figure, axes = panels(1, 2, height=3.9, sharey=False)
    roc_panel, calibration_panel = axes[0]
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    areas = table(rows)
    areas = areas[(areas["artifact"] == "verdicts") & (areas["quantity"] == "auc")]
    for name in {"step", "error"} & set(areas.columns):  # those of all states
        areas = areas[areas[name].isna()]
    handles = []
    for number, (model, split) in enumerate((m, s) for m in models for s in splits):
        here = found[(found["model"] == model) & (found["split"] == split)]
        style = {"color": PALETTE[number], "linestyle": LINES[model]}
        roc = here[here["artifact"] == "verdict_roc"].sort_values("false_positive")
        roc_panel.plot(roc["false_positive"].astype(float), roc["share"].astype(float), **style)
        bins = here[here["artifact"] == "verdict_calibration"].sort_values("predicted")
        calibration_panel.errorbar(
            bins["predicted"].astype(float),
            bins["share"].astype(float),
            yerr=_error(bins, "share"),
            marker="osD^"[number % 4],
            markersize=5,
            capsize=3,
            **style,
        )
        label = f"{model}, {SPLITS[split]}"
        area = areas[(areas["model"] == model) & (areas["split"] == split)]
        if len(area):
            label += f" (AUC {float(area['share'].iloc[0]):.2f})"
        handles.append(handle(label, **{"colour": style["color"]}, marker="osD^"[number % 4],
                              linestyle=LINES[model]))  # fmt: skip
    for panel in axes[0]:
        panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    roc_panel.set_title("ROC")
    roc_panel.set_xlabel("sound states called lost")
    roc_panel.set_ylabel("lost states called lost")
    calibration_panel.set_title("calibration")
    calibration_panel.set_xlabel("P(<backtrack>), mean of the bin")
    calibration_panel.set_ylabel("states that are lost")
    legend(figure, handles, columns=2)
    return figure
