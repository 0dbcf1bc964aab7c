"""The public data set: rows read exactly, bad ones named, and our own data in the same columns."""

import json

import datasets
import numpy as np
import pandas as pd
import pytest
from public_files import write_public

from lib.base.errors import UserError
from lib.tasks.countdown import problems, public_rows
from lib.tasks.countdown.public_rows import COLUMNS, read_public, read_rows
from lib.tasks.countdown.traces import backtracking_traces, optimal_traces

SETTINGS = problems.Settings(4, 25, 10, 75, 99, 0.1)
TABLE = problems.make_problems(SETTINGS, {"train": 400}, 2)
GOAL = "Goal Reached!"
PROMPT = "###Question: numbers [2, 39, 45, 10]->target 62\n###Response:\n"
NUMS = [2, 39, 45, 10]


def own(loss):
    parts = [optimal_traces(TABLE), backtracking_traces(TABLE, SETTINGS, 2, loss, 0.25)]
    return pd.concat(parts, ignore_index=True)


def rows(*values):
    return pd.DataFrame(list(values), columns=list(COLUMNS))


def kept(search_path, loss="honest", nums=NUMS, target=62):
    traces, left_out = read_rows(rows((nums, target, search_path)), loss)
    assert left_out.empty
    return traces.iloc[0]


@pytest.mark.parametrize("loss", ["paper", "honest"])
def test_our_own_data_comes_back(tmp_path, loss):
    expected = own(loss)
    write_public(expected, tmp_path / "train.parquet")
    assert list(pd.read_parquet(tmp_path / "train.parquet").columns) == list(COLUMNS)
    traces, left_out = read_public(tmp_path, loss)
    assert left_out.empty and traces.text.tolist() == expected.text.tolist()
    # A near miss whose moved target its prefix can still reach is an exploration error, and known
    # from one by nothing.
    differ = traces.kind != expected.kind
    assert set(traces.kind[differ]) <= {"exploration"}
    assert set(expected.kind[differ]) <= {"near_miss"} and differ.sum() < 50
    pd.testing.assert_frame_equal(traces[~differ], expected[~differ])


def test_parquet_json_and_jsonl_say_the_same(tmp_path):
    traces = own("honest").iloc[::40]
    write_public(traces, tmp_path / "parquet" / "data.parquet")
    table = pd.read_parquet(tmp_path / "parquet" / "data.parquet")
    for name, options in (("jsonl", {"lines": True}), ("json", {})):
        (tmp_path / name).mkdir()
        table.to_json(tmp_path / name / f"data.{name}", orient="records", **options)
    read = [read_public(tmp_path / name, "honest")[0] for name in ("parquet", "json", "jsonl")]
    assert len(read[0]) == len(traces)
    for other in read[1:]:
        pd.testing.assert_frame_equal(read[0], other)


def test_splits_are_told_apart(tmp_path):
    traces = own("honest")
    write_public(traces[:3], tmp_path / "train.parquet")
    write_public(traces[3:8], tmp_path / "test.parquet")
    assert len(read_public(tmp_path, "honest")[0]) == 3
    assert len(read_public(tmp_path, "honest", split="test")[0]) == 5
    with pytest.raises(UserError, match=r"cannot be read .*nosuch"):
        read_public(tmp_path, "honest", split="nosuch")


@pytest.mark.parametrize("prompt", ["", PROMPT])
@pytest.mark.parametrize("space", ["", "\n", "  \n"])
def test_the_prompt_may_be_there_or_not(prompt, space):
    solved = f"45-39=6\n6*10=60\n60+2=62\n{GOAL}"
    trace = kept(prompt + solved + space)
    assert (trace.text, trace.kind) == (PROMPT + solved, "optimal")
    assert trace["mask"] == "0" * len(PROMPT) + "1" * 24 + "2" * len(GOAL)
    wrong = "45-39=6\n6*10=66\n<backtrack>"
    assert kept(prompt + wrong + space).text == PROMPT + wrong
    # The end in the step's own line is put into a line of its own, as ours is.
    assert kept(prompt + "45-39=6\n6*10=66<backtrack>" + space).text == PROMPT + wrong


