"""The public Countdown data set: read into traces as ours are, and ours written in its columns.

Takes a local folder (parquet, json or jsonl files) or a hub name, with columns nums, target and
search_path; gives traces (text, mask, kind) and a report of the rows left out. Every row is checked
exactly, so nothing is believed that the file says. Knows nothing of tokens. Source: the data set
`yangxw/countdown-backtracking`; its search_path may begin with the prompt or not.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd

from lib import store
from lib.countdown import GOAL, Problem, check, compute, parse_step, reachable_many, remaining
from lib.errors import UserError
from lib.task import BACKTRACK
from lib.traces import LOSSES

COLUMNS = ("nums", "target", "search_path")
MAX_BAD_SHARE = 0.01
#: Within these, no result of legal steps exceeds int64.
MAX_NUMBERS, MAX_NUMBER = 6, 999
MAX_TARGET = 10**9
NAMED_ROWS = 3  # in the message that stops a run
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
PROMPT = re.compile(r"###Question: numbers \[(\d+(?:, \d+)*)\]->target (\d+)\n###Response:\n")


class _BadRowError(Exception):
    """Why one row is left out."""


def read_public(
    source: str | Path, loss: str, split: str = "train"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Traces (text, mask, kind) of a folder or hub name, and the rows left out (row, reason).

    Raises `UserError` where the source cannot be read, a column is missing, or more than
    `MAX_BAD_SHARE` of the rows are bad.
    """
    table = load_table(source, split)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise UserError(
            f"{source}: no column {missing[0]!r}; a data set has {', '.join(COLUMNS)},"
            f" this one {', '.join(map(str, table.columns))}"
        )
    traces, left_out = read_rows(table, loss)
    if not len(table):
        raise UserError(f"{source}: no rows in its {split!r} split")
    if len(left_out) > MAX_BAD_SHARE * len(table):
        first = "; ".join(
            f"row {row}: {reason}" for row, reason in left_out[:NAMED_ROWS].itertuples(index=False)
        )
        raise UserError(
            f"{source}: {len(left_out)} of {len(table)} rows are bad, more than"
            f" {MAX_BAD_SHARE:.0%}: {first}"
        )
    return traces, left_out


def load_table(source: str | Path, split: str) -> pd.DataFrame:
    """The rows of a folder or hub name as they are; `UserError` names one that cannot be read."""
    is_folder = Path(source).is_dir()
    if not is_folder and not HUB_NAME.fullmatch(str(source)):
        raise UserError(f"{source}: no such folder, and not the name of a data set on the hub")
    with reading(source):
        if not is_folder:
            return _rows(datasets.load_dataset(str(source), split=split))
        # The library keeps a copy of what it reads: a folder that is here already needs none.
        with tempfile.TemporaryDirectory() as copy:
            return _rows(datasets.load_dataset(str(source), split=split, cache_dir=copy))


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Makes one `UserError` of whatever the library raises."""
    try:
        yield
    except Exception as error:  # parsers', network's and hub's errors share no base class
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).strip().splitlines()[0]
        what = (
            "cannot be read"
            if Path(source).is_dir()
            else "no such folder, and not read from the hub"
        )
        raise UserError(f"{source}: {what} ({reason})") from error


def _rows(dataset: datasets.Dataset) -> pd.DataFrame:
    # As objects: pandas would make floats of all whole numbers where one is missing.
    return pd.DataFrame(dataset.to_dict(), dtype=object, columns=dataset.column_names)


def read_rows(table: pd.DataFrame, loss: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Traces (text, mask, kind) of rows with the public columns, and those left out (row, reason).

    Rows are numbered from 0. The kinds are those of `lib.traces`; a legal last step whose prefix
    had lost the target already is a near miss, and no such prefix carries loss.
    """
    if loss not in LOSSES:
        raise UserError(f"traces.loss = {loss!r}: choose one of {', '.join(LOSSES)}")
    paths: dict[int, dict[str, Any]] = {}
    left_out: dict[int, str] = {}
    columns = (table[column] for column in COLUMNS)
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            paths[row] = _read_row(*values)
        except _BadRowError as error:
            left_out[row] = str(error)
    # Whether the target can be reached, for all rows at once: one by one takes minutes.
    before = _reachable(paths, "before")
    after = _reachable(paths, "after")
    records = []
    for row, path in paths.items():
        if path["kind"] is None and after[row]:
            left_out[row] = "no erroneous step: the target can be reached after the last"
            continue
        kind = path["kind"] or ("exploration" if before[row] else "near_miss")
        records.append({"text": path["text"], "mask": _mask(path, kind, before, row, loss)})
        records[-1]["kind"] = kind
    return (
        pd.DataFrame(records, columns=["text", "mask", "kind"]),
        pd.DataFrame(sorted(left_out.items()), columns=["row", "reason"]),
    )


