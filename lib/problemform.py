"""A Countdown problem as a user types it, and problems at random.

Takes the texts of two fields, or a profile and a random generator; gives a Problem, or a
`UserError` whose one line says what to type. Knows nothing of widgets or models.
"""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

from lib.countdown import Problem, reachable
from lib.errors import UserError
from lib.problems import make_settings

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

    Reads the one table it needs: `lib.profiles` checks a whole profile, and imports torch for it.
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
