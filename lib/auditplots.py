"""Figures of the audit: what each switch gains or loses, and both checkers' verdicts.

Takes the tidy rows of lib/results.py; gives matplotlib Figures. Knows nothing of how the rows were
measured.
"""

from __future__ import annotations

import textwrap

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from lib.auditreport import LABELS, gap, switches
from lib.drawing import (
    MODEL_COLOURS,
    PALETTE,
    SPLITS,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.errors import UserError
from lib.leniency import leniency, method_name

LOOKS = {
    "seen": {"colour": PALETTE[0], "marker": "o"},
    "new": {"colour": PALETTE[3], "marker": "s"},
    "validation": {"colour": PALETTE[2], "marker": "^"},
}
NAMES = SPLITS | {"validation": "validation: the problems it was trained on"}
LABEL_WIDTH = 44
SPREAD = 0.2


@styled
def audit(rows: pd.DataFrame) -> Figure:
    """Points gained or lost by each switch, by split, beside the gap that users report."""
    found = switches(rows)
    found = found[found["split"].isin(LOOKS)]
    if found.empty:
        raise UserError("figure of audit: the results have no rows for it")
    order = present(found["switch"], LABELS)[::-1]
    figure, axes = panels(1, 1, height=0.42 * len(order) + 0.8)
    figure.set_size_inches(9.0, figure.get_size_inches()[1])
    panel = axes[0][0]
    least, most = gap()
    panel.axvspan(-most, -least, color="#d9d9d9", zorder=0)
    panel.axvline(0, color="#555555", linewidth=1.2)
    splits = present(found["split"], LOOKS)
    for split in splits:
        dots = found[found["split"] == split]
        # Validation stands for one row alone, above its two.
        shift = {"seen": SPREAD / 2, "new": -SPREAD / 2, "validation": 1.5 * SPREAD}[split]
        panel.errorbar(
            dots["difference"],
            dots["switch"].map(order.index) + shift,
            xerr=[
                dots["difference"] - dots["difference_low"],
                dots["difference_high"] - dots["difference"],
            ],
            fmt=LOOKS[split]["marker"],
            color=LOOKS[split]["colour"],
            markersize=5,
            capsize=2.5,
        )
    labels = [textwrap.fill(LABELS[name], LABEL_WIDTH) for name in order]
    panel.set_yticks(range(len(order)), labels)
    panel.set_ylim(-0.6, len(order) - 0.4)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.0f}" if x else "0"))
    panel.set_xlabel("accuracy gained or lost, in points")
    panel.tick_params(axis="y", grid_alpha=0)
    handles = [handle(NAMES[split], **LOOKS[split], linestyle="none") for split in splits]
    label = "the loss that users of the published code report"
    legend(figure, [*handles, matplotlib.patches.Patch(color="#d9d9d9", label=label)], columns=2)
    return figure


@styled
def checkers(rows: pd.DataFrame) -> Figure:
    """Each method's accuracy by the strict and by the published checker, and how far apart."""
    found = leniency(rows)
    if found.empty:
        raise UserError("figure of checkers: the results have no rows for it")
    found = found.assign(name=[method_name(cell) for cell in found.to_dict("records")])
    names = list(dict.fromkeys(found["name"]))[::-1]
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.32 * len(names) + 0.9)
    for panel, split in zip(axes[0], splits, strict=True):
        for number, model in enumerate(models):
            here = found[(found["split"] == split) & (found["model"] == model)]
            at = here["name"].map(names.index) - (number - (len(models) - 1) / 2) * 0.3
            colour = MODEL_COLOURS[model]
            panel.hlines(at, here["strict"], here["published"], color=colour, linewidth=1.8)
            panel.plot(here["strict"], at, "o", color=colour, markersize=5)
            hollow = {"markerfacecolor": "white", "markeredgecolor": colour}
            panel.plot(here["published"], at, "s", markersize=5, **hollow)
            right = here[["strict", "published"]].max(axis=1)
            for x, y, gained in zip(right, at, here["difference"], strict=True):
                panel.annotate(
                    f"{100 * gained:+.1f}", (x, y), (7, -3), textcoords="offset points", fontsize=9
                )
        panel.set_title(SPLITS[split])
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.set_xlim(0, 1.12)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1])
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("accuracy")
    grey = "#555555"
    handles = [handle("strict checker", grey, linestyle="none")]
    handles.append(handle("published checker", grey, linestyle="none", marker="s", mfc="white"))
    if len(models) > 1:
        handles += [handle(m, MODEL_COLOURS[m], marker="") for m in models]
    legend(figure, handles)
    return figure
