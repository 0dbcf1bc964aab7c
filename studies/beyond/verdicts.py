"""P(<backtrack>) as a classifier of states: is the target lost?

Takes the states of the tables' searches at the largest N and b (lib/evaluation/states.py), labelled
by the exact solver; gives precision, recall, ROC and calibration as rows (artifacts `verdicts`,
`verdict_roc`, `verdict_calibration`), and by kind of error. The paper's claim 2 (section
4.2: `<backtrack>` judges the current state) made measurable. The question itself is no state here:
it can always be solved, and nothing was sampled yet. Each state counts once, however often it was
sampled.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.drawing.markdown import markdown_table
from lib.drawing.style import (
    MODEL_COLOURS,
    SPLITS,
    artifact_rows,
    errors,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
    whole,
)
from lib.evaluation.results import row, table
from lib.evaluation.statistics import clustered_auc, clustered_share
from lib.experiment.experiment import Experiment
from lib.tasks.task import EARLIER, KINDS, VERDICT_THRESHOLD
from studies.beyond.search_loss import (
    InstrumentSettings,
    cells,
    judged_searches,
    states,
)
from studies.measurements import Searched
from studies.study import Figure, Study

BINS = 10
# False-positive rates at which the ROC curve is kept: closer where it rises.
CURVE = np.unique(np.round([*np.linspace(0, 0.1, 21), *np.linspace(0, 1, 51)], 3))


def deepest_searches(experiment: Experiment) -> Iterator[tuple[str, Searched]]:
    """Each model's searches of both splits."""
    yield from judged_searches(experiment, [max(experiment.profile.search.depths)])


def requests(experiment: Experiment) -> Iterator[object]:
    """The searches."""
    for _, found in deepest_searches(experiment):
        yield found


def rows(experiment: Experiment) -> pd.DataFrame:
    """All three artifacts, of every model and split."""
    made = []
    for model, found in deepest_searches(experiment):
        named, known = found.columns(model), states(experiment, found)
        made += verdict_rows(known, **named) + curve_rows(known, **named)
    return table(made)


def judged(found: pd.DataFrame) -> pd.DataFrame:
    """The states after a step whose P(<backtrack>) is known, with `lost`."""
    known = found[(found["step"] > 0) & found["p_backtrack"].notna()]
    return known.assign(lost=~known["alive"].astype(bool))


def verdict_rows(found: pd.DataFrame, **columns: object) -> list[dict]:
    """precision, recall, specificity, auc, brier and calibration_error of all states, and, by kind
    of error, recall and auc against every state that is not lost."""
    known = judged(found)
    rows = _scores(known, columns)
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


SCORES = {
    "auc": "AUC",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}


def of_all_states(found: pd.DataFrame) -> pd.DataFrame:
    """The rows that are not of one kind of error, or, in earlier results, of one step."""
    for name in {"step", "error"} & set(found.columns):
        found = found[found[name].isna()]
    return found


def verdicts_remark(rows: pd.DataFrame) -> str:
    """How good the verdicts are over all states, in words; empty without rows."""
    found, told = artifact_rows(rows, "verdicts"), []
    for model, split, here in cells(found):
        every = of_all_states(here).set_index("quantity")["share"]
        told.append(
            f"{model}, {SPLITS[split]}: of the states that it calls lost, "
            f"{whole(every['precision'])}% are; of those that are, it finds "
            f"{whole(every['recall'])}%."
        )
    called = f"A state is called lost where P(`<backtrack>`) is at least {VERDICT_THRESHOLD}"
    return f"{called}; the exact solver says whether it is. {' '.join(told)}" if told else ""


