"""The rules of Countdown: combine all the given numbers with + - * / until the target is left.

Takes a problem and text; gives its steps, the numbers that they leave, and two verdicts: the strict
one, which counts, and the published code's beside it. Knows nothing of the exact solver, of models
or tokens. Source: section 4.1 of the paper. Numbers and results are integers from 0 up: no negative
and no fractional results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.tasks.task import (
    BACKTRACK,
    BAD_FORMAT,
    BAD_RESULT,
    DEAD,
    NOT_REACHED,
    OPEN,
    REACHED,
    Verdict,
)

UNKNOWN_NUMBER = "unknown number in step"
#: The paper's four error names (its section 4.4 and figures 5 and 9 to 12).
ERRORS = (NOT_REACHED, BAD_FORMAT, BAD_RESULT, UNKNOWN_NUMBER)
OPERATORS = "+-*/"
GOAL = "Goal Reached!"
# At most 18 digits: everything fits int64, and no input can cost quadratic time to read.
_NUMBER = r"(0|[1-9][0-9]{0,17})"
_STEP = re.compile(rf"{_NUMBER}([+\-*/]){_NUMBER}={_NUMBER}")
_PUBLISHED_STEP = re.compile(r"(?P<a>\d+)\s*(?P<op>[+\-*/])\s*(?P<b>\d+)\s*=\s*(?P<r>\d+)")
MOST_DIGITS = 4300


class Step(NamedTuple):
    """One line of a response: `a op b = result`; not necessarily true."""

    a: int
    op: str
    b: int
    result: int

    def __str__(self) -> str:
        return f"{self.a}{self.op}{self.b}={self.result}"


@dataclass(frozen=True)
class Problem:
    """The given numbers and the target."""

    numbers: tuple[int, ...]
    target: int

    @classmethod
    def of(cls, row: Any) -> Problem:
        """A Problem from a Problem, a mapping or a DataFrame row with `numbers` and `target`."""
        if isinstance(row, cls):
            return row
        get = row.__getitem__ if isinstance(row, Mapping | pd.Series) else row.__getattribute__
        return cls(tuple(int(number) for number in get("numbers")), int(get("target")))

    def prompt(self) -> str:
        """The question, as in the public data set."""
        numbers = ", ".join(map(str, self.numbers))
        return f"###Question: numbers [{numbers}]->target {self.target}\n###Response:\n"


def numbers_asked(text: str) -> tuple[int, ...]:
    """The numbers, sorted, of a prompt or of a trace that begins with one."""
    return tuple(sorted(map(int, text[text.index("[") + 1 : text.index("]")].split(","))))


def compute(a: int, op: str, b: int) -> int | None:
    """The exact result of `a op b`, or None where it is negative, fractional or undefined."""
    if op == "+":
        return a + b
    if op == "-":
        return a - b if a >= b else None
    if op == "*":
        return a * b
    if op == "/":
        return a // b if b != 0 and a % b == 0 else None
    raise ValueError(f"operator {op!r}: choose one of {OPERATORS}")


def parse_step(line: str) -> Step | None:
    """The step that a line states, or None where it is not `a op b = result` in digits."""
    match = _STEP.fullmatch(line)
    if match is None:
        return None
    a, op, b, result = match.groups()
    return Step(int(a), op, int(b), int(result))


def remaining(numbers: Sequence[int], steps: Sequence[str]) -> tuple[int, ...] | None:
    """The numbers left after `steps`, in order, new ones last; None if a step is not legal."""
    left = list(numbers)
    for line in steps:
        step = parse_step(line)
        if step is None or not _take(left, step) or compute(*step[:3]) != step.result:
            return None
        left.append(step.result)
    return tuple(left)


def shows_error(problem: Any, steps: Sequence[str]) -> bool:
    """Whether these steps show, without looking ahead, that they miss the target: one is not legal
    or right, or one number is left, and not the target."""
    given = Problem.of(problem)
    left = remaining(given.numbers, steps)
    return left is None or (len(left) == 1 and left[0] != given.target)


def _take(left: list[int], step: Step) -> bool:
    """Remove the step's two operands from `left`; False (and no change) where one is missing."""
    rest = left.copy()
    for number in (step.a, step.b):
        if number not in rest:
            return False
        rest.remove(number)
    left[:] = rest
    return True


def legal_steps(numbers: Sequence[int]) -> list[Step]:
    """Every legal step, the larger operand first, each once."""
    steps = {}
    for i, first in enumerate(numbers):
        for second in numbers[i + 1 :]:
            a, b = max(first, second), min(first, second)
            for op in OPERATORS:
                result = compute(a, op, b)
                if result is not None:
                    steps[Step(a, op, b, result)] = None
            if b == 0 != a:  # 0/x is legal, and only this way round
                steps[Step(0, "/", a, 0)] = None
    return list(steps)


