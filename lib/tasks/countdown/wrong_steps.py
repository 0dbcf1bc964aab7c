"""Erroneous steps of Countdown, in bulk: the paper's three kinds of error (its section 4.1).

Takes states, targets and right steps as arrays; gives wrong steps as arrays, (a, operator index, b,
result) each. Knows nothing of text. `combine` puts the larger operand first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lib.tasks.countdown import problems
from lib.tasks.countdown.rules import combine, pairs
from lib.tasks.countdown.solver import reachable_many

ERROR_KINDS = ("exploration", "computation", "rule_violation")
# At the last step a wrong result is sometimes the target itself: the lie that selection must see.
FORCED_ONTO_TARGET = 0.2
MAX_TRIES = 12


def take(left: np.ndarray, step: np.ndarray) -> np.ndarray:
    """The states after a legal step. left: int64 [n, m]; step: int64 [n, 4] -> int64 [n, m - 1]."""
    for operand in (step[:, 0], step[:, 2]):
        keep = np.ones(left.shape, dtype=bool)
        keep[np.arange(len(left)), (left == operand[:, None]).argmax(1)] = False
        left = left[keep].reshape(len(left), left.shape[1] - 1)
    return np.concatenate([left, step[:, 3:]], 1)


def random_steps(
    left: np.ndarray, max_result: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A random legal step of each state. left: int64 [n, m].

    Returns steps int64 [n, 4] and the states after them, int64 [n, m - 1].
    """
    orders = np.array([(i, j, *rest) for i, j, rest in pairs(left.shape[1])])
    order = orders[generator.integers(0, len(orders), len(left))]
    left = np.take_along_axis(left, order, 1)
    results, legal = combine(left[:, 0], left[:, 1])
    legal &= results <= max_result
    legal[:, 1] = True  # a difference is always in range
    op = np.where(legal, generator.random(legal.shape), -1.0).argmax(1)
    result = np.take_along_axis(results, op[:, None], 1)
    steps = np.stack([left[:, :2].max(1), op, left[:, :2].min(1), result[:, 0]], 1)
    return steps, np.concatenate([left[:, 2:], result], 1)


def until_found(
    values: np.ndarray, attempt: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Try each row, `MAX_TRIES` times at most, until it is good -> `values`, and which were found.

    values: [n, ...], changed in place; rows that are never good keep theirs. attempt: takes rows,
    gives new values of these and which of them are good.
    """
    missing = np.arange(len(values))
    for _ in range(MAX_TRIES):
        tried, good = attempt(missing)
        values[missing[good]] = tried[good]
        missing = missing[~good]
    return values, ~np.isin(np.arange(len(values)), missing)


def exploration_errors(
    left: np.ndarray, target: np.ndarray, max_result: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Legal steps after which the target is out of reach; steps [n, 4] and which were found [n]."""

    def attempt(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tried, states = random_steps(left[rows], max_result, generator)
        return tried, ~reachable_many(states, target[rows])

    return until_found(np.zeros((len(left), 4), dtype=np.int64), attempt)


def computation_errors(
    left: np.ndarray,
    target: np.ndarray,
    solution: np.ndarray,
    max_result: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Steps of available numbers with a wrong result; half of them the solution's own choice."""
    steps, _ = random_steps(left, max_result, generator)
    own = generator.random(len(left)) < 0.5
    steps[own] = solution[own]
    true = steps[:, 3].copy()
    near = generator.integers(1, 11, len(left)) * generator.choice([-1, 1], len(left))
    wrong = np.abs(true + np.where(generator.random(len(left)) < 0.2, near * 10, near))
    if left.shape[1] == 2:
        forced = generator.random(len(left)) < FORCED_ONTO_TARGET
        wrong = np.where(forced, target, wrong)
    wrong = np.where((wrong > max_result) | (wrong == true), np.maximum(true - 1, 0), wrong)
    steps[:, 3] = np.where(wrong == true, true + 1, wrong)
    return steps


def rule_violations(
    left: np.ndarray,
    numbers: np.ndarray,
    target: np.ndarray,
    settings: problems.Settings,
    generator: np.random.Generator,
) -> np.ndarray:
    """Steps computed right with an operand that is not there: used, doubled, the target or made up.

    left: int64 [n, m]; numbers: int64 [n, k], the given ones.
    """
    count = len(left)
    rows = np.arange(count)
    order = generator.random(left.shape).argsort(1)
    kept = left[rows, order[:, 0]]
    used = numbers[rows, generator.integers(0, numbers.shape[1], count)]
    made_up = generator.integers(1, settings.max_number + 1, count)
    foreign = np.stack([used, kept, target, made_up], 1)
    foreign = foreign[rows, generator.choice(4, count, p=[0.4, 0.2, 0.1, 0.3])]
    for attempt in range(MAX_TRIES):
        # An operand may stand twice only if it is there twice.
        available = (left == foreign[:, None]).sum(1) - (foreign == kept) > 0
        if not available.any():
            break
        foreign[available] = generator.integers(1, 2 * settings.max_number, available.sum())
        if attempt == MAX_TRIES - 1:  # tiny numbers can all be there; one above the largest is not
            foreign[available] = left[available].max(1) + 1
    results, legal = combine(kept, foreign)
    legal &= results <= settings.max_result
    legal[:, 1] = True
    op = np.where(legal, generator.random(legal.shape), -1.0).argmax(1)
    high, low = np.maximum(kept, foreign), np.minimum(kept, foreign)
    return np.stack([high, op, low, results[rows, op]], 1)


def erroneous_steps(
    kind: np.ndarray,
    left: np.ndarray,
    numbers: np.ndarray,
    target: np.ndarray,
    solution: np.ndarray,
    settings: problems.Settings,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """An erroneous step of the kind asked for each problem, and the kind that it became.

    kind: str [n], one of ERROR_KINDS; left: int64 [n, m], the numbers that are there; numbers:
    int64 [n, k], the given ones; target: int64 [n]; solution: int64 [n, 4], the right step.
    """
    error, kind = solution.copy(), kind.copy()
    for name in ERROR_KINDS:
        rows = np.flatnonzero(kind == name)
        state = left[rows]
        if name == "exploration":
            error[rows], found = exploration_errors(
                state, target[rows], settings.max_result, generator
            )
            # Where every try could still be solved, a wrong result takes its place.
            kind[rows[~found]] = "computation"
        elif name == "computation":
            error[rows] = computation_errors(
                state, target[rows], solution[rows], settings.max_result, generator
            )
        else:
            error[rows] = rule_violations(state, numbers[rows], target[rows], settings, generator)
    return error, kind
