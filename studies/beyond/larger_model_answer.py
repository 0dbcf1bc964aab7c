"""The answer to the paper's open question, written from the rows: why does the larger model lose?

Takes the rows of a run; gives half a page of Markdown, a figure and tables. Every number is
interpolated from rows and every verdict follows CAUSE_RULE, so that another run writes another
answer. Where L does not lose there is nothing to explain: what each remedy does is still told, and
no cause is said to hold. Knows nothing of how a row was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.drawing.markdown import markdown_table, points
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
)
from lib.evaluation.paper import paper_accuracy
from lib.evaluation.results import table

HOLDS, REFUTED, OPEN = "holds", "does not hold", "undecided"
MARGIN = 0.02  # a remedy that surely moves the gap by less than this is no cause of it
CAUSE_RULE = (
    "A cause *holds* when its remedy, given to L alone, takes something off the gap (S less L) on "
    "both splits: the paired 95% intervals lie above 0. It *does not hold* when both intervals lie "
    f"below {100 * MARGIN:.0f} points, and is *undecided* otherwise. Where no interval shows L "
    "losing, there is nothing to explain, and no cause is judged."
)
CAUSES = {
    "a": "its samples repeat themselves",
    "b": "its P(<backtrack>) is miscalibrated",
    "d": "it ranks its paths worse",
}
COMMAND = "make reproduce PROFILE=paper"


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a remedy given to L alone: letter, verdict, and `moved` by split, in shares."""
    gaps = artifact_rows(rows, "gap")
    if gaps.empty:
        return pd.DataFrame(columns=["remedy", "letter", "verdict", "evidence", "moved"])
    gaps = gaps[(gaps["applied"] == "L") & gaps["letter"].notna()]
    records = []
    for remedy, cell in gaps.groupby("remedy", sort=False):
        if (cell["moved_low"] > 0).all():
            verdict = HOLDS
        elif (cell["moved_high"] < MARGIN).all():
            verdict = REFUTED
        else:
            verdict = OPEN
        evidence = _split_by_split(cell, "moved")
        records.append(
            {"remedy": remedy, "letter": cell["letter"].iloc[0], "verdict": verdict}
            | {"evidence": evidence, "moved": float(cell["moved"].mean())}
        )
    return pd.DataFrame(records).sort_values("letter", ignore_index=True)


def answer(rows: pd.DataFrame, command: str = COMMAND) -> str:
    """Markdown: what was measured, each cause, what it predicts, the command."""
    known = table(rows)
    none = "This run measured no hypotheses: its profile has no section `[hypotheses]`."
    parts = [_measured(known) or none, *_causes(known), _prediction(known)]
    parts.append(f"The one command that tests it on the real models: `{command}`.")
    parts.append(f"The rule: {CAUSE_RULE}")
    # A bare <backtrack> would be taken for an HTML tag and vanish.
    return "\n\n".join(part for part in parts if part).replace("<backtrack>", "`<backtrack>`")


def _split_by_split(cells: pd.DataFrame, name: str) -> str:
    """A difference on each split, with its interval."""
    told = cells.to_dict("records")
    return "; ".join(f"{each['split']} {_differences(each, name)}" for each in told)


def _loses(rows: pd.DataFrame) -> list[bool]:
    """Whether the gap's interval shows L losing: of each split, with no remedy."""
    gaps = artifact_rows(rows, "gap")
    return list(gaps[gaps["letter"].isna()]["gap_low"] > 0) if len(gaps) else []


def _measured(rows: pd.DataFrame) -> str:
    gaps, alone = artifact_rows(rows, "gap"), artifact_rows(rows, "remedy")["model"]
    if gaps.empty and alone.empty:
        return ""
    if gaps.empty:
        return (
            f"This run trained {alone.iloc[0]} alone, so there is no gap between two models of its "
            "own; below is what each remedy does to it."
        )
    base, loses = gaps[gaps["letter"].isna()].to_dict("records"), _loses(rows)
    said = "; ".join(
        f"{each['split']} split {100 * each['accuracy_S']:.1f} against "
        f"{100 * each['accuracy_L']:.1f}, a gap of {_differences(each, 'gap')} points"
        for each in base
    )
    word = "loses" if all(loses) else "loses on one split" if any(loses) else "does not lose"
    where = f"N={base[0]['N']} b={base[0]['b']}, {base[0]['problems']} problems a split"
    return f"**Measured** ({where}): L {word}. S against L: {said}."


