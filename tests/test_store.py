"""The store: whole files or none, artifacts made once, interrupted ones resumed."""

import errno
import os
from pathlib import Path

import pandas as pd
import pytest

from lib.errors import UserError
from lib.store import (
    MADE,
    Run,
    digest,
    file_digest,
    read_json,
    read_parquet,
    write_atomic,
    write_parquet,
)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def test_write_atomic(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    for data in ("first", b"second"):
        write_atomic(path, data)
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, call):
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_tables_round_trip(tmp_path):
    table = pd.DataFrame({"numbers": [[1, 2], [3, 4]], "target": [3, 12], "text": ["a\n", "é"]})
    write_parquet(tmp_path / "table.parquet", table)
    read = read_parquet(tmp_path / "table.parquet")
    assert [list(row) for row in read.numbers] == table.numbers.tolist()
    pd.testing.assert_frame_equal(read.drop(columns="numbers"), table.drop(columns="numbers"))


def test_broken_files_are_named(tmp_path):
    for read in (read_json, read_parquet):
        with pytest.raises(UserError, match=r"none: no such file"):
            read(tmp_path / "none")
    write_parquet(tmp_path / "table.parquet", pd.DataFrame({"a": range(100)}))
    whole = (tmp_path / "table.parquet").read_bytes()
    for data in (
        b"",
        b"PAR1",
        whole[:-20],
        whole[:20] + b"x" * 50 + whole[70:-1],
        b"{",
        b"[" * 90_000,
    ):
        (tmp_path / "broken").write_bytes(data)
        for read in (read_json, read_parquet):
            with pytest.raises(UserError, match=r"broken: .*delete it and run again") as error:
                read(tmp_path / "broken")
            assert "\n" not in str(error.value)


def test_digests(tmp_path):
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})
    write_atomic(tmp_path / "a", "same")
    write_atomic(tmp_path / "b", "same")
    write_atomic(tmp_path / "c", "other")
    a, b, c = (file_digest(tmp_path / name) for name in "abc")
    assert a == b != c and len(a) == 12


def count_calls(run, inputs, name="models/S"):
    calls = []

    def make(folder):
        calls.append(folder)
        write_atomic(folder / "file", str(inputs))

    return run.make(name, inputs, make), calls


def test_an_artifact_is_made_once(run):
    artifact, calls = count_calls(run, {"seed": 1})
    assert len(calls) == 1 and (artifact.path / "file").read_text() == "{'seed': 1}"
    assert artifact.name == "S" and artifact.path.parent == run.folder / "models"
    for again in (run, Run(run.folder)):
        same, calls = count_calls(again, {"seed": 1})
        assert same == artifact and not calls
    record = read_json(artifact.path / MADE)
    assert record["name"] == "models/S" and record["inputs"] == {"seed": 1}
    assert {path.name for path in artifact.path.iterdir()} == {"file", MADE}


def test_changed_inputs_make_it_again_and_keep_the_old(run):
    first, _ = count_calls(run, {"seed": 1})
    second, calls = count_calls(run, {"seed": 2})
    third, more = count_calls(run, {"seed": 2}, "models/L")
    assert len(calls) == len(more) == 1
    assert len({first.key, second.key, third.key}) == 3 and first.path.exists()
    assert not count_calls(run, {"seed": 1})[1]


def test_an_interrupted_make_goes_on_in_its_folder(run):
    def make(folder):
        done = len(list(folder.glob("part*")))
        write_atomic(folder / f"part{done}", "")
        if done < 2:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run.make("data", {}, make)
        (partial,) = run.folder.iterdir()
        assert partial.name.endswith(".partial") and not (partial / MADE).exists()
    write_atomic(partial / ".spent", "100")
    artifact = run.make("data", {}, make)
    assert not partial.exists()
    assert {path.name for path in artifact.path.iterdir()} == {"part0", "part1", "part2", MADE}
    assert 100 <= artifact.duration_s < 110  # the time of every attempt


@pytest.mark.parametrize("text", ["", '{"duration', "[]", "{}", '{"duration_s": "long"}', "null"])
def test_a_corrupt_record_is_named(run, text):
    artifact, _ = count_calls(run, {})
    (artifact.path / MADE).write_text(text)
    with pytest.raises(UserError, match=rf"{MADE}: .*delete it and run again") as error:
        count_calls(run, {})
    assert "\n" not in str(error.value)


def test_a_deleted_record_is_made_again(run):
    """As the message above asks."""
    artifact, _ = count_calls(run, {})
    (artifact.path / MADE).unlink()
    again, calls = count_calls(run, {})
    assert again.path == artifact.path and len(calls) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")  # a folder's stand-in that not even root can write into
    run = Run(tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"cannot be written \(") as error:
        run.make("data", {}, lambda folder: None)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"cannot be written \("), run.lock():
        pass


def test_a_user_error_passes_as_it_is(run):
    def make(folder: Path) -> None:
        raise UserError("data.train_problems = 0")

    with pytest.raises(UserError, match=r"^data.train_problems = 0$"):
        run.make("data", {}, make)


def test_one_run_at_a_time(run):
    refused = pytest.raises(UserError, match="another run is at work")
    with run.lock(), refused, Run(run.folder).lock():
        pass
    with Run(run.folder).lock():
        pass


def test_the_real_cause_is_named(run):
    """Not every OSError means that the folder cannot be written."""

    def fail(error):
        def make(folder):
            raise error

        return make

    full = OSError(errno.ENOSPC, "No space left on device", "model.safetensors")
    cases = {
        r"cannot be written \(No space left on device: model.safetensors\)": full,
        r"cannot be written \(No space left on device\)": RuntimeError("I/O error (os error 28)"),
        r"cannot be written \(is the disk full\?\)": RuntimeError("unexpected pos 64 vs 0"),
        r"cannot be made \(\[Errno 2\] No such file or directory: 'data'\)": FileNotFoundError(
            errno.ENOENT, "No such file or directory", "data"
        ),
        r"cannot be made \(the hub says no\)": OSError("the hub says no"),
    }
    for message, error in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            run.make("data", {}, fail(error))
        assert "\n" not in str(caught.value)
    with pytest.raises(ZeroDivisionError):  # a mistake of ours keeps its traceback
        run.make("data", {}, fail(ZeroDivisionError()))
