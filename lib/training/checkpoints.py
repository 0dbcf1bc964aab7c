"""A training's own checkpoints: the newest whole one, which to keep, going on from one.

Takes a transformers Trainer (TRL's are some, too) and the folder that it saves them in. Knows
nothing of models.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from transformers import Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint, rotate_checkpoints

from lib.base import files
from lib.base.errors import UserError, first_line

KEPT = 2


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint in `folder`, if any; one cut off while it was written is removed.

    Trainer writes `trainer_state.json` last, so that a readable one means that the rest is there.
    """
    while folder.exists() and (last := get_last_checkpoint(str(folder))):
        try:
            json.loads(Path(last, TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            return last
        except (OSError, ValueError):
            shutil.rmtree(last)
    return None


class Keeper(TrainerCallback):
    """Keeps the newest checkpoints by their steps, and notes whether a step has begun.

    Trainer's own `save_total_limit` goes by the files' times: with the clock set back it deletes
    each new checkpoint at once.
    """

    begun = False

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.begun = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            rotate_checkpoints(args.output_dir, KEPT)


def resume(trainer: Trainer, folder: Path) -> None:
    """Train from the newest whole checkpoint in `folder` on, or from the start.

    Raises `UserError` where training cannot go on from a checkpoint: another version's, say.
    """
    keeper, newest = Keeper(), last_checkpoint(folder)
    trainer.add_callback(keeper)
    try:
        trainer.train(resume_from_checkpoint=newest)
    except Exception as error:
        if trainer.is_world_process_zero():
            last_checkpoint(folder)  # a full disk: the broken one makes room
        if newest is None or keeper.begun or files.unwritable(error, folder):
            raise
        if isinstance(error, UnpicklingError):  # it is read as tensors alone
            raise UserError(
                f"{folder}: not read: it may hold code; delete it and run again"
            ) from error
        why = first_line(error)
        raise UserError(
            f"{newest}: training cannot go on from it ({why}); delete it and run again"
        ) from error


def remove(folder: Path) -> None:
    """Remove all checkpoints at once: what a killed call leaves of them is no checkpoint."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    if folder.exists():
        os.replace(folder, gone)
        shutil.rmtree(gone)
