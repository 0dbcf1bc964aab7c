"""One search over several processes: takes what `search_to_file` takes, with a checkpoint in place
of the sampler; leaves the same file. Knows nothing of tasks.

A search's chunks have random streams of their own, so they can be dealt to any number of processes.
Each chunk goes into a file of its own, and the files are merged: a killed search goes on with the
chunks that are left. A chunk's batches depend on the chunk alone: its trees do not depend on how
many processes there were (as long as each computes with as many threads).

On a processor chunks are dealt to loky's processes, which stay from search to search, one thread
each; on GPUs torch's launcher starts a process for each (`python -m lib.search.parallel FOLDER`),
and process k of n does chunks k, k + n, ....
"""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from joblib.externals.loky import ProcessPoolExecutor, process_executor

from lib.base import hardware
from lib.base.errors import UserError
from lib.base.files import ROOT, read_json, write_atomic
from lib.base.processes import end_group, end_with_parent, free_port, python_environment
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import SamplerSource, rows_of_chunk
from lib.search.search import chunk_count, iter_search
from lib.search.search_file import file_header, is_written

LAST_LINES = 12
JOB = "job.json"
MOST_PROCESSES = 16  # each holds torch and a model: about half a gigabyte
#: Set where the launching process holds standard input open for as long as it lives.
WATCH = "SEARCH_WATCH"


@dataclass(frozen=True)
class Job:
    """What every process must know."""

    source: SamplerSource
    prompts: tuple[str, ...]
    spec: SearchSpec
    first_line: str  # of the file of trees


def search_in_processes(
    path: Path | str,
    source: SamplerSource,
    prompts: Sequence[str],
    spec: SearchSpec,
    processes: int = 0,
    made_of: str = "",
    on_progress: Callable[[int], object] | None = None,
    launched: bool | None = None,
) -> Path:
    """See `lib.search.search_file.search_to_file`.

    `processes` of 0 are one for each core, or each GPU. `on_progress` is called with the number of
    problems just done. `launched` asks for torch's launcher; the default is where there are GPUs.
    """
    if processes < 0:
        raise UserError(
            f"search in {processes} processes: there must be at least 0 processes (one for each"
            " core)"
        )
    on_gpus = hardware.device() == "cuda"
    launched = on_gpus if launched is None else launched
    if on_gpus and not processes:
        processes = torch.cuda.device_count()
    processes = process_count(processes)
    path, on_progress = Path(path), on_progress or (lambda done: None)
    first_line = file_header(prompts, spec, made_of)
    if is_written(path, first_line):
        on_progress(len(prompts))
        return path
    folder, chunks, done = path.with_name(path.name + ".parts"), chunk_count(prompts, spec), 0
    source = replace(source, checkpoint=str(Path(source.checkpoint).resolve()))
    _write_job(folder, Job(source, tuple(prompts), spec, first_line))

    def tell() -> list[int]:
        """Tell of the problems that were done since the last call -> the chunks that are left."""
        nonlocal done
        left = [chunk for chunk in range(chunks) if not _part(folder, chunk).exists()]
        now = len(prompts) - sum(len(prompts[c * spec.chunk :][: spec.chunk]) for c in left)
        if now > done:
            on_progress(now - done)
        done = now
        return left

    if left := tell():
        if launched:
            _launch(folder, min(processes, chunks), tell)
        else:
            for searched in shared_pool(processes).run(search_chunk, [(folder, c) for c in left]):
                done += searched
                on_progress(searched)
        if missing := tell():
            raise UserError(f"{folder}: chunks {missing[:5]} were not searched")
    parts = [_part(folder, chunk).read_text(encoding="utf-8") for chunk in range(chunks)]
    write_atomic(path, first_line + "".join(parts))
    shutil.rmtree(folder)
    return path


def _launch(folder: Path, processes: int, tell: Callable[[], object]) -> None:
    threads = max(1, hardware.available_cores() // processes)
    # accelerate's launcher would start one process, whatever was asked for, where there is no GPU.
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "1"]
    command += ["--nproc-per-node", str(processes)]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    command += ["--module", "lib.search.parallel", str(folder.resolve())]
    env = python_environment() | {"OMP_NUM_THREADS": str(threads), WATCH: "1"}
    for old in folder.glob("error-*.txt"):
        old.unlink()
    log = folder / "log.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                time.sleep(0.2)
                tell()
        finally:
            end_group(process, 0, signals=())
            process.stdin.close()  # which ends the launcher's processes, should any be left
    if process.returncode:
        errors = sorted(folder.glob("error-*.txt"))
        found = errors[0].read_text(encoding="utf-8") if errors else ""
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        raise UserError(
            f"a search process failed ({found or f'status {process.returncode}'});"
            f" {folder / 'log.txt'} says more{'' if found else ':'}",
            *([] if found else lines),
        )


