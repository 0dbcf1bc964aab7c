"""Countdown problems in bulk: random, solvable, and disjoint between the splits.

Takes task settings, counts and a seed; gives a DataFrame of problems, each with a solution.
Knows nothing of traces or models. Source: section 4.1 of the paper (500k training problems, 10%
of the targets held out, two test sets).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import StrictBool, StrictFloat, StrictInt, model_validator

from lib.base.checked import Count, between, build, checked, demand, rule
from lib.base.errors import UserError
from lib.tasks.countdown.rules import OPERATORS, combine, pairs

# Test sets first: whatever the training set's size, the test problems stay the same.
SPLITS = ("new", "seen", "validation", "train")
BATCH = 200_000
MAX_RESULT = 1_000_000  # a place in memory for each


@checked
class Settings:
    """The `[task.settings]` table of a profile that uses this task."""

    numbers: Annotated[StrictInt, between(2, 6)]
    max_number: Annotated[StrictInt, between(1, 999)]
    target_low: Count
    target_high: StrictInt
    max_result: Annotated[StrictInt, rule(MAX_RESULT.__ge__, f"must be at most {MAX_RESULT}")]
    held_out: Annotated[
        StrictFloat, rule(lambda v: 0 < v < 1, "must be between 0 and 1, both excluded")
    ]
    #: One held-out target from each stratum of size: new and seen targets are then alike by design.
    strata: StrictBool = False
    #: This share of the sets of numbers is asked in no training or validation problem.
    held_out_sets: Annotated[StrictFloat, between(0, 0.9)] = 0.0

    @model_validator(mode="after")
    def _together(self) -> Settings:
        low, high = self.target_low, self.target_high
        demand("target_high", high, high >= low, "at least target_low")
        demand("max_result", self.max_result, self.max_result >= high, "at least target_high")
        held = round(self.held_out * (high - low + 1))
        right = "a share that leaves at least one target on either side"
        demand("held_out", self.held_out, 1 <= held <= high - low, right)
        return self


def make_settings(table: Mapping[str, Any]) -> Settings:
    """Settings from a profile's table; `UserError` names a missing, unknown or mistyped key."""
    return build(Settings, table, "task.settings")


def held_out_targets(settings: Settings, seed: int) -> np.ndarray:
    """The targets that only the `new` split uses, sorted; the same for every size of the sets."""
    targets = np.arange(settings.target_low, settings.target_high + 1)
    count = round(settings.held_out * len(targets))
    generator = np.random.default_rng([seed, 0])
    if settings.strata:
        return np.array([generator.choice(part) for part in np.array_split(targets, count)])
    return np.sort(generator.choice(targets, count, replace=False))


def in_held_out_set(settings: Settings, numbers: np.ndarray, seed: int) -> np.ndarray:
    """Which sets of numbers no training problem asks; bool [n]. numbers: int64 [n, k], any order.

    A set is held out by a hash of its numbers and the seed, so that no list of sets is needed.
    """
    mixed = np.full(len(numbers), np.random.SeedSequence([seed, 3]).generate_state(1, np.uint64)[0])
    for column in np.sort(numbers, 1).T.astype(np.uint64):
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(11)) / 2.0**53 < settings.held_out_sets


