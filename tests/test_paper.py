"""The published numbers: lookups that are exact, and no two tables that disagree."""

import pytest

from lib.evaluation.paper import CLAIMS, PAPER, paper_accuracy


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (("sft_greedy", "S", "seen"), 0.2860),
        (("sft_beam", "L", "new"), 0.3436),
        (("best_of_n", "L", "new", 16), 0.4780),
        (("self_backtracking", "S", "new", 32, 1), 0.7378),
        (("self_backtracking", "S", "seen", 8, 1, "1:0.5"), 0.68),
        (("self_backtracking", "S", "seen", 16, 1), 0.7250),
        (("symbolic_dfs", "S", "new", 64), 0.6106),
        (("self_backtracking", "S", "seen", 16, 0, 4.0), 0.6916),
    ],
)
def test_lookup(cell, expected):
    assert paper_accuracy(*cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        ("self_backtracking", "S", "seen"),
        ("self_backtracking", "L", "seen", 16, 1),
        ("sft_greedy", "S", "seen", 8),
        ("no_such_method", "S", "seen"),
    ],
)
def test_what_the_paper_lacks_is_none(cell):
    assert paper_accuracy(*cell) is None


def test_tables_agree_with_each_other():
    keys = ["method", "model", "split", "N", "b", "ratio"]
    assert (PAPER.groupby(keys, dropna=False)["accuracy"].nunique() == 1).all()
    assert len(PAPER[PAPER["table"] == "table_1"]) == 13 * 4
    assert PAPER["accuracy"].between(0, 1).all()


def test_seven_claims():
    assert sorted(CLAIMS) == list(range(1, 8))
