"""Which of the tidy rows count: one strict accuracy a cell, by the paper's selection rule.

Takes the rows of lib/results.py; gives those that tables, figures and claims are made of. Knows
nothing of what a row was measured for.
"""

from collections.abc import Iterable

import pandas as pd

from lib.evaluation import wilson_interval
from lib.results import table

PAPER_SELECTION = "mean_logprob"  # section 3.3: the highest mean log-probability
# What a cell's rows may differ in and still be one cell; any other column (round ...) parts it.
MEASURED = {"selection", "checker", "seed", "accuracy", "low", "high", "problems"}
MEASURED |= {"tokens_per_problem", "seconds", "failures", "share", "loss"}
MEASURED |= {"only_strict", "only_published"}


def headline(rows: pd.DataFrame, artifacts: Iterable[str] | None = None) -> pd.DataFrame:
    """The strict checker's accuracies, one row a cell, with the paper's selection rule where there
    is a choice (a cell without it keeps its first rule by name). Seeds are pooled."""
    rows = table(rows)
    kept = rows[rows["accuracy"].notna() & (rows["checker"].fillna("strict") == "strict")]
    if artifacts is not None:
        kept = kept[kept["artifact"].isin(list(artifacts))]
    if kept.empty:
        return kept
    keys = [name for name in kept if name not in MEASURED]
    rank = kept["selection"].fillna(PAPER_SELECTION) != PAPER_SELECTION
    kept = kept.assign(rank=rank).sort_values(["rank", "selection"], kind="stable")
    first = kept.groupby(keys, dropna=False, sort=False)["selection"].transform("first")
    kept = kept[(kept["selection"] == first) | kept["selection"].isna()].drop(columns="rank")
    return pd.DataFrame(
        [_pooled(cell) for _, cell in kept.groupby(keys, dropna=False, sort=True)],
        columns=kept.columns,
    ).reset_index(drop=True)


def _pooled(cell: pd.DataFrame) -> pd.Series:
    first = cell.iloc[0].copy()
    if len(cell) > 1 and cell["problems"].notna().all():
        problems = int(cell["problems"].sum())
        right = float((cell["accuracy"] * cell["problems"].astype(float)).sum())
        first["accuracy"], first["problems"] = right / problems, problems
        first["low"], first["high"] = wilson_interval(right, problems)
        first["tokens_per_problem"] = cell["tokens_per_problem"].mean()
        for name in {"only_strict", "only_published"} & set(cell):
            first[name] = cell[name].sum(skipna=False)
    return first
