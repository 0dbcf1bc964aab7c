"""New targets beside seen targets like them: by hand, and where a run has none."""

import pytest

from lib.results import row, table
from lib.targets import at_like_targets, like_targets_text


def cell(split, target, accuracy, problems, method="self_backtracking", model="S"):
    shared = {"N": 32, "b": 1, "checker": "strict"}
    return row(
        "targets",
        method,
        model=model,
        split=split,
        target=target,
        accuracy=accuracy,
        problems=problems,
        **shared,
    )


ROWS = table(
    [
        cell("seen", 10, 1.0, 90),  # far from all that is held out
        cell("seen", 59, 0.5, 10),
        cell("seen", 61, 0.8, 30),
        cell("seen", 64, 0.25, 20),  # 4 from the first, 3 from the second
        cell("new", 60, 0.6, 30),
        cell("new", 67, 0.4, 10),
        cell("seen", 60, 0.0, 50, method="sft_greedy"),
    ]
)


def test_like_targets_by_hand():
    # 60: (0.5 * 10 + 0.8 * 30) / 40 = 0.725, asked 30 times; 67: 0.25, asked 10 times.
    share, problems = at_like_targets(ROWS, "self_backtracking", "S")
    assert share == pytest.approx((0.725 * 30 + 0.25 * 10) / 40)
    assert problems == 60


def test_no_neighbour_no_comparison():
    assert at_like_targets(ROWS, "self_backtracking", "L") is None
    alone = table([*ROWS.to_dict("records"), cell("new", 99, 0.5, 5)])
    assert at_like_targets(alone, "self_backtracking", "S") is None
    assert like_targets_text(alone) == ""


def test_the_text_gives_all_three():
    text = like_targets_text(ROWS)
    assert "S solves 60.6 of those (60 problems)" in text
    assert "82.7 of all seen and 55.0 of new ones." in text
    assert like_targets_text(table([])) == ""
