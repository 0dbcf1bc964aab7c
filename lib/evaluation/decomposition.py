"""What the results say: accuracy as coverage times selection, and the paper's numbers beside ours.

Takes the tidy rows of lib/evaluation/results.py; gives DataFrames. The claims are judged in
lib/evaluation/claims.py. Knows nothing of how the rows were measured.
"""

import pandas as pd

from lib.evaluation.paper import paper_accuracy
from lib.evaluation.results import headline
from lib.evaluation.statistics import wilson_interval

CELL = ["model", "split", "N", "b", "temperature"]


def decomposition(rows: pd.DataFrame, artifact: str = "figure_4") -> pd.DataFrame:
    """accuracy = coverage (some path is right: pass@N) x selection (the chosen one is, if so).

    One row a model, split, N, b and temperature, each factor with its 95% interval.
    """
    known = headline(rows, [artifact])
    chosen = known[known["method"] == "self_backtracking"]
    ceiling = known[known["method"] == "pass_at_n"].rename(columns={"accuracy": "coverage"})
    joined = chosen.merge(ceiling[[*CELL, "coverage"]], on=CELL)
    records = []
    for cell in joined.to_dict("records"):
        total = int(cell["problems"])
        right, covered = (round(cell[name] * total) for name in ("accuracy", "coverage"))
        low, high = wilson_interval(covered, total)
        selection_low, selection_high = wilson_interval(right, covered)
        records.append(
            {name: cell[name] for name in [*CELL, "accuracy", "coverage"]}
            | {"coverage_low": low, "coverage_high": high}
            | {"selection": right / covered if covered else float("nan")}
            | {"selection_low": selection_low, "selection_high": selection_high}
            | {"problems": total}
        )
    columns = [*CELL, "accuracy", "coverage", "coverage_low", "coverage_high"]
    columns += ["selection", "selection_low", "selection_high", "problems"]
    return pd.DataFrame(records, columns=columns)


def size_gap(parts: pd.DataFrame) -> pd.DataFrame:
    """L less S of `decomposition`, split exactly into what coverage and selection account for.

    The gap of a product is (change of coverage) x (mean selection) + the same the other way round.
    """
    keys = CELL[1:]
    pairs = parts[parts["model"] == "S"].merge(
        parts[parts["model"] == "L"], on=keys, suffixes=("_s", "_l")
    )
    coverage = pairs["coverage_l"] - pairs["coverage_s"]
    selection = pairs["selection_l"] - pairs["selection_s"]
    return pairs[keys].assign(
        gap=pairs["accuracy_l"] - pairs["accuracy_s"],
        from_coverage=coverage * (pairs["selection_l"] + pairs["selection_s"]) / 2,
        from_selection=selection * (pairs["coverage_l"] + pairs["coverage_s"]) / 2,
    )


def beside_paper(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column `paper`: its accuracy in the same cell, NaN where it has none.

    Rows with a value in the column `task` are of another task than the paper's.
    """
    names = [name for name in ("method", "model", "split", "N", "b", "ratio") if name in rows]
    cells = zip(*(rows[name] for name in names), strict=True)
    found = pd.Series([paper_accuracy(*cell) for cell in cells], index=rows.index, dtype=float)
    return rows.assign(paper=found if "task" not in rows else found.where(rows["task"].isna()))
