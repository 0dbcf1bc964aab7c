"""The store: whole files or none, artifacts made once, interrupted ones resumed."""

import errno
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.base import files
from lib.base.errors import UserError
from lib.base.files import digest, file_digest, read_json, read_parquet, write_atomic, write_parquet
from lib.base.processes import python_environment
from lib.experiment.artifacts import MADE, Run


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


@pytest.mark.parametrize("described", [b"{}", b"[]", b'{"columns": [{"name": "a"}]}', b"\xff"])
def test_a_table_with_a_damaged_description_of_itself_is_named(tmp_path, described):
    """What pandas writes beside the columns; found by fuzzing."""
    table = pa.table({"a": [1, 2]}).replace_schema_metadata({"pandas": described})
    pq.write_table(table, tmp_path / "table.parquet")
    with pytest.raises(UserError, match="not a whole parquet file; delete it"):
        read_parquet(tmp_path / "table.parquet")


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


def unusable(number):
    """What makes a lock where /dev/shm cannot be used."""

    def make(*_):
        raise OSError(number, os.strerror(number))

    return make


def test_the_real_cause_is_named(run, monkeypatch):
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
        r"/dev/shm/x: cannot be written \(Permission denied\), which .*/data-\w+ needs": OSError(
            errno.EACCES, "Permission denied", "/dev/shm/x"
        ),
        r"/dev/shm: cannot be written \(No space left on device\), which .*data-": RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: No space left on"
            " device (28)"
        ),
    }
    for message, error in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            run.make("data", {}, fail(error))
        assert "\n" not in str(caught.value)

    def lock(folder):
        multiprocessing.get_context("spawn").Lock()

    for number, told in (
        (errno.EACCES, r"^/dev/shm: cannot be written \(Permission denied\), which .*/data-"),
        (errno.ENOENT, r"data-\w+: cannot be made \(/dev/shm: \[Errno 2\]"),
    ):
        monkeypatch.setattr(
            "multiprocessing.synchronize._multiprocessing.SemLock", unusable(number)
        )
        with pytest.raises(UserError, match=told):
            run.make("data", {}, lock)
    with pytest.raises(ZeroDivisionError):  # a mistake of ours keeps its traceback
        run.make("data", {}, fail(ZeroDivisionError()))


# Kills, disks and other processes

HOLDING = """
import sys, time
from pathlib import Path
from lib.experiment.artifacts import Run
from lib.base.files import write_atomic

def make(folder):
    write_atomic(folder / "begun", "")
    (folder / ".file.12345678.tmp").write_text("half")
    print("up", flush=True)
    time.sleep(float(sys.argv[2]))

run = Run(Path(sys.argv[1]))
with run.lock():
    run.make("data", {}, make)
"""


@pytest.fixture
def holding(run):
    """A process that holds the run, and makes its artifact for so many seconds."""
    started = []

    def start(seconds):
        command = [sys.executable, "-c", HOLDING, str(run.folder), str(seconds)]
        env = python_environment()
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b"up\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_killed_process_leaves_no_lock_and_no_temporary_file(run, holding, monkeypatch):
    process = holding(99)
    monkeypatch.setattr(files, "PATIENCE_S", 0.0)
    with pytest.raises(UserError, match=r"another run is at work here; wait for it$"), run.lock():
        pass
    refused = r"^data-\w+: another process is making it; wait for it$"
    with pytest.raises(UserError, match=refused):  # a notebook opened by hand, say
        run.make("data", {}, lambda folder: pytest.fail("made twice at once"))
    process.kill()
    process.wait()
    write_atomic(run.folder / "figures" / "a.png", "whole")
    (run.folder / "figures" / ".a.png.12345678.tmp").write_text("half")
    with run.lock():
        made = run.make("data", {}, lambda folder: None)
    assert {path.name for path in made.path.iterdir()} == {"begun", MADE}
    assert [path.name for path in (run.folder / "figures").iterdir()] == ["a.png"]


def test_what_another_process_makes_is_waited_for(run, holding):
    holding(0.5)
    made = run.make("data", {}, lambda folder: pytest.fail("made twice"))
    assert {path.name for path in made.path.iterdir()} == {"begun", MADE}
    assert sorted(path.name for path in run.folder.iterdir()) == [".lock", made.path.name]


def test_a_temporary_file_of_an_interrupted_make_goes(run):
    def make(folder):
        (folder / ".file.12345678.tmp").write_text("half")

    assert [path.name for path in run.make("data", {}, make).path.iterdir()] == [MADE]


def test_a_folder_of_an_older_version(run):
    """Records and times that say something else, and an artifact made of other inputs."""
    for name, text in (("old-1", "[]"), ("old-2", "{"), ("old-3", '{"seconds": 3}'), ("old-4", "")):
        write_atomic(run.folder / name / MADE, text)
    (run.folder / f"data-{digest({'name': 'data'})}.partial").mkdir()
    (run.folder / f"data-{digest({'name': 'data'})}.partial" / ".spent").write_text("a while")
    made, calls = count_calls(run, {}, "data")
    assert len(calls) == 1 and made.duration_s < 10
    assert run.durations() == {"data": made.duration_s}


def test_files_of_the_future(run):
    """The clock was set back: nothing goes by the files' times."""
    made, _ = count_calls(run, {"seed": 1})
    for path in (made.path, *made.path.iterdir()):
        os.utime(path, (2**32, 2**32))
    again, calls = count_calls(Run(run.folder), {"seed": 1})
    assert again == made and not calls


def test_a_run_folder_can_be_moved(run, tmp_path):
    count_calls(run, {"seed": 1})
    moved = Run(run.folder.rename(tmp_path / "elsewhere"))
    artifact, calls = count_calls(moved, {"seed": 1})
    assert not calls and artifact.path.is_relative_to(moved.folder)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KB, and a function that gives it other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(place)], capture_output=True).returncode

    if sys.platform != "linux" or os.getuid() or mount("-t", "tmpfs", "-o", "size=64k", "none"):
        pytest.skip("nothing can be mounted here")
    yield place, lambda options: mount("-o", f"remount,{options}")
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_and_one_that_cannot_be_written(small_disk):
    place, remount = small_disk
    run = Run(place / "run")

    def make(folder):
        write_atomic(folder / "first", "x" * 40_000)
        write_atomic(folder / "second", "x" * 40_000)

    with pytest.raises(UserError, match=r"data-\w+: cannot be written \(No space left") as error:
        run.make("data", {}, make)
    assert "\n" not in str(error.value)
    (partial,) = run.folder.iterdir()
    assert [path.name for path in partial.iterdir() if path.name != ".spent"] == ["first"]
    assert remount("size=1m,ro") == 0
    for attempt in (lambda: run.make("data", {}, make), lambda: run.lock().__enter__()):
        with pytest.raises(UserError, match=r"cannot be written \(Read-only file system") as error:
            attempt()
        assert "\n" not in str(error.value)
    assert remount("size=1m,rw") == 0
    made = run.make("data", {}, make)
    assert {path.name for path in made.path.iterdir()} == {"first", "second", MADE}
    assert remount("ro") == 0
    assert Run(place / "run").make("data", {}, make) == made  # what is made can still be read
    assert remount("rw") == 0


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(run):
    run.folder.mkdir()
    run.folder.chmod(0o500)
    for attempt in (lambda: run.make("a", {}, lambda _: None), lambda: run.lock().__enter__()):
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied"):
            attempt()
    run.folder.chmod(0o700)
