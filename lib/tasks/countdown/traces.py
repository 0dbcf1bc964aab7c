"""What a model learns Countdown from: optimal paths (D_op), paths that backtrack (D_back), and
which characters of each carry loss.

Takes problems with solutions; gives DataFrames of text, mask and kind. Knows nothing of tokens.
Masks are those of lib/tasks/trace.py. Source: sections 3.2 and 4.1 of the paper.

Two kinds of loss. `paper` masks an erroneous step whole. `honest` masks only the *choice* of a
step that is computed right (operands and operator) and keeps the loss on its result: in D_op the
last result always equals the target, so a model that never sees another learns to copy the target
instead of computing. A *near miss* is a solved path under a prompt whose target was moved, by 1 to
5 or by 10, 20 or 30: its last step is an exploration error that only comparing both digits finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.tasks.countdown import problems
from lib.tasks.countdown.rules import GOAL, OPERATORS, Problem, combine
from lib.tasks.countdown.wrong_steps import (
    ERROR_KINDS,
    MAX_TRIES,
    erroneous_steps,
    take,
    until_found,
)
from lib.tasks.trace import COLUMNS, demand_loss, right_trace, wrong_trace

NEAR_MISS_RANGE = 5
#: The share of moves that are drawn as 10, 20 or 30; one that leads to no target is drawn anew. A
#: model that learned from small moves alone took 44% of targets that it missed by 10 for reached.
NEAR_MISS_TENS = 0.25
PLAY_MISSED = 0.1  # the share of random play under a target that it does not reach


def parse_solutions(solutions: pd.Series, steps: int) -> np.ndarray:
    """Solution texts -> int64 [n, steps, 4] as (a, operator index, b, result).

    Raises `UserError` naming the first row that has another number of steps.
    """
    texts = list(solutions)
    for row, text in enumerate(texts):
        if text.count("=") != steps:
            raise UserError(f"row {row}: a solution of {text.count('=')} steps, not {steps}")
    joined = "\n".join(texts)
    digits = joined.translate(str.maketrans("+-*/=\n", " " * 6))
    numbers = np.fromstring(digits, dtype=np.int64, sep=" ").reshape(len(texts), steps, 3)
    letters = joined.translate(str.maketrans("+-*/", "0123", "0123456789=\n")).encode()
    operators = np.frombuffer(letters, dtype=np.uint8).astype(np.int64) - ord("0")
    return np.insert(numbers, 1, operators.reshape(len(texts), steps), axis=2)


def optimal_traces(table: pd.DataFrame) -> pd.DataFrame:
    """D_op: the prompt, a correct solution, the goal line."""
    return _right_frame(table, table.target, [GOAL] * len(table), "optimal")


def _right_frame(
    table: pd.DataFrame, targets: Iterable[int], goals: Iterable[str], kind: str
) -> pd.DataFrame:
    """The problems' solutions under these targets, each with its goal line."""
    rows = zip(table.numbers, targets, table.solution, goals, strict=True)
    made = [
        right_trace(Problem(tuple(numbers), target).prompt(), f"{solution}\n", goal, kind)
        for numbers, target, solution, goal in rows
    ]
    return pd.DataFrame(made, columns=COLUMNS)


def near_targets(
    numbers: np.ndarray,
    target: np.ndarray,
    tests: pd.DataFrame | None,
    generator: np.random.Generator,
    tens: float = NEAR_MISS_TENS,
) -> tuple[np.ndarray, np.ndarray]:
    """Targets moved, `tens` of them by whole tens; the new ones [n], and which could be moved [n].

    A moved target is one of these training problems' own (so none that is held out), and its prompt
    is none of `tests` (by numbers in any order, and target). The few for which far moves found none
    move near.
    """
    allowed = np.unique(target)
    asked = np.empty(0, dtype=np.int64)
    if tests is not None and len(tests):
        given = np.array(tests.numbers.tolist(), dtype=np.int64)
        asked = problems.problem_keys(given, tests.target.to_numpy())

    def attempt(rows: np.ndarray, tens: float = tens) -> tuple[np.ndarray, np.ndarray]:
        shift = generator.integers(1, NEAR_MISS_RANGE + 1, len(rows))
        far = generator.random(len(rows)) < tens
        shift = np.where(far, 10 * generator.integers(1, 4, len(rows)), shift)
        tried = target[rows] + shift * generator.choice([-1, 1], len(rows))
        keys = problems.problem_keys(numbers[rows], tried)
        return tried, np.isin(tried, allowed) & ~np.isin(keys, asked)

    moved, found = until_found(target.copy(), attempt)
    left = np.flatnonzero(~found)
    moved[left], found[left] = until_found(target[left], lambda rows: attempt(left[rows], 0.0))
    return moved, found


