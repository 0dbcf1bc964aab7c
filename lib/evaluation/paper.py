"""The paper's published numbers, as one tidy table.

Takes nothing; gives PAPER (one row a published accuracy, 0..1), a lookup in it, and the texts of
the seven claims. S stands for the paper's 1B model and L for its 3B. Table 4 (the ratios of Table 3
on new targets) is left out but for the entries that Table 1 repeats.
Knows nothing about our own results.
"""

import pandas as pd

TASK = "countdown"  # the task that its numbers are of
CELLS = (("S", "seen"), ("S", "new"), ("L", "seen"), ("L", "new"))

# (method, N, b): accuracy % of 1B seen, 1B new, 3B seen, 3B new
TABLE_1 = {
    ("sft_greedy", None, None): (28.60, 28.92, 33.98, 32.68),
    ("sft_beam", None, None): (31.68, 31.90, 35.82, 34.36),
    ("dpo", None, None): (29.06, 27.64, 34.46, 32.72),
    ("kto", None, None): (28.34, 27.74, 33.70, 32.34),
    ("best_of_n", 8, None): (41.26, 40.68, 47.84, 48.56),
    ("best_of_n", 16, None): (32.40, 33.94, 47.28, 47.80),
    ("best_of_n", 32, None): (25.60, 27.04, 44.38, 45.88),
    ("backtracking_data_greedy", None, None): (28.92, 27.06, 27.56, 26.96),
    ("backtracking_data_beam", None, None): (36.10, 34.30, 23.10, 22.20),
    ("self_backtracking", 8, 0): (66.66, 67.40, 58.76, 56.92),
    ("self_backtracking", 32, 0): (70.66, 72.14, 60.18, 58.06),
    ("self_backtracking", 8, 1): (67.60, 68.02, 61.06, 59.28),
    ("self_backtracking", 32, 1): (73.54, 73.78, 64.12, 61.98),
}
# 1B only: seen, new
TABLE_2 = {
    ("symbolic_dfs", 32, None): (49.12, 48.90),
    ("symbolic_dfs", 64, None): (60.00, 61.06),
    ("stream_of_search", None, None): (57.50, 53.40),
    ("guided_stream_of_search", None, None): (69.00, 67.20),
    ("self_backtracking", 32, 1): (73.54, 73.78),
}
# 1B, seen targets; D_op : D_back = 1 : ratio
RATIOS = (0.5, 1.0, 2.0, 3.0, 4.0)
TABLE_3 = {
    (8, 0): (66.70, 66.66, 64.92, 64.78, 65.06),
    (8, 1): (68.00, 67.60, 64.66, 65.18, 65.94),
    (16, 0): (69.80, 70.20, 67.80, 68.18, 69.16),
    (16, 1): (71.12, 72.50, 65.66, 66.56, 70.12),
}
USUAL_RATIO = 1.0  # of Tables 1 and 2
#: Figures 5 and 9 to 12 at N=32, by (model, split, b): % of the failures, in the order of ERRORS.
ERRORS = ("not reached", "invalid format", "incorrect result", "unknown number")
FAILURES = {
    ("S", "seen", 0): (4.8, 0.2, 83.0, 11.9),
    ("S", "new", 0): (27.1, 0.1, 62.2, 10.7),
    ("L", "seen", 0): (46.1, 0.1, 44.8, 9.0),
    ("L", "new", 0): (43.8, 0.0, 47.3, 9.0),
    ("S", "seen", 1): (2.8, 0.0, 84.0, 13.2),
    ("S", "new", 1): (3.0, 0.2, 84.4, 12.4),
    ("L", "seen", 1): (25.9, 0.2, 64.2, 9.8),
    ("L", "new", 1): (24.2, 0.0, 66.5, 9.3),
}
#: Figures 3 and 8, 1B, N=16, by (split, b): accuracy % after rounds 0 to 3 of self-improvement, of
#: greedy decoding and, read off bars, of search.
SELF_IMPROVEMENT = {
    ("seen", 0): ((28.92, 71.34, 74.48, 76.10), (70.2, 73.5, 75.2, 75.8)),
    ("new", 0): ((27.06, 72.76, 75.66, 77.38), (71.4, 74.2, 77.0, 75.5)),
    ("seen", 1): ((28.92, 73.72, 77.04, 79.22), (72.5, 69.3, 73.3, 77.9)),
    ("new", 1): ((27.06, 74.08, 78.46, 80.04), (72.9, 75.4, 79.3, 80.2)),
}
#: Rows of ours beside which a number of the paper's stands under another name.
SAME_AS = {"paper_recipe": "self_backtracking", "paper_recipe_greedy": "backtracking_data_greedy"}
CLAIMS = {
    1: "Self-Backtracking gains more than 40 points over fine-tuning on optimal paths.",
    2: "It has a considerable advantage at b=0 already: <backtrack> judges the current state and "
    "stands in for a reward model.",
    3: "Best-of-N with a reward model falls as N grows; Self-Backtracking rises.",
    4: "Self-improvement turns slow thinking into fast thinking.",
    5: "New targets score about what seen targets do.",
    6: "The larger model computes better, and still loses to the smaller one.",
    7: "Limitation: one task only; not yet adapted to wider reasoning tasks.",
}


