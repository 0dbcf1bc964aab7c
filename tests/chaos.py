"""`make chaos`: runs killed at random moments and gone on with, compared with an unbroken one.

Takes a profile; makes an unbroken run, and another that is ended by SIGINT, SIGTERM and SIGKILL at
moments spread over all stages, each time started again. Then both must hold the same files, whole,
and the same results.json. Leaves a report (`report.json`) beside the two. Knows nothing of stages:
it learns them, and when each artifact was begun, from the records of the unbroken run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from differences import broken_files, problems

from commands.estimate import format_duration
from lib.base import files
from lib.base.errors import UserError, exit_status
from lib.base.files import ROOT
from lib.experiment.artifacts import MADE
from studies.catalogue import load_profile

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
#: Longer, and a run that was asked to end counts as one that does not.
PATIENCE_S = 60.0
LONGEST_WAIT_S = 30.0
POLL_S = 0.005


@dataclass(frozen=True)
class Moment:
    """When to kill: `wait_s` seconds after `path` (in the run folder) is there or being made."""

    at_s: float  # of the unbroken run: the order in which moments come
    stage: str
    path: str
    wait_s: float  # at most


@dataclass
class Kill:
    """One kill: what was being made, and how the run ended."""

    stage: str
    signal: str
    at_s: float  # after the run's start
    making: list[str]
    status: int | None  # None: it did not end, and was ended by force
    ended_s: float
    message: str


def moments(folder: Path, start: float) -> list[Moment]:
    """Every moment of a finished run that was begun at `start` (seconds since the epoch), in order.

    An artifact's is where it was begun, by its record; the start, notebooks and figures have some.
    """
    found = []
    for record in folder.rglob(MADE):
        took = float(files.read_json(record)["duration_s"])
        path = str(record.parent.relative_to(folder))
        stage = path.split("/")[0].split("-")[0]
        found.append(Moment(record.stat().st_mtime - took, stage, path, took))
    for pattern in ("notebooks/*.ipynb", "figures/*"):
        for path in folder.glob(pattern):
            where = path.relative_to(folder)
            found.append(Moment(path.stat().st_mtime, where.parts[0], str(where), 0.5))
    first = min(moment.at_s for moment in found)
    found += [Moment(start, "start", "", max(0.0, first - start))] * 3
    return sorted(found, key=lambda moment: (moment.at_s, moment.path))


def chosen(found: Sequence[Moment], kills: int, draw: random.Random) -> list[Moment]:
    """`kills` moments of all stages alike, as far as these have as many; in order."""
    stages: dict[str, list[Moment]] = {}
    for moment in found:
        stages.setdefault(moment.stage, []).append(moment)
    for stage in stages.values():
        draw.shuffle(stage)
    taken: list[Moment] = []
    while len(taken) < kills and any(stages.values()):
        taken += [stage.pop() for stage in stages.values() if stage]
    # Of the last round a few are too many: those of the stages met last.
    return sorted(taken[:kills], key=lambda moment: moment.at_s)


def command(profile: str, seed: int, runs: Path) -> list[str]:
    """The run's command."""
    given = ["--profile", profile, "--seed", str(seed), "--runs", str(runs)]
    return [sys.executable, "-m", "commands.reproduce", *given]