def work(folder: Path, rank: int, processes: int, device: str) -> None:
    """Search this process's chunks of the job in `folder`."""
    job = _read_job(folder)
    for chunk in range(rank, chunk_count(job.prompts, job.spec), processes):
        if not _part(folder, chunk).exists():
            search_chunk(folder, chunk, device)


def search_chunk(folder: Path, chunk: int, device: str = "cpu") -> int:
    """Search one chunk of the job in `folder`, and write its trees there; returns how many."""
    job = _kept_job(folder, (folder / JOB).stat().st_mtime_ns)
    sampler, tokenizer = _sampler(job.source, device, rows_of_chunk(job.spec.chunk))
    [trees] = iter_search(sampler, tokenizer, job.prompts, job.spec, [chunk])
    write_atomic(_part(folder, chunk), "".join(tree.to_json() + "\n" for tree in trees))
    return len(trees)


@lru_cache(maxsize=1)  # all prompts are in it: read for each chunk, that grows with their square
def _kept_job(folder: Path, written_ns: int) -> Job:
    return _read_job(folder)


# A search's chunks, and often several searches, are of one checkpoint.
_sampler = lru_cache(maxsize=2)(SamplerSource.load)


def _part(folder: Path, chunk: int) -> Path:
    return folder / f"chunk-{chunk:06}.jsonl"


def _write_job(folder: Path, job: Job) -> None:
    """Begin a job, or go on with the same one; what is left of another goes."""
    text = json.dumps(asdict(job))
    if not (folder / JOB).exists() or read_json(folder / JOB) != json.loads(text):
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(folder / JOB, text)


def _read_job(folder: Path) -> Job:
    values = read_json(folder / JOB)
    source, spec = SamplerSource(**values["source"]), SearchSpec(**values["spec"])
    return Job(source, tuple(values["prompts"]), spec, values["first_line"])


def main(arguments: list[str] | None = None) -> None:
    """One process, as torch's launcher starts it; the exit status is 1 where it failed."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    folder, rank = Path(name), int(os.environ.get("RANK", "0"))
    if os.environ.get(WATCH):
        threading.Thread(target=end_with_parent, daemon=True).start()
    device = hardware.device()
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        work(folder, rank, int(os.environ.get("WORLD_SIZE", "1")), device)
    except UserError as error:
        write_atomic(folder / f"error-{rank}.txt", str(error))
        raise SystemExit(1) from error


def process_count(wanted: int) -> int:
    """How many processes are meant: 0 is one for each core."""
    return wanted or min(MOST_PROCESSES, hardware.available_cores())


class SearchPool:
    """Loky's processes, one thread each; unlike Python's own they do not run the script again."""

    def __init__(self, processes: int = 0) -> None:
        self.processes = process_count(processes)
        self._pool = ProcessPoolExecutor(
            self.processes, initializer=_begin, initargs=(os.getpid(),)
        )

    def run(self, function: Callable[..., object], calls: Iterable[tuple]) -> Iterator[object]:
        """Call `function` with each of the arguments; results come as they are there, in any order.

        Raises what a call raised, and `UserError` where a process was killed. Then, as when whoever
        waits is interrupted, every process ends: what runs is not finished.
        """
        try:
            left = {self._pool.submit(function, *arguments) for arguments in calls}
            while left:
                done, left = wait(left, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            self.end()
            raise UserError("a search process ended early: out of memory, perhaps") from error
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End every process at once."""
        self._pool.shutdown(kill_workers=True)
        if _shared.get(self.processes) is self:
            del _shared[self.processes]


_shared: dict[int, SearchPool] = {}


def shared_pool(processes: int) -> SearchPool:
    """This process's one pool of so many processes (0: one for each core); kept to its end."""
    processes = process_count(processes)
    if processes not in _shared:
        end_shared()
        _shared[processes] = SearchPool(processes)
    return _shared[processes]


def end_shared() -> None:
    """End the processes that are kept, if any."""
    for pool in list(_shared.values()):
        pool.end()


atexit.register(end_shared)


def _begin(parent: int) -> None:
    """What a process does first."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever waits for it is interrupted, and ends it
    # A second model is no leak, for which loky would end the process.
    process_executor._MAX_MEMORY_LEAK_SIZE = math.inf
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # it was killed, and nobody waits any longer


if __name__ == "__main__":
    main()
