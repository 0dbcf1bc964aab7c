"""What the audit says: its figure, a table of the switches, and which could explain the gap.

Takes the rows of studies/beyond/audit.py; gives a figure and Markdown in which every number and
verdict is computed. A user of the published code reports 56 to 60% where the paper has 73.5. Knows
nothing of how a row was measured.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from lib.base.errors import UserError
from lib.drawing.markdown import markdown_table, points
from lib.drawing.style import MODEL_COLOURS, SPLITS, errors, legend, panels, present, styled
from lib.evaluation.paper import paper_accuracy
from lib.evaluation.results import table

REPORTED = (0.56, 0.60)  # by a user of the published code (its issue 2), 1B model
LABELS = {
    "depth_from_one": "depth counted from one: its b=1 never rolls back",
    "beam_sampling": "beams of one beam sampling, not N independent samples",
    "cut": "cut at 50 tokens in all, prompt included, to scale",
    "hard_cut": "a harder cut, for comparison",
    "summed_selection": "selection: mean log-probabilities of equal texts added",
    "text_roll_back": "roll-back through text, tokenized again",
    "published_checker": "the published checker",
    "together_at_inference": "all of these at once",
    "padding_loss": "padding carries loss",
    "together": "all at once, padding with loss too",
}
TOGETHER = ("together_at_inference", "together")
ALONE, PART, NONE, GAINS = "alone", "in part", "no", "no: gains"
UNKNOWN = "not tested"
#: A verdict -> how the text begins that lists the switches of this verdict.
VERDICTS = {
    ALONE: "Could explain it alone, in this run",
    PART: "In part",
    NONE: "Cannot explain it, since no loss is shown",
    GAINS: "Cannot explain it, since it gains",
    UNKNOWN: "Not tested, since the model without it solves too little",
}
RULE_OF_VERDICTS = (
    "By the paired 95% interval over both splits: a switch could explain the gap *alone* where the "
    "interval lies below 0 and reaches a loss as large as the gap's smaller end, *in part* where "
    "it lies below 0 and does not; it cannot (*no*) where the interval holds 0 or lies above it. "
    "It is *not tested* where the model solves fewer problems, in points, than the gap has."
)


def gap() -> tuple[float, float]:
    """The smaller and the larger end of the reported loss, as shares."""
    paper = paper_accuracy("self_backtracking", "S", "seen", 32, 1)
    assert paper is not None
    return paper - REPORTED[1], paper - REPORTED[0]


def explains(cell: Mapping) -> str:
    """The verdict (RULE_OF_VERDICTS) on one row of the audit."""
    low, high, least = cell["difference_low"], cell["difference_high"], gap()[0]
    if cell["base"] < least:
        return UNKNOWN
    if low > 0:
        return GAINS
    if high >= 0:
        return NONE
    return ALONE if low <= -least else PART


def audit_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The audit's rows in the order of LABELS; empty where the run has no audit."""
    found = table(rows)
    found = found[found["artifact"] == "audit"]
    if found.empty:
        return found
    place = found["switch"].map({name: number for number, name in enumerate(LABELS)})
    found = found.assign(place=place).dropna(subset=["place", "difference"])
    return found.sort_values("place", kind="stable")


def audit_remark(rows: pd.DataFrame) -> str:
    """Which of the switches could explain the gap, and which cannot, in this run."""
    found = audit_rows(rows)
    if found.empty:
        return ""
    pooled = {name: cell for name in LABELS if (cell := _cell(found, name, None)) is not None}
    least, most = gap()
    listed: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for name, cell in pooled.items():
        if name not in (*TOGETHER, "hard_cut"):
            listed[explains(cell)].append(f"{LABELS[name].split(':')[0]} ({_points(cell)})")
    parts = [
        f"The gap is of {100 * least:.1f} to {100 * most:.1f} points: the paper's "
        f"{100 * (least + REPORTED[1]):.1f} against the {100 * REPORTED[0]:.0f} to "
        f"{100 * REPORTED[1]:.0f} that a user of its code reports."
    ]
    parts += [f"{VERDICTS[v]}: {'; '.join(names)}." for v, names in listed.items() if names]
    for name in TOGETHER:
        if cell := pooled.get(name):
            trained = "loss on padding too" if name == "together" else "what needs no training"
            parts.append(
                f"All at once ({trained}): {100 * cell['base']:.1f} becomes "
                f"{100 * cell['accuracy']:.1f}, {_points(cell)}."
            )
    return " ".join(parts)


