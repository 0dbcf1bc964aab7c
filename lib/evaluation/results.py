"""The results file: a manifest, and one tidy table of rows.

Takes rows (dicts or a DataFrame) and a manifest; gives results.json, one row a line, the same bytes
for the same results (keys and rows sorted, floats rounded to 6 decimals, NaN written as null), and
of rows their headline: one accuracy a cell. Knows nothing about how a number was measured.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.base.files import write_atomic
from lib.evaluation.statistics import wilson_interval

COLUMNS = (
    "artifact",
    "method",
    "model",
    "split",
    "N",
    "b",
    "temperature",
    "selection",
    "checker",
    "seed",
    "accuracy",
    "low",
    "high",
    "problems",
    "tokens_per_problem",
    "seconds",
)
ALLOWED = {
    "model": ("S", "L"),
    "split": ("train", "validation", "seen", "new"),
    "checker": ("strict", "published"),
}
SHARES = ("accuracy", "low", "high")
WHOLE_NUMBERS = ("N", "b", "seed", "problems", "round", "step", "examples", "failures", "target")
WHOLE_NUMBERS += ("claim", "only_strict", "only_published", "gained", "lost")
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
DECIMALS = 6


def row(artifact: str, method: str | None = None, **values: object) -> dict:
    """One tidy row: every base column (None where it does not apply) and any extra ones given."""
    given = {"artifact": artifact, "method": method, **values}
    for column, value in given.items():
        _check(column, value)
    return {column: given.get(column) for column in COLUMNS} | {
        column: value for column, value in given.items() if column not in COLUMNS
    }


def _check(column: str, value: object) -> None:
    if not NAME.fullmatch(column):
        raise UserError(f"results column {column!r}: a name has letters, digits and _ only")
    if _missing(value):
        if column == "artifact":
            raise UserError("results row: artifact is missing; name the table or figure it is for")
        return
    if column in ("artifact", "method") and not (isinstance(value, str) and NAME.fullmatch(value)):
        raise UserError(f"results row: {column}={value!r} is not a name such as table_1")
    if column in ALLOWED and value not in ALLOWED[column]:
        raise UserError(
            f"results row: {column}={value!r}; choose one of {', '.join(ALLOWED[column])}"
        )
    if column in SHARES and not (_is_number(value) and 0 <= value <= 1):
        raise UserError(f"results row: {column}={value!r}; it must be a share from 0 to 1")


def _is_number(value: object) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)


def _missing(value: object) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, float) and math.isnan(value)


def table(rows: Iterable[Mapping] | pd.DataFrame) -> pd.DataFrame:
    """Rows as a DataFrame: the base columns in order, then the extra ones by name."""
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    extra = sorted(set(frame.columns) - set(COLUMNS))
    frame = frame.reindex(columns=[*COLUMNS, *extra]).reset_index(drop=True)
    for column in WHOLE_NUMBERS:
        if column in frame:
            frame[column] = pd.to_numeric(frame[column]).astype("Int64")
    for column in ("temperature", "accuracy", "low", "high", "tokens_per_problem", "seconds"):
        frame[column] = pd.to_numeric(frame[column]).astype(float)
    return frame


def write_results(path: Path, manifest: Mapping, rows: Iterable[Mapping] | pd.DataFrame) -> None:
    """Write results.json whole or not at all."""
    write_atomic(Path(path), dumps(manifest, rows))


def dumps(manifest: Mapping, rows: Iterable[Mapping] | pd.DataFrame) -> str:
    """The text of results.json: independent of the order in which rows and keys were given."""
    records = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    lines = []
    for record in records:
        checked = row(**{str(key): value for key, value in record.items()})
        plain = {key: _measured(key, _plain(key, value)) for key, value in checked.items()}
        # An extra column is written only where it applies: loss curves have thousands of rows.
        kept = {
            key: plain[key]
            for key in [*COLUMNS, *sorted(set(plain) - set(COLUMNS))]
            if key in COLUMNS or plain[key] is not None
        }
        lines.append((_order(kept), json.dumps(kept, ensure_ascii=False, allow_nan=False)))
    body = ",\n".join(line for _, line in sorted(lines))
    head = json.dumps(
        _plain("manifest", manifest), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    return f'{{"manifest": {head},\n"rows": [\n{body}\n]}}\n'


def _order(record: Mapping) -> tuple:
    # Numbers sort as numbers (N=8 before N=32), and nothing sorts before something.
    keys = [*COLUMNS[:10], *sorted(set(record) - set(COLUMNS)), *COLUMNS[10:]]
    key = []
    for name in keys:
        value = record[name]
        if value is None:
            key.append((name, 0, 0.0, ""))
        elif isinstance(value, (int, float)):
            key.append((name, 1, float(value), ""))
        else:
            key.append((name, 2, 0.0, str(value)))
    # The column's place, not its name, must decide: extra columns come after all base keys.
    return tuple((number, *rest) for number, (_, *rest) in enumerate(key))


def _plain(name: str, value: object) -> object:
    """Python's own types only; floats rounded; NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(name, part) for part in value]
    if _missing(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            return None
        if name in WHOLE_NUMBERS and float(value).is_integer():
            return int(value)
        # Adding 0.0 turns -0.0 into 0.0.
        return value if isinstance(value, int) else round(value, DECIMALS) + 0.0
    return str(value)


def _measured(name: str, value: object) -> object:
    # 1 and 1.0 of a measured column must give the same bytes.
    is_count = name in WHOLE_NUMBERS or isinstance(value, bool)
    return float(value) if isinstance(value, int) and not is_count else value


def read_results(path: Path) -> tuple[dict, pd.DataFrame]:
    """-> (manifest, rows); a file that is absent or broken is a UserError that names it."""
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no results yet; `make reproduce` writes them") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a results file ({error}); run `make reproduce`") from None
    if not (
        isinstance(content, dict)
        and isinstance(content.get("manifest"), dict)
        and isinstance(content.get("rows"), list)
        and all(isinstance(record, dict) for record in content["rows"])
    ):
        raise UserError(f"{path}: not a results file; it must have a manifest and a list of rows")
    try:
        return content["manifest"], table(row(**_renamed(each)) for each in content["rows"])
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def _renamed(record: dict) -> dict:
    """A row as it is written now: figure 5's once bounded `share` in columns low and high."""
    if record.get("artifact") != "figure_5" or "share_low" in record:
        return record
    bounds = {f"share_{end}": record.get(end) for end in ("low", "high")}
    return {**record, "low": None, "high": None, **bounds}