def backtracking_traces(
    table: pd.DataFrame,
    settings: problems.Settings,
    seed: int,
    loss: str,
    near_miss: float,
    tests: pd.DataFrame | None = None,
    kinds: Sequence[float] = (1, 1, 1),
) -> pd.DataFrame:
    """D_back: the prompt, a correct prefix, one erroneous step, `<backtrack>`.

    One trace a problem; `near_miss` of them near misses, the rest of the three kinds of error in
    the parts of `kinds` (the paper's are 1 : 2 : 2). Prefix lengths are uniform. No prompt
    is one of `tests`. Raises `UserError` for an unknown loss.
    """
    demand_loss(loss)
    generator = np.random.default_rng([seed, 2])
    count, width = len(table), settings.numbers - 1
    numbers = np.array(table.numbers.tolist(), dtype=np.int64).reshape(count, settings.numbers)
    target = table.target.to_numpy(dtype=np.int64, copy=True)
    held_out = [] if tests is None else np.setdiff1d(tests.target, target)
    solution = parse_solutions(table.solution, width)
    depth = generator.integers(0, width, count)
    names = np.array([*ERROR_KINDS, "near_miss"])
    near = generator.random(count) < near_miss
    drawn = _error_kinds(kinds, count, generator)
    kind = names[np.where(near, 3, drawn)]
    near = np.flatnonzero(kind == "near_miss")
    moved, found = near_targets(numbers[near], target[near], tests, generator)
    kind[near[~found]] = "computation"  # no target near by is left to move to
    goal = target.copy()
    goal[near] = moved
    depth[near] = width - 1
    error = solution[np.arange(count), depth]
    left = numbers

    def err(rows: np.ndarray, level: int) -> None:
        state = (left[rows], numbers[rows], target[rows], solution[rows, level])
        error[rows], kind[rows] = erroneous_steps(kind[rows], *state, settings, generator)

    for level in range(width):
        rows = np.flatnonzero((depth == level) & (kind != "near_miss"))
        err(rows, level)
        if level < width - 1:
            left = take(left, solution[:, level])
    # A held-out target that ends wrong paths alone could be learned to be wrong.
    for _ in range(MAX_TRIES - 1):
        rows = rows[np.isin(error[rows, 3], held_out)]
        err(rows, width - 1)
    rows = rows[np.isin(error[rows, 3], held_out)]
    results, _ = combine(error[rows, 0], error[rows, 2])
    true = results[np.arange(len(rows)), error[rows, 1]]
    error[rows, 3] = np.where(true == target[rows], 0, target[rows])
    kind[rows] = "computation"
    return _backtracking_frame(table, goal, depth, kind, error, loss)


def _error_kinds(parts: Sequence[float], count: int, generator: np.random.Generator) -> np.ndarray:
    """Indices into ERROR_KINDS, int64 [count], in these parts."""
    if len(set(parts)) == 1:  # as it was drawn before there was a choice
        return generator.integers(0, len(parts), count)
    shares = np.asarray(parts, float)
    return generator.choice(len(parts), count, p=shares / shares.sum())


def play_traces(table: pd.DataFrame, seed: int, tests: pd.DataFrame | None = None) -> pd.DataFrame:
    """Random play: random legal steps to the end, under the target that they happen to reach.

    So were the problems made; their solutions are the play. One in ten stands under a target moved
    by 1 to 5, and has no goal line: too few and too near for the trunk to learn when a target is
    missed. One that does learns the first digit alone, and keeps its branches from learning the
    second. No question is one of `tests`, and none ends on a held-out target.
    """
    generator = np.random.default_rng([seed, 4])
    missed = np.flatnonzero(generator.random(len(table)) < PLAY_MISSED)
    numbers = np.array(table.numbers.tolist(), dtype=np.int64)
    target = table.target.to_numpy(dtype=np.int64, copy=True)
    moved = near_targets(numbers[missed], target[missed], tests, generator, tens=0.0)
    target[missed], found = moved
    goals = np.full(len(table), GOAL, dtype=object)
    goals[missed[found]] = ""
    return _right_frame(table, target.tolist(), goals, "play")


def _backtracking_frame(
    table: pd.DataFrame,
    target: np.ndarray,
    depth: np.ndarray,
    kind: np.ndarray,
    error: np.ndarray,
    loss: str,
) -> pd.DataFrame:
    made = []
    rows = zip(
        table.numbers, target.tolist(), table.solution, depth.tolist(), kind.tolist(),
        error.tolist(), strict=True,
    )  # fmt: skip
    for numbers, goal, solution, length, name, (a, op, b, result) in rows:
        prompt = Problem(tuple(numbers), goal).prompt()
        prefix = "".join(line + "\n" for line in solution.split("\n")[:length])
        choice, outcome = f"{a}{OPERATORS[op]}{b}=", f"{result}\n"
        # A near miss's prefix leads to another target: nothing to imitate.
        how = {"imitate": name != "near_miss", "exact": name != "computation"}
        made.append(wrong_trace(prompt, prefix, choice, outcome, name, loss, **how))
    return pd.DataFrame(made, columns=COLUMNS)