def _causes(rows: pd.DataFrame) -> list[str]:
    lines, explains = [], any(_loses(rows))
    for each in judged(rows).to_dict("records"):
        letter, remedy = each["letter"], each["remedy"][0].upper() + each["remedy"][1:]
        cause = f"L loses because {CAUSES[letter]}: **{each['verdict']}**. " if explains else ""
        lines.append(f"- ({letter}) {cause}*{remedy}* takes off the gap {each['evidence']} points.")
    if lines and not explains:
        lines.insert(0, "With no loss to explain, no cause is judged; what each remedy does to L:")
        lines.insert(1, "")
    if not lines:
        lines = _remedies_alone(rows)
    memory = artifact_rows(rows, "memorisation").to_dict("records")
    if memory:
        said = ", ".join(
            f"{each['model']} {each['train_loss']:.3f} on traces that it learned from and "
            f"{each['test_loss']:.3f} on unseen ones ({each['loss_gap']:+.3f})"
            for each in memory
        )
        lines.append(f"- (c) Loss of the models as they are: {said}.")
    verdicts = artifact_rows(rows, "verdicts")
    if len(verdicts) and "step" in verdicts:
        whole = verdicts[(verdicts["quantity"] == "auc") & verdicts["step"].isna()]
        whole = whole[whole["error"].isna()] if "error" in whole else whole
        said = ", ".join(
            f"{each['model']} {each['split']} {each['share']:.2f}"
            for each in whole.to_dict("records")
        )
        lines.append(f"- P(<backtrack>) as a judge of states, area under its ROC curve: {said}.")
    return ["\n".join(lines)] if lines else []


def _remedies_alone(rows: pd.DataFrame) -> list[str]:
    found = artifact_rows(rows, "remedy")
    if found.empty:
        return []
    found = found[found["letter"].notna()]
    lines = []
    for (model, remedy), cell in found.groupby(["model", "remedy"], sort=False):
        said = _split_by_split(cell, "gain")
        setting = cell["setting"].iloc[0] if "setting" in cell else np.nan
        chosen = "" if pd.isna(setting) else f" (validation chose {setting:g})"
        lines.append(f"- ({cell['letter'].iloc[0]}) {model}, {remedy}{chosen}: {said} points.")
    return lines


def _prediction(rows: pd.DataFrame) -> str:
    def paper(model: str, split: str, breadth: int = 32, depth: int = 1) -> float:
        return paper_accuracy("self_backtracking", model, split, breadth, depth)

    splits = ("seen", "new")
    gap = np.mean([paper("S", split) - paper("L", split) for split in splits])
    growth = {
        model: np.mean([paper(model, s, 32, 0) - paper(model, s, 8, 0) for s in splits])
        for model in ("S", "L")
    }
    said = (
        f"**For 1B and 3B.** The paper's gap is {points(gap)} points (N=32 b=1); from 8 to 32 "
        f"samples its 1B gains {points(growth['S'])}, its 3B {points(growth['L'])}."
    )
    causes, explains = judged(rows), any(_loses(rows))
    held = causes[causes["verdict"] == HOLDS]
    if len(causes) and not explains:
        said += " L does not lose here, so that no remedy is predicted to close it."
    elif len(held):
        said += " Carried over point for point, " + "; ".join(
            f"*{each['remedy']}* for the 3B would leave a gap of {points(gap - each['moved'])}"
            for each in held.to_dict("records")
        )
        said += "."
    elif len(causes):
        said += " No remedy holds here, so none of them is predicted to close it."
    return said


