"""`make reproduce`: notebooks in order, a failing cell named, and mistakes in one line."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from commands import notebooks, reproduce
from commands.estimate import Plan
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.experiment.artifacts import MADE, Run
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from studies.catalogue import load_profile, open_experiment


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment whose notebooks (two of one cell each) lie in a folder of the test's own."""
    for module in (reproduce, notebooks):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "NOTEBOOKS", ("01_data", "02_training"))
    monkeypatch.setattr(reproduce, "estimate", lambda experiment: Plan("the plan", 60.0))
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    write(tmp_path, "01_data", "open('made', 'a').write(f'{profile} {seed} ')")
    shown = "import pandas, sys\nprint('progress', file=sys.stderr)\n"
    shown += "evil = '<script>hacked()</script>'\nprint('trained', evil)\n"
    write(tmp_path, "02_training", shown + "pandas.DataFrame({evil: [evil]}, index=[evil])")
    made = Experiment(load_profile("smoke"), "smoke", 5, Run(tmp_path / "runs" / "smoke-5"))
    monkeypatch.setattr(reproduce, "open_experiment", lambda profile, seed: made)
    return made


def write(folder, name, source):
    notebook = nbformat.v4.new_notebook()
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    notebook.metadata["kernelspec"] = kernel
    parameters = nbformat.v4.new_code_cell("profile, seed = 'cpu', 0")
    parameters.metadata["tags"] = ["parameters"]
    notebook.cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        parameters,
        nbformat.v4.new_code_cell(source),
    ]
    (folder / "notebooks").mkdir(exist_ok=True)
    # As if it had been run, and shared, by somebody else: an output that is not this run's.
    evil = {"text/html": "<script>document.title = 'planted'</script>"}
    notebook.cells[-1].outputs = [nbformat.v4.new_output("display_data", evil)]
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def test_every_notebook_runs_once_with_the_profile_s_parameters(experiment, tmp_path, capfd):
    assert reproduce.main(["--profile", "smoke", "--seed", "5"]) == 0
    assert (tmp_path / "made").read_text() == "smoke 5 "
    out, error = capfd.readouterr()
    assert error.count("progress") == 1
    places = [out.index(text) for text in ("smoke:", "the plan", "== notebooks/01", "== 02_train")]
    assert places == sorted(places)
    folder = experiment.run.folder
    assert {path.name for path in (folder / "notebooks").iterdir()} == {
        f"{name}.{ending}" for name in reproduce.NOTEBOOKS for ending in ("ipynb", "html")
    }
    html = (folder / "notebooks" / "02_training.html").read_text()
    assert "trained &lt;script&gt;" in html and "<script>hacked()" not in html
    assert all("planted" not in path.read_text() for path in (folder / "notebooks").iterdir())
    assert json.loads((folder / "timings.json").read_text()) == {}  # no artifact was made
    assert "02_training" in out


def test_a_failing_cell_stops_the_run_by_name(experiment, tmp_path, capfd):
    write(tmp_path, "01_data", "raise ValueError('no numbers')")
    assert reproduce.main([]) == 1
    error = capfd.readouterr().err
    assert "error: notebooks/01_data.ipynb, cell " in error and "ValueError: no numbers" in error
    assert (
        "the same command goes on from there" in error
        and "Traceback" not in error.split("error: ")[-1]
    )
    made = experiment.run.folder / "notebooks"
    assert (made / "01_data.ipynb").exists() and not (made / "02_training.ipynb").exists()


def test_durations_are_those_of_the_artifacts_by_stage(experiment, capsys):
    for name, seconds in (("data", 1.0), ("models/S-trunk", 100.0), ("models/S-sft", 20.0)):
        folder = experiment.run.make(name, {}, lambda folder: None).path
        record = json.loads((folder / "made.json").read_text())
        (folder / "made.json").write_text(json.dumps(record | {"duration_s": seconds}))
    reproduce.record_durations(experiment, {"01_data": 2.0, "02_training": 3.0})
    times = json.loads((experiment.run.folder / "timings.json").read_text())
    assert times == {"data": 1.0, "models": 120.0}
    out = capsys.readouterr().out
    assert "02_training" in out and "together" in out and "2 min" in out


def test_a_second_run_of_one_folder_is_refused(experiment, capsys):
    with experiment.run.lock():
        assert reproduce.main([]) == 1
    assert "another run is at work" in capsys.readouterr().err


