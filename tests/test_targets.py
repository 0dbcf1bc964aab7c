"""New targets beside seen targets like them: by hand, and where a run has none."""

import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.evaluation.results import row, table
from lib.studies.beyond import targets
from lib.studies.beyond.targets import at_like_targets, pairs, targets_remark


def cell(split, target, accuracy, problems, method="self_backtracking", model="S"):
    shared = {"N": 32, "b": 1, "checker": "strict", "model": model, "split": split}
    counts = {"target": target, "accuracy": accuracy, "problems": problems}
    return row("targets", method, **shared, **counts)


SEEN = [
    cell("seen", 10, 1.0, 90),  # far from all that is held out
    cell("seen", 59, 0.5, 10),
    cell("seen", 61, 0.8, 30),
    cell("seen", 64, 0.25, 20),  # 4 from the first, 3 from the second
]
NEW = [cell("new", 60, 0.6, 30), cell("new", 67, 0.4, 10)]
OTHER = cell("seen", 60, 0.0, 50, method="sft_greedy")


def test_like_targets_by_hand():
    # 60: (0.5 * 10 + 0.8 * 30) / 40 = 0.725, asked 30 times; 67: 0.25, asked 10 times.
    found = at_like_targets(table(SEEN), table(NEW))
    assert found.accuracy == pytest.approx((0.725 * 30 + 0.25 * 10) / 40)
    assert found.problems == 60
    # A problem of 59 or 61 weighs 3/4 / 40, one of 64 weighs 1/4 / 20.
    assert found.effective == pytest.approx(1 / (40 * (0.75 / 40) ** 2 + 20 * (0.25 / 20) ** 2))


def test_equal_weights_tell_as_much_as_there_are():
    found = at_like_targets(table([cell("seen", 59, 0.5, 10)]), table([cell("new", 60, 0.5, 7)]))
    assert (found.accuracy, found.problems) == (0.5, 10)
    assert found.effective == pytest.approx(10)


def test_a_target_with_no_neighbour_is_said():
    alone = [*SEEN, *NEW, cell("new", 99, 0.5, 5)]
    assert at_like_targets(table(SEEN), table(alone[-3:])) is None
    assert "S: a held-out target has no seen one near it" in targets_remark(table(alone))


def test_the_text_has_the_difference_and_its_interval():
    text = targets_remark(table([*SEEN, *NEW, OTHER]))
    assert "S: 55.0 against 60.6, -5.6 [-24.7, +13.6] (60 seen problems, worth 58 equal" in text


@pytest.mark.parametrize("rows", [[], SEEN, [row("targets", "self_backtracking", model="S")]])
def test_nothing_to_compare(rows):
    assert targets_remark(table(rows)) == ""


def test_the_figure_has_each_held_out_target_beside_those_near_it():
    found = pairs(table(SEEN), table(NEW))
    assert found["target"].tolist()[:4] == [60, 60, 67, 67] and found["target"].isna().sum() == 2
    near = found[~found["held_out"]]
    assert near["accuracy"].tolist() == pytest.approx([0.725, 0.25, 0.60625])
    assert near["problems"].tolist() == [40, 20, 60]
    figure = targets.accuracy_by_target(table([*SEEN, *NEW, OTHER]))
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["60", "67", "all"]
    with pytest.raises(UserError, match="no rows"):
        targets.accuracy_by_target(table(SEEN))


@pytest.mark.slow
def test_every_problem_is_some_targets(tmp_path):
    experiment = small(tmp_path)
    rows = targets.rows(experiment)
    counts = rows.groupby(["model", "split", "method"])["problems"].sum()
    assert set(counts["S"]) == {6} and set(counts["L"]) == {4} and len(counts) == 2 * 2 * 2
