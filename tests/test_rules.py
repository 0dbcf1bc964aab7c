"""Countdown: solver and both checkers, against brute force and cases made by hand."""

from collections import Counter
from fractions import Fraction
from functools import cache
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.tasks.countdown.rules import (
    ERRORS,
    UNKNOWN_NUMBER,
    Problem,
    after,
    check,
    check_published,
    compute,
    legal_steps,
    parse_step,
    remaining,
)
from lib.tasks.countdown.solver import reachable, reachable_many, solve
from lib.tasks.task import BAD_FORMAT, BAD_RESULT, NOT_REACHED, Verdict

GOAL = "Goal Reached!"


@cache
def every_result(numbers: tuple[int, ...]) -> frozenset[int]:
    """All that `numbers` combine into, by fractions and ordered pairs: slow, and nothing shared."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found = set()
    for first, second, *rest in permutations(numbers):
        a, b = Fraction(first), Fraction(second)
        for value in (a + b, a - b, a * b, a / b if b else Fraction(-1)):
            if value >= 0 and value.denominator == 1:
                found |= every_result(tuple(sorted([int(value), *rest])))
    return frozenset(found)


def verdict_by_hand(problem: Problem, response: str) -> bool:
    """The strict rules once more, with counters and `Fraction`s of the text split at signs."""
    *steps, last = response.split("\n")
    left = Counter(problem.numbers)
    for line in steps:
        sign = next((sign for sign in "+-*/" if sign in line), None)
        if sign is None or line.count("=") != 1:
            return False
        expression, result = line.split("=")
        operands = expression.split(sign)
        parts = [*operands, result]
        if len(operands) != 2 or any(not p.isascii() or not p.isdigit() for p in parts):
            return False
        if any(len(part) > 18 or (part[0] == "0" and part != "0") for part in parts):
            return False
        a, b, c = map(Fraction, parts)
        left.subtract([int(a), int(b)])
        if min(left.values()) < 0:
            return False
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign]
        if value != c:
            return False
        left[int(c)] += 1
    return last == GOAL and +left == Counter([problem.target])


small = st.integers(0, 13)
states = st.lists(small, min_size=1, max_size=4).map(tuple)
lines = st.builds("{}{}{}={}".format, small, st.sampled_from("+-*/"), small, small)
# Signs, other scripts' digits, leading zeros, NUL, white space, integers of thousands of digits.
junk = st.text("0123456789+-*/=\n\0 \t\r٣²五−.e" + GOAL) | st.text()
huge = st.integers(15, 5_000).map(lambda digits: "9" * digits + "+1=1" + "0" * digits)
texts = junk | huge | st.lists(lines | junk | huge | st.just(GOAL), max_size=5).map("\n".join)


@given(states, small)
def test_reachable_and_solve_agree_with_brute_force(numbers, target):
    possible = target in every_result(numbers)
    assert reachable(numbers, target) == possible
    solution = solve(numbers, target)
    assert (solution is not None) == possible
    if possible:
        assert verdict_by_hand(Problem(numbers, target), "\n".join([*solution, GOAL]))
        assert check(Problem(numbers, target), "\n".join([*solution, GOAL])) == Verdict(True)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_reachable_many_agrees_with_brute_force(count):
    generator = np.random.default_rng(count)
    numbers = generator.integers(0, 12, (60, count))
    numbers[:20] = numbers[:20, :1]  # equal numbers
    targets = generator.integers(0, 40 if count > 1 else 6, 60)
    expected = [
        target in every_result(tuple(row))
        for row, target in zip(numbers.tolist(), targets.tolist(), strict=True)
    ]
    assert 0 < sum(expected) < 60
    assert reachable_many(numbers, targets).tolist() == expected


def test_reachable_many_of_nothing():
    assert reachable_many(np.zeros((0, 4), dtype=int), np.zeros(0, dtype=int)).shape == (0,)


@pytest.mark.parametrize(
    ("a", "op", "b", "result"),
    [
        (3, "+", 4, 7),
        (4, "-", 4, 0),
        (3, "-", 4, None),
        (0, "*", 9, 0),
        (8, "/", 4, 2),
        (0, "/", 4, 0),
        (7, "/", 2, None),
        (2, "/", 4, None),
        (7, "/", 0, None),
        (0, "/", 0, None),
    ],
)
def test_compute(a, op, b, result):
    assert compute(a, op, b) == result


def test_compute_names_an_unknown_operator():
    with pytest.raises(ValueError, match=r"operator '%'"):
        compute(1, "%", 2)


@given(st.lists(small, min_size=2, max_size=4))
def test_legal_steps_are_all_and_only_the_legal_ones(numbers):
    steps = legal_steps(numbers)
    assert len(set(steps)) == len(steps)
    by_hand = set()
    for a, b, *rest in permutations(numbers):
        for op, value in (("+", a + b), ("-", a - b), ("*", a * b)):
            by_hand.add((op, value, tuple(sorted([*rest, value]))))
        if b and a % b == 0:
            by_hand.add(("/", a // b, tuple(sorted([*rest, a // b]))))
    assert {(s.op, s.result, after(numbers, s)) for s in steps} == {
        step for step in by_hand if step[1] >= 0
    }
    for step in steps:
        assert remaining(numbers, [str(step)])[-1] == step.result


@given(texts)
def test_parse_step_reads_only_what_it_would_write(line):
    step = parse_step(line)
    if step is not None:
        assert str(step) == line and line.isascii()


@pytest.mark.parametrize(
    "line",
    ["", "3+4", "3+4=", "=7", "3+4=7 ", " 3+4=7", "3 + 4 = 7", "03+4=7", "3+4=07", "-3+4=1",
     "+3+4=7", "3-4=-1", "3+4=7=7", "3+4+5=12", "3^4=81", "3x4=12", "3/4=0.75", "٣+4=7", "²+4=6",
     "3+4=7\n", "3+4=7\0", "3+4=7\r", "3−4=1", "1e1+4=14", "9999999999999999999+1=2",
     GOAL, "<backtrack>"],
)  # fmt: skip
def test_lines_that_are_no_steps(line):
    assert parse_step(line) is None
    assert check(Problem((3, 4), 7), f"{line}\n{GOAL}").error == BAD_FORMAT


def test_steps_are_read_as_written():
    assert tuple(parse_step("45-39=6")) == (45, "-", 39, 6)
    assert tuple(parse_step("0/999999999999999999=0")) == (0, "/", 999999999999999999, 0)


@given(st.builds(Problem, states, small), texts)
def test_no_text_can_break_a_checker(problem, text):
    for verdict in (check(problem, text), check_published(problem, text)):
        assert (verdict.error is None) == verdict.correct
        assert verdict.correct or verdict.error in ERRORS
    assert check(problem, text).correct == verdict_by_hand(problem, text)


@given(st.lists(st.integers(1, 9), min_size=2, max_size=3), st.data())
def test_strict_checker_agrees_with_its_rules_written_twice(numbers, data):
    left, steps = list(numbers), []
    while len(left) > 1 and len(steps) < 4:
        step = data.draw(st.sampled_from(legal_steps(left)))
        result = step.result + data.draw(st.sampled_from([0, 0, 0, 1]))
        steps.append(f"{step.a}{step.op}{step.b}={result}")
        left = [*after(left, step)[: data.draw(st.sampled_from([9, 9, 1]))]]
    target = data.draw(st.sampled_from([left[-1], 7]))
    response = "\n".join([*steps, GOAL])
    problem = Problem(tuple(numbers), target)
    assert check(problem, response).correct == verdict_by_hand(problem, response)


# Every rule of the strict checker, one by one: the given numbers, target, response, verdict.
STRICT = {
    "right": ((2, 39, 45, 10), 62, f"45-39=6\n6*10=60\n60+2=62\n{GOAL}", None, None),
    "right, twins used once each": ((5, 5), 10, f"5+5=10\n{GOAL}", None, None),
    "right, no step needed": ((7,), 7, GOAL, None, None),
    "right, zero on the way": ((3, 3, 5), 5, f"3-3=0\n0+5=5\n{GOAL}", None, None),
    "a number left over": ((5, 5, 3), 10, f"5+5=10\n{GOAL}", NOT_REACHED, 1),
    "a number used twice": ((5, 3), 10, f"5+5=10\n{GOAL}", UNKNOWN_NUMBER, 0),
    "a given number used again": ((5, 3), 13, f"5+3=8\n8+5=13\n{GOAL}", UNKNOWN_NUMBER, 1),
    "a twin used three times": ((5, 5, 2), 15, f"5+5=10\n10+5=15\n{GOAL}", UNKNOWN_NUMBER, 1),
    "a number never given": ((5, 3), 9, f"5+4=9\n{GOAL}", UNKNOWN_NUMBER, 0),
    "a result used twice": ((2, 3, 4), 14, f"2+3=5\n5+5=10\n10+4=14\n{GOAL}", UNKNOWN_NUMBER, 1),
    "a result used before it is made": ((2, 3), 5, f"5+0=5\n2+3=5\n{GOAL}", UNKNOWN_NUMBER, 0),
    "floor division": ((7, 2), 3, f"7/2=3\n{GOAL}", BAD_RESULT, 0),
    "division by zero": ((3, 3, 4), 0, f"3-3=0\n4/0=0\n{GOAL}", BAD_RESULT, 1),
    "fractional result": ((3, 2), 1, f"3/2=1.5\n{GOAL}", BAD_FORMAT, 0),
    "negative result": ((3, 5), 2, f"3-5=-2\n{GOAL}", BAD_FORMAT, 0),
    "negative result without its sign": ((3, 5), 2, f"3-5=2\n{GOAL}", BAD_RESULT, 0),
    "wrong result": ((2, 39, 45, 10), 62, f"45-39=7\n7*10=70\n{GOAL}", BAD_RESULT, 0),
    "wrong result that is the target": ((3, 4), 8, f"3+4=8\n{GOAL}", BAD_RESULT, 0),
    "last result is not the target": ((3, 4), 8, f"3+4=7\n{GOAL}", NOT_REACHED, 1),
    "target reached and left": ((3, 4, 1), 7, f"3+4=7\n7+1=8\n{GOAL}", NOT_REACHED, 2),
    "no goal line": ((3, 4), 7, "3+4=7", BAD_FORMAT, 0),
    "no goal line, line ended": ((3, 4), 7, "3+4=7\n", NOT_REACHED, 1),
    "goal line cut": ((3, 4), 7, "3+4=7\nGoal Reached", BAD_FORMAT, 1),
    "goal in the step's line": ((3, 4), 7, f"3+4=7 {GOAL}", BAD_FORMAT, 0),
    "goal line only": ((3, 4), 7, GOAL, NOT_REACHED, 0),
    "goal line first": ((3, 4), 7, f"{GOAL}\n3+4=7", BAD_FORMAT, 0),
    "a line after the goal": ((3, 4), 7, f"3+4=7\n{GOAL}\n7+0=7", BAD_FORMAT, 1),
    "a line end after the goal": ((3, 4), 7, f"3+4=7\n{GOAL}\n", BAD_FORMAT, 1),
    "a word after the goal": ((3, 4), 7, f"3+4=7\n{GOAL} yes", BAD_FORMAT, 1),
    "two goal lines": ((3, 4), 7, f"3+4=7\n{GOAL}\n{GOAL}", BAD_FORMAT, 1),
    "backtracked": ((3, 4), 7, "3+4=7\n<backtrack>", NOT_REACHED, 1),
    "backtracked, then the goal": ((3, 4), 7, f"3+4=7\n<backtrack>\n{GOAL}", BAD_FORMAT, 1),
    "blank line": ((3, 4), 7, f"\n3+4=7\n{GOAL}", BAD_FORMAT, 0),
    "nothing": ((3, 4), 7, "", NOT_REACHED, 0),
    "format before availability": ((3, 4), 7, f"9+9\n{GOAL}", BAD_FORMAT, 0),
    "availability before the result": ((3, 4), 7, f"3+9=7\n{GOAL}", UNKNOWN_NUMBER, 0),
    "the first failing line counts": ((3, 4), 7, f"3+4=8\nword\n{GOAL}", BAD_RESULT, 0),
}  # fmt: skip


@pytest.mark.parametrize("case", STRICT)
def test_strict_checker(case):
    numbers, target, response, error, step = STRICT[case]
    assert check(Problem(numbers, target), response) == Verdict(error is None, error, step)
    assert verdict_by_hand(Problem(numbers, target), response) == (error is None)


# Where the published rules differ: each case's strict error, and its published one.
PUBLISHED = {
    "all copies leave together": (
        (5, 5, 2), 12, f"5+2=7\n7+5=12\n{GOAL}", None, UNKNOWN_NUMBER),
    "one copy serves both operands": ((5, 3), 10, f"5+5=10\n{GOAL}", UNKNOWN_NUMBER, None),
    "floor division": ((7, 2), 3, f"7/2=3\n{GOAL}", BAD_RESULT, None),
    "numbers may stay unused": ((5, 4, 3), 9, f"5+4=9\n{GOAL}", NOT_REACHED, None),
    "text after the goal": ((3, 4), 7, f"3+4=7\n{GOAL}\nnoise", BAD_FORMAT, None),
    "backtracking after the goal": ((3, 4), 7, f"3+4=7\n{GOAL}<backtrack>", BAD_FORMAT, None),
    "the goal after backtracking": (
        (3, 4), 7, f"3+4=7\n<backtrack>\n{GOAL}", BAD_FORMAT, None),
    "given up at the target": ((3, 4), 7, "3+4=7\n<backtrack>", NOT_REACHED, None),
    "given up elsewhere": ((3, 4, 1), 8, "3+4=7\n<backtrack>", NOT_REACHED, NOT_REACHED),
    "blank lines around": ((3, 4), 7, f"\n3+4=7\n\n{GOAL}", BAD_FORMAT, None),
    "a blank line between": (
        (3, 4, 1), 8, f"3+4=7\n\n7+1=8\n{GOAL}", BAD_FORMAT, BAD_FORMAT),
    "a space before the sign": ((3, 4), 7, f"3+4 =7\n{GOAL}", BAD_FORMAT, None),
    "spaces everywhere": ((3, 4), 7, f"  3 +\t4  = 7 \n{GOAL}", BAD_FORMAT, None),
    "a space before a later step": (
        (3, 4, 1), 8, f"3+4=7\n 7+1=8\n{GOAL}", BAD_FORMAT, BAD_FORMAT),
    "only a line's beginning counts": (
        (13, 13), 1, f"13/13=1+1=10\n{GOAL}", BAD_FORMAT, None),
    "its beginning's result counts": ((3, 4), 7, f"3+4=70\n{GOAL}", BAD_RESULT, BAD_RESULT),
    "a leading zero": ((3, 4), 7, f"03+4=007\n{GOAL}", BAD_FORMAT, None),
    "digits of another script": ((3, 4), 7, f"٣+4=7\n{GOAL}", BAD_FORMAT, None),
    "the goal in the step's line": ((3, 4), 7, f"3+4=7 {GOAL}", BAD_FORMAT, None),
    "the goal alone": ((7,), 7, GOAL, None, BAD_FORMAT),
    "no end": ((3, 4), 7, "3+4=7\n", NOT_REACHED, BAD_FORMAT),
    "division by zero": ((3, 3, 4), 0, f"3-3=0\n4/0=0\n{GOAL}", BAD_RESULT, BAD_RESULT),
    "a number that Python does not read": (
        (3, 4), 7, f"3+4={'0' * 4301}7\n{GOAL}", BAD_FORMAT, BAD_FORMAT),
}  # fmt: skip
SAME = ("right", "a number never given", "wrong result", "negative result", "goal line cut",
        "last result is not the target", "target reached and left", "division by zero",
        "negative result without its sign", "availability before the result")  # fmt: skip


@pytest.mark.parametrize("case", PUBLISHED)
def test_where_the_published_checker_differs(case):
    numbers, target, response, strict, published = PUBLISHED[case]
    assert check(Problem(numbers, target), response).error == strict
    verdict = check_published(Problem(numbers, target), response)
    assert (verdict.correct, verdict.error) == (published is None, published)


@pytest.mark.parametrize("case", SAME)
def test_where_the_published_checker_agrees(case):
    numbers, target, response, error, _ = STRICT[case]
    assert check_published(Problem(numbers, target), response).error == error


def test_remaining():
    assert remaining((2, 39, 45, 10), ["45-39=6", "6*10=60"]) == (2, 60)
    assert remaining((5, 5), []) == (5, 5)
    for steps in (["5+4=9"], ["5+5=11"], ["five"], ["5+5=10", "5+10=15"]):
        assert remaining((5, 5), steps) is None


def test_a_problem_can_be_read_from_any_row():
    problem = Problem((2, 39, 45, 10), 62)
    table = pd.DataFrame({"numbers": [[2, 39, 45, 10]], "target": [62]})
    rows = (problem, {"numbers": np.array([2, 39, 45, 10]), "target": np.int64(62)})
    for row in (*rows, table.iloc[0], next(table.itertuples())):
        assert Problem.of(row) == problem
    assert problem.prompt() == "###Question: numbers [2, 39, 45, 10]->target 62\n###Response:\n"
