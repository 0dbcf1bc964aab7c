"""Kill -9 at every point where it could hurt, and a full disk: nothing is lost or wrong."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from interrupted import train
from transformers import AutoModelForCausalLM

from lib.experiment.artifacts import MADE
from lib.training.checkpoints import last_checkpoint
from lib.training.trainer import read_curve


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return train(tmp_path_factory.mktemp("unbroken"))


def same(made, unbroken):
    pd.testing.assert_frame_equal(read_curve(made.path), read_curve(unbroken.path))
    ours, theirs = (
        AutoModelForCausalLM.from_pretrained(artifact.path).state_dict()
        for artifact in (made, unbroken)
    )
    names = {path.name for path in made.path.iterdir()}
    assert "checkpoints" not in names and names == {path.name for path in unbroken.path.iterdir()}
    return all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of all interrupted trainings, their exit statuses and what they said."""
    folder = tmp_path_factory.mktemp("interrupted")
    command = [sys.executable, str(Path(__file__).parent / "interrupted.py"), str(folder)]
    kinds = ["step", "files", "end", *(["full"] if sys.platform == "linux" else [])]
    done = subprocess.run(command + kinds, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind, last", [("step", 10), ("files", 5), ("end", 24)])
def test_killed_and_run_again_it_ends_the_same(interrupted, unbroken, kind, last, tmp_path):
    folder = (interrupted[0] / kind).rename(tmp_path / "moved")  # a run folder may be
    assert interrupted[1][kind] == -signal.SIGKILL
    (partial,) = folder.glob("*.partial")
    checkpoints = partial / "checkpoints"
    newest = last_checkpoint(checkpoints)
    assert newest.endswith(f"checkpoint-{last}")
    steps = []
    made = train(folder, lambda step, *_: steps.append(step))
    assert same(made, unbroken) and steps == list(range(last + 1, 25))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits a file's size as Linux does")
def test_a_full_disk_is_one_line_and_leaves_the_last_good_checkpoint(interrupted, unbroken):
    folder, statuses, said = interrupted[0] / "full", *interrupted[1:]
    assert statuses["full"] == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    (partial,) = folder.glob("*.partial")
    assert f"{str(partial).removesuffix('.partial')}: cannot be written (" in line
    assert "Traceback" not in said
    assert [path.name for path in (partial / "checkpoints").iterdir()] == ["checkpoint-5"]
    steps = []
    assert same(train(folder, lambda step, *_: steps.append(step)), unbroken) and steps[0] == 6


def test_killed_while_it_tidies_up_it_trains_nothing_again(tmp_path, unbroken):
    """The finished model's own files are whole; of its checkpoints a few files are left."""
    made = shutil.copytree(unbroken.path, tmp_path / f"{unbroken.path.name}.partial")
    left = made / "checkpoints" / "checkpoint-20"
    left.mkdir(parents=True)
    (left / "trainer_state.json").write_text("{}")
    (made / MADE).unlink()
    assert same(train(tmp_path, lambda *_: pytest.fail("trained again")), unbroken)


def test_killed_between_two_stages_nothing_is_made_again(tmp_path, unbroken):
    """Its record is written, and the folder has not got its final name yet."""
    shutil.copytree(unbroken.path, tmp_path / f"{unbroken.path.name}.partial")
    assert same(train(tmp_path, lambda *_: pytest.fail("trained again")), unbroken)
