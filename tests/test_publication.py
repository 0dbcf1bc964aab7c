"""`make figures` from a run: a finished one is copied, any other is refused, and none is made."""

import json
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from commands import figures
from commands.figures import main
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.evaluation.outcomes import FILE, outcome_table, write_outcomes
from lib.evaluation.results import row, table, write_results
from lib.experiment.artifacts import Artifact, Run
from lib.experiment.experiment import Experiment
from studies.catalogue import load_profile
from studies.report.page import BEGIN, END
from studies.report.publish import MOST_BYTES, NOTEBOOKS, finished_experiment, places_named, ship

ROWS = table([row("table_1", "sft_greedy", model="S", split="seen", accuracy=0.5)])


def change(path, *keys, **values):
    """Change a JSON file's part under these keys; None takes a value away."""
    record = part = json.loads(path.read_text())
    for key in keys:
        part = part[key]
    for name, value in values.items():
        part[name] = value
        if value is None:
            del part[name]
    path.write_text(json.dumps(record))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a README and a finished run of smoke, which is the README's own profile."""
    monkeypatch.setattr(figures, "README_PROFILE", "smoke")
    monkeypatch.setattr(figures, "ship", lambda *_: None)
    monkeypatch.setattr(figures, "draw_all", lambda *_: [])
    links = "".join(f"| [{name}](notebooks/{name}.ipynb) | what |\n" for name in NOTEBOOKS)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n{links}")
    run = tmp_path / "runs" / "smoke-0"
    manifest = {"profile": "smoke", "settings": load_profile("smoke").table()}
    write_results(run / "figures" / "results.json", manifest, ROWS)
    write_outcomes(run / "figures" / FILE, outcome_table([]))
    (run / "timings.json").write_text('{"data": 1.5}')
    (run / "notebooks").mkdir()
    for hour, name in enumerate(NOTEBOOKS):
        output = new_output("stream", name="stdout", text=f"in {run}\n")
        made = new_notebook(cells=[new_code_cell(f"# {name}", outputs=[output])])
        times = {
            f"{at}_time": f"2026-01-02T0{hour}:{m}0:00.5+00:00"
            for at, m in (("start", 1), ("end", 5))
        }
        made.metadata.papermill = {"exception": None, **times}
        nbformat.write(made, run / "notebooks" / f"{name}.ipynb")
    return tmp_path


