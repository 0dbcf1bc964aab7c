"""The public data set as a run's problems and backtracking traces: `data.public` of a profile.

Takes a local folder or hub name with three splits (train, seen and new targets); gives the table
that `lib.problems` would make, and D_back. Knows nothing of tokens. Rows are read and checked by
lib/public_data.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pandas as pd

from lib.countdown import GOAL, Problem, solve
from lib.errors import UserError
from lib.public_data import PROMPT, load_table, read_public, reading


def split_names(source: str | Path) -> dict[str, str]:
    """The source's own names of our three splits; `UserError` where one is missing.

    The test splits' names say `seen`, and `new` or `unseen`.
    """
    with reading(source):
        names = datasets.get_dataset_split_names(str(source))
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
    are a profile's `[data]`: at most so many.
    """
    names = split_names(source)
    frames, asked = [], set()
    for split in ("new", "seen"):
        rows = load_table(source, names[split])[: counts["test_problems"]]
        given = [_problem(source, split, row) for row in rows.to_dict("records")]
        solutions = [solve(problem.numbers, problem.target) or [] for problem in given]
        frames.append(_frame(given, ["\n".join(lines) for lines in solutions], split))
        asked |= set(map(_key, given))
    traces, _ = read_public(source, loss, names["train"])
    problems = [_of_prompt(text) for text in traces["text"]]
    traces = traces.assign(problem=problems, key=list(map(_key, problems)))
    traces = traces[~traces["key"].isin(asked)]
    optimal = traces[traces["kind"] == "optimal"]
    optimal = optimal[: counts["train_problems"] + counts["validation_problems"]]
    first = max(0, len(optimal) - counts["validation_problems"])
    held_out = set(optimal["key"][first:])
    train = optimal[~optimal["key"].isin(held_out)]
    wrong = traces[(traces["kind"] != "optimal") & ~traces["key"].isin(held_out)]
    for split, part in (("validation", optimal[first:]), ("train", train)):
        if part.empty or wrong.empty:
            raise UserError(f"{source}: too few rows: no D_op or no D_back is left to train on")
        solved = [PROMPT.sub("", text).removesuffix("\n" + GOAL) for text in part["text"]]
        frames.append(_frame(part["problem"].tolist(), solved, split))
    return (
        pd.concat(frames, ignore_index=True),
        wrong[["text", "mask", "kind"]].reset_index(drop=True),
    )


def _of_prompt(text: str) -> Problem:
    match = PROMPT.match(text)
    return Problem(tuple(map(int, match[1].split(", "))), int(match[2]))


def _problem(source: str | Path, split: str, row: Mapping) -> Problem:
    try:
        return Problem(tuple(map(int, row["nums"])), int(row["target"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{source}: a row of its {split!r} split has no problem: {row}") from error


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
