"""One process of a training that deepspeed.py launched: `python -m ...deepspeed_worker JOB_FOLDER`.

Takes a job's folder; trains with `lib.training.trainer.train` and leaves the checkpoint in the
folder above. Speaks to the launching process in lines of JSON on standard output: progress, or why
it failed; all else that it prints goes to `rank<n>.log` in the job's folder. Knows nothing of
experiments.
"""

from __future__ import annotations

import faulthandler
import fcntl
import json
import os
import shutil
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import torch
from torch.utils.cpp_extension import get_default_build_root

from lib.base import files, hardware
from lib.base.errors import UserError
from lib.base.processes import end_with_parent
from lib.models.llama import load_model, load_tokenizer
from lib.models.tokenizer import TokenizedTraces
from lib.profiles.recipe import Recipe
from lib.training.deepspeed import LAST_LINES, MARK
from lib.training.trainer import TrainingSpec, train


def work(job: Path, rank: int, say) -> None:
    """Train this process's share."""
    build_operator(rank, say)
    options = files.read_json(job / "job.json")
    with np.load(job / "traces.npz", allow_pickle=False) as arrays:
        traces = TokenizedTraces(arrays["ids"], arrays["codes"], arrays["starts"])
    train(
        load_model(job / "start"),
        load_tokenizer(job / "start"),
        traces,
        TrainingSpec(
            Recipe(**options["recipe"]),
            options["seed"],
            options["log_steps"],
            options["precision"],
        ),
        job.parent,
        (lambda step, last, loss: say(step=step, last=last, loss=loss)) if rank == 0 else None,
        options["deepspeed"],
    )


def build_operator(rank: int, say) -> None:
    """Compile DeepSpeed's shared-memory operator for processors, once on a machine.

    A process that is killed while it compiles leaves torch's lock, for which every later one would
    wait without end: whoever holds ours may remove it.
    """
    if os.environ.get("DS_ACCELERATOR") != "cpu":
        return
    from deepspeed.accelerator import get_accelerator

    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    root.mkdir(parents=True, exist_ok=True)
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    with (root / ".self-backtracking.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in root.glob(f"**/{builder.name}/lock"):
            left.unlink()
        is_built = any(root.glob(f"**/{builder.name}/*.so"))
        if not is_built and not shutil.which(os.environ.get("CXX", "c++")):
            raise UserError("DeepSpeed without a GPU needs a C++ compiler: install g++")
        if rank == 0 and not is_built:
            say(news="compiling DeepSpeed's operator: a minute or two, once")
        hardware.quote_torch_folder()
        builder.load()


def main(arguments: list[str] | None = None) -> None:
    """Run and exit; the exit status is 1 where the training failed."""
    (folder,) = sys.argv[1:] if arguments is None else arguments
    job, rank = Path(folder), int(os.environ["RANK"])
    said = os.fdopen(os.dup(1), "w")
    log = os.open(job / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable()

    def say(**event) -> None:
        said.write(f"{MARK}{json.dumps({'rank': rank, 'time': time.time(), **event})}\n")
        said.flush()

    if os.environ.get("TRAINJOB_WATCH"):
        threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        work(job, rank, say)
    except BaseException as error:
        traceback.print_exc()
        lines = [] if isinstance(error, UserError) else traceback.format_exc().splitlines()
        message = files.unwritable(error, job.parent) or str(error).strip() or type(error).__name__
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        say(error=kind + message.splitlines()[0], lines=lines[-LAST_LINES:])
        os._exit(1)  # peers may wait for this process, and an orderly exit for them
    if torch.distributed.is_initialized():  # left to itself it aborts at exit
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
