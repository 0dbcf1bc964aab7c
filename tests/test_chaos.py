"""The kills of `make chaos`: where they fall, what they end, and what is noticed after them."""

import json
import random
import signal
import sys

import chaos
import numpy as np
import pandas as pd
import pytest
from chaos import Moment, chosen, kill, moments
from differences import broken_files, different_rows, problems
from safetensors.numpy import save_file

from lib.base.errors import UserError
from lib.base.files import write_atomic, write_parquet
from lib.evaluation.results import row, write_results
from lib.experiment.artifacts import MADE, Run


def finished(folder, accuracy=0.5):
    """A run folder such as `make reproduce` leaves."""
    run = Run(folder)

    def make(place):
        write_parquet(place / "problems.parquet", pd.DataFrame({"target": [24]}))
        save_file({"weight": np.zeros(3, np.float32)}, place / "model.safetensors")
        write_atomic(place / "trees.jsonl", "{}\n[]\n")

    for name in ("data", "models/S-sft", "models/S-dpo", "search/S-sft-N4"):
        run.make(name, {}, make)
    rows = [row("table_1", "sft_greedy", accuracy=a) for a in (accuracy, 0.25)]
    write_results(folder / "figures" / "results.json", {"seed": 0}, rows)
    write_atomic(folder / "notebooks" / "01_data.html", "took 3 s")
    return folder


def test_moments_are_those_of_the_unbroken_run(tmp_path):
    folder = finished(tmp_path / "run")
    record = next(folder.glob("models/S-sft-*")) / MADE
    record.write_text(json.dumps(json.loads(record.read_text()) | {"duration_s": 1000}))
    found = moments(folder, record.stat().st_mtime - 1060)
    stages = [moment.stage for moment in found]
    assert stages[:4] == ["start"] * 3 + ["models"]  # the longest was begun first
    assert sorted(set(stages)) == ["data", "figures", "models", "search", "start"]
    assert found[3].wait_s == 1000 and found[0].wait_s == pytest.approx(60, abs=1)
    assert (folder / found[3].path / MADE).exists()


def test_kills_are_spread_over_all_stages_in_order_and_by_their_seed():
    found = [Moment(float(i), "search" if i else "data", f"{i}", 1.0) for i in range(50)]
    found += [Moment(50.0 + i, "figures", f"f{i}", 1.0) for i in range(2)]
    taken = chosen(found, 9, random.Random(1))
    assert [m.at_s for m in taken] == sorted(m.at_s for m in taken) and len(set(taken)) == 9
    assert [sum(m.stage == s for m in taken) for s in ("data", "search", "figures")] == [1, 6, 2]
    assert taken == chosen(found, 9, random.Random(1)) != chosen(found, 9, random.Random(2))
    assert len(chosen(found, 99, random.Random(1))) == 52


@pytest.mark.parametrize("number", chaos.SIGNALS)
def test_a_run_is_killed_while_it_makes_what_it_should(tmp_path, number):
    script = f"import os, time; os.makedirs('{tmp_path}/run/data-1.partial'); time.sleep(99)"
    arguments = [sys.executable, "-c", script]
    moment = Moment(0.0, "data", "data-1", 1.0)
    found = kill(arguments, tmp_path / "run", tmp_path / "log", moment, number, 0.0)
    assert found.making == ["data-1.partial"] and found.signal == signal.Signals(number).name
    assert found.status == -number


def test_a_run_that_ends_before_or_does_not_end_is_told(tmp_path, monkeypatch):
    moment, log = Moment(0.0, "data", "data-1", 1.0), tmp_path / "log"
    arguments = [sys.executable, "-c", "raise SystemExit('error: no numbers')"]
    assert kill([sys.executable, "-c", ""], tmp_path, log, moment, signal.SIGINT, 0.0) is None
    for run in (
        lambda: kill(arguments, tmp_path, log, moment, signal.SIGINT, 0.0),
        lambda: chaos.finish(arguments, log),
    ):
        with pytest.raises(UserError, match="status 1: error: no numbers"):
            run()
    monkeypatch.setattr(chaos, "PATIENCE_S", 0.5)
    script = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"os.makedirs('{tmp_path}/data-1'); time.sleep(99)"
    )
    arguments = [sys.executable, "-c", script]
    assert kill(arguments, tmp_path, log, moment, signal.SIGTERM, 0.0).status is None


def test_equal_runs_have_no_problems(tmp_path):
    first, second = (finished(tmp_path / name) for name in "ab")
    write_atomic(second / "notebooks" / "01_data.html", "took 4 s")
    assert problems(first, second) == []


def test_every_difference_is_named(tmp_path):
    first, second = finished(tmp_path / "a"), finished(tmp_path / "b", accuracy=0.75)
    data, dpo, sft = (
        next(second.glob(f"{name}-*")) for name in ("data", "models/S-dpo", "models/S-sft")
    )
    whole = (dpo / "model.safetensors").read_bytes()
    (dpo / "model.safetensors").write_bytes(whole[:-4])
    (data / "problems.parquet").unlink()
    (data / "trees.jsonl").write_text('{}\n{"cut')
    (sft / ".spent").write_text("3")
    (second / "figures" / ".results.json.ab.tmp").write_text("")
    found = problems(first, second)
    for start, path in (
        ("does not open", dpo / "model.safetensors"),
        ("does not open", data / "trees.jsonl"),
        ("left over", sft / ".spent"),
        ("left over", second / "figures" / ".results.json.ab.tmp"),
        ("only after kills", sft / ".spent"),
        ("missing", data / "problems.parquet"),
        ("differs", dpo / "model.safetensors"),
    ):
        assert any(f"{start}: {path.relative_to(second)}" in line for line in found), (start, path)
    rows = different_rows(*(run / "figures" / "results.json" for run in (first, second)))
    assert len(rows) == 2 and "0.5" in rows[0] and "0.75" in rows[1]
    assert set(rows) <= set(found)


def test_what_is_being_made_need_not_be_whole(tmp_path):
    folder = tmp_path / "data-1.partial"
    folder.mkdir()
    (folder / "problems.parquet").write_text("PAR1")
    assert broken_files(tmp_path) == []


def test_the_whole_trial(tmp_path, monkeypatch, capsys):
    """Its runs replaced: one that makes three artifacts, slowly, and goes on where it was."""
    script = """
import sys, time
from pathlib import Path
from lib.evaluation.results import row, write_results
from lib.experiment.artifacts import Run
from lib.base.files import write_atomic

run = Run(Path(sys.argv[1]) / "smoke-0")
with run.lock():
    for name in ("data", "models/S", "search/S"):
        run.make(name, {}, lambda folder: (time.sleep(0.3), write_atomic(folder / "a.json", "1")))
write_results(run.folder / "figures" / "results.json", {}, [row("table_1", "sft", accuracy=0.5)])
"""
    monkeypatch.setattr(
        chaos, "command", lambda profile, seed, runs: [sys.executable, "-c", script, str(runs)]
    )
    options = ["--kills", "3", "--again", "--place", str(tmp_path)]
    assert chaos.main(options) == 0, capsys.readouterr()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["problems"] == report["again"] == []
    assert {each["signal"] for each in report["kills"]} == {"SIGINT", "SIGTERM", "SIGKILL"}
    assert "nothing left over, results.json identical" in capsys.readouterr().out
