"""results.json: the same results give the same bytes, and a broken file is named."""

import json

import numpy as np
import pandas as pd
import pytest

from lib.base.errors import UserError
from lib.evaluation.results import COLUMNS, dumps, read_results, row, write_results

MANIFEST = {"profile": "cpu", "seed": 1, "durations_s": {"search": 2.00000049, "data": 1}}
ROWS = [
    row(artifact="figure_4", method="self_backtracking", model="S", split="seen", N=32, b=1),
    row(artifact="figure_4", method="self_backtracking", model="S", split="seen", N=8, b=1),
    row(artifact="table_1", method="sft_greedy", accuracy=1 / 3, low=0.1, high=np.float64(0.9)),
    row(artifact="figure_6", stage="trunk", step=10, loss=0.25),
]


def test_row_has_every_base_column_and_the_extra_ones():
    made = row(artifact="table_3", method="self_backtracking", ratio=0.5)
    assert tuple(made)[: len(COLUMNS)] == COLUMNS
    assert made["ratio"] == 0.5 and made["accuracy"] is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"artifact": "table_1", "model": "XL"}, "model='XL'; choose one of S, L"),
        ({"artifact": "table_1", "split": "old"}, "split='old'; choose one of"),
        ({"artifact": "table_1", "checker": "lax"}, "checker='lax'; choose one of"),
        ({"artifact": "table_1", "accuracy": 41.0}, "from 0 to 1"),
        ({"artifact": "table_1", "low": "much"}, "from 0 to 1"),
        ({"artifact": "table 1"}, "not a name"),
        ({"artifact": None}, "artifact is missing"),
        ({"artifact": "table_1", "a b": 1}, "letters, digits"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(UserError, match=message):
        row(**values)


def test_same_results_same_bytes_whatever_the_order():
    shuffled = dict(reversed(MANIFEST.items()))
    text = dumps(MANIFEST, ROWS)
    assert text == dumps(shuffled, ROWS[::-1]) == dumps(MANIFEST, pd.DataFrame(ROWS[::-1]))
    rows = json.loads(text)["rows"]
    assert [r["N"] for r in rows if r["artifact"] == "figure_4"] == [8, 32]
    assert '"accuracy": 0.333333,' in text and "NaN" not in text
    assert "loss" not in rows[0]


def test_round_trip(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, MANIFEST, ROWS)
    manifest, rows = read_results(path)
    assert manifest["durations_s"] == {"data": 1, "search": 2.0}
    assert list(rows.columns) == [*COLUMNS, "loss", "stage", "step"]
    first = path.read_bytes()
    write_results(path, manifest, rows)
    assert path.read_bytes() == first


def test_integer_and_float_of_a_measured_column_are_one():
    whole, real = (row(artifact="t", method="m", accuracy=value, N=4) for value in (1, 1.0))
    assert dumps({}, [whole]) == dumps({}, [real])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"rows": []}', '{"manifest": {}, "rows": [1]}', '{"manifest": {}, "rows": 3}'],
)
def test_broken_file_is_named(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"results\.json: not a results file"):
        read_results(path)


def test_bad_row_and_absent_file_are_named(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"manifest": {}, "rows": [{"artifact": "t", "accuracy": 41}]}')
    with pytest.raises(UserError, match=r"results\.json: .*accuracy"):
        read_results(path)
    path.write_text('{"manifest": {}, "rows": [{"artifact": "t", "N": "many"}]}')
    with pytest.raises(UserError, match=r"results\.json"):
        read_results(path)
    with pytest.raises(UserError, match="no results yet"):
        read_results(tmp_path / "absent.json")


def test_older_rows_of_figure_5_are_read_as_they_are_written_now(tmp_path):
    old = row("figure_5", "sft_greedy", accuracy=0.4, low=0.2, high=0.3, error="a", share=0.25)
    other = row("table_1", "sft_greedy", accuracy=0.4, low=0.35, high=0.45)
    write_results(tmp_path / "results.json", MANIFEST, [old, other])
    _, rows = read_results(tmp_path / "results.json")
    now = rows[rows["artifact"] == "figure_5"].iloc[0]
    assert (now["share_low"], now["share_high"]) == (0.2, 0.3)
    assert pd.isna(now["low"]) and pd.isna(now["high"])
    kept = rows[rows["artifact"] == "table_1"].iloc[0]
    assert (kept["low"], kept["high"]) == (0.35, 0.45)
    assert dumps(MANIFEST, rows) == dumps(MANIFEST, rows.sample(frac=1, random_state=0))
    write_results(tmp_path / "again.json", MANIFEST, rows)
    assert read_results(tmp_path / "again.json")[1].equals(rows)
