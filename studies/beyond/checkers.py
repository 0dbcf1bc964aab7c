"""Both checkers: how much of a method's accuracy is due to which of them judges.

Takes the rows of tables 1 and 2, which have both verdicts on the same answers; gives the
differences with paired 95% intervals, as a figure and in Markdown. What the two checkers accept is
the task's (lib/tasks/countdown/rules.py). Knows nothing of how an answer came about.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.markdown import markdown_table, points
from lib.drawing.style import (
    CEILING_METHODS,
    METHODS,
    MODEL_COLOURS,
    SPLITS,
    handle,
    legend,
    panels,
    present,
    problems_of,
    setting,
    styled,
)
from lib.evaluation.results import headline
from lib.evaluation.statistics import counted_difference
from studies.study import Figure, Study

ARTIFACTS = ("table_1", "table_2")
CELL = ["method", "model", "split", "N", "b"]
COLUMNS = [*CELL, "strict", "published", "difference", "low", "high", "problems"]
COLUMNS += ["only_strict", "only_published"]
# Said, not carried over to the paper's figures: small numbers repeat more often than its own.
ABOUT = (
    "The published checker is lenient where numbers stay unused, and harsh where a number stands "
    "twice: a used number leaves with all its copies, so that the second one is unknown. How often "
    "that happens depends on the range of the numbers (the paper's is 1 to 99) and on the errors "
    "that a model makes: this is no measurement of the paper's models."
)


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Each method's accuracy by both checkers, and the difference with its paired interval.

    The interval is missing where the rows do not say how many answers only one of them accepts.
    """
    found = rows[rows["artifact"].isin(ARTIFACTS)]
    found = found[found["method"].isin(set(METHODS) - set(CEILING_METHODS))]
    strict = headline(found)
    published = headline(found[found["checker"] == "published"].assign(checker="strict"))
    if strict.empty or published.empty:
        return pd.DataFrame(columns=COLUMNS)
    published = published.reindex(columns=[*CELL, "accuracy", "only_strict", "only_published"])
    joined = strict[[*CELL, "accuracy", "problems"]].rename(columns={"accuracy": "strict"})
    joined = joined.drop_duplicates(CELL).merge(
        published.drop_duplicates(CELL).rename(columns={"accuracy": "published"}), on=CELL
    )
    records = []
    for cell in joined.to_dict("records"):
        interval = (cell["published"] - cell["strict"], float("nan"), float("nan"))
        if not pd.isna(cell["only_published"]):
            apart = int(cell["only_published"]), int(cell["only_strict"])
            interval = counted_difference(*apart, int(cell["problems"]))
        records.append(cell | dict(zip(("difference", "low", "high"), interval, strict=True)))
    made = pd.DataFrame(records, columns=COLUMNS).astype({"N": "Int64", "b": "Int64"})
    made = made.assign(place=made["method"].map(list(METHODS).index)).sort_values(
        ["model", "split", "place", "b", "N"], ascending=[False, False, True, True, True]
    )
    return made.drop(columns="place").reset_index(drop=True)


def method_name(cell: dict) -> str:
    """A method with its b and N."""
    return METHODS[cell["method"]] + setting(cell)


def checkers_remark(rows: pd.DataFrame) -> str:
    """What the published checker does to this run's accuracies; empty without its rows."""
    found = differences(rows)
    return "" if found.empty else f"{direction(found)} {extent(found)}"


def checkers_text(rows: pd.DataFrame) -> str:
    """The `differences` as a table; empty where there are none."""
    found = differences(rows)
    if found.empty:
        return ""
    table = differences_table(found)
    folded = f"<details><summary>Every method by both checkers</summary>\n\n{table}\n\n</details>"
    return f"{ABOUT}\n\n{folded}"


def differences_table(found: pd.DataFrame) -> str:
    """The `differences` in Markdown."""
    lines = [
        [
            method_name(cell),
            f"{cell['model']}, {cell['split']}",
            f"{100 * cell['strict']:.1f}",
            f"{100 * cell['published']:.1f}",
            points(cell["difference"], cell["low"], cell["high"]),
        ]
        for cell in found.to_dict("records")
    ]
    return markdown_table(["method", "", "strict", "published", "difference"], lines)


