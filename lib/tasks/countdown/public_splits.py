"""The public data set as a run's problems and backtracking traces: `data.public` of a profile.

Takes a local folder or hub name with three splits (train, seen and new targets); gives the table
that `lib.tasks.countdown.problems` would make, and D_back. Knows nothing of tokens. Rows are read
and checked by lib/tasks/countdown/public_rows.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import datasets
import pandas as pd

from lib.base.errors import UserError
from lib.tasks.countdown.public_rows import (
    PROMPT,
    BadRowError,
    iter_public,
    iter_tables,
    opened,
    reachable_rows,
    read_problem,
)
from lib.tasks.countdown.rules import GOAL, Problem
from lib.tasks.countdown.solver import solve


def split_names(builder: datasets.DatasetBuilder, source: str | Path) -> dict[str, str]:
    """The source's own names of our three splits; `UserError` where one is missing.

    The test splits' names say `seen`, and `new` or `unseen`.
    """
    names = [str(name) for name in builder.config.data_files or {}]
    new = [name for name in names if "new" in name or "unseen" in name]
    seen = [name for name in names if "seen" in name and name not in new]
    found = {"train": [name for name in names if "train" in name], "seen": seen, "new": new}
    if any(len(choices) != 1 for choices in found.values()):
        raise UserError(
            f"{source}: needs one split for each of train, seen and new targets (in a folder:"
            f" data/train-*.parquet and so on); its splits are {', '.join(names) or 'none'}"
        )
    return {split: choices[0] for split, choices in found.items()}


def read_splits(
    source: str | Path, loss: str, counts: Mapping[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The problems of every split with their solutions, and the D_back traces of training.

    Training problems are those of the D_op rows; the last of them are the `validation` split. No
    training or validation row asks a test problem, and none of training a validation one. `counts`
    are a profile's `[data]`: at most so many. Rows are read batch by batch; what is kept of them
    is held.
    """
    with opened(source) as builder:
        names, frames, asked = split_names(builder, source), [], set()
        for split in ("new", "seen"):
            given = _asked(builder, source, split, names[split], counts["test_problems"])
            frames.append(_frame(given, _solutions(given), split))
            asked |= set(map(_key, given))
        most = counts["train_problems"] + counts["validation_problems"]
        optimal, wrong = _training(iter_public(builder, source, loss, names["train"]), asked, most)
    problems = [_of_prompt(text) for text in optimal]
    keys = list(map(_key, problems))
    first = max(0, len(optimal) - counts["validation_problems"])
    held_out = set(keys[first:])
    wrong = wrong[[_key(_of_prompt(text)) not in held_out for text in wrong["text"]]]
    train = [row for row in range(len(keys)) if keys[row] not in held_out]
    for split, rows in (("validation", range(first, len(keys))), ("train", train)):
        if not rows or wrong.empty:
            raise UserError(f"{source}: too few rows: no D_op or no D_back is left to train on")
        solved = [PROMPT.sub("", optimal[row]).removesuffix("\n" + GOAL) for row in rows]
        frames.append(_frame([problems[row] for row in rows], solved, split))
    return pd.concat(frames, ignore_index=True), wrong.reset_index(drop=True)


def _asked(
    builder: datasets.DatasetBuilder, source: str | Path, split: str, name: str, count: int
) -> list[Problem]:
    """The first `count` problems of a test split."""
    given: list[Problem] = []
    for rows in iter_tables(builder, source, name):
        for row in rows[: count - len(given)].to_dict("records"):
            try:
                given.append(read_problem(row.get("nums"), row.get("target")))
            except BadRowError as error:
                raise UserError(
                    f"{source}: a row of its {split!r} split has no problem ({error}): {row}"
                ) from error
        if len(given) == count:
            break
    return given


def _solutions(given: Sequence[Problem]) -> list[str]:
    """A solution's lines for each problem, nothing where there is none."""
    rows = {row: vars(problem) for row, problem in enumerate(given)}
    # All at once: to find that there is none takes the solver minutes for six numbers.
    found = reachable_rows(rows, "numbers")
    return [
        "\n".join(solve(problem.numbers, problem.target) or []) if found[row] else ""
        for row, problem in enumerate(given)
    ]


def _training(
    batches: Iterable[tuple[pd.DataFrame, pd.DataFrame]], asked: set[tuple], most: int
) -> tuple[list[str], pd.DataFrame]:
    """The texts of the first `most` D_op traces and all of D_back, without the problems `asked`."""
    optimal: list[str] = []
    wrong: list[pd.DataFrame] = []
    for traces, _ in batches:
        allowed = [_key(_of_prompt(text)) not in asked for text in traces["text"]]
        traces = traces[allowed]
        is_optimal = traces["kind"] == "optimal"
        optimal += traces["text"][is_optimal][: most - len(optimal)].tolist()
        wrong.append(traces[~is_optimal])
    return optimal, pd.concat(wrong, ignore_index=True)


def _of_prompt(text: str) -> Problem:
    match = PROMPT.match(text)
    return Problem(tuple(map(int, match[1].split(", "))), int(match[2]))


def _key(problem: Problem) -> tuple:
    """Equal for the same problem, whatever the order of its numbers."""
    return tuple(sorted(problem.numbers)), problem.target


def _frame(given: Sequence[Problem], solutions: Sequence[str], split: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "numbers": [list(problem.numbers) for problem in given],
            "target": [problem.target for problem in given],
            "split": split,
            "solution": solutions,
        }
    )