def _table() -> pd.DataFrame:
    rows: list[dict] = []

    def add(table: str, key: tuple, model: str, split: str, percent: float, ratio: float) -> None:
        method, breadth, depth = key
        rows.append(
            {
                "table": table,
                "method": method,
                "model": model,
                "split": split,
                "N": breadth,
                "b": depth,
                "ratio": ratio,
                "accuracy": round(percent / 100, 4),
            }
        )

    for key, percents in TABLE_1.items():
        for (model, split), percent in zip(CELLS, percents, strict=True):
            add("table_1", key, model, split, percent, USUAL_RATIO)
    for key, percents in TABLE_2.items():
        for split, percent in zip(("seen", "new"), percents, strict=True):
            add("table_2", key, "S", split, percent, USUAL_RATIO)
    for (breadth, depth), percents in TABLE_3.items():
        for ratio, percent in zip(RATIOS, percents, strict=True):
            key = ("self_backtracking", breadth, depth)
            add("table_3", key, "S", "seen", percent, ratio)
            if ratio == USUAL_RATIO and (*key,) in TABLE_1:
                add("table_4", key, "S", "new", TABLE_1[key][1], ratio)
    table = pd.DataFrame(rows)
    return table.astype({"N": "Int64", "b": "Int64"})


PAPER = _table()


def paper_accuracy(
    method: str,
    model: str,
    split: str,
    N: int | None = None,
    b: int | None = None,
    ratio: float | str | None = None,
) -> float | None:
    """The published accuracy (0..1) of exactly this cell, or None where the paper has none."""
    table = PAPER
    match = (
        (table["method"] == SAME_AS.get(method, method))
        & (table["model"] == model)
        & (table["split"] == split)
        & (table["ratio"] == ratio_value(ratio))
        & _same(table["N"], N)
        & _same(table["b"], b)
    )
    found = table.loc[match, "accuracy"]
    return None if found.empty else float(found.iloc[0])


def failures(model: str, split: str, b: int) -> dict[str, float]:
    """Error -> the share of all problems (0..1) that fail by it at N=32: the paper's share of the
    failures, times the failures."""
    failed = 1 - paper_accuracy("self_backtracking", model, split, 32, b)
    shares = zip(ERRORS, FAILURES[model, split, b], strict=True)
    return {error: failed * share / 100 for error, share in shares}


def ratio_value(ratio: float | str | None) -> float:
    """`1:0.5`, `0.5` and 0.5 all mean 0.5 D_back examples for each of D_op; None is 1:1."""
    return USUAL_RATIO if ratio is None or pd.isna(ratio) else float(str(ratio).rsplit(":", 1)[-1])


def _same(column: pd.Series, value: int | None) -> pd.Series:
    return column.isna() if value is None or pd.isna(value) else (column == value).fillna(False)
