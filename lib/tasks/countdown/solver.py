"""The exact solver of Countdown: can the target still be reached, and how?

Takes numbers and a target, one state or arrays of them; gives solutions, and the verdict on each
step of a path (`ExactSolver`, the task's `lib.tasks.task.Solver`). Knows nothing of models or
trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lib.tasks.countdown.rules import (
    Problem,
    after,
    combine,
    compute,
    legal_steps,
    pairs,
    parse_step,
    remaining,
)
from lib.tasks.task import COMPUTATION, EXPLORATION, FORMAT, RULE


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


class ExactSolver:
    """The truth about a state, as `lib.tasks.task.Solver` has it."""

    def judge_steps(self, problem: Any, steps: Sequence[str]) -> str | None:
        """Why the last of `steps` loses the target, or None while it can still be reached.

        The steps before the last are taken to be legal and right; in one line, format comes before
        availability, availability before the result, and the result before what it leaves.
        """
        given = Problem.of(problem)
        left = remaining(given.numbers, steps[:-1])
        if left is None:
            raise ValueError(f"steps before the last must be legal and right: {list(steps[:-1])}")
        step = parse_step(steps[-1])
        if step is None:
            return FORMAT
        rest = list(left)
        for number in (step.a, step.b):
            if number not in rest:
                return RULE
            rest.remove(number)
        if compute(*step[:3]) != step.result:
            return COMPUTATION
        return None if reachable([*rest, step.result], given.target) else EXPLORATION

    def reachable(self, problem: Any, steps: Sequence[str]) -> bool:
        """Whether all of the steps are legal and right, and the target can still be reached."""
        given = Problem.of(problem)
        left = remaining(given.numbers, steps)
        return left is not None and reachable(left, given.target)

    def complete(self, problem: Any, steps: Sequence[str]) -> list[str]:
        """Steps from a state, in reach of the target, to the target."""
        given = Problem.of(problem)
        rest = solve(remaining(given.numbers, steps), given.target)
        if rest is None:
            raise ValueError(f"the target {given.target} is out of reach after {list(steps)}")
        return rest
