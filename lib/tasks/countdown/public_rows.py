"""The public Countdown data set, read into traces as ours are.

Takes a local folder (parquet, json or jsonl files) or a hub name, with columns nums, target and
search_path; gives traces (text, mask, kind) and a report of the rows left out. Every row is checked
exactly, so nothing is believed that the file says. Knows nothing of tokens. Source: the data set
`yangxw/countdown-backtracking`; its search_path may begin with the prompt or not.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.tasks.countdown.rules import GOAL, Problem, check, compute, parse_step, remaining
from lib.tasks.countdown.solver import reachable_many
from lib.tasks.task import BACKTRACK
from lib.tasks.trace import COLUMNS as TRACE_COLUMNS
from lib.tasks.trace import LOSSES, right_trace, wrong_trace

COLUMNS = ("nums", "target", "search_path")
MAX_BAD_SHARE = 0.01
#: Within these, no result of legal steps exceeds int64.
MAX_NUMBERS, MAX_NUMBER = 6, 999
MAX_TARGET = 10**9
NAMED_ROWS = 3  # in the message that stops a run
BATCH = 50_000  # rows in memory at a time
#: The library's readers; its others decode pictures, archives and much else.
READERS = ("parquet", "json")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
PROMPT = re.compile(r"###Question: numbers \[(\d+(?:, \d+)*)\]->target (\d+)\n###Response:\n")


class BadRowError(Exception):
    """Why one row is left out."""


def read_public(
    source: str | Path, loss: str, split: str = "train"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Traces (text, mask, kind) of a folder or hub name, and the rows left out (row, reason).

    Raises `UserError` where the source cannot be read, a column is missing, or more than
    `MAX_BAD_SHARE` of the rows are bad.
    """
    with opened(source) as builder:
        batches = list(iter_public(builder, source, loss, split))
    traces, left_out = zip(*batches, strict=True)
    return pd.concat(traces, ignore_index=True), pd.concat(left_out, ignore_index=True)