PAPER_SELECTION = "mean_logprob"  # section 3.3: the highest mean log-probability
# What a cell's rows may differ in and still be one cell; any other column (round ...) parts it.
MEASURED = {"selection", "checker", "seed", "accuracy", "low", "high", "problems"}
MEASURED |= {"tokens_per_problem", "seconds", "failures", "share", "loss"}
MEASURED |= {"only_strict", "only_published", "share_low", "share_high"}


def headline(rows: pd.DataFrame, artifacts: Iterable[str] | None = None) -> pd.DataFrame:
    """The strict checker's accuracies, one row a cell, with the paper's selection rule where there
    is a choice (a cell without it keeps its first rule by name). Seeds are pooled."""
    rows = table(rows)
    kept = rows[rows["accuracy"].notna() & (rows["checker"].fillna("strict") == "strict")]
    if artifacts is not None:
        kept = kept[kept["artifact"].isin(list(artifacts))]
    if kept.empty:
        return kept
    keys = [name for name in kept if name not in MEASURED]
    rank = kept["selection"].fillna(PAPER_SELECTION) != PAPER_SELECTION
    kept = kept.assign(rank=rank).sort_values(["rank", "selection"], kind="stable")
    first = kept.groupby(keys, dropna=False, sort=False)["selection"].transform("first")
    kept = kept[(kept["selection"] == first) | kept["selection"].isna()].drop(columns="rank")
    return pd.DataFrame(
        [_pooled(cell) for _, cell in kept.groupby(keys, dropna=False, sort=True)],
        columns=kept.columns,
    ).reset_index(drop=True)


def _pooled(cell: pd.DataFrame) -> pd.Series:
    first = cell.iloc[0].copy()
    if len(cell) > 1 and cell["problems"].notna().all():
        problems = int(cell["problems"].sum())
        right = float((cell["accuracy"] * cell["problems"].astype(float)).sum())
        first["accuracy"], first["problems"] = right / problems, problems
        first["low"], first["high"] = wilson_interval(right, problems)
        first["tokens_per_problem"] = cell["tokens_per_problem"].mean()
        for name in {"only_strict", "only_published"} & set(cell):
            first[name] = cell[name].sum(skipna=False)
    return first