def contents(root):
    """Every file of the repository but the run's."""
    found = [path for path in root.rglob("*") if path.is_file() and "runs" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def test_a_finished_run_is_copied_and_a_second_time_changes_nothing(root):
    assert main(["--profile", "smoke"], root) == 0
    found = contents(root)
    folder = "figures/smoke"
    shown = {f"{folder}/notebooks/{name}.ipynb" for name in NOTEBOOKS}
    copied = {f"{folder}/{name}" for name in ("README.md", FILE, "results.json", "timings.json")}
    assert set(found) == {"README.md", *copied, *shown}
    link = f"[01_data](notebooks/01_data.ipynb) ([executed]({folder}/notebooks/01_data.ipynb)) | w"
    assert link in found["README.md"].decode()
    assert found["README.md"].decode().count("[executed]") == len(NOTEBOOKS)
    assert all(b"in runs/smoke-0" in found[name] for name in shown)
    assert main(["--profile", "smoke"], root) == 0 and contents(root) == found
    assert main(["--profile", "smoke", "--check"], root) == 0
    (root / "runs" / "smoke-0" / "figures" / FILE).unlink()  # as an earlier version leaves a run
    assert main(["--profile", "smoke"], root) == 0 and not (root / folder / FILE).exists()
    (root / folder / "notebooks" / "05_analysis.ipynb").unlink()
    assert main(["--profile", "smoke", "--check"], root) == 1
    (root / "runs").rename(root / "gone")  # from what is committed, the rest is drawn again
    assert main(["--profile", "smoke"], root) == 0
    assert (root / "README.md").read_text().count("[executed]") == len(NOTEBOOKS) - 1


NOT_FINISHED = {
    "no results": lambda run: (run / "figures" / "results.json").unlink(),
    "no durations": lambda run: (run / "timings.json").unlink(),
    "a notebook missing": lambda run: (run / "notebooks" / "02_training.ipynb").unlink(),
    "a failed cell": lambda run: papermill(run, "03_backtrack_inference", exception=True),
    "still at work": lambda run: papermill(run, "05_analysis", end_time=None),
    # A later run that has not come to the third notebook.
    "begun again": lambda run: papermill(run, "02_training", end_time="2026-01-03T00:00:00+00:00"),
}


def papermill(run, name, **values):
    change(run / "notebooks" / f"{name}.ipynb", "metadata", "papermill", **values)


@pytest.mark.parametrize("case", NOT_FINISHED)
def test_an_unfinished_run_is_refused(root, capsys, case):
    NOT_FINISHED[case](root / "runs" / "smoke-0")
    before = contents(root)
    assert main(["--profile", "smoke"], root) == 1
    error = capsys.readouterr().err
    assert "smoke-0: this run is not finished; run `make reproduce PROFILE=smoke SEED=0`" in error
    assert error.count("\n") == 1 and contents(root) == before


@pytest.mark.parametrize(
    "edit",
    [
        lambda path: change(path, "manifest", "settings", "search", temperature=0.1),
        lambda path: change(path, "manifest", "settings", ratios=None),
        lambda path: change(path, "manifest", "settings", unknown=1),
        lambda path: change(path, "manifest", settings=None),
    ],
)
def test_a_profile_edited_after_its_run_is_refused(root, capsys, edit):
    edit(root / "runs" / "smoke-0" / "figures" / "results.json")
    before = contents(root)
    assert main(["--profile", "smoke"], root) == 1
    error = capsys.readouterr().err
    assert "smoke-0: made with other settings than smoke has now; run `make rep" in error
    assert error.count("\n") == 1 and contents(root) == before


def test_a_setting_that_came_later_is_no_edit(root):
    path = root / "runs" / "smoke-0" / "figures" / "results.json"
    change(path, "manifest", "settings", "search", processes=None)
    change(path, "manifest", "settings", deepspeed=None)
    assert main(["--profile", "smoke"], root) == 0


def test_a_run_at_work_is_refused(root, capsys):
    with Run(root / "runs" / "smoke-0").lock():
        assert main(["--profile", "smoke"], root) == 1
    assert "another run is at work" in capsys.readouterr().err


def test_a_finished_experiment_makes_nothing(root):
    run = Run(root / "runs" / "smoke-0")
    made = finished_experiment(Experiment(load_profile("smoke"), "smoke", 0, run))
    before = sorted(run.folder.rglob("*"))
    with pytest.raises(UserError, match=r"data-\w+: not made yet"):
        made.checkpoint("S", "backtracking")
    assert sorted(run.folder.rglob("*")) == before


def test_only_another_checkpoint_is_shipped(tmp_path):
    made, folder = Artifact(tmp_path / "made", "key", 1.0), tmp_path / "models"
    made.path.mkdir()
    for name, text in (("model.safetensors", "w"), ("config.json", "{}"), ("made.json", "[3]")):
        (made.path / name).write_text(text)
    (made.path / "loss.json").write_text("[]")
    experiment = SimpleNamespace(checkpoint=lambda *_: made)
    ship(experiment, {"profile": "cpu"}, folder)
    names = {"model.safetensors", "config.json", "manifest.json"}
    assert {path.name for path in folder.iterdir()} == names
    recorded = (folder / "manifest.json").read_text()
    assert json.loads(recorded) == {"profile": "cpu", "checkpoint": [3]}
    ship(experiment, {"profile": "another"}, folder)
    assert (folder / "manifest.json").read_text() == recorded
    (made.path / "model.safetensors").write_text("v")
    ship(experiment, {"profile": "another"}, folder)
    assert (folder / "model.safetensors").read_text() == "v"
    assert json.loads((folder / "manifest.json").read_text())["profile"] == "another"


def test_the_committed_notebooks_name_no_machine():
    for path in ROOT.glob("figures/*/notebooks/*.ipynb"):
        shown = nbformat.read(path, as_version=4)
        assert not list(places_named(shown, ROOT)), path
        assert path.stat().st_size <= MOST_BYTES, path
        assert set(shown.metadata) == {"kernelspec", "language_info"}, path
