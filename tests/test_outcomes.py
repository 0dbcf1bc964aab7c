"""Per-problem outcomes: accuracies are their means, and the file gives back what was written."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.base.errors import UserError
from lib.evaluation.outcomes import (
    COLUMNS,
    NAMED,
    accuracy,
    by_seed,
    clusters,
    difference,
    of_cell,
    outcome_table,
    read_outcomes,
    write_outcomes,
)
from lib.evaluation.scoring import method_outcomes, outcome_rows
from lib.evaluation.statistics import bounds, hierarchical_draws

CELLS = st.tuples(
    st.sampled_from(["sft_greedy", "self_backtracking"]),
    st.sampled_from("SL"),
    st.sampled_from(["seen", "new"]),
    st.sampled_from([None, 8, 32]),
)


def made(cells):
    """Outcomes of these cells; from (method, model, split, N) to verdicts."""
    parts = []
    for (method, model, split, breadth), correct in cells.items():
        named = {"artifact": "table_1", "method": method, "model": model, "split": split}
        part = pd.DataFrame({"problem": range(len(correct)), "correct": correct, "tokens": 5})
        parts.append(part.assign(N=breadth, seed=3, **named))
    return outcome_table(parts)


def assert_means(rows, outcomes):
    """Every accuracy of a study that gives outcomes is their mean, over as many problems."""
    rows = rows[rows["artifact"].isin(outcomes["artifact"].unique()) & rows["accuracy"].notna()]
    assert len(rows)
    for record in rows.to_dict("records"):
        cell = of_cell(outcomes, record)
        verdict = "correct" if record["checker"] == "strict" else "correct_published"
        assert cell["problem"].is_unique and len(cell) == record["problems"], record
        assert cell[verdict].mean() == pytest.approx(record["accuracy"], abs=1e-6)
        assert cell["tokens"].mean() == pytest.approx(record["tokens_per_problem"], abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(CELLS, st.lists(st.booleans(), min_size=1, max_size=20), min_size=1))
def test_accuracies_are_means(cells):
    outcomes = made(cells)
    kept = outcomes.drop(columns=["expansion", "per_state"]).astype({"selection": object})
    rows = outcome_rows(kept)
    assert set(rows["checker"]) == {"strict"} and len(rows) == len(cells)
    # A row without an N names no N: where there are others, the cell is not one row's.
    alone = rows[rows["N"].notna() | ~rows.duplicated(["method", "model", "split"], keep=False)]
    if len(alone):
        assert_means(alone, outcomes)


def test_a_ceiling_is_right_where_any_path_is():
    keys = {"split": "seen", "N": 4, "b": 1, "temperature": 0.7, "seed": 0, "tokens": 9}
    found = pd.DataFrame({"problem": [0, 0, 1, 1], "selection": ["x", "y"] * 2, "error": "e"})
    found = found.assign(correct=[True, False, False, False], covered=[True] * 4, **keys)
    outcomes = method_outcomes(found)
    ceiling = outcomes[outcomes["method"] == "pass_at_n"]
    assert ceiling["problem"].tolist() == [0, 1] and ceiling["correct"].all()
    assert ceiling["selection"].isna().all() and "correct_published" not in outcomes
    rows = outcome_rows(outcomes.assign(artifact="figure_4")).set_index(["method", "selection"])
    assert rows["accuracy"].tolist() == [0.5, 0, 1]


def test_the_file(tmp_path):
    path = tmp_path / "outcomes.parquet"
    assert read_outcomes(path) is None
    correct = (np.arange(1000) % 3 > 0).tolist()
    cells = {
        ("sft_greedy", m, s, n): correct for m in "SL" for s in ("seen", "new") for n in (1, 2)
    }
    outcomes = made(cells)
    write_outcomes(path, outcomes)
    assert path.stat().st_size < 20_000  # 8,000 rows
    pd.testing.assert_frame_equal(read_outcomes(path), outcomes)
    again = tmp_path / "again.parquet"
    write_outcomes(again, outcome_table([outcomes.sample(frac=1, random_state=0)]))
    assert again.read_bytes() == path.read_bytes()
    outcomes.drop(columns="tokens").to_parquet(path)
    with pytest.raises(UserError, match="lacks the column tokens"):
        read_outcomes(path)
    path.write_text("x")
    with pytest.raises(UserError, match="not a whole parquet file"):
        read_outcomes(path)
    assert tuple(outcome_table([])) == COLUMNS and set(NAMED) < set(COLUMNS)


def cell(correct, targets=None, seed=0, **named):
    """One cell of one seed."""
    named = {"artifact": "table_1", "method": "m", "model": "S", "split": "new"} | named
    part = pd.DataFrame({"problem": range(len(correct)), "correct": correct, "seed": seed})
    return outcome_table([part.assign(target=targets, tokens=1, **named)])


def test_differences_are_paired_on_the_problems_that_both_were_asked():
    targets = [5, 5, 6, 6, 7, 7]
    a = cell([1, 1, 1, 0, 1, 1], targets)
    b = cell([1, 0, 1, 0, 0, 1, 1, 1], [*targets, 8, 8])
    gaps = [0, 1, 0, 0, 1, 0]
    expected = bounds(hierarchical_draws(gaps, [0] * 6, targets), 6)
    assert difference(a, b) == (5 / 6, 3 / 6, *expected)
    low, high = difference(b, a)[2:]
    assert (-high, -low) == pytest.approx(expected)


def test_seeds_count_alike_and_those_that_one_lacks_do_not_count():
    a = pd.concat([cell([1, 1, 0, 0, 0, 0]), cell([1, 1], seed=1), cell([0, 0], seed=2)])
    assert by_seed(a).tolist() == pytest.approx([1 / 3, 1, 0])
    assert accuracy(a)[0] == pytest.approx(4 / 9)
    b = pd.concat([cell([0] * 6), cell([1, 0], seed=1)])
    assert difference(a, b)[:2] == pytest.approx((2 / 3, 1 / 4))
    assert difference(a, cell([1, 0], seed=5)) is None
    assert difference(a, a[:0]) is None


def test_two_splits_share_no_problem():
    new, seen = cell([1, 1, 0, 0], range(4)), cell([1, 1, 1, 1], range(4), split="seen")
    found = difference(new, seen)
    assert found[:2] == (0.5, 1.0)
    draws = hierarchical_draws(new["correct"], [0] * 4, range(4)) - 1
    assert found[2:] == pytest.approx(bounds(draws, 4))


def test_what_is_resampled_together():
    assert clusters(cell([1, 0, 1], [5, 5, 6])).tolist() == [5, 5, 6]
    assert clusters(cell([1, 0, 1])).tolist() == [0, 1, 2]  # no targets
    assert clusters(cell([1, 0, 1], [5, 5, 5])).tolist() == [0, 1, 2]  # one target