def finish(arguments: list[str], log: Path) -> float:
    """Run to the end -> its seconds; `UserError` with the last line where it fails."""
    start = time.monotonic()
    with open(log, "ab") as output:
        done = subprocess.run(
            arguments, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    demand_success(done.returncode, log)
    return time.monotonic() - start


def demand_success(status: int, log: Path) -> None:
    """`UserError` with the last line of a run that failed."""
    if status:
        raise UserError(f"a run ended with status {status}: {last_line(log)} (see {log})")


def last_line(log: Path) -> str:
    """The last line that is not empty."""
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def kill(
    arguments: list[str], folder: Path, log: Path, moment: Moment, number: int, wait_s: float
) -> Kill | None:
    """Start a run and kill its process group at a moment; None where it was finished before.

    `UserError` where it failed.
    """

    def is_due() -> bool:
        path = folder / moment.path
        return not moment.path or path.exists() or path.with_name(f"{path.name}.partial").exists()

    # Where a shell in the background has it ignored, the run would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.monotonic()
    with open(log, "ab") as output:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        due = None
        while due is None or time.monotonic() < due:
            if process.poll() is not None:
                demand_success(process.returncode, log)
                return None
            if due is None and is_due():
                due = time.monotonic() + wait_s
            time.sleep(POLL_S)
        making = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.partial"))
        children = psutil.Process(process.pid).children(recursive=True)
        sent = time.monotonic()
        os.killpg(process.pid, number)
        try:
            status = process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
        # A kernel has a group of its own, and ends when it misses its parent: a second later.
        if left := psutil.wait_procs(children, PATIENCE_S)[1]:
            status = None
            for child in left:
                child.kill()
    name, ended = signal.Signals(number).name, round(time.monotonic() - sent, 2)
    at = round(sent - start, 1)
    return Kill(moment.stage, name, at, making, status, ended, last_line(log))


def torment(profile: str, seed: int, kills: int, draw: int, place: Path, again: bool) -> dict:
    """The whole trial in the folder `place` -> the report; see the module."""
    name, log = load_profile(profile).name, place / "log.txt"
    report: dict = {"profile": name, "seed": seed, "draw": draw}
    runs = {kind: place / kind for kind in ("unbroken", "again", "broken")}
    for old in runs.values():
        shutil.rmtree(old, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    run = {kind: folder / f"{name}-{seed}" for kind, folder in runs.items()}

    def tell(text: str) -> None:
        print(text, flush=True)

    start = time.time()
    report["unbroken_s"] = round(finish(command(profile, seed, runs["unbroken"]), log), 1)
    tell(f"unbroken: {format_duration(report['unbroken_s'])}")
    if again:
        report["again_s"] = round(finish(command(profile, seed, runs["again"]), log), 1)
        report["again"] = problems(run["unbroken"], run["again"])
        tell(f"the same once more: {len(report['again'])} differences")
    found, chance = moments(run["unbroken"], start), random.Random(draw)
    numbers = [SIGNALS[i % len(SIGNALS)] for i in range(kills)]
    chance.shuffle(numbers)
    begun, report["kills"], report["problems"] = time.monotonic(), [], []
    arguments = command(profile, seed, runs["broken"])
    try:
        for moment, number in zip(chosen(found, kills, chance), numbers, strict=False):
            wait_s = chance.uniform(0, min(moment.wait_s, LONGEST_WAIT_S))
            made = kill(arguments, run["broken"], log, moment, number, wait_s)
            if made is None:
                tell(f"  - finished before {moment.path} could be met")
                continue
            report["kills"].append(asdict(made))
            if made.status is None:
                report["problems"].append(f"not ended by {made.signal} in {PATIENCE_S:.0f} s")
            report["problems"] += [f"after a kill: {path}" for path in broken_files(run["broken"])]
            making = ", ".join(made.making) or "nothing"
            tell(f"{len(report['kills']):3} {made.signal:7} {made.stage:13} {making}")
        finish(arguments, log)
        report["problems"] += problems(run["unbroken"], run["broken"])
    except UserError as error:
        report["problems"].append(str(error))
    report["broken_s"] = round(time.monotonic() - begun, 1)
    files.write_atomic(place / "report.json", json.dumps(report, indent=1))
    return report


def summary(report: dict) -> str:
    """The report in a few lines."""
    kills = report["kills"]
    by_signal = {each.name: sum(kill["signal"] == each.name for kill in kills) for each in SIGNALS}
    stages = sorted({kill["stage"] for kill in kills})
    took = [format_duration(report[key]) for key in ("unbroken_s", "broken_s")]
    lines = [
        f"{len(kills)} kills ({', '.join(f'{n} {name}' for name, n in by_signal.items())})"
        f" in {len(stages)} stages: {', '.join(stages)}",
        f"unbroken {took[0]}; with all kills {took[1]}",
    ]
    lines += [f"PROBLEM: {text}" for text in report["problems"][:20]]
    if not report["problems"]:
        lines.append("every file whole and the same, nothing left over, results.json identical")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python tests/chaos.py", description=__doc__)
    parser.add_argument("--profile", default="smoke", help="name of a profile, or a TOML file")
    parser.add_argument("--seed", type=int, default=0, help="the runs'")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--draw", type=int, default=0, help="the seed of the moments")
    parser.add_argument(
        "--again", action="store_true", help="two unbroken runs: are they the same?"
    )
    parser.add_argument("--place", default=str(ROOT / "runs" / "chaos"), help="emptied first")
    options = parser.parse_args(arguments)

    def work() -> None:
        place = Path(options.place).expanduser().resolve()
        given = (options.profile, options.seed, options.kills, options.draw, place, options.again)
        report = torment(*given)
        print(summary(report))
        if report["problems"] or report.get("again"):
            raise UserError(f"{place / 'report.json'}: not the same as unbroken")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
