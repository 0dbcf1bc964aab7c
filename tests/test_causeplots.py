"""Figures of causes and costs, on rows whose numbers are known."""

import numpy as np
import pytest

from lib.drawing import markdown
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from studies.beyond import equal_compute, verdicts


def searched(method, b, n, temperature, tokens, accuracy, split="seen"):
    outcomes = np.arange(100) < 100 * accuracy
    columns = {"artifact": "compute", "model": "S", "split": split, "checker": "strict"}
    return accuracy_row(
        outcomes, method=method, b=b, N=n, temperature=temperature, tokens_per_problem=tokens,
        **columns,
    ) | {"ceiling": accuracy}  # fmt: skip


@pytest.mark.parametrize(
    "draw",
    [
        equal_compute.against_tokens,
        equal_compute.against_breadth,
        equal_compute.against_temperature,
        equal_compute.against_depth,
    ],
)
def test_figures_of_compute(draw):
    rows = []
    for split in ("seen", "new"):
        for n in (1, 4, 16):
            for method in ("sft_sampled", "self_consistency", "self_backtracking"):
                rows.append(searched(method, 0, n, 0.7, 12.0 * n, 0.3 + 0.02 * n, split))
        for temperature in (0.3, 1.2):
            for method, b in (
                ("sft_sampled", 0),
                ("self_backtracking", 0),
                ("self_backtracking", 1),
            ):
                rows.append(searched(method, b, 4, temperature, 50.0, 0.4 + 0.1 * b, split))
        for b in (1, 2):
            rows.append(searched("self_backtracking", b, 4, 0.7, 60.0 + 10 * b, 0.5, split))
        rows.append(searched("sft_beam", None, 4, None, 100.0, 0.35, split))
    figure = draw(table(rows))
    assert [axes.get_title() for axes in figure.axes] == [
        "S, seen split (n=100)",
        "S, new split (n=100)",
    ]


def test_a_run_without_studies_shows_sentences_and_empty_tables():
    empty = table([])
    assert "no rows" in markdown.shown(verdicts.verdict_curves, empty)
