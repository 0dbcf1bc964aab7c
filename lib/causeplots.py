"""Figures of why a search is lost: coverage by step, the verdict, remedies, and the sweep.

Takes the rows of lib/results.py; gives matplotlib Figures with 95% intervals. Knows nothing of how
a row was measured.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import PercentFormatter

from lib.drawing import (
    MODEL_COLOURS,
    PALETTE,
    SPLITS,
    WIDTH,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.errors import UserError
from lib.hypotheses import BASE
from lib.instruments import GAVE_UP, LOST_AT, NOT_CHOSEN, SOLVED
from lib.results import table
from lib.sweep import comparisons

QUANTITIES = {
    "legal": ("legal", "o"),
    "computed": ("computed right (of the legal)", "s"),
    "reachable": ("target still reachable (of the right)", "D"),
    "kept": ("all three", "^"),
    "gave_up": ("sound, yet <backtrack>", "v"),
}
LINES = {"S": "-", "L": "--"}


def found_rows(rows: pd.DataFrame, *artifacts: str) -> pd.DataFrame:
    """The rows of these artifacts; a `UserError` where there are none."""
    known = table(rows)
    known = known[known["artifact"].isin(artifacts)]
    if known.empty:
        raise UserError(f"figure of {' and '.join(artifacts)}: the results have no rows for it")
    return known


def _error(line: pd.DataFrame, value: str, low: str = "low", high: str = "high") -> list:
    at = line[value].astype(float)
    return [
        (at - line[low].astype(float)).clip(lower=0).fillna(0),
        (line[high].astype(float) - at).clip(lower=0).fillna(0),
    ]


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


@styled
def remedies(rows: pd.DataFrame) -> Figure:
    """What each hypothesis' remedy does to the gap S less L; with one model, to its accuracy."""
    known = table(rows)
    if (known["artifact"] == "gap").any():
        found = found_rows(rows, "gap")
        value, label = "gap", "accuracy, S less L (points)"
        found = found.assign(series=["remedy for L" if each == "L" else "for both models"
                                     for each in found["applied"]])  # fmt: skip
    else:
        found = found_rows(rows, "remedy")
        value, label = "gain", "gain in accuracy (points)"
        found = found.assign(series=found["model"])
    found = found.assign(letter=found["letter"].fillna(""))
    names = list(dict.fromkeys(found.sort_values("letter")["remedy"]))
    names.sort(key=lambda name: name != BASE)
    labels = found.drop_duplicates("remedy").set_index("remedy")["letter"]
    splits, series = present(found["split"], SPLITS), list(dict.fromkeys(found["series"]))
    figure, axes = panels(1, len(splits), height=0.5 * len(names) + 0.8)
    for panel, split in zip(axes[0], splits, strict=True):
        for number, name in enumerate(series):
            line = found[(found["split"] == split) & (found["series"] == name)]
            shift = 0.18 * (number - (len(series) - 1) / 2)
            low, high = _error(line, value, f"{value}_low", f"{value}_high")
            panel.errorbar(
                100 * line[value].astype(float),
                line["remedy"].map(names.index) + shift,
                xerr=[100 * low, 100 * high],
                color=PALETTE[number],
                marker="oD"[number % 2],
                linestyle="none",
                capsize=3,
            )
        base = found[(found["split"] == split) & (found["remedy"] == BASE)]
        panel.axvline(
            100 * float(base[value].iloc[0]), color="#777777", linestyle="--", linewidth=1
        )
        panel.axvline(0, color="#222222", linewidth=1)
        panel.set_title(SPLITS[split])
        panel.set_xlabel(label)
    ticks = [f"({labels[name]}) {name}" if labels[name] else name for name in names]
    axes[0][0].set_yticks(range(len(names)), ticks)
    axes[0][0].invert_yaxis()
    legend(figure, [handle(name, PALETTE[number], marker="oD"[number % 2], linestyle="none")
                    for number, name in enumerate(series)])  # fmt: skip
    return figure


@styled
def sweep_map(rows: pd.DataFrame) -> Figure:
    """The sweep at equal examples: how much better L computes, and how much lower it scores.

    A frame marks the paper's regime: L computes better and S scores higher (solid: surely, by
    Bonferroni's intervals; dashed: by the two numbers alone).
    """
    found = comparisons(found_rows(rows, "sweep"))
    found = found[found["pairing"] == "equal examples"]
    if found.empty:
        raise UserError("figure of sweep: the task cannot judge steps, so nothing was compared")
    found = found.astype({"examples": int, "epochs": int})
    rates = sorted(found["rate_L"].unique(), reverse=True)
    shown = {
        "computes": "steps computed right,\nL less S (points)",
        "loses": "Self-Backtracking's accuracy,\nS less L (points)",
    }
    height = 0.55 * found["examples"].nunique() + 1.3
    figure, axes = panels(len(rates), 2, height=height, sharey=False)
    for line, rate in zip(axes, rates, strict=True):
        cell = found[found["rate_L"] == rate]
        for panel, (name, title) in zip(line, shown.items(), strict=True):
            grid = 100 * cell.pivot(index="examples", columns="epochs", values=name)
            most = max(1.0, float(np.abs(100 * found[name]).max()))
            sns.heatmap(grid, ax=panel, annot=True, fmt="+.1f", center=0, cmap="vlag_r",
                        vmin=-most, vmax=most, cbar=False, linewidths=1)  # fmt: skip
            panel.set_title(f"{title}" + (f", L at {rate:g} x the rate" if len(rates) > 1 else ""))
            panel.set_ylabel("examples")
            panel.set_xlabel("epochs")
            for at in cell[cell["regime_pointwise"]].to_dict("records"):
                place = (
                    list(grid.columns).index(at["epochs"]),
                    list(grid.index).index(at["examples"]),
                )
                look = "-" if at["regime"] else "--"
                panel.add_patch(Rectangle(place, 1, 1, fill=False, linewidth=2.5, linestyle=look,
                                          edgecolor="#222222", clip_on=False))  # fmt: skip
    for panel in figure.axes:
        panel.grid(False)
    return figure
