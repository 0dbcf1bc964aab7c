"""Tables and numbers as Markdown, for the README and the notebooks.

Takes text and result rows; gives Markdown. Knows nothing of what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from lib.base.errors import UserError
from lib.drawing.style import METHODS, setting


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of text cells."""
    made = [head, ["---"] * len(head), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in made
    )


def accuracy(row: Mapping) -> str:
    """An accuracy in %, its interval, and the paper's number where `paper` has one."""
    text = f"**{100 * row['accuracy']:.1f}**"
    if not pd.isna(row["low"]):
        text += f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return text if pd.isna(row["paper"]) else f"{text} (paper {100 * row['paper']:.1f})"


def methods_table(
    rows: pd.DataFrame,
    first: str,
    shown: Callable[[Mapping], str],
    keys: Sequence[str] = ("model", "split"),
    last: Mapping[str, Callable[[pd.DataFrame], str]] | None = None,
) -> str:
    """A line a method with its b and N, in the order of METHODS; empty without rows.

    A column holds what `shown` says of the row of these keys (S before L, seen before new); `last`
    has one more, by its head, which says something of a line's rows.
    """
    if rows.empty:
        return ""
    place = {name: number for number, name in enumerate(METHODS)}
    rows = rows.assign(place=rows["method"].astype(str).map(place).fillna(len(place)))
    columns = sorted({*rows[list(keys)].itertuples(index=False, name=None)}, reverse=True)
    grouped, lines = rows.groupby(["place", "method", "b", "N"], dropna=False, observed=True), []
    for (_, method, *_), group in grouped:
        found = {tuple(row[key] for key in keys): shown(row) for row in group.to_dict("records")}
        name = METHODS.get(method, method.replace("_", " ")) + setting(group.iloc[0])
        line = [name, *(found.get(column, "") for column in columns)]
        lines.append(line + [say(group) for say in (last or {}).values()])
    head = [first, *(", ".join(column) for column in columns), *(last or {})]
    return markdown_table(head, lines)


def points(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of accuracy in points, with its interval."""
    text = f"{100 * value:+.1f}"
    if low is None or pd.isna(low):
        return text
    return f"{text} [{100 * low:+.1f}, {100 * high:+.1f}]"


def points_of(row: Mapping, name: str) -> str:
    """`points` of a row's column and its interval; empty where it is not known."""
    value = row.get(name)
    return "" if pd.isna(value) else points(value, row.get(f"{name}_low"), row.get(f"{name}_high"))


def in_words(rows: pd.DataFrame, value: str = "accuracy") -> str:
    """Shares of rows that differ in model and split alone: `S 48.4% (seen) and 50.5% (new)`."""
    told: dict[str, list[str]] = {}
    # S before L, and the split seen before new.
    for row in rows.sort_values(["model", "split"], ascending=False).to_dict("records"):
        told.setdefault(row["model"], []).append(f"{100 * row[value]:.1f}% ({row['split']})")
    return ", ".join(f"{model} {' and '.join(shares)}" for model, shares in told.items())


def shown(draw: Callable[[pd.DataFrame], Figure], rows: pd.DataFrame) -> Figure | str:
    """The figure; where the run has no rows for it, a sentence that says so."""
    try:
        return draw(rows)
    except UserError as error:
        return str(error)