def direction(found: pd.DataFrame) -> str:
    """Which of the two checkers is the harsher one by these `differences`, in one sentence."""
    more, less = (int((found["difference"] * sign > 0).sum()) for sign in (1, -1))
    of = f"of {len(found)} accuracies"
    if more and less:
        return (
            f"In this run neither checker is the harsher one throughout: {of} {more} are higher by "
            f"the published one, {less} lower."
        )
    if less:
        name, how = "harsher", f"{less} {of} are lower by it, none is higher"
    elif more:
        name, how = "more lenient", f"{more} {of} are higher by it, none is lower"
    else:
        return "In this run the two checkers give the same accuracies."
    return f"In this run the published checker is the {name} of the two: {how}."


def extent(found: pd.DataFrame) -> str:
    """How far apart the two checkers are by these `differences`."""
    low, high = 100 * found["difference"].min(), 100 * found["difference"].max()
    text = [f"By the published checker the methods score {low:+.1f} to {high:+.1f} points."]
    if found[["only_published", "only_strict"]].notna().all(axis=None):
        text.append(
            f"Taken together, it accepts {found['only_published'].sum():.0f} answers that the "
            f"strict one rejects, and rejects {found['only_strict'].sum():.0f} that the strict one "
            "accepts."
        )
    search = found[(found["method"] == "self_backtracking") & (found["model"] == "S")]
    for split in ("seen", "new"):
        cells = search[search["split"] == split].sort_values(["b", "N"]).tail(1)
        for cell in cells.to_dict("records"):
            gain = points(cell["difference"], cell["low"], cell["high"])
            text.append(
                f"Self-Backtracking ({setting(cell).strip()}) on the {split} split: {gain}."
            )
    return " ".join(text)


@styled
def accuracy_by_checker(rows: pd.DataFrame) -> Drawn:
    """Each method's accuracy by the strict and by the published checker, and how far apart."""
    found = differences(rows)
    if found.empty:
        raise UserError("figure of checkers: the results have no rows for it")
    found = found.assign(name=[method_name(cell) for cell in found.to_dict("records")])
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    # A line for each model, so that no two numbers touch; a little room between methods.
    lines: dict[tuple[str, str], float] = {}
    for name in dict.fromkeys(found["name"]):
        of_name = present(found.loc[found["name"] == name, "model"], models)
        start = max(lines.values(), default=-1.6) + 1.6
        lines |= {(name, model): start + number for number, model in enumerate(of_name)}
    height = max(lines.values())
    figure, axes = panels(1, len(splits), height=0.19 * height + 0.9)
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        for cell in here.to_dict("records"):
            at, colour = lines[cell["name"], cell["model"]], MODEL_COLOURS[cell["model"]]
            strict, published = cell["strict"], cell["published"]
            panel.hlines(at, strict, published, color=colour, linewidth=1.8)
            panel.plot(published, at, "s", markersize=7, mfc="white", mec=colour)
            panel.plot(strict, at, "o", markersize=4, color=colour)
            text, place = f"{100 * cell['difference']:+.1f}", (max(strict, published), at)
            offset = {"textcoords": "offset points", "va": "center_baseline", "fontsize": 9}
            panel.annotate(text, place, (8, 0), **offset)
        names = pd.Series(lines).groupby(level=0, sort=False).mean()
        panel.set_title(f"{SPLITS[split]}{problems_of(here)}")
        panel.set_yticks(names, names.index)
        panel.set_ylim(height + 0.8, -0.8)
        panel.set_xlim(0, 1.16)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1])
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("accuracy")
    grey = "#555555"
    handles = [handle("strict checker", grey, linestyle="none", markersize=4)]
    handles.append(
        handle("published checker", grey, linestyle="none", marker="s", mfc="white", markersize=7)
    )
    if len(models) > 1:
        handles += [handle(m, MODEL_COLOURS[m], marker="") for m in models]
    legend(figure, handles)
    return figure


STUDY = Study(
    name="checkers",
    title="Both checkers",
    remark=checkers_remark,
    text=checkers_text,
    figures=(
        Figure(
            "checkers",
            accuracy_by_checker,
            "Each method by the strict checker and by the published one, and the difference in "
            "points.",
            ARTIFACTS,
            tuple(METHODS),
            checkers=("strict", "published"),
        ),
    ),
)