@styled
def draw_remedies(rows: pd.DataFrame) -> Drawn:
    """What each hypothesis' remedy does to the gap S less L; with one model, to its accuracy."""
    if (table(rows)["artifact"] == "gap").any():
        found, value, label = found_rows(rows, "gap"), "gap", "accuracy, S less L, in points"
        found = found.assign(series=found["applied"])
        series = {"L": ("remedy for L alone", MODEL_COLOURS["L"]), "both": ("for both", "#555555")}
    else:
        found, value, label = found_rows(rows, "remedy"), "gain", "gain in accuracy, in points"
        found = found.assign(series=found["model"])
        series = {model: (model, colour) for model, colour in MODEL_COLOURS.items()}
    series = {name: look for name, look in series.items() if (found["series"] == name).any()}
    names = found.assign(letter=found["letter"].fillna("")).sort_values("letter", kind="stable")
    names = names.drop_duplicates("remedy")  # as measured first
    ticks = [f"({letter}) {remedy}" if letter else remedy
             for letter, remedy in zip(names["letter"], names["remedy"], strict=True)]  # fmt: skip
    order, splits = names["remedy"].tolist(), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.5 * len(order) + 0.8)
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        for number, (name, (_, colour)) in enumerate(series.items()):
            line = here[here["series"] == name]
            shift = 0.18 * (number - (len(series) - 1) / 2)
            panel.errorbar(
                100 * line[value].astype(float),
                line["remedy"].map(order.index) + shift,
                xerr=[100 * side for side in errors(line, value, f"{value}_low", f"{value}_high")],
                color=colour,
                marker="oD"[number % 2],
                linestyle="none",
                capsize=3,
            )
        panel.axvline(0, color="#222222", linewidth=1)
        if value == "gap":
            measured = 100 * float(here.loc[here["letter"].isna(), "gap"].iloc[0])
            panel.axvline(measured, color="#777777", linestyle="--", linewidth=1)
        panel.set_title(SPLITS[split])
        known = here.iloc[0]
        panel.set_xlabel(f"{label} (N={known['N']} b={known['b']}, n={known['problems']})")
    axes[0][0].set_yticks(range(len(order)), ticks)
    axes[0][0].invert_yaxis()
    looks = enumerate(series.values())
    handles = [handle(label, colour, marker="oD"[number % 2], linestyle="none")
               for number, (label, colour) in looks]  # fmt: skip
    if value == "gap":
        handles.append(handle("the gap as measured", "#777777", linestyle="--", marker=""))
    legend(figure, handles)
    return figure


def evidence(rows: pd.DataFrame) -> str:
    """The rows as tables in Markdown; empty where there are none."""
    parts, gaps = [], artifact_rows(rows, "gap")
    if len(gaps):
        parts.append("Accuracy of S less that of L in points, and how much a remedy takes off it:")
        keys = {"letter": "", "remedy": "remedy", "applied": "given to"}
        gaps = gaps.assign(applied=gaps["applied"].where(gaps["letter"].notna()))
        parts.append(_by_split(gaps, keys, lambda row: _differences(row, "gap", "moved")))
    elif len(remedies := artifact_rows(rows, "remedy")):
        parts.append("Accuracy in %, and its gain in points over the model as it is:")
        keys = {"letter": "", "remedy": "remedy", "model": "model"}
        shown = lambda row: f"{100 * row['accuracy']:.1f}, {_differences(row, 'gain')}"  # noqa: E731
        parts.append(_by_split(remedies, keys, shown))
    if len(judges := artifact_rows(rows, "judge")):
        parts.append(
            "Whose paths, ranked by whose mean log-probability: accuracy in %, and the area under "
            "the ROC curve for right against wrong paths of one problem:"
        )
        keys = {"model": "paths of", "judge": "ranked by"}
        shown = lambda row: f"{100 * row['accuracy']:.1f}, {row['auc_within']:.2f}"  # noqa: E731
        parts.append(_by_split(judges, keys, shown))
    return "\n\n".join(parts).replace("<backtrack>", "`<backtrack>`")


def _differences(row: Mapping, *names: str) -> str:
    return ", ".join(points(row[n], row[f"{n}_low"], row[f"{n}_high"]) for n in names)


def _by_split(found: pd.DataFrame, keys: Mapping[str, str], cell: Callable[[Mapping], str]) -> str:
    """A line for each value of the keys (column -> its head), a cell for each split."""
    splits, lines = present(found["split"], SPLITS), []
    if "letter" in found:
        found = found.sort_values("letter", kind="stable", na_position="first")
    for values, cells in found.groupby(list(keys), sort=False, dropna=False):
        shown = {each["split"]: cell(each) for each in cells.to_dict("records")}
        names = ["" if pd.isna(value) else str(value) for value in values]
        lines.append([*names, *(shown.get(split, "") for split in splits)])
    return markdown_table([*keys.values(), *(SPLITS[split] for split in splits)], lines)
