"""Training with DeepSpeed: several processes on one machine or many, by DeepSpeed's own launcher.

Takes what `lib.training.trainer.train` takes, as functions, and a profile's `[deepspeed]` section;
leaves the same folder. It writes a job (recipe, start checkpoint, tokenized traces) that every
process reads (lib/training/deepspeed_worker.py), passes progress on while they run, and makes one
error of a failure. Knows nothing of experiments. Source: the paper's appendix (PyTorch, DeepSpeed
ZeRO stage 2).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from lib.base import files, hardware
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.base.processes import GRANTED, end_group, free_port, python_environment
from lib.models.tokenizer import TokenizedTraces, save_tokenizer
from lib.profiles.settings import DeepSpeedSettings, check
from lib.training.checkpoints import last_checkpoint
from lib.training.trainer import TrainingSpec, finished

#: What a training process says to this one begins with this; multi-node launchers put a host first.
MARK = "@trainjob "
EXIT_CODE = re.compile(r"exits with return code = (-?\d+)")
LAST_LINES = 15
LOST_PEER = ("Connection reset by peer", "Connection closed by peer", "Broken pipe", "DistBackend")
PATIENCE_S = 10


def describe(settings: DeepSpeedSettings | None) -> pd.DataFrame:
    """How a profile trains in several processes, as a table; empty where it does not."""
    if settings is None:
        return pd.DataFrame(columns=["setting"])
    zero = settings.configuration().get("zero_optimization", {})
    found = {
        "processes": settings.processes(),
        "processes on a machine": settings.devices,
        "hostfile": settings.hostfile or "none: this machine alone",
        "ZeRO stage": zero.get("stage", 0),
        "on": "GPUs (nccl)" if hardware.device() == "cuda" else "processors (gloo)",
        "configuration": f"profiles/{settings.config}",
    }
    return pd.DataFrame({"setting": found})


def train_in_processes(
    start: Callable[[], tuple],
    encode: Callable[[Any], TokenizedTraces],
    spec: TrainingSpec,
    folder: Path,
    settings: DeepSpeedSettings,
    progress: Callable[[int, int, float], None] | None = None,
    news: Callable[[str], object] | None = None,
) -> None:
    """Train as `lib.training.trainer.train` does, in several processes, and resume as it does.

    `start()` gives model and tokenizer, `encode(tokenizer)` the traces. `news` is told what happens
    before the first step. Raises `UserError` with the last lines of the process that
    failed first. An interrupt ends all processes.
    """
    check(settings, spec.recipe)
    if finished(folder):
        return
    there = torch.cuda.device_count()
    if not settings.hostfile and hardware.device() == "cuda" and settings.devices > there:
        raise UserError(f"[deepspeed] devices = {settings.devices}: {there} GPUs can be seen here")
    options = {
        **asdict(spec),
        "processes": settings.processes(),
        "deepspeed": settings.configuration(),
    }
    job = folder / "job"
    prepare(job, start, encode, options)
    last_checkpoint(folder / "checkpoints")  # a broken one goes before any process can read it
    run(job, settings, progress, news)
    shutil.rmtree(job, ignore_errors=True)


def prepare(
    job: Path, start: Callable[[], tuple], encode: Callable[[Any], TokenizedTraces], options: dict
) -> None:
    """Write a job's folder, if an interrupted call has not; `job.json` comes last.

    Checkpoints of another number of processes are dropped: each holds its share of the optimizer.
    """
    record = job / "job.json"
    if record.exists():
        if files.read_json(record) == json.loads(json.dumps(options)):
            return
        shutil.rmtree(job.parent / "checkpoints", ignore_errors=True)
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir(parents=True)
    model, tokenizer = start()
    traces = encode(tokenizer)
    if not len(traces):
        raise UserError("training: no traces; raise the profile's example counts")
    model.save_pretrained(job / "start")
    save_tokenizer(tokenizer, job / "start")
    np.savez(job / "traces.npz", ids=traces.ids, codes=traces.codes, starts=traces.starts)
    files.write_atomic(record, json.dumps(options))


def command(job: Path, settings: DeepSpeedSettings) -> list[str]:
    """DeepSpeed's launcher with its arguments."""
    found = [sys.executable, "-m", "deepspeed.launcher.runner"]
    found += ["--num_accelerators", str(settings.devices)]
    if settings.hostfile:
        found += ["--hostfile", str(Path(settings.hostfile).resolve())]
    else:
        found += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
    return [
        *found,
        "--no_local_rank",
        "--module",
        "lib.training.deepspeed_worker",
        str(job.resolve()),
    ]


