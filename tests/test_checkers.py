"""The sentence on the two checkers follows the numbers, whichever way they go."""

import pandas as pd
import pytest

from lib.drawing.style import CEILING_METHODS, METHODS
from lib.evaluation.results import row, table
from lib.evaluation.scoring import CEILINGS
from studies.beyond.checkers import checkers_remark, checkers_text, differences, direction


def rows(*pairs):
    """Rows of one accuracy after another by (strict, published)."""
    return table(
        row("table_1", "sft_greedy", model="S", split=split, accuracy=value, checker=checker)
        | {"problems": 100}
        for split, pair in zip(("seen", "new"), pairs, strict=False)
        for checker, value in zip(("strict", "published"), pair, strict=True)
    )


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (
            [(0.5, 0.4), (0.3, 0.3)],
            "the harsher of the two: 1 of 2 accuracies are lower by it, none is higher",
        ),
        (
            [(0.5, 0.6), (0.3, 0.4)],
            "the more lenient of the two: 2 of 2 accuracies are higher by it, none is lower",
        ),
        ([(0.5, 0.6), (0.3, 0.2)], "throughout: of 2 accuracies 1 are higher by the published one"),
        ([(0.5, 0.5)], "the two checkers give the same accuracies"),
    ],
)
def test_the_direction_is_the_table_s(pairs, sentence):
    assert sentence in direction(differences(rows(*pairs)))
    assert sentence in checkers_remark(rows(*pairs))
    assert f"| SFT, greedy | S, seen | {100 * pairs[0][0]:.1f} |" in checkers_text(rows(*pairs))


def test_no_rows_no_text():
    assert checkers_remark(table([])) == checkers_text(table([])) == ""


def test_no_ceiling_stands_among_the_methods():
    assert {*CEILINGS.values(), "sft_pass_at_n"} <= set(CEILING_METHODS) < set(METHODS)
    plain = rows((0.5, 0.6))
    ceilings = [plain.assign(method=name) for name in CEILING_METHODS]
    assert set(differences(pd.concat([plain, *ceilings]))["method"]) == {"sft_greedy"}
