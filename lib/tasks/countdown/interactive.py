"""Countdown's form in the explorer: what is typed, what a state shows, why an answer is wrong.

Takes the task's settings; gives a `lib.tasks.task.Form`. Knows nothing of models, trees or drawing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lib.base.errors import UserError
from lib.tasks.countdown.problems import Settings
from lib.tasks.countdown.rules import GOAL, Problem, check, compute, parse_step, remaining
from lib.tasks.countdown.solver import reachable
from lib.tasks.task import BACKTRACK, Field

FEWEST, MOST = 2, 5  # numbers in a problem: the exact solver answers at once up to five
LARGEST_NUMBER, LARGEST_TARGET = 9_999, 99_999
EXAMPLE = "such as 2, 39, 45, 10"


@dataclass(frozen=True)
class CountdownForm:
    """Countdown as a `lib.tasks.task.Form`."""

    settings: Settings
    about: ClassVar = (
        "Combine all the numbers with +, -, * and /, each number once, until one number, the "
        "target, is left. A step such as 45-39=6 takes two numbers away and leaves its result."
    )
    state_label: ClassVar = "Numbers left"
    step_example: ClassVar = "45-39=6"

    @property
    def fields(self) -> tuple[Field, ...]:
        given = self.settings
        numbers = (
            f"{FEWEST} to {MOST} whole numbers. The models here were trained on {given.numbers} "
            f"numbers from 1 to {given.max_number}."
        )
        target = f"The number to reach. Trained on: {given.target_low} to {given.target_high}."
        return (
            Field("numbers", "Numbers", numbers, "11em"),
            Field("target", "Target", target, "4em"),
        )

    def parse(self, texts: Mapping[str, str]) -> Problem:
        """The problem that the two fields state."""
        numbers, target = texts["numbers"], texts["target"]
        parts = [part for part in re.split(r"[\s,;]+", numbers.strip().strip("[](){}")) if part]
        if not FEWEST <= len(parts) <= MOST:
            raise UserError(f"Numbers: {len(parts)} given; type {FEWEST} to {MOST}, {EXAMPLE}.")
        values = [_whole(part, "Numbers", LARGEST_NUMBER) for part in parts]
        if not target.strip():
            raise UserError(f"Target: missing; type a whole number from 1 to {LARGEST_TARGET}.")
        return Problem(tuple(values), _whole(target.strip(), "Target", LARGEST_TARGET))

    def texts(self, problem: Problem) -> dict[str, str]:
        return {"numbers": ", ".join(map(str, problem.numbers)), "target": str(problem.target)}

    def random_problem(self, generator: random.Random) -> Problem:
        """A problem that has a solution."""
        given = self.settings
        while True:
            count = min(given.numbers, MOST)
            numbers = tuple(generator.randint(1, given.max_number) for _ in range(count))
            target = generator.randint(given.target_low, given.target_high)
            if reachable(numbers, target):
                return Problem(numbers, target)

    def prompt(self, problem: Problem) -> str:
        return problem.prompt()

    def title(self, problem: Problem) -> str:
        return f"{', '.join(map(str, problem.numbers))} → {problem.target}"

    def goal(self, problem: Problem) -> str:
        return str(problem.target)

    def state(self, problem: Problem, steps: Sequence[str]) -> str | None:
        left = remaining(problem.numbers, steps)
        return None if left is None else ", ".join(map(str, left))

    def parse_step(self, text: str) -> str | None:
        step = parse_step(text.strip().replace(" ", ""))
        return None if step is None else str(step)

    def reason(self, problem: Problem, response: str) -> str:
        """Why the strict check fails a response, told by its first line that fails."""
        verdict = check(problem, response)
        if verdict.correct:
            return ""
        *steps, last = response.split("\n")
        if verdict.step is not None and verdict.step < len(steps):
            return _illegal(problem, steps, verdict.step)
        if last == BACKTRACK:
            return f"ends in {BACKTRACK}"
        if last != GOAL:
            return f"the last line is no step: {_short(last)}" if last else "stops in the middle"
        left = list(remaining(problem.numbers, steps))
        if len(left) == 1:
            return f"ends at {left[0]}, not {problem.target}"
        if left[-1] == problem.target:
            left = left[:-1]
            return f"{_listed(left)} {'is' if len(left) == 1 else 'are'} unused"
        return f"stops with {_listed(left)} left"

    def outside(self, problem: Problem) -> str:
        """What of the problem lies outside the settings' ranges."""
        given, found = self.settings, []
        if len(problem.numbers) != given.numbers:
            found.append(f"{len(problem.numbers)} numbers (trained on {given.numbers})")
        if largest := [n for n in problem.numbers if n > given.max_number]:
            found.append(f"{_listed(largest)} (trained on numbers up to {given.max_number})")
        if not given.target_low <= problem.target <= given.target_high:
            trained = f"{given.target_low} to {given.target_high}"
            found.append(f"the target {problem.target} (trained on {trained})")
        return "; ".join(found)


def _illegal(problem: Problem, steps: Sequence[str], at: int) -> str:
    """Why step `at`, the first that is not legal and right, is not."""
    line = steps[at]
    step = parse_step(line)
    if step is None:
        return f"step {at + 1} is no step: {_short(line)}"
    left = list(remaining(problem.numbers, steps[:at]))
    for number in (step.a, step.b):
        if number not in left:
            return f"{line} uses {number}, which is not there"
        left.remove(number)
    result = compute(*step[:3])
    if result is not None:
        return f"{step.a}{step.op}{step.b} is {result}, not {step.result}"
    what = "negative" if step.op == "-" else "no whole number"
    return f"{step.a}{step.op}{step.b} is {what}"


def _short(line: str) -> str:
    return line if len(line) <= 16 else line[:15] + "…"


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _whole(text: str, field: str, largest: int) -> int:
    shown = text if len(text) <= 20 else text[:19] + "…"
    # int() alone would read other scripts' digits, underscores and numbers of any length.
    if not re.fullmatch(r"0*[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise UserError(f"{field}: {shown!r} is not a whole number from 1 to {largest}.")
    return int(text)
