"""Countdown problems: right solutions, disjoint splits, held-out targets, bad settings."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib.base.errors import UserError
from lib.tasks.countdown.problems import (
    SPLITS,
    Settings,
    held_out_targets,
    in_held_out_set,
    make_problems,
    make_settings,
    problem_keys,
)
from lib.tasks.countdown.rules import check

PAPER = Settings(4, 99, 10, 100, 999, 0.1)
SMALL = Settings(3, 12, 1, 30, 60, 0.1)
COUNTS = {"train": 2_000, "validation": 50, "seen": 100, "new": 100}


@pytest.fixture(scope="module", params=[PAPER, SMALL], ids=["paper", "small"])
def made(request):
    return request.param, make_problems(request.param, COUNTS, 7)


def test_counts_and_ranges(made):
    settings, table = made
    assert list(table.columns) == ["numbers", "target", "split", "solution"]
    assert table.split.value_counts().to_dict() == COUNTS
    numbers = np.array(table.numbers.tolist())
    assert numbers.shape == (len(table), settings.numbers)
    assert numbers.min() >= 1 and numbers.max() <= settings.max_number
    assert table.target.between(settings.target_low, settings.target_high).all()
    results = [int(line.split("=")[1]) for text in table.solution for line in text.split("\n")]
    assert min(results) >= 1 and max(results) <= settings.max_result


def test_every_solution_passes_the_strict_checker(made):
    _, table = made
    for row in table.to_dict("records"):
        assert check(row, row["solution"] + "\nGoal Reached!").correct, row


def test_no_problem_twice_with_numbers_in_any_order(made):
    _, table = made
    keys = {
        (tuple(sorted(numbers)), target)
        for numbers, target in zip(table.numbers, table.target, strict=True)
    }
    assert len(keys) == len(table)


def test_held_out_targets_are_in_new_alone(made):
    settings, table = made
    held = held_out_targets(settings, 7)
    targets = settings.target_high - settings.target_low + 1
    assert len(set(held)) == round(settings.held_out * targets)
    is_new = table.split == "new"
    assert (table.target.isin(held) == is_new).all()
    assert set(table.target[is_new]) == set(held)


def test_same_seed_same_problems(made):
    settings, table = made
    pd.testing.assert_frame_equal(table, make_problems(settings, COUNTS, 7))
    assert not table.equals(make_problems(settings, COUNTS, 8))


def test_more_training_problems_leave_the_test_sets_as_they_were():
    few, many = (make_problems(SMALL, {**COUNTS, "train": n}, 3) for n in (10, 2_000))
    for split in ("new", "seen", "validation"):
        assert (
            few[few.split == split].solution.tolist() == many[many.split == split].solution.tolist()
        )


def test_keys_ignore_order_and_nothing_else():
    numbers = np.array([[1, 2, 3], [3, 1, 2], [1, 2, 3], [1, 2, 4], [999, 0, 0]])
    keys = problem_keys(numbers, np.array([6, 6, 7, 6, 6]))
    assert keys[0] == keys[1] and len(set(keys)) == 4


def test_too_many_problems_asked():
    settings = Settings(2, 4, 1, 8, 16, 0.25)
    with pytest.raises(UserError, match=r"^train: 500 problems asked, .* only about \d+ "):
        make_problems(settings, {"train": 500}, 0)


def test_a_small_task_can_be_used_up():
    """Two numbers up to 3, targets 1 to 4: count what there is, and get all of it."""
    settings = Settings(2, 3, 1, 4, 9, 0.25)
    held = set(held_out_targets(settings, 0))
    there = {
        (a, b, result)
        for a in range(1, 4)
        for b in range(a, 4)
        for result in (a + b, b - a, a * b, *([b // a] if b % a == 0 else []))
        if 1 <= result <= 4
    }
    counts = {"new": sum(result in held for *_, result in there)}
    counts["train"] = len(there) - counts["new"]
    table = make_problems(settings, counts, 0)
    pairs = zip(table.numbers, table.target, strict=True)
    assert {(*sorted(numbers), target) for numbers, target in pairs} == there
    with pytest.raises(UserError, match=r"^train: "):
        make_problems(settings, {**counts, "train": counts["train"] + 1}, 0)


def test_no_target_within_reach():
    with pytest.raises(UserError, match=r"^train: 1 problems asked, .* only about 0 "):
        make_problems(Settings(2, 2, 50, 60, 99, 0.1), {"train": 1}, 0)


def test_nothing_asked_and_an_unknown_split():
    assert len(make_problems(SMALL, {}, 0)) == 0
    with pytest.raises(UserError, match="split 'test': no such split; choose from " + SPLITS[0]):
        make_problems(SMALL, {"test": 1}, 0)


GOOD = {"numbers": 4, "max_number": 25, "target_low": 10, "target_high": 75, "max_result": 99,
        "held_out": 0.1}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("numbers", 1),
        ("numbers", 7),
        ("numbers", 4.0),
        ("numbers", True),
        ("max_number", 0),
        ("max_number", 1000),
        ("target_low", 0),
        ("target_high", 9),
        ("max_result", 74),
        ("held_out", 0.0),
        ("held_out", 1.0),
        ("held_out", 1),
        ("held_out", float("nan")),
        ("held_out", 0.999),
        ("held_out", 0.001),
        ("held_out", "a tenth"),
    ],
)
def test_impossible_settings_are_named(key, value):
    with pytest.raises(UserError, match=rf"^task\.settings\.{key} = .*: must be") as error:
        make_settings({**GOOD, key: value})
    assert "\n" not in str(error.value)


def test_missing_and_unknown_settings_are_named():
    assert make_settings(GOOD) == Settings(**GOOD)
    with pytest.raises(UserError, match=r"task\.settings\.held_out: missing"):
        make_settings({key: value for key, value in GOOD.items() if key != "held_out"})
    with pytest.raises(UserError, match=r"task\.settings\.operators: no such key; choose from num"):
        make_settings({**GOOD, "operators": "+-"})
    with pytest.raises(UserError, match="at least one target on either side"):
        replace(SMALL, target_low=5, target_high=5)


def test_strata_hold_out_one_target_of_each_size():
    settings = replace(PAPER, strata=True)
    for seed in range(20):
        held = held_out_targets(settings, seed)
        assert len(held) == 9 and (np.diff(held) > 0).all()
        parts = np.array_split(np.arange(10, 101), 9)
        assert all(target in part for target, part in zip(held, parts, strict=True))
    assert len({tuple(held_out_targets(settings, seed)) for seed in range(20)}) > 10


def test_held_out_sets_of_numbers_are_in_the_tests_alone():
    settings = replace(SMALL, held_out_sets=0.2)
    table = make_problems(settings, COUNTS, 7)
    held = in_held_out_set(settings, np.array(table.numbers.tolist()), 7)
    tested = table.split.isin(["seen", "new"])
    assert not held[~tested].any() and 0.1 < held[tested].mean() < 0.3
    numbers = np.array(table.numbers.tolist())
    assert (held == in_held_out_set(settings, numbers[:, ::-1], 7)).all()  # in any order
    assert (held != in_held_out_set(settings, numbers, 8)).any()
    assert not in_held_out_set(SMALL, numbers, 7).any()
