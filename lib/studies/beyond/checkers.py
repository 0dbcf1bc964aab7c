"""Both checkers: how much of a method's accuracy is due to which of them judges.

Takes the tidy rows of lib/evaluation/results.py, which have both verdicts on the same answers;
gives the differences with paired 95% intervals, a table and a paragraph in Markdown. What the two
checkers accept is in lib/tasks/countdown/rules.py. Knows nothing of how an answer came about.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from lib.drawing.markdown import markdown_table, points
from lib.drawing.style import METHODS
from lib.evaluation.claims import headline
from lib.evaluation.statistics import counted_difference

ARTIFACTS = ("table_1", "table_2")
CELL = ["method", "model", "split", "N", "b"]
COLUMNS = [*CELL, "strict", "published", "difference", "low", "high", "problems"]
COLUMNS += ["only_strict", "only_published"]


def leniency(rows: pd.DataFrame, artifacts: Iterable[str] = ARTIFACTS) -> pd.DataFrame:
    """Each method's accuracy by both checkers, and the difference with its paired interval.

    The interval is missing where the rows do not say how many answers only one of them accepts.
    """
    found = rows[
        rows["artifact"].isin(list(artifacts)) & rows["method"].isin(set(METHODS) - {"pass_at_n"})
    ]
    lenient = found[found["checker"] == "published"].assign(checker="strict")
    strict, published = headline(found), headline(lenient)
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
        cell |= dict(zip(("difference", "low", "high"), interval, strict=True))
        records.append({name: cell[name] for name in COLUMNS})
    place = list(METHODS).index
    made = pd.DataFrame(records, columns=COLUMNS)
    made = made.assign(place=made["method"].map(place)).sort_values(
        ["model", "split", "place", "b", "N"], ascending=[False, False, True, True, True]
    )
    return made.drop(columns="place").reset_index(drop=True)


def method_name(cell: dict) -> str:
    """A method with its b and N."""
    shown = (("b", cell["b"]), ("N", cell["N"]))
    return METHODS[cell["method"]] + "".join(f" {k}={v:.0f}" for k, v in shown if not pd.isna(v))


def leniency_table(rows: pd.DataFrame) -> str:
    """The differences in Markdown; empty where there are no such rows."""
    lines = [
        [
            method_name(cell),
            f"{cell['model']}, {cell['split']}",
            f"{100 * cell['strict']:.1f}",
            f"{100 * cell['published']:.1f}",
            points(cell["difference"], cell["low"], cell["high"]),
        ]
        for cell in leniency(rows).to_dict("records")
    ]
    head = ["method", "", "strict", "published", "difference"]
    return markdown_table(head, lines) if lines else ""


def direction(rows: pd.DataFrame) -> str:
    """Which of the two checkers is the harsher one here, in one sentence; empty without rows."""
    differences = leniency(rows)["difference"]
    if differences.empty:
        return ""
    more, less = int((differences > 0).sum()), int((differences < 0).sum())
    of = f"of {len(differences)} accuracies"
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


def leniency_text(rows: pd.DataFrame) -> str:
    """What the published checker does to this run's accuracies, and what that says of the paper."""
    found = leniency(rows)
    if found.empty:
        return "This run has no rows by both checkers."
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
        cell = search[search["split"] == split].sort_values(["b", "N"]).tail(1)
        if cell.empty:
            continue
        cell = cell.iloc[0].to_dict()
        gain = points(cell["difference"], cell["low"], cell["high"])
        text.append(
            f"Self-Backtracking (b={cell['b']:.0f} N={cell['N']:.0f}) on {split} targets: {gain}."
        )
    # Said, not carried over to the paper's figures: small numbers repeat more often than its own.
    text.append(
        "It is lenient where numbers stay unused, and harsh where a number stands twice: a used "
        "number leaves with all its copies, so that the second one is unknown. How often that "
        "happens depends on the range of the numbers (the paper's is 1 to 99) and on the errors "
        "that a model makes: this is no measurement of the paper's models."
    )
    return " ".join(text)
