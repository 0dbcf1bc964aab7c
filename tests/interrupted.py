"""Trainings that end as their names say, for tests/test_interruption.py: run by itself.

`python tests/interrupted.py FOLDER KIND...` trains into `FOLDER/KIND`, each kind in a process of
its own, and prints their exit statuses as JSON. Kinds: `step` (killed in the middle), `files`
(between the files of the second checkpoint), `end` (between those of the finished model), `full` (a
disk that takes no file larger than a few bytes any more, from step 7 on).
"""

import json
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

from test_trainer import RECIPE, TOKENIZER, TRACES, tiny

from lib.base.errors import UserError
from lib.experiment.artifacts import Run
from lib.training import trainer

INTERRUPTED = replace(RECIPE, optimizer="adamw", epochs=2, schedule="linear")
INTERRUPTED = trainer.TrainingSpec(INTERRUPTED, seed=0, log_steps=1)


def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def train(folder, progress=None):
    """The whole run: twenty-four steps, a checkpoint every five."""

    def make(place):
        trainer.train(tiny(), TOKENIZER, TRACES, INTERRUPTED, place, progress)

    return Run(folder).make("model", {"seed": 0}, make)


def interrupt(kind, step):
    if kind == "step" and step == 13:
        kill()
    if kind == "files" and step == 7:
        trainer.WeightedTrainer._save_optimizer_and_scheduler = kill
    if kind == "end" and step == 24:
        trainer.files.write_atomic = kill
    if kind == "full" and step == 7:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))


def run(kind, folder):
    """The exit status of one kind. A fork: the imports take longer than all the training."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        train(folder / kind, lambda step, *_: interrupt(kind, step))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    folder, *kinds = sys.argv[1:]
    print(json.dumps({kind: run(kind, Path(folder)) for kind in kinds}))