def sample_solutions(
    settings: Settings, allowed: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Try `count` random solutions; keep those that end on an allowed target.

    allowed: bool [max_result + 1]. Each step takes a random pair and a random operation among the
    legal ones whose result is from 1 to max_result; the last step's result must be allowed.
    Returns numbers int64 [m, k] and steps int64 [m, k - 1, 4] as (a, operator index, b, result).
    """
    numbers = generator.integers(1, settings.max_number + 1, (count, settings.numbers))
    left, alive, steps = numbers, np.arange(count), []
    for size in range(settings.numbers, 1, -1):
        orders = np.array([(i, j, *rest) for i, j, rest in pairs(size)])
        order = orders[generator.integers(0, len(orders), len(left))]
        left = np.take_along_axis(left, order, 1)
        results, legal = combine(left[:, 0], left[:, 1])
        legal &= (results >= 1) & (results <= settings.max_result)
        if size == 2:
            legal &= allowed[np.where(legal, results, 0)]
        kept = np.flatnonzero(legal.any(1))
        left, alive, results, legal = left[kept], alive[kept], results[kept], legal[kept]
        op = np.where(legal, generator.random(legal.shape, dtype=np.float32), -1).argmax(1)
        result = np.take_along_axis(results, op[:, None], 1)
        high, low = left[:, :2].max(1), left[:, :2].min(1)
        steps = [made[kept] for made in steps]
        steps.append(np.stack([high, op, low, result[:, 0]], 1))
        left = np.concatenate([left[:, 2:], result], 1)
    return numbers[alive], np.stack(steps, 1)


def problem_keys(numbers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """One int64 a problem, equal where numbers (in any order) and target are equal."""
    keys = target.astype(np.int64)
    for column in np.sort(numbers, 1).T:
        keys = keys * 1000 + column  # Settings allow at most 6 numbers of 3 digits
    return keys


def make_problems(settings: Settings, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
    """Problems for each split, all different (by numbers in any order, and target).

    Returns columns numbers (int lists), target (int), split, solution (its lines in one text).
    Raises `UserError` where the task has too few problems for the counts asked.
    """
    unknown = set(counts) - set(SPLITS)
    if unknown:
        raise UserError(f"split {min(unknown)!r}: no such split; choose from {', '.join(SPLITS)}")
    held = held_out_targets(settings, seed)
    taken = np.empty(0, dtype=np.int64)
    frames = []
    for index, split in enumerate(SPLITS):
        allowed = np.zeros(settings.max_result + 1, dtype=bool)
        allowed[settings.target_low : settings.target_high + 1] = split != "new"
        allowed[held] = split == "new"
        generator = np.random.default_rng([seed, 1, index])
        wanted, fruitless, parts = counts.get(split, 0), 0, []
        while wanted > 0:
            tries = min(max(2 * wanted, 2_000), BATCH)
            numbers, steps = sample_solutions(settings, allowed, tries, generator)
            keys = problem_keys(numbers, steps[:, -1, 3])
            repeated = pd.Series(np.concatenate([taken, keys])).duplicated().to_numpy()
            fresh = ~repeated[len(taken) :]
            if split in ("train", "validation"):
                fresh &= ~in_held_out_set(settings, numbers, seed)
            chosen = np.flatnonzero(fresh)[:wanted]
            taken = np.concatenate([taken, keys[chosen]])
            parts.append((numbers[chosen], steps[chosen]))
            wanted -= len(chosen)
            fruitless = 0 if len(chosen) else fruitless + 1
            if fruitless == 10:
                found = counts[split] - wanted
                raise UserError(
                    f"{split}: {counts[split]} problems asked, and the task has only about {found}"
                    " that no other split uses; ask for fewer or widen task.settings"
                )
        if parts:
            frames.append(_frame(parts, split))
    if not frames:
        return pd.DataFrame({"numbers": [], "target": [], "split": [], "solution": []})
    return pd.concat(frames, ignore_index=True)


def _frame(parts: list[tuple[np.ndarray, np.ndarray]], split: str) -> pd.DataFrame:
    numbers = np.concatenate([part[0] for part in parts])
    steps = np.concatenate([part[1] for part in parts])
    return pd.DataFrame(
        {
            "numbers": numbers.tolist(),
            "target": steps[:, -1, 3],
            "split": split,
            "solution": solution_texts(steps),
        }
    )


def solution_texts(steps: np.ndarray) -> list[str]:
    """steps: int64 [n, m, 4] as (a, operator index, b, result) -> n texts of m lines each."""
    columns = []
    width = steps.shape[1]
    for index in range(width):
        a, op, b, result = steps[:, index].T
        columns += [a.tolist(), [OPERATORS[code] for code in op.tolist()], b.tolist()]
        columns += [result.tolist()]
    line = "\n".join(["%d%s%d=%d"] * width)
    return [line % row for row in zip(*columns, strict=True)]
