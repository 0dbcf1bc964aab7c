"""The smoke run's own test: Self-Backtracking beats SFT greedy, or the script exits non-zero.

Takes the path of a results.json; compares the S model's strict accuracies, seen and new targets
averaged, with Self-Backtracking at the run's largest N and b. Knows nothing of how they came about.
"""

import sys
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.evaluation.results import headline, read_results

ARTIFACTS = ("table_1", "figure_4")
SPLITS = {"seen", "new"}


def accuracy(rows: pd.DataFrame, method: str) -> float:
    """Strict accuracy of the S model, averaged over both splits, at the largest N, then b."""
    found = headline(rows, ARTIFACTS)
    found = found[(found["method"] == method) & (found["model"] == "S")]
    found = found[found["split"].isin(SPLITS)]
    for column in ("N", "b"):
        if found[column].notna().any():
            found = found[(found[column] == found[column].max()).fillna(False)]
    if set(found["split"]) != SPLITS:
        raise UserError(f"no strict accuracy of {method} (model S) on both seen and new targets")
    return float(found.groupby("split")["accuracy"].mean().mean())


def compare(path: Path) -> str:
    """One line with both accuracies; a UserError where Self-Backtracking is not the better."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; `make reproduce PROFILE=smoke` writes it")
    _, rows = read_results(path)
    searched, greedy = (accuracy(rows, name) for name in ("self_backtracking", "sft_greedy"))
    line = f"{path}: Self-Backtracking {100 * searched:.1f}, SFT greedy {100 * greedy:.1f}"
    if searched <= greedy:
        raise UserError(f"{line}; Self-Backtracking must be the better")
    return line


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: check_smoke.py RESULTS_JSON")
    try:
        print(compare(Path(sys.argv[1])))
    except UserError as error:
        sys.exit(str(error))