def after(numbers: Sequence[int], step: Step) -> tuple[int, ...]:
    """The sorted numbers left when `step` has been taken from `numbers`."""
    left = list(numbers)
    left.remove(step.a)
    left.remove(step.b)
    return tuple(sorted([*left, step.result]))


def check(problem: Any, response: str) -> Verdict:
    """The strict verdict on a response (the text after the prompt, end-of-sequence removed).

    Every given number is used exactly once, each line is exact, the last result is the target,
    and the goal line ends the response. The first failing line names the error; in one line,
    format comes before availability, and availability before the result.
    """
    given = Problem.of(problem)
    left = list(given.numbers)
    lines = response.split("\n")
    steps = lines[:-1]
    for index, line in enumerate(steps):
        step = parse_step(line)
        if step is None:
            return Verdict(False, BAD_FORMAT, index)
        if not _take(left, step):
            return Verdict(False, UNKNOWN_NUMBER, index)
        if compute(*step[:3]) != step.result:
            return Verdict(False, BAD_RESULT, index)
        left.append(step.result)
    if lines[-1] != GOAL:
        bad = lines[-1] not in ("", BACKTRACK)
        return Verdict(False, BAD_FORMAT if bad else NOT_REACHED, len(steps))
    if left != [given.target]:
        return Verdict(False, NOT_REACHED, len(steps))
    return Verdict(True)


def check_published(problem: Any, response: str) -> Verdict:
    """The verdict by the published code's rules: what its figures were measured with.

    The response ends at the first `<backtrack>` or goal line, whichever it is: a path that the
    model gave up is right if its last result is the target. Blank lines around the steps are
    dropped, not those between them. A step is what its line begins with: spaces around the
    operator and `=`, leading zeros, and whatever follows the result are accepted. A used number
    leaves with all its copies, one copy serves both operands, division is floor division, numbers
    may stay unused, and no number is negative.
    """
    given = Problem.of(problem)
    ends = [at for mark in (BACKTRACK, GOAL) if (at := response.find(mark)) >= 0]
    if not ends:
        return Verdict(False, BAD_FORMAT, 0)
    left, last = list(given.numbers), None
    for index, line in enumerate(response[: min(ends)].strip().split("\n")):
        step = _PUBLISHED_STEP.match(line)
        # Of a longer number Python's own reader makes an error, which stops the published code.
        if step is None or any(len(step[part]) > MOST_DIGITS for part in "abr"):
            return Verdict(False, BAD_FORMAT, index)
        a, b, result = (int(step[part]) for part in "abr")
        if a not in left or b not in left:
            return Verdict(False, UNKNOWN_NUMBER, index)
        if step["op"] == "/":
            last = a // b if b else None
        else:
            last = {"+": a + b, "-": a - b, "*": a * b}[step["op"]]
        if last != result:
            return Verdict(False, BAD_RESULT, index)
        left = [number for number in left if number not in (a, b)]
        left.append(result)
    return Verdict(True) if last == given.target else Verdict(False, NOT_REACHED)


def equation_test(problem: Any, steps: Sequence[str]) -> str:
    """The symbolic goal test: a path of one step fewer than numbers whose last equation is true and
    gives the target.

    It computes the last equation, and reads nothing else: whether its numbers were there, and
    whether the equations before it are true, is left to the model. (Its result alone would not do:
    a model trained on correct solutions writes the target there, true or not.)
    """
    given = Problem.of(problem)
    if not steps:
        return OPEN
    last = parse_step(steps[-1])
    if last is None or len(steps) >= len(given.numbers):
        return DEAD
    if len(steps) < len(given.numbers) - 1:
        return OPEN
    reached = compute(*last[:3]) == last.result == given.target
    return REACHED if reached else DEAD


def combine(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All four results of every pair, the larger operand first.

    a, b: int64 [n]. Returns results [n, 4] in the order of OPERATORS, and which of them are legal
    [n, 4] (an illegal one is 0).
    """
    high, low = np.maximum(a, b), np.minimum(a, b)
    safe = np.maximum(low, 1)
    quotient = high // safe
    exact = (low > 0) & (quotient * safe == high)
    results = np.stack([high + low, high - low, high * low, np.where(exact, quotient, 0)], 1)
    legal = np.ones_like(results, dtype=bool)
    legal[:, 3] = exact
    return results, legal


def pairs(count: int) -> Iterator[tuple[int, int, list[int]]]:
    """Each pair of `count` positions, and the positions that stay."""
    for i in range(count):
        for j in range(i + 1, count):
            yield i, j, [k for k in range(count) if k not in (i, j)]
