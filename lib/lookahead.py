"""Countdown's verdict on the steps of a path: what the exact solver says of the last one.

Takes a problem and steps as text; gives the reason for which the last step loses the target, if it
does. Knows nothing of models or trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lib.countdown import Problem, compute, parse_step, reachable, remaining
from lib.steps import COMPUTATION, EXPLORATION, FORMAT, RULE


def judge_steps(problem: Any, steps: Sequence[str]) -> str | None:
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
