import random
from pathlib import Path

import pytest

from lib.base.errors import UserError
from lib.tasks.countdown.interactive import parse_problem, problem_ranges, random_problem
from lib.tasks.countdown.rules import Problem
from lib.tasks.countdown.solver import reachable

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("text", ["2, 39, 45, 10", "[2,39,45,10]", " 2 39;45\t10 ", "2,39,45,010"])
def test_numbers_may_be_written_many_ways(text):
    assert parse_problem(text, " 62 ") == Problem((2, 39, 45, 10), 62)


@pytest.mark.parametrize(
    ("numbers", "target", "message"),
    [
        ("", "5", "Numbers: 0 given; type 2 to 5"),
        ("7", "5", "Numbers: 1 given"),
        ("1 2 3 4 5 6", "5", "Numbers: 6 given"),
        ("1, two", "5", "'two' is not a whole number from 1 to 9999"),
        ("0, 1", "5", "'0' is not"),
        ("-1, 1", "5", "'-1' is not"),
        ("1.5, 1", "5", "'1.5' is not"),
        ("1_0, 1", "5", "'1_0' is not"),
        ("٣, 1", "5", "is not a whole number"),
        ("10000, 1", "5", "'10000' is not"),
        ("9" * 5000 + " 1", "5", "…' is not a whole number"),
        ("1, 2", "", "Target: missing"),
        ("1, 2", "x", "Target: 'x' is not"),
        ("1, 2", "0", "Target: '0' is not"),
        ("1, 2", "100000", "Target: '100000' is not"),
    ],
)
def test_mistakes_are_one_line(numbers, target, message):
    with pytest.raises(UserError) as error:
        parse_problem(numbers, target)
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 120


def test_random_problems_have_solutions_within_their_ranges():
    ranges = problem_ranges(ROOT, "cpu")
    generator = random.Random(0)
    for _ in range(20):
        problem = random_problem(generator, **ranges)
        assert len(problem.numbers) == ranges["count"]
        assert max(problem.numbers) <= ranges["max_number"]
        assert ranges["target_low"] <= problem.target <= ranges["target_high"]
        assert reachable(problem.numbers, problem.target)


def test_unknown_profile(tmp_path):
    with pytest.raises(UserError, match=r"profile 'cup': .* choose one of .*cpu"):
        problem_ranges(ROOT, "cup")
    (tmp_path / "mine.toml").write_text("[task]\nmodule = 'other'\n")
    with pytest.raises(UserError, match="no readable profile"):
        problem_ranges(ROOT, str(tmp_path / "mine.toml"))