# The erroneous path, its kind, and the masks of prefix and outcome where the loss is honest.
KINDS = {
    "exploration": ("45-39=6\n10/2=5\n", "exploration", "1", "1"),
    "computation": ("45-39=6\n6*10=66\n", "computation", "1", "0"),
    "no prefix": ("45-39=7\n", "computation", "1", "0"),
    "a used number": ("45-39=6\n45+2=47\n", "rule_violation", "1", "1"),
    "one copy used twice": ("45-39=6\n10+10=20\n", "rule_violation", "1", "1"),
    "not there, and wrong": ("45-39=6\n7*10=71\n", "rule_violation", "1", "0"),
    "a near miss": ("45-39=6\n6*2=12\n12*10=120\n", "near_miss", "0", "1"),
    "wrong after a lost target": ("10/2=5\n45-39=6\n5*6=31\n", "computation", "0", "0"),
    "negative, so wrong": ("45-39=6\n2-6=4\n", "computation", "1", "0"),
    "not exact": ("45-39=6\n45/2=22\n", "rule_violation", "1", "0"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_are_decided_by_checking(case):
    steps, kind, prefix_mask, outcome_mask = KINDS[case]
    *prefix, last = steps.splitlines(keepends=True)
    choice, outcome = last.split("=")
    for loss in ("honest", "paper"):
        trace = kept(steps + "<backtrack>", loss)
        assert (trace.kind, trace.text) == (kind, PROMPT + steps + "<backtrack>")
        assert trace["mask"] == (
            "0" * len(PROMPT)
            + prefix_mask * len("".join(prefix))
            + "0" * len(choice + "=")
            + (outcome_mask if loss == "honest" else "0") * len(outcome)
            + "2" * len("<backtrack>")
        )


SOLVED = f"45-39=6\n6*10=60\n60+2=62\n{GOAL}"
BAD = {
    "numbers missing": ((None, 62, SOLVED), "nums is not a list"),
    "numbers as text": (("[2, 39]", 62, SOLVED), "nums is not a list"),
    "numbers of text": ((["2", "39"], 62, SOLVED), "nums are not all whole numbers"),
    "fractions": (([2.5, 39, 45, 10], 62, SOLVED), "nums are not all whole numbers"),
    "truth values": (([True, 39, 45, 10], 62, SOLVED), "nums are not all whole numbers"),
    "negative": (([-2, 39, 45, 10], 62, SOLVED), "nums are not all whole numbers"),
    "too large": (([10**30, 39, 45, 10], 62, SOLVED), "nums are not all whole numbers"),
    "no numbers": (([], 62, SOLVED), "0 numbers"),
    "too many numbers": (([1] * 7, 62, SOLVED), "7 numbers"),
    "no target": ((NUMS, None, SOLVED), "target is not a whole number"),
    "target is a fraction": ((NUMS, 62.5, SOLVED), "target is not a whole number"),
    "target is huge": ((NUMS, 10**30, SOLVED), "target is not a whole number"),
    "no path": ((NUMS, 62, None), "search_path is not a text"),
    "empty path": ((NUMS, 62, ""), "ends in neither"),
    "cut off": ((NUMS, 62, "45-39=6\n6*1"), "ends in neither"),
    "another's prompt": ((NUMS, 61, PROMPT + SOLVED), "the prompt of another problem"),
    "numbers in another order": (([39, 2, 45, 10], 62, PROMPT + SOLVED), "of another problem"),
    "misses its target": ((NUMS, 63, SOLVED), "does not solve its problem: not reached target"),
    "a wrong line": ((NUMS, 62, SOLVED.replace("60+", "61+")), "solve its problem: unknown number"),
    "backtracks on the way": (
        (NUMS, 62, "45-39=7\n<backtrack>\n" + SOLVED), "does not solve its problem"),
    "illegal prefix": ((NUMS, 62, "45-39=7\n7*10=71\n<backtrack>"), "its prefix, .* is not legal"),
    "prefix with words": ((NUMS, 62, "so\n7*10=71\n<backtrack>"), "its prefix, .* is not legal"),
    "two erroneous steps": ((NUMS, 62, "4-9=7\n1+1=3\n<backtrack>"), "its prefix, .* is not legal"),
    "nothing but the end": ((NUMS, 62, "<backtrack>"), "no erroneous step"),
    "last line is no step": ((NUMS, 62, "45-39=6\n2-6=-4\n<backtrack>"), "'2-6=-4' is not a step"),
    "a right step": ((NUMS, 62, "45-39=6\n<backtrack>"), "no erroneous step: the target can be"),
    "the whole solution": ((NUMS, 62, SOLVED.replace(GOAL, "<backtrack>")), "no erroneous step"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(case):
    row, reason = BAD[case]
    traces, left_out = read_rows(rows((NUMS, 62, SOLVED), row, (NUMS, 62, SOLVED)), "honest")
    assert len(traces) == 2 and left_out.row.tolist() == [1]
    assert left_out.reason.str.contains(reason).all(), left_out.reason[0]


def test_a_few_bad_rows_are_left_out_and_more_stop(tmp_path):
    table = rows(*[(NUMS, 62, SOLVED)] * 200)
    table.loc[[7, 100], "search_path"] = "cut"
    table.to_parquet(tmp_path / "data.parquet")
    traces, left_out = read_public(tmp_path, "honest")
    assert len(traces) == 198 and left_out.row.tolist() == [7, 100]
    table.loc[150, "target"] = 61
    table.to_parquet(tmp_path / "data.parquet")
    with pytest.raises(
        UserError, match=r"3 of 200 rows are bad, more than 1%: row 7: ends"
    ) as error:
        read_public(tmp_path, "honest")
    assert "row 150: does not solve" in str(error.value) and "\n" not in str(error.value)


def test_batches_are_one_data_set(tmp_path, monkeypatch):
    """Rows are read so many at a time, and numbered as one."""
    table = rows(*[(NUMS, 62, SOLVED)] * 250)
    table.loc[[7, 130], "search_path"] = "cut"
    table["search_path"] = table["search_path"] + [" " * (row % 3) for row in range(250)]
    table.to_parquet(tmp_path / "data.parquet")
    whole = read_public(tmp_path, "honest")
    monkeypatch.setattr(public_rows, "BATCH", 100)
    parts = read_public(tmp_path, "honest")
    for one, other in zip(whole, parts, strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert (
        {*map(str, parts[0].dtypes)} == {"str"} == {*map(str, read_rows(rows(), "paper")[0].dtypes)}
    )
    assert parts[1].row.tolist() == [7, 130]
    table.loc[[201, 220], "search_path"] = "cut"
    table.to_parquet(tmp_path / "data.parquet")
    stops(tmp_path, r"4 of 250 rows are bad, more than 1%: row 7: .*row 130: .*row 201: ")


@pytest.mark.parametrize("odd", [None, 62.5])
@pytest.mark.parametrize("name", ["data.parquet", "data.jsonl"])
def test_one_odd_value_costs_one_row(tmp_path, odd, name):
    table = rows(*[(NUMS, 62, SOLVED)] * 200)
    table["target"] = [62] * 9 + [odd] + [62] * 190
    if name.endswith("parquet"):
        table.astype({"target": float}).to_parquet(tmp_path / name)
    else:
        table.to_json(tmp_path / name, orient="records", lines=True)
    traces, left_out = read_public(tmp_path, "honest")
    assert len(traces) == 199 and left_out.row.tolist() == [9]


def stops(source, message):
    with pytest.raises(UserError, match=message) as error:
        read_public(source, "honest")
    text = str(error.value)
    assert text.startswith(f"{source}: ") and "\n" not in text, text


def test_sources_that_cannot_be_read(tmp_path):
    stops(tmp_path / "none", "no such folder")
    stops(tmp_path, "cannot be read")  # an empty folder
    (tmp_path / "data.parquet").write_bytes(b"PAR1 and nothing")
    stops(tmp_path, "cannot be read")
    write_public(own("honest"), tmp_path / "data.parquet")
    whole = (tmp_path / "data.parquet").read_bytes()
    (tmp_path / "data.parquet").write_bytes(whole[: len(whole) // 2])
    stops(tmp_path, "cannot be read")
    pd.DataFrame({"nums": [NUMS], "goal": 62}).to_parquet(tmp_path / "data.parquet")
    stops(tmp_path, "no column 'target'; a data set has nums, target, search_path, this one nums")
    rows().astype({"target": int, "search_path": str}).to_parquet(tmp_path / "data.parquet")
    stops(tmp_path, "no rows in its 'train' split|cannot be read")


def test_broken_json_is_named(tmp_path):
    line = json.dumps({"nums": NUMS, "target": 62, "search_path": SOLVED})
    (tmp_path / "data.jsonl").write_text(f"{line}\n{line[:20]}\n")
    stops(tmp_path, "cannot be read")


def test_the_hub(monkeypatch, tmp_path):
    rows((NUMS, 62, SOLVED)).to_parquet(tmp_path / "test.parquet")
    builder = datasets.load_dataset_builder(str(tmp_path), cache_dir=tmp_path / "cache")
    builder.download_and_prepare()
    asked = []

    def load(name, cache_dir):
        asked.append((name, cache_dir))
        return builder

    monkeypatch.setattr(datasets, "load_dataset_builder", load)
    own, other = "hf://datasets/yangxw/x@main/test.parquet", "https://example.com/test.parquet"
    builder.config.data_files = {"test": [own]}
    assert read_public("yangxw/countdown-backtracking", "honest", "test")[0].kind[0] == "optimal"
    assert asked == [("yangxw/countdown-backtracking", None)]
    builder.config.data_files = {"test": [own, other]}
    stops("yangxw/countdown-backtracking", "names a file that is not its own: https://example")

    def unreachable(name, cache_dir):
        raise ConnectionError("Couldn't reach the hub\nand a page of advice")

    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    stops("some/thing", r"not read from the hub \(Couldn't reach the hub\)")
    for name in ("/some/thing", "./thing", "a/b/c", "https://elsewhere/x"):
        stops(name, "no such folder")


def test_numbers_as_arrays_are_lists_too():
    assert kept(SOLVED, nums=np.array(NUMS), target=np.int64(62)).kind == "optimal"


def test_bad_input_is_named(tmp_path):
    with pytest.raises(UserError, match=r"traces\.loss = 'mine': choose one of paper, honest"):
        read_rows(rows(), "mine")
    with pytest.raises(UserError, match="trace 1: its text does not begin with a Countdown prompt"):
        write_public(pd.DataFrame({"text": [PROMPT + SOLVED, "12+7;19."]}), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
