"""The figure of best-of-N: its lines, and a run that has no best-of-N."""

import matplotlib
import pytest

from lib.base.errors import UserError
from lib.evaluation.results import row, table
from lib.evaluation.statistics import wilson_interval
from lib.studies.paper.best_of_n import CEILING as MEASURED_CEILING
from lib.studies.paper.best_of_n import CEILING_2, CHOICES, LOOKS, draw_best_of_n

matplotlib.use("Agg")


def cell(artifact, method, accuracy, breadth, **columns):
    low, high = wilson_interval(100 * accuracy, 100)
    shared = {"checker": "strict", "problems": 100, "model": "S", "N": breadth}
    return row(artifact, method, accuracy=accuracy, low=low, high=high, **(shared | columns))


def make_rows():
    made = []
    for split in ("seen", "new"):
        for breadth in (8, 16, 32):
            made += [
                cell("best_of_n", method, 0.5, breadth, split=split)
                for method in (*CHOICES.values(), MEASURED_CEILING)
            ]
        for breadth in (2, 8, 32):
            for depth in (0, 1):
                setting = {"split": split, "b": depth}
                made.append(cell("figure_4", "self_backtracking", 0.8, breadth, **setting))
    return table(made)


def test_its_lines():
    figure = draw_best_of_n(make_rows())
    assert len(figure.axes) == 2 and set(LOOKS) == {*CHOICES.values(), "self_backtracking"}
    assert CEILING_2 == MEASURED_CEILING
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[0] == "SFT, reward model's choice" and len(texts) == len(LOOKS) + 2
    # Self-Backtracking stands at the same N alone, and once: its b=0 is not drawn.
    points = sorted(len(line[0].get_xdata()) for line in figure.axes[0].containers)
    assert points == [2, 3, 3, 3]


def test_a_run_without_best_of_n_shows_search_alone():
    rows = make_rows()
    figure = draw_best_of_n(rows[rows["artifact"] == "figure_4"])
    assert [len(line[0].get_xdata()) for line in figure.axes[0].containers] == [3]
    with pytest.raises(UserError, match="no rows"):
        draw_best_of_n(rows.iloc[:0])
