"""Traces of ours as files of the public data set, for tests of reading it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib.base import files
from lib.base.errors import UserError
from lib.tasks.countdown.public_rows import COLUMNS, PROMPT


def write_public(traces: pd.DataFrame, path: Path) -> None:
    """Traces (their column text) as a parquet file with the public columns."""
    rows = []
    for row, text in enumerate(traces["text"]):
        match = PROMPT.match(text)
        if match is None:
            raise UserError(f"trace {row}: its text does not begin with a Countdown prompt")
        nums = [int(number) for number in match[1].split(", ")]
        rows.append({"nums": nums, "target": int(match[2]), "search_path": text})
    files.write_parquet(path, pd.DataFrame(rows, columns=list(COLUMNS)))
