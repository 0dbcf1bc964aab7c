"""What the Countdown task knows of each node of a search tree.

Takes a search tree and its problem; gives one Annotation a node: the numbers left, whether the
exact solver can still reach the target, and whether the model's verdict there is wrong. Knows
nothing of models, positions or drawing.
"""

from __future__ import annotations

import random
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.base.errors import UserError
from lib.tasks.countdown.problems import make_settings
from lib.tasks.countdown.rules import Problem, check, remaining
from lib.tasks.countdown.solver import reachable
from lib.tasks.task import VERDICT_THRESHOLD

LEAF_LABELS = {"goal": "goal", "backtrack": "backtrack", "limit": "cut off"}


@dataclass(frozen=True)
class Annotation:
    """`numbers` is None after an illegal step; `correct` is the strict check of a finished path."""

    label: str
    numbers: tuple[int, ...] | None
    reachable: bool
    wrong: bool
    correct: bool | None = None
    error: str | None = None


def annotate(tree: Any, problem: Problem) -> list[Annotation]:
    """One annotation for each of `tree.nodes`, in their order."""
    steps: list[tuple[str, ...]] = []
    annotations = []
    for node in tree.nodes:
        before = () if node.parent is None else steps[node.parent]
        steps.append((*before, node.text) if node.kind == "step" else before)
        annotations.append(_annotation(node, problem, steps[-1]))
    return annotations


def _annotation(node: Any, problem: Problem, steps: tuple[str, ...]) -> Annotation:
    left = remaining(problem.numbers, steps)
    can_reach = left is not None and reachable(left, problem.target)
    if node.kind in ("root", "step"):
        label = "not legal" if left is None else ", ".join(map(str, left))
        verdict = None if node.p_backtrack is None else node.p_backtrack >= VERDICT_THRESHOLD
        return Annotation(label, left, can_reach, verdict is not None and verdict == can_reach)
    label = LEAF_LABELS[node.kind]
    if node.kind == "backtrack":
        return Annotation(label, left, can_reach, wrong=can_reach)
    if node.kind == "limit":
        return Annotation(label, left, can_reach, wrong=False)
    verdict = check(problem, "".join(f"{step}\n" for step in steps) + node.text)
    return Annotation(label, left, can_reach, not verdict.correct, verdict.correct, verdict.error)


FEWEST, MOST = 2, 5  # numbers in a problem: the exact solver answers at once up to five
LARGEST_NUMBER, LARGEST_TARGET = 9_999, 99_999
DEFAULT_RANGES = {"count": 4, "max_number": 25, "target_low": 10, "target_high": 75}
EXAMPLE = "such as 2, 39, 45, 10"


def parse_problem(numbers: str, target: str) -> Problem:
    """The problem that the two fields state."""
    parts = [part for part in re.split(r"[\s,;]+", numbers.strip().strip("[](){}")) if part]
    if not FEWEST <= len(parts) <= MOST:
        raise UserError(f"Numbers: {len(parts)} given; type {FEWEST} to {MOST}, {EXAMPLE}.")
    values = [_whole(part, "Numbers", LARGEST_NUMBER) for part in parts]
    if not target.strip():
        raise UserError(f"Target: missing; type a whole number from 1 to {LARGEST_TARGET}.")
    return Problem(tuple(values), _whole(target.strip(), "Target", LARGEST_TARGET))


def _whole(text: str, field: str, largest: int) -> int:
    shown = text if len(text) <= 20 else text[:19] + "…"
    # int() alone would read other scripts' digits, underscores and numbers of any length.
    if not re.fullmatch(r"0*[0-9]{1,9}", text) or not 1 <= int(text) <= largest:
        raise UserError(f"{field}: {shown!r} is not a whole number from 1 to {largest}.")
    return int(text)


def random_problem(
    generator: random.Random, count: int, max_number: int, target_low: int, target_high: int
) -> Problem:
    """A problem that has a solution."""
    while True:
        numbers = tuple(generator.randint(1, max_number) for _ in range(count))
        problem = Problem(numbers, generator.randint(target_low, target_high))
        if reachable(problem.numbers, problem.target):
            return problem


def problem_ranges(root: Path, profile: str) -> dict[str, int]:
    """The ranges that the profile's problems are drawn from, as `random_problem` takes them.

    Reads the one table it needs: `lib.profiles.load` checks a whole profile, and imports torch for
    it.
    """
    path = Path(profile) if profile.endswith(".toml") else root / "profiles" / f"{profile}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        settings = make_settings(table["task"]["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        known = ", ".join(sorted(file.stem for file in (root / "profiles").glob("*.toml")))
        raise UserError(
            f"profile {profile!r}: no readable profile of Countdown; choose one of {known}"
        ) from error
    return {
        "count": min(settings.numbers, MOST),
        "max_number": settings.max_number,
        "target_low": settings.target_low,
        "target_high": settings.target_high,
    }
