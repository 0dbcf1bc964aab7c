import random

import pytest

from lib.base.errors import UserError
from lib.tasks.countdown import problems
from lib.tasks.countdown.interactive import CountdownForm
from lib.tasks.countdown.rules import Problem
from lib.tasks.countdown.solver import reachable

SETTINGS = problems.Settings(4, 25, 10, 75, 99, 0.1)
FORM = CountdownForm(SETTINGS)


def parse_problem(numbers, target):
    return FORM.parse({"numbers": numbers, "target": target})


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
    generator = random.Random(0)
    for _ in range(20):
        problem = FORM.random_problem(generator)
        assert len(problem.numbers) == SETTINGS.numbers
        assert max(problem.numbers) <= SETTINGS.max_number
        assert SETTINGS.target_low <= problem.target <= SETTINGS.target_high
        assert reachable(problem.numbers, problem.target)


def test_texts_and_back():
    problem = Problem((2, 39, 45, 10), 62)
    assert FORM.texts(problem) == {"numbers": "2, 39, 45, 10", "target": "62"}
    assert FORM.parse(FORM.texts(problem)) == problem
    assert FORM.title(problem) == "2, 39, 45, 10 → 62" and FORM.goal(problem) == "62"
    assert FORM.state(problem, ["45-39=6"]) == "2, 10, 6"
    assert FORM.state(problem, ["45-39=7"]) is None
    assert FORM.parse_step(" 45 - 39 = 6 ") == "45-39=6" and FORM.parse_step("six") is None


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("3+4=7\n7+8=15\nGoal Reached!", ""),
        ("7+8=15\nGoal Reached!", "7+8=15 uses 7, which is not there"),
        ("8+4=12\n12+3=15\nGoal Reached!", ""),
        ("8-4=4\n4*3=12\nGoal Reached!", "ends at 12, not 15"),
        ("8+4=12\nGoal Reached!", "stops with 3 and 12 left"),
        ("8+4=12\n15-1", "the last line is no step: 15-1"),
        ("8+4=12\n", "stops in the middle"),
        ("8+4=12\n<backtrack>", "ends in <backtrack>"),
        ("8+4=13\nGoal Reached!", "8+4 is 12, not 13"),
        ("8/3=2\nGoal Reached!", "8/3 is no whole number"),
        ("3-8=5\nGoal Reached!", "3-8 is negative"),
        ("eight\nGoal Reached!", "step 1 is no step: eight"),
    ],
)
def test_why_a_response_is_wrong(response, reason):
    assert FORM.reason(Problem((3, 4, 8), 15), response) == reason


def test_a_number_left_over_is_named():
    given = Problem((3, 7, 8, 15), 15)
    assert FORM.reason(given, "7+8=15\nGoal Reached!") == "3 and 15 are unused"
    assert FORM.reason(Problem((3, 7, 8), 15), "7+8=15\nGoal Reached!") == "3 is unused"


def test_what_lies_outside_the_training():
    assert FORM.outside(Problem((1, 2, 3, 4), 20)) == ""
    said = FORM.outside(Problem((1, 9999), 99))
    assert "2 numbers (trained on 4)" in said
    assert "9999 (trained on numbers up to 25)" in said
    assert "the target 99 (trained on 10 to 75)" in said