def _read_row(nums: Any, target: Any, search_path: Any) -> dict[str, Any]:
    """A row's text in its parts; `kind` is None where reachability decides it."""
    problem = _read_problem(nums, target)
    if not isinstance(search_path, str):
        raise _BadRowError("search_path is not a text")
    prompt, text = problem.prompt(), search_path.rstrip()
    if text.startswith("###"):
        if not text.startswith(prompt):
            raise _BadRowError("search_path begins with the prompt of another problem")
        text = text.removeprefix(prompt)
    path = {"target": problem.target, "prompt": prompt, "text": prompt + text}
    if text.endswith(GOAL):
        verdict = check(problem, text)
        if not verdict.correct:
            raise _BadRowError(f"does not solve its problem: {verdict.error}, step {verdict.step}")
        return {**path, "kind": "optimal", "prefix": text.removesuffix(GOAL), "end": GOAL}
    if not text.endswith(BACKTRACK):
        raise _BadRowError(f"ends in neither {GOAL!r} nor {BACKTRACK}")
    lines = text.removesuffix(BACKTRACK).removesuffix("\n").split("\n")
    steps = lines[:-1]
    step = parse_step(lines[-1])
    left = remaining(problem.numbers, steps)
    if left is None:
        raise _BadRowError("its prefix, the steps before the last, is not legal")
    if step is None:
        raise _BadRowError(f"no erroneous step: {lines[-1][:40]!r} is not a step")
    choice, result = lines[-1].split("=")
    is_exact = compute(step.a, step.op, step.b) == step.result
    path |= {
        "prefix": "".join(line + "\n" for line in steps),
        "choice": choice + "=",
        "outcome": result + "\n",
        "end": BACKTRACK,
        "is_exact": is_exact,
        "before": left,
    }
    path["text"] = "".join(path[key] for key in ("prompt", "prefix", "choice", "outcome", "end"))
    if Counter([step.a, step.b]) - Counter(left):
        return {**path, "kind": "rule_violation"}
    if not is_exact:
        return {**path, "kind": "computation"}
    return {**path, "kind": None, "after": remaining(left, lines[-1:])}


def _read_problem(nums: Any, target: Any) -> Problem:
    def is_whole(value: Any) -> bool:
        # 62.0 too: one fraction in a file makes floats of all its whole numbers.
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        return is_number and value == value // 1

    if not isinstance(nums, list | tuple | np.ndarray):
        raise _BadRowError("nums is not a list")
    if not 2 <= len(nums) <= MAX_NUMBERS:
        raise _BadRowError(f"{len(nums)} numbers, not 2 to {MAX_NUMBERS}")
    if not all(is_whole(number) and 0 <= number <= MAX_NUMBER for number in nums):
        raise _BadRowError(f"nums are not all whole numbers from 0 to {MAX_NUMBER}")
    if not is_whole(target) or not 0 <= target <= MAX_TARGET:
        raise _BadRowError(f"target is not a whole number from 0 to {MAX_TARGET}")
    return Problem(tuple(map(int, nums)), int(target))


def _reachable(paths: Mapping[int, Mapping[str, Any]], state: str) -> dict[int, bool]:
    """Whether each row's target can be reached from its `state`, where it has one."""
    sizes: dict[int, list[int]] = {}
    for row, path in paths.items():
        if state in path:
            sizes.setdefault(len(path[state]), []).append(row)
    found = {}
    for rows in sizes.values():
        numbers = np.array([paths[row][state] for row in rows], dtype=np.int64)
        targets = np.array([paths[row]["target"] for row in rows], dtype=np.int64)
        found |= dict(zip(rows, reachable_many(numbers, targets).tolist(), strict=True))
    return found


def _mask(
    path: Mapping[str, Any], kind: str, before: Mapping[int, bool], row: int, loss: str
) -> str:
    """One character for each of the text's, by the rules of `lib.traces`."""
    parts: Sequence[tuple[str, str]] = [("prompt", "0"), ("prefix", "1"), ("end", "2")]
    if kind != "optimal":
        learned = "1" if before[row] else "0"  # a prefix that has lost the target: not to imitate
        honest = "1" if loss == "honest" and path["is_exact"] else "0"
        parts = [("prompt", "0"), ("prefix", learned), ("choice", "0"), ("outcome", honest)]
        parts += [("end", "2")]
    return "".join(code * len(path[key]) for key, code in parts)


def write_public(traces: pd.DataFrame, path: Path) -> None:
    """Traces (their column text) as a parquet file with the public columns."""
    rows = []
    for row, text in enumerate(traces["text"]):
        match = PROMPT.match(text)
        if match is None:
            raise UserError(f"trace {row}: its text does not begin with a Countdown prompt")
        nums = [int(number) for number in match[1].split(", ")]
        rows.append({"nums": nums, "target": int(match[2]), "search_path": text})
    store.write_parquet(path, pd.DataFrame(rows, columns=list(COLUMNS)))