def audit_text(rows: pd.DataFrame) -> str:
    """All switches as a table, and how they are judged; empty without an audit."""
    found = audit_rows(rows)
    if found.empty:
        return ""
    pooled = {name: cell for name in LABELS if (cell := _cell(found, name, None)) is not None}
    notes = [RULE_OF_VERDICTS, _about_cut(pooled)]
    gained = "Points of accuracy gained or lost by each switch:"
    return f"{gained}\n\n{switches_table(found)}\n\n{' '.join(filter(None, notes))}"


def _cell(found: pd.DataFrame, name: str, split: str | None) -> dict | None:
    here = found[found["switch"] == name]
    here = here[here["split"].isna()] if split is None else here[here["split"] == split]
    return None if here.empty else here.iloc[0].to_dict()


def _points(cell: Mapping | None) -> str:
    if cell is None:
        return ""
    return points(cell["difference"], cell["difference_low"], cell["difference_high"])


def switches_table(found: pd.DataFrame) -> str:
    """Each switch's gain or loss, by split and over both, with its verdict."""
    lines = []
    for name in dict.fromkeys(found["switch"]):
        cells = [_cell(found, name, split) for split in ("seen", "new", None)]
        label, both = LABELS[name], cells[-1]
        if name in ("cut", "hard_cut"):
            known = cells[0] or both
            label += f" ({known['total_tokens']:.0f} of {known['longest_tokens']:.0f} tokens)"
        without = f"{100 * both['base']:.1f}" if both else ""
        lines.append([label, without, *map(_points, cells), explains(both) if both else ""])
    head = ["switched on", "without", "seen", "new", "both", "could explain the gap"]
    return markdown_table(head, lines)


def _about_cut(pooled: Mapping[str, Mapping]) -> str:
    if "cut" not in pooled:
        return ""
    cut, longest = (int(pooled["cut"][name]) for name in ("total_tokens", "longest_tokens"))
    text = (
        "The published code cuts at 50 tokens. Counted in pieces of Llama's kind, that is "
        f"{100 * cut / longest:.0f}% of the longest of the paper's problems with its solution; "
        f"the same share here is {cut} tokens."
    )
    if hard := pooled.get("hard_cut"):
        text += f" A harder cut, at {hard['total_tokens']:.0f}: {_points(hard)}."
    return text


LABEL_WIDTH = 34


@styled
def points_by_switch(rows: pd.DataFrame) -> Figure:
    """Points gained or lost by each switch, a panel a split, beside the gap that users report."""
    found = audit_rows(rows)
    found = found[found["split"].notna()]
    if found.empty:
        raise UserError("figure of audit: the results have no rows for it")
    order, splits = present(found["switch"], LABELS)[::-1], present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.46 * len(order) + 0.6)
    least, most = gap()
    reach = found["difference_low"].min() - 0.02, max(found["difference_high"].max(), 0) + 0.02
    for panel, split in zip(axes[0], splits, strict=True):
        panel.axvspan(-most, -least, color="#d9d9d9", zorder=0)
        panel.axvline(0, color="#555555", linewidth=1.2)
        here = found[found["split"] == split]
        reaches = errors(here, "difference", "difference_low", "difference_high")
        style = {"fmt": "o", "color": MODEL_COLOURS["S"], "markersize": 5, "capsize": 2.5}
        at = here["switch"].map(order.index)
        panel.errorbar(here["difference"], at, xerr=reaches, **style)
        breadth, depth = here["N"].max(), here["b"].max()
        panel.set_title(f"S, {SPLITS[split]}, b={depth} N={breadth}, n={here['problems'].max()}")
        panel.set_xlim(min(reach[0], -most - 0.02), reach[1])
        panel.set_ylim(-0.6, len(order) - 0.4)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.0f}" if x else "0"))
        panel.set_xlabel("accuracy gained or lost, in points")
        panel.tick_params(axis="y", grid_alpha=0)
    labels = [textwrap.fill(LABELS[name], LABEL_WIDTH) for name in order]
    axes[0][0].set_yticks(range(len(order)), labels)
    label = "the loss that users of the published code report"
    legend(figure, [Patch(color="#d9d9d9", label=label)])
    return figure
