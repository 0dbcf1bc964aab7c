"""The Countdown task: combine all the given numbers with + - * / until the target is left.

Takes task settings; gives problems with solutions, an exact solver, and two checkers: the strict
one, which counts, and the published code's rules beside it. Knows nothing of models or tokens.
Source: section 4.1 of the paper. Numbers and results are integers from 0 up: no negative and no
fractional results.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lib.tasks.task import BACKTRACK, BAD_FORMAT, BAD_RESULT, NOT_REACHED, UNKNOWN_NUMBER, Verdict

OPERATORS = "+-*/"
GOAL = "Goal Reached!"
# At most 18 digits: everything fits int64, and no input can cost quadratic time to read.
_NUMBER = r"(0|[1-9][0-9]{0,17})"
_STEP = re.compile(rf"{_NUMBER}([+\-*/]){_NUMBER}={_NUMBER}")


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


@lru_cache(maxsize=200_000)
def _solution(numbers: tuple[int, ...], target: int) -> tuple[str, ...] | None:
    if len(numbers) == 1:
        return () if numbers[0] == target else None
    for step in legal_steps(numbers):
        rest = _solution(after(numbers, step), target)
        if rest is not None:
            return (str(step), *rest)
    return None


def solve(numbers: Sequence[int], target: int) -> list[str] | None:
    """A solution that uses every number once, or None where there is none; exact."""
    solution = _solution(tuple(sorted(numbers)), target)
    return None if solution is None else list(solution)


def reachable(numbers: Sequence[int], target: int) -> bool:
    """Whether all of `numbers` can be combined into `target`; exact."""
    return _solution(tuple(sorted(numbers)), target) is not None


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

    More lenient than `check`: a used number leaves with all its copies and one copy serves both
    operands, division is floor division, numbers may stay unused, and text after the first goal
    line is ignored.
    """
    given = Problem.of(problem)
    ends = [at for mark in (BACKTRACK, GOAL) if (at := response.find(mark)) >= 0]
    body = response[: min(ends)] if ends else response
    left = list(given.numbers)
    result = None
    for index, line in enumerate(filter(None, body.split("\n"))):
        step = parse_step(line)
        if step is None:
            return Verdict(False, BAD_FORMAT, index)
        if step.a not in left or step.b not in left:
            return Verdict(False, UNKNOWN_NUMBER, index)
        floor = step.a // step.b if step.op == "/" and step.b else None
        exact = (
            floor
            if step.op == "/"
            else {"+": step.a + step.b, "*": step.a * step.b}.get(step.op, step.a - step.b)
        )
        if exact != step.result:
            return Verdict(False, BAD_RESULT, index)
        left = [number for number in left if number not in (step.a, step.b)]
        left.append(step.result)
        result = step.result
    finished = bool(ends) and response.startswith(GOAL, min(ends))
    return Verdict(True) if finished and result == given.target else Verdict(False, NOT_REACHED)


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


def reachable_many(numbers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`reachable` for many states at once. numbers: int64 [n, k]; target: int64 [n] -> bool [n]."""
    count = numbers.shape[1]
    if count == 1:
        return numbers[:, 0] == target
    found = np.zeros(len(numbers), dtype=bool)
    for i, j, rest in pairs(count):
        results, legal = combine(numbers[:, i], numbers[:, j])
        # 0 / x = 0 is a legal result too; it equals x * 0, which is already among them.
        for op in range(4):
            todo = np.flatnonzero(legal[:, op] & ~found)
            if len(todo):
                left = np.concatenate([numbers[todo][:, rest], results[todo, op, None]], 1)
                found[todo] = reachable_many(left, target[todo])
    return found
