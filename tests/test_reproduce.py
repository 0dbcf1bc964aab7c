"""`make reproduce`: notebooks in order, a failing cell named, and mistakes in one line."""

import json
import subprocess
import sys

import nbformat
import pytest

from lib import reproduce
from lib.errors import UserError
from lib.experiment import Experiment
from lib.profiles import ROOT, load_profile
from lib.store import Run


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment whose notebooks (two of one cell each) lie in a folder of the test's own."""
    monkeypatch.setattr(reproduce, "ROOT", tmp_path)
    monkeypatch.setattr(reproduce, "NOTEBOOKS", ("01_data", "02_training"))
    monkeypatch.setattr(reproduce, "estimate", lambda experiment: "the plan")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    write(tmp_path, "01_data", "open('made', 'a').write(f'{profile} {seed} ')")
    write(tmp_path, "02_training", "print('trained')")
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
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")


def test_every_notebook_runs_once_with_the_profile_s_parameters(experiment, tmp_path, capfd):
    assert reproduce.main(["--profile", "smoke", "--seed", "5"]) == 0
    assert (tmp_path / "made").read_text() == "smoke 5 "
    out = capfd.readouterr().out
    places = [out.index(text) for text in ("smoke:", "the plan", "== notebooks/01", "== 02_train")]
    assert places == sorted(places)
    folder = experiment.run.folder
    assert {path.name for path in (folder / "notebooks").iterdir()} == {
        f"{name}.{ending}" for name in reproduce.NOTEBOOKS for ending in ("ipynb", "html")
    }
    assert "trained" in (folder / "notebooks" / "02_training.html").read_text()
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
    notebooks = experiment.run.folder / "notebooks"
    assert (notebooks / "01_data.ipynb").exists() and not (notebooks / "02_training.ipynb").exists()


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

    monkeypatch.setattr(reproduce, "run_notebook", stop)
    assert reproduce.main([]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_user_errors_become_one_line(monkeypatch, capsys):
    def fail(*_):
        raise UserError("mine.toml: data: missing")

    monkeypatch.setattr(reproduce, "open_experiment", fail)
    assert reproduce.main([]) == 1
    assert capsys.readouterr().err == "error: mine.toml: data: missing\n"


def test_an_unknown_profile_at_the_command_line():
    command = [sys.executable, "-m", "lib.reproduce", "--profile", "nosuch"]
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
