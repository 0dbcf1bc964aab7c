"""A training's checkpoints: which are kept, gone on from and refused."""

import json
import os
import time
from pickle import UnpicklingError

import pytest
from transformers import TrainingArguments

from lib.base.errors import UserError
from lib.training import checkpoints
from lib.training.checkpoints import Keeper, last_checkpoint


class Training:
    """In place of a Trainer: takes a checkpoint or refuses it, then trains or fails."""

    def __init__(self, refuses=None, fails=None):
        self.refuses, self.fails, self.callbacks, self.resumed = refuses, fails, [], None

    def add_callback(self, callback):
        self.callbacks.append(callback)

    def is_world_process_zero(self):
        return True

    def train(self, resume_from_checkpoint):
        self.resumed = resume_from_checkpoint
        if self.refuses:
            raise self.refuses
        for callback in self.callbacks:
            callback.on_step_begin(None, None, None)
        if self.fails:
            raise self.fails


class State:
    is_world_process_zero = True


def add(folder, step, hours=0.0):
    """A checkpoint, written by a clock that was so many hours fast."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    os.utime(made, (time.time() + 3600 * hours,) * 2)
    return str(made)


def test_the_newest_by_step_are_kept_whatever_the_clock_says(tmp_path):
    for step, hours in ((5, 3), (10, 2), (15, 1), (20, 0)):
        newest = add(tmp_path, step, hours)
        Keeper().on_save(TrainingArguments(output_dir=str(tmp_path)), State, None)
        assert last_checkpoint(tmp_path) == newest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-15", "checkpoint-20"]


def test_training_goes_on_from_the_newest(tmp_path):
    for steps in ([], [5, 10]):
        found = [add(tmp_path, step) for step in steps]
        training = Training()
        checkpoints.resume(training, tmp_path)
        assert training.resumed == (found[-1] if found else None)


def test_a_checkpoint_of_another_version_is_one_line_and_stays(tmp_path):
    newest = add(tmp_path, 5)
    other = ValueError("loaded state dict has a different number of parameter groups\nmore")
    with pytest.raises(UserError, match="delete it and run again") as error:
        checkpoints.resume(Training(refuses=other), tmp_path)
    assert str(error.value).startswith(f"{newest}: training cannot go on from it (loaded state")
    assert "\n" not in str(error.value) and last_checkpoint(tmp_path) == newest


def test_a_checkpoint_that_may_hold_code_is_not_read(tmp_path):
    add(tmp_path, 5)
    with pytest.raises(UserError, match="not read: it may hold code; delete it and run again"):
        checkpoints.resume(Training(refuses=UnpicklingError("Weights only load failed")), tmp_path)


def test_other_failures_pass_as_they_are(tmp_path):
    with pytest.raises(ValueError):  # nothing to go on from
        checkpoints.resume(Training(refuses=ValueError()), tmp_path)
    add(tmp_path, 5)
    with pytest.raises(ZeroDivisionError):  # it had begun
        checkpoints.resume(Training(fails=ZeroDivisionError()), tmp_path)
    with pytest.raises(OSError):
        checkpoints.resume(Training(refuses=OSError(28, "No space left on device")), tmp_path)


def test_checkpoints_go_all_at_once(tmp_path):
    folder = tmp_path / "checkpoints"
    (tmp_path / "checkpoints.gone" / "checkpoint-5").mkdir(parents=True)  # a killed call's
    add(folder, 5)
    checkpoints.remove(folder)
    checkpoints.remove(folder)
    assert list(tmp_path.iterdir()) == []