def test_ctrl_c_says_how_to_go_on(experiment, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(notebooks, "execute", stop)
    assert reproduce.main([]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_user_errors_become_one_line(monkeypatch, capsys):
    def fail(*_):
        raise UserError("mine.toml: data: missing")

    monkeypatch.setattr(reproduce, "open_experiment", fail)
    assert reproduce.main([]) == 1
    assert capsys.readouterr().err == "error: mine.toml: data: missing\n"


def test_an_unknown_profile_at_the_command_line():
    command = [sys.executable, "-m", "commands.reproduce", "--profile", "nosuch"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: PROFILE=nosuch: no such profile; choose one of ")
    assert done.stderr.count("\n") == 1
    assert not list((ROOT / "runs").glob("nosuch*"))


def test_run_folders_can_lie_elsewhere(experiment, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(RUNS_VARIABLE, "")  # what main sets is undone
    seen = []
    monkeypatch.setattr(reproduce, "open_experiment", lambda *given: seen.append(given))
    with pytest.raises(AttributeError):
        reproduce.main(["--runs", str(tmp_path / "disk")])
    assert os.environ[RUNS_VARIABLE] == str(tmp_path / "disk") and seen == [("cpu", 0)]
    assert open_experiment("smoke", 3).run.folder == tmp_path / "disk" / "smoke-3"
    monkeypatch.delenv(RUNS_VARIABLE)
    assert open_experiment("smoke", 3).run.folder == ROOT / "runs" / "smoke-3"
    assert str(reproduce.shown(tmp_path / "runs" / "smoke-3")) == "runs/smoke-3"
    assert reproduce.shown(ROOT / "runs") == ROOT / "runs"  # ROOT is another folder here


def test_an_interrupted_notebook_leaves_the_last_whole_one(experiment, tmp_path, monkeypatch):
    assert reproduce.main([]) == 0
    made = experiment.run.folder / "notebooks"
    before = (made / "01_data.ipynb").read_bytes()

    def stop(source, output, **_):
        Path(output).write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(notebooks.papermill, "execute_notebook", stop)
        assert reproduce.main([]) == 130
    assert (made / "01_data.ipynb").read_bytes() == before
    assert reproduce.main([]) == 0
    assert {path.suffix for path in made.iterdir()} == {".ipynb", ".html"}
    assert len(list(made.iterdir())) == 4


@pytest.mark.parametrize("place", ["papermill.execute_notebook", "files.write_atomic"])
def test_a_full_disk_at_a_notebook_is_one_line(experiment, monkeypatch, capsys, place):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "01_data.ipynb")

    monkeypatch.setattr(f"commands.notebooks.{place}", fail)
    assert reproduce.main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: runs/smoke-5: cannot be written (No space left on device: 01_")


def test_a_model_that_cannot_be_used_is_said_before_any_work(experiment, monkeypatch, capsys):
    no_size = {"hidden_size": 0, "layers": 0, "heads": 0, "trunk_examples": 0}
    small = replace(experiment.profile.models["S"], path="some/name", **no_size)
    experiment.profile = replace(experiment.profile, models={"S": small})

    def start(self, model, parent):
        raise UserError(f"{self.profile.models[model].path}: it cannot be searched")

    monkeypatch.setattr(Experiment, "start", start)
    assert reproduce.main([]) == 1
    assert capsys.readouterr().err == "error: some/name: it cannot be searched\n"
    assert not (experiment.run.folder / "notebooks").exists()
    made = experiment.run.folder / "models" / "S-sft-1" / MADE
    made.parent.mkdir(parents=True)
    made.touch()  # what was trained from it is there: nobody asks for the model again
    assert reproduce.main([]) == 0


class Watched:
    def __init__(self, others):
        self.told = others

    def others(self):
        return self.told


def test_a_run_that_goes_much_slower_than_its_plan_says_so_and_why(monkeypatch, capsys):
    busy, quiet = Watched("other programs kept 1.5 of 2 cores busy"), Watched("")
    assert reproduce.late(600, 1499, busy) == reproduce.late(None, 1e6, busy) == ""
    assert reproduce.late(600, 1500, busy) == (
        "slower than planned: 25 min, where the plan said 10 min; other programs kept 1.5 of 2"
        " cores busy"
    )
    assert "the plan was too low" in reproduce.late(600, 1500, quiet)
    monkeypatch.setattr(reproduce, "GRACE_S", 0.0)
    look = reproduce.slowness(0.0)
    for _ in range(2):
        look(busy)
    assert capsys.readouterr().out.count("slower than planned") == 1