def verdicts_text(rows: pd.DataFrame) -> str:
    """How good the verdicts are: over all states, and by kind of error; empty without rows."""
    found = artifact_rows(rows, "verdicts")
    named, lines = set(found["error"]) if "error" in found else set(), []
    kinds = [kind for kind in (*KINDS, EARLIER) if kind in named]
    for model, split, here in cells(found):
        every, recall = of_all_states(here).set_index("quantity"), {}
        if kinds:
            recall = here[here["quantity"] == "recall"].dropna(subset="error")
            recall = recall.set_index("error")["share"]
        shown = [f"{recall[kind]:.2f}" if kind in recall else "" for kind in kinds]
        lines.append([f"{model}, {split}", *(_number(every.loc[name]) for name in SCORES), *shown])
    head = ["", *SCORES.values(), *(f"recall, {kind.replace('_', ' ')}" for kind in kinds)]
    told = "Recall by the error that lost the state (`earlier`: one before its last step):"
    return f"{told}\n\n{markdown_table(head, lines)}" if lines else ""


def _number(cell: pd.Series) -> str:
    """A quantity with its interval, where it has one."""
    known = f" [{cell['low']:.2f}, {cell['high']:.2f}]" if pd.notna(cell["low"]) else ""
    return f"{cell['share']:.2f}{known}"


@styled
def verdict_curves(rows: pd.DataFrame) -> Drawn:
    """P(<backtrack>) against the exact solver: ROC curve and calibration, a row a split."""
    found = found_rows(rows, "verdict_roc", "verdict_calibration")
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    areas = of_all_states(artifact_rows(rows, "verdicts"))
    areas = areas[areas["quantity"] == "auc"]
    figure, axes = panels(len(splits), 2, height=3.2, sharey=False)
    for (roc_panel, calibration_panel), split in zip(axes, splits, strict=True):
        told = []
        for number, model in enumerate(models):
            here = found[(found["model"] == model) & (found["split"] == split)]
            roc = here[here["artifact"] == "verdict_roc"].sort_values("false_positive")
            x, y = roc["false_positive"].astype(float), roc["share"].astype(float)
            roc_panel.plot(x, y, color=MODEL_COLOURS[model], linestyle=("-", "--")[number])
            bins = here[here["artifact"] == "verdict_calibration"].sort_values("predicted")
            calibration_panel.errorbar(
                bins["predicted"].astype(float),
                bins["share"].astype(float),
                yerr=errors(bins, "share"),
                color=MODEL_COLOURS[model],
                linestyle=("-", "--")[number],
                marker="os"[number],
                markersize=5,
                capsize=3,
            )
            area = areas[(areas["model"] == model) & (areas["split"] == split)]
            for cell in area.to_dict("records"):
                told.append(f"{model}: AUC {cell['share']:.2f}, {cell['lost_states']:,.0f} of "
                            f"{cell['states']:,.0f} states lost")  # fmt: skip
        roc_panel.text(0.98, 0.04, "\n".join(told), ha="right", va="bottom", fontsize=9)
        for panel in (roc_panel, calibration_panel):
            panel.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
            panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        roc_panel.set_title(f"ROC, {SPLITS[split]}")
        roc_panel.set_xlabel("sound states called lost")
        roc_panel.set_ylabel("lost states called lost")
        calibration_panel.set_title(f"calibration, {SPLITS[split]}")
        calibration_panel.set_xlabel("P(<backtrack>), mean of the bin")
        calibration_panel.set_ylabel("states that are lost")
    handles = []
    for number, model in enumerate(models):
        setting = found.loc[found["model"] == model, ["b", "N"]].max()
        label = f"{model}, b={setting['b']} N={setting['N']}"
        style = {"marker": "os"[number], "linestyle": ("-", "--")[number]}
        handles.append(handle(label, MODEL_COLOURS[model], **style))
    legend(figure, handles)
    return figure


STUDY = Study(
    name="verdicts",
    section="instruments",
    settings=InstrumentSettings,
    rows=rows,
    requests=requests,
    title="`<backtrack>` as a judge of states",
    remark=verdicts_remark,
    text=verdicts_text,
    figures=(
        Figure(
            "verdict",
            verdict_curves,
            "P(`<backtrack>`) as a judge of every state that independent samples and their "
            "roll-backs meet, against the exact solver: how many lost states it finds for the "
            "sound ones that it condemns, and how often a state of some P(`<backtrack>`) is lost.",
            ("verdict_roc",),
            columns=("false_positive",),
        ),
    ),
)
