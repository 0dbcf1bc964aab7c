"""Per-problem outcomes: one row a problem and method cell, of which every accuracy is the mean.

Takes the outcomes that studies give; gives one table, as a small parquet file beside results.json,
and comparisons of two methods on the problems that both were asked. Knows nothing of how an
outcome was measured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.base.files import read_parquet, write_atomic

FILE = "outcomes.parquet"
TEXT = ("artifact", "method", "model", "split", "expansion", "per_state", "selection", "error")
CELL = ("artifact", "method", "model", "split", "N", "b", "expansion", "per_state")
CELL += ("temperature", "selection", "round", "seed")
VERDICTS = ("numbers_seen", "correct", "correct_published")
COLUMNS = (*CELL, "problem", "target", *VERDICTS, "error", "tokens")
#: In these a row of results.json names its cell; what it leaves empty is not asked.
NAMED = ("artifact", "method", "model", "split", "N", "b", "temperature", "selection", "round")


def outcome_table(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """These outcomes as one table: COLUMNS, their types, sorted by cell and problem."""
    found = pd.concat([pd.DataFrame(columns=COLUMNS), *parts]) if parts else pd.DataFrame()
    found = found.reindex(columns=COLUMNS)
    for name in COLUMNS:
        if name in TEXT:
            found[name] = found[name].astype("string").astype("category")
        elif name in VERDICTS:
            found[name] = found[name].astype("boolean")
        elif name == "temperature":
            found[name] = found[name].astype(float)
        else:
            found[name] = pd.to_numeric(found[name]).astype("Int32")
    return found.sort_values([*CELL, "problem"], ignore_index=True)


def write_outcomes(path: Path, outcomes: pd.DataFrame) -> None:
    """Write the table whole or not at all; empty columns and repeated cells take little."""
    buffer = io.BytesIO()
    outcomes.to_parquet(buffer, index=False, compression="zstd", compression_level=15)
    write_atomic(path, buffer.getvalue())


def read_outcomes(path: Path) -> pd.DataFrame | None:
    """The table of `write_outcomes`; None without a file, `UserError` for a broken one."""
    if not path.exists():
        return None
    found = read_parquet(path)
    if missing := sorted({*COLUMNS} - {*found}):
        raise UserError(
            f"{path}: it lacks the column {missing[0]}; `make reproduce` writes it anew"
        )
    return outcome_table([found])


def of_cell(outcomes: pd.DataFrame, row: Mapping) -> pd.DataFrame:
    """The outcomes, of every seed, whose mean is the accuracy of a row of results.json."""
    for name in NAMED:
        if name in row and not pd.isna(row[name]):
            outcomes = outcomes[(outcomes[name] == row[name]).fillna(False)]
    return outcomes