def iter_public(
    builder: datasets.DatasetBuilder, source: str | Path, loss: str, split: str
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """`read_public` batch by batch of `BATCH` rows; too many bad rows are told after the last."""
    rows, bad, named = 0, 0, []
    for table in iter_tables(builder, source, split):
        missing = [column for column in COLUMNS if column not in table]
        if missing:
            raise UserError(
                f"{source}: no column {missing[0]!r}; a data set has {', '.join(COLUMNS)},"
                f" this one {', '.join(map(str, table.columns))}"
            )
        traces, left_out = read_rows(table, loss)
        left_out["row"] += rows
        rows, bad = rows + len(table), bad + len(left_out)
        named += [*left_out[: NAMED_ROWS - len(named)].itertuples(index=False)]
        yield traces, left_out
    if not rows:
        raise UserError(f"{source}: no rows in its {split!r} split")
    if bad > MAX_BAD_SHARE * rows:
        first = "; ".join(f"row {row}: {reason}" for row, reason in named)
        raise UserError(
            f"{source}: {bad} of {rows} rows are bad, more than {MAX_BAD_SHARE:.0%}: {first}"
        )


@contextmanager
def opened(source: str | Path) -> Iterator[datasets.DatasetBuilder]:
    """The reader of a folder or hub name, which nothing was read with yet.

    The library writes a copy of what it reads; that of a folder, which is here already, is removed
    at the end. `UserError` names a source that is none, or whose files are not its own or not of a
    kind that is read.
    """
    is_folder = Path(source).is_dir()
    if not is_folder and not HUB_NAME.fullmatch(str(source)):
        raise UserError(f"{source}: no such folder, and not the name of a data set on the hub")
    with tempfile.TemporaryDirectory() as copy:
        with reading(source):
            # Absolute: the library has readers of its own called json, csv and so on.
            name, cache = (str(Path(source).resolve()), copy) if is_folder else (str(source), None)
            builder = datasets.load_dataset_builder(name, cache_dir=cache)
            demand_plain(builder, source, is_folder)
        yield builder


def iter_tables(
    builder: datasets.DatasetBuilder, source: str | Path, split: str
) -> Iterator[pd.DataFrame]:
    """The rows of a split as they are, `BATCH` at a time (an empty split: one empty table)."""
    with reading(source):
        builder.download_and_prepare()  # once for all splits
        # Without the columns' own types, which may ask to open a file that a row names.
        dataset = builder.as_dataset(split=split).with_format("arrow")
    for start in range(0, max(1, len(dataset)), BATCH):
        with reading(source):
            columns = dataset[start : start + BATCH].to_pydict()
        # As objects: pandas would make floats of all whole numbers where one is missing.
        yield pd.DataFrame(columns, dtype=object, columns=dataset.column_names)


def demand_plain(builder: datasets.DatasetBuilder, source: str | Path, is_folder: bool) -> None:
    """Raise `UserError` unless all of a data set's files are its own, and of a plain kind."""
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in READERS:
        raise UserError(f"{source}: its files are {reader}; only parquet and json are read")
    for files in (builder.config.data_files or {}).values():
        for file in map(str, files):
            own = file.startswith("hf://")
            if is_folder:
                own = Path(file).resolve().is_relative_to(Path(source).resolve())
            if not own:
                raise UserError(f"{source}: names a file that is not its own: {file}")


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Makes one `UserError` of whatever the library raises."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # parsers', network's and hub's errors share no base class
        cause = error.__cause__ or error
        reason = (str(cause) or type(cause).__name__).strip().splitlines()[0]
        what = (
            "cannot be read"
            if Path(source).is_dir()
            else "no such folder, and not read from the hub"
        )
        raise UserError(f"{source}: {what} ({reason})") from error


def read_rows(table: pd.DataFrame, loss: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Traces (text, mask, kind) of rows with the public columns, and those left out (row, reason).

    Rows are numbered from 0. The kinds are those of `lib.tasks.countdown.traces`; a legal last step
    whose prefix had lost the target already is a near miss, and no such prefix carries loss.
    """
    if loss not in LOSSES:
        raise UserError(f"traces.loss = {loss!r}: choose one of {', '.join(LOSSES)}")
    paths: dict[int, dict[str, Any]] = {}
    left_out: dict[int, str] = {}
    columns = (table[column] for column in COLUMNS)
    for row, values in enumerate(zip(*columns, strict=True)):
        try:
            paths[row] = _read_row(*values)
        except BadRowError as error:
            left_out[row] = str(error)
    # Whether the target can be reached, for all rows at once: one by one takes minutes.
    before = reachable_rows(paths, "before")
    after = reachable_rows(paths, "after")
    records = []
    for row, path in paths.items():
        if path["kind"] is None and after[row]:
            left_out[row] = "no erroneous step: the target can be reached after the last"
            continue
        kind = path["kind"] or ("exploration" if before[row] else "near_miss")
        if kind == "optimal":
            records.append(right_trace(path["prompt"], path["prefix"], GOAL, kind))
            continue
        parts = (path[key] for key in ("prompt", "prefix", "choice", "outcome"))
        # A prefix that has lost the target is not to be imitated.
        how = {"imitate": before[row], "exact": path["is_exact"]}
        records.append(wrong_trace(*parts, kind, loss, **how))
    # Of these types also where a batch has none.
    traces = pd.DataFrame(records, columns=TRACE_COLUMNS).astype("str")
    bad = pd.DataFrame(sorted(left_out.items()), columns=["row", "reason"])
    return traces, bad.astype({"row": "int64", "reason": "str"})


def _read_row(nums: Any, target: Any, search_path: Any) -> dict[str, Any]:
    """A row's text in its parts; `kind` is None where reachability decides it."""
    problem = read_problem(nums, target)
    if not isinstance(search_path, str):
        raise BadRowError("search_path is not a text")
    prompt, text = problem.prompt(), search_path.rstrip()
    if text.startswith("###"):
        if not text.startswith(prompt):
            raise BadRowError("search_path begins with the prompt of another problem")
        text = text.removeprefix(prompt)
    path = {"target": problem.target, "prompt": prompt}
    if text.endswith(GOAL):
        verdict = check(problem, text)
        if not verdict.correct:
            raise BadRowError(f"does not solve its problem: {verdict.error}, step {verdict.step}")
        return {**path, "kind": "optimal", "prefix": text.removesuffix(GOAL)}
    if not text.endswith(BACKTRACK):
        raise BadRowError(f"ends in neither {GOAL!r} nor {BACKTRACK}")
    lines = text.removesuffix(BACKTRACK).removesuffix("\n").split("\n")
    steps = lines[:-1]
    step = parse_step(lines[-1])
    left = remaining(problem.numbers, steps)
    if left is None:
        raise BadRowError("its prefix, the steps before the last, is not legal")
    if step is None:
        raise BadRowError(f"no erroneous step: {lines[-1][:40]!r} is not a step")
    choice, result = lines[-1].split("=")
    is_exact = compute(step.a, step.op, step.b) == step.result
    path |= {
        "prefix": "".join(line + "\n" for line in steps),
        "choice": choice + "=",
        "outcome": result + "\n",
        "is_exact": is_exact,
        "before": left,
    }
    if Counter([step.a, step.b]) - Counter(left):
        return {**path, "kind": "rule_violation"}
    if not is_exact:
        return {**path, "kind": "computation"}
    return {**path, "kind": None, "after": remaining(left, lines[-1:])}


def read_problem(nums: Any, target: Any) -> Problem:
    """A row's problem; `BadRowError` where it is none, or too large to be solved exactly."""

    def is_whole(value: Any) -> bool:
        # 62.0 too: one fraction in a file makes floats of all its whole numbers.
        is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        return is_number and value == value // 1

    if not isinstance(nums, list | tuple | np.ndarray):
        raise BadRowError("nums is not a list")
    if not 2 <= len(nums) <= MAX_NUMBERS:
        raise BadRowError(f"{len(nums)} numbers, not 2 to {MAX_NUMBERS}")
    if not all(is_whole(number) and 0 <= number <= MAX_NUMBER for number in nums):
        raise BadRowError(f"nums are not all whole numbers from 0 to {MAX_NUMBER}")
    if not is_whole(target) or not 0 <= target <= MAX_TARGET:
        raise BadRowError(f"target is not a whole number from 0 to {MAX_TARGET}")
    return Problem(tuple(map(int, nums)), int(target))


def reachable_rows(paths: Mapping[int, Mapping[str, Any]], state: str) -> dict[int, bool]:
    """Whether each row's target can be reached from the numbers in `state`, where it has them."""
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
