"""Per-problem outcomes: one row a problem and method cell, of which every accuracy is the mean.

Takes the outcomes that studies give; gives one table, as a small parquet file beside results.json,
and accuracies and paired differences over one seed or several, with intervals that count the seed
and the target as sources of variance. Knows nothing of how an outcome was measured.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.base.files import read_parquet, write_atomic
from lib.evaluation.statistics import bounds, hierarchical_draws

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


def clusters(outcomes: pd.DataFrame) -> pd.Series:
    """What of a seed is resampled together: the problems of a target, or each problem alone where
    the task has no targets, or the split one alone."""
    alone = outcomes["target"].isna() | (outcomes["target"].nunique() < 2)
    return outcomes["target"].mask(alone, outcomes["problem"])


def by_seed(outcomes: pd.DataFrame) -> pd.Series:
    """Each seed's accuracy."""
    return outcomes["correct"].astype(float).groupby(outcomes["seed"]).mean()


def accuracy(outcomes: pd.DataFrame) -> tuple[float, float, float]:
    """Of one cell over all its seeds -> (mean of the seeds' accuracies, low, high)."""
    means = by_seed(outcomes)
    low, high = bounds(_draws(outcomes, "correct"), len(outcomes), means)
    return float(means.mean()), max(0.0, low), min(1.0, high)


def difference(a: pd.DataFrame, b: pd.DataFrame) -> tuple[float, float, float, float] | None:
    """Two cells -> accuracy of a and of b, and the interval of their difference.

    On the same split they are paired, on the problems that both were asked, of seeds that both
    have; on two splits the seeds alone are shared. None where nothing is.
    """
    both = a.merge(b, on=["split", "seed", "problem"], suffixes=("", "_b"))
    if len(both):
        both["gap"] = both["correct"].astype(float) - both["correct_b"].astype(float)
        means = [by_seed(both.assign(correct=both[name])) for name in ("correct", "correct_b")]
        ends = bounds(_draws(both, "gap"), len(both), means[0] - means[1])
        return *(float(each.mean()) for each in means), *ends
    shared = {*a["seed"]} & {*b["seed"]}
    a, b = (cell[cell["seed"].isin(shared)] for cell in (a, b))
    if a.empty or b.empty or {*a["split"]} & {*b["split"]}:
        return None
    gaps = _draws(a, "correct") - _draws(b, "correct", stream=1)
    means = [by_seed(cell) for cell in (a, b)]
    ends = bounds(gaps, min(len(a), len(b)), means[0] - means[1])
    return *(float(each.mean()) for each in means), *ends


def _draws(outcomes: pd.DataFrame, name: str, stream: int = 0) -> np.ndarray:
    return hierarchical_draws(outcomes[name], outcomes["seed"], clusters(outcomes), stream)
