"""Countdown's verdict on the steps of a path: what the exact solver says of the last one.

Takes a problem and steps as text; gives the reason for which the last step loses the target, if it
does. Knows nothing of models or trees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lib.tasks.countdown import problems, rules
from lib.tasks.countdown.rules import (
    GOAL,
    OPERATORS,
    Problem,
    compute,
    parse_step,
    reachable,
    remaining,
)
from lib.tasks.countdown.traces import backtracking_traces, optimal_traces
from lib.tasks.task import COMPUTATION, DEAD, EXPLORATION, FORMAT, OPEN, REACHED, RULE, Verdict


def make_task(settings: Mapping[str, Any]) -> Any:
    """The task, as `lib.tasks.task.load_task` asks for it."""
    from lib.tasks.countdown.problems import make_settings

    pass  # both build on this module

    return CountdownTask(make_settings(settings))


@dataclass(frozen=True)
class CountdownTask:
    """Countdown as a `lib.tasks.task.Task`."""

    settings: problems.Settings
    name: str = "countdown"
    step_end: str = "\n"
    goal: str = GOAL

    @property
    def pieces(self) -> tuple[str, ...]:
        """The question's fixed parts whole, numbers digit by digit: with whole numbers as tokens a
        from-scratch model scores nothing on held-out targets."""
        fixed = ("###Question: numbers [", ", ", "]->target ", "\n###Response:\n", GOAL)
        return (*fixed, "\n", "=", *OPERATORS, *"0123456789")

    @property
    def max_response_tokens(self) -> int:
        """Three of the longest numbers, operator, `=`, line end; the goal line and its end."""
        digits = len(str(max(self.settings.max_result, self.settings.max_number)))
        return (self.settings.numbers - 1) * (3 * digits + 3) + 2

    def make_problems(self, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
        return problems.make_problems(self.settings, counts, seed)

    def prompts(self, table: pd.DataFrame) -> list[str]:
        return [Problem.of(row).prompt() for row in table.to_dict("records")]

    def optimal_traces(self, table: pd.DataFrame) -> pd.DataFrame:
        return optimal_traces(table)

    def backtracking_traces(
        self,
        table: pd.DataFrame,
        seed: int,
        loss: str,
        near_miss: float,
        tests: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        return backtracking_traces(table, self.settings, seed, loss, near_miss, tests)

    def check(self, problem: Any, response: str) -> Verdict:
        return rules.check(problem, response)

    def check_published(self, problem: Any, response: str) -> Verdict:
        return rules.check_published(problem, response)

    def judge_steps(self, problem: Any, steps: Sequence[str]) -> str | None:
        """Why the last step loses the target, or None; optional in a task."""
        return judge_steps(problem, steps)

    def complete(self, problem: Any, steps: Sequence[str]) -> list[str]:
        """Steps from a state, in reach of the target, to the target; optional in a task."""
        given = Problem.of(problem)
        rest = rules.solve(rules.remaining(given.numbers, steps), given.target)
        if rest is None:
            raise ValueError(f"the target {given.target} is out of reach after {list(steps)}")
        return rest


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