def environment(settings: DeepSpeedSettings) -> dict[str, str]:
    """The launcher's environment: where `lib` is, and, without GPUs, DeepSpeed on the CPU."""
    threads = str(max(1, hardware.available_cores() // settings.devices))
    # A user's own number of threads holds.
    added = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    if hardware.device() == "cpu":
        added["DS_ACCELERATOR"] = "cpu"
        if not settings.hostfile and Path("/sys/class/net/lo").exists():
            added["GLOO_SOCKET_IFNAME"] = "lo"  # nobody else need reach the processes
    found = python_environment() | added
    if not settings.hostfile:
        found["TRAINJOB_WATCH"] = "1"
        # DeepSpeed's launcher would take GPUs 0 and 1 whatever is here; each process takes it up.
        if granted := found.pop("CUDA_VISIBLE_DEVICES", ""):
            found[GRANTED] = granted
    return found


def run(
    job: Path,
    settings: DeepSpeedSettings,
    progress: Callable[[int, int, float], None] | None = None,
    news: Callable[[str], object] | None = None,
) -> None:
    """Launch a job's processes and wait for them; see `train_in_processes`."""
    events: list[dict[str, Any]] = []
    tail: deque[str] = deque(maxlen=LAST_LINES)
    exit_code = 0
    for old in job.glob("rank*.log"):
        old.unlink()
    with launched(command(job, settings), environment(settings)) as process:
        for line in process.stdout:
            text = line.rstrip()
            if MARK in text:
                event = json.loads(text.split(MARK, 1)[1])
                events.append(event)
                if "step" in event and progress:
                    progress(event["step"], event["last"], event["loss"])
                if "news" in event and news:
                    news(event["news"])
            elif text:
                tail.append(text)
            if found := EXIT_CODE.search(text):
                exit_code = int(found[1])
        status = process.wait()
    failures = [event for event in events if "error" in event]
    if status or failures:
        raise UserError(*explain(job, settings, failures, exit_code or status, list(tail)))


@contextmanager
def launched(arguments: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """A process and all its children, none of which outlives the block.

    Its standard input stays open for as long as this process lives:
    lib/training/deepspeed_worker.py watches it.
    """
    process = subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        yield process
    finally:
        end_group(process, PATIENCE_S)
        process.stdin.close()
        process.stdout.close()


def lost_peer(failure: dict[str, Any]) -> bool:
    """Whether a process failed only because another one was gone."""
    return any(sign in failure["error"] for sign in LOST_PEER)


def explain(
    job: Path,
    settings: DeepSpeedSettings,
    failures: list[dict[str, Any]],
    exit_code: int,
    tail: list[str],
) -> list[str]:
    """What failed: a process's own error, else the signal that ended it; then the last lines."""
    silent = set(range(settings.processes())) - {event["rank"] for event in failures}
    if silent and (exit_code < 0 or (failures and all(map(lost_peer, failures)))):
        # The launcher tells the exit status of whichever process it looks at first.
        ended = f"by {signal.Signals(-exit_code).name}" if exit_code < 0 else "without an error"
        which = f"process {silent.pop()}" if len(silent) == 1 else "a process"
        found, lines = f"{which} was ended {ended}: killed, or too little memory?", tail
    elif failures:
        first = min(failures, key=lambda event: event["time"])
        found, lines = f"process {first['rank']}: {first['error']}", first["lines"]
    else:
        found, lines = f"the launcher ended with status {exit_code}", tail
    return [f"training with DeepSpeed failed: {found}", *lines[-LAST_LINES:]]
