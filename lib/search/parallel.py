"""One search over several processes: takes what `search_to_file` takes, with a checkpoint's folder
in place of the sampler; leaves the same file.

A search's chunks have random streams of their own, so they can be dealt to any number of processes.
Each chunk goes into a file of its own, and the files are merged. On a processor they are dealt to
the processes of lib/search/parallel.py, which stay from search to search, one thread each; on GPUs
torch's launcher starts a process for each, and process k of n does chunks k, k + n, .... A chunk's
batches depend on the chunk alone: its trees do not depend on how many processes there were (as long
as each computes with as many threads). A killed search goes on with the chunks that are left.

`python -m lib.search.parallel JOB_FOLDER` is one such process. Knows nothing of tasks.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from lib.base import hardware
from lib.base.errors import UserError
from lib.base.files import ROOT, read_json, write_atomic
from lib.base.processes import end_group, end_with_parent, free_port, python_environment
from lib.models.llama import load_model, load_tokenizer, with_fast_products
from lib.profiles.search_spec import CHUNK_SIZE
from lib.search.sampler import CacheSampler, make_sampler, rows_of_chunk
from lib.search.search import head, is_written, iter_search, search_settings

LAST_LINES = 12
#: Set where the launching process holds standard input open for as long as it lives.
WATCH = "SEARCH_WATCH"


@dataclass(frozen=True)
class Job:
    """What every process must know."""

    checkpoint: str  # the folder
    limit: int  # tokens of a sample
    prompts: tuple[str, ...]
    settings: dict  # breadth, depth, temperature, seed, and an expansion that is not `sample`
    chunk_size: int
    step_end: str
    first_line: str  # of the file of trees
    precision: str = "float32"  # see lib/models/llama.py

    @property
    def chunks(self) -> int:
        """How many there are."""
        return -(-len(self.prompts) // self.chunk_size)


def search_in_processes(
    path: Path | str,
    checkpoint: Path | str,
    limit: int,
    processes: int,
    prompts: Sequence[str],
    breadth: int,
    depth: int,
    temperature: float = 0.7,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    on_progress: Callable[[int], object] | None = None,
    step_end: str = "\n",
    made_of: str = "",
    expansion: str = "sample",
    precision: str = "float32",
    launched: bool | None = None,
) -> Path:
    """See `lib.search.search.search_to_file`; samples have at most `limit` tokens.

    `processes` of 0 are one for each core, or each GPU. `on_progress` is called with the number of
    problems just done. `launched` asks for torch's launcher; the default is where there are GPUs.
    """
    if processes < 0 or chunk_size < 1:
        raise UserError(
            f"search in {processes} processes, chunks of {chunk_size}: there must be at least 0"
            " processes (one for each core), 1 problem a chunk"
        )
    on_gpus = hardware.device() == "cuda"
    launched = on_gpus if launched is None else launched
    if on_gpus and not processes:
        processes = torch.cuda.device_count()
    processes = process_count(processes)
    path = Path(path)
    settings = search_settings(breadth, depth, temperature, seed, expansion)
    first_line = head(prompts, None, settings, chunk_size, made_of)
    where = str(Path(checkpoint).resolve())
    job = Job(where, limit, tuple(prompts), settings, chunk_size, step_end, first_line, precision)
    on_progress = on_progress or (lambda done: None)
    if is_written(path, first_line):
        on_progress(len(prompts))
        return path
    folder = path.with_name(path.name + ".parts")
    if not (folder / "job.json").exists() or _read_job(folder) != job:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(folder / "job.json", json.dumps(asdict(job)))
    done = 0

    def tell() -> None:
        nonlocal done
        chunks = [c for c in range(job.chunks) if _part(folder, c).exists()]
        now = sum(min(chunk_size, len(prompts) - c * chunk_size) for c in chunks)
        if now > done:
            on_progress(now - done)
        done = now

    tell()
    if done < len(prompts):
        if launched:
            _launch(folder, min(processes, job.chunks), tell)
        else:
            calls = [(folder, c) for c in range(job.chunks) if not _part(folder, c).exists()]
            for searched in shared_pool(processes).run(search_chunk, calls):
                done += searched
                on_progress(searched)
        tell()
    missing = [c for c in range(job.chunks) if not _part(folder, c).exists()]
    if missing:
        raise UserError(f"{folder}: chunks {missing[:5]} were not searched")
    parts = [_part(folder, c).read_text(encoding="utf-8") for c in range(job.chunks)]
    write_atomic(path, first_line + "".join(parts))
    shutil.rmtree(folder)
    return path


def _launch(folder: Path, processes: int, tell: Callable[[], None]) -> None:
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
    for chunk in range(rank, _read_job(folder).chunks, processes):
        if not _part(folder, chunk).exists():
            search_chunk(folder, chunk, device)


def search_chunk(folder: Path, chunk: int, device: str = "cpu") -> int:
    """Search one chunk of the job in `folder`, and write its trees there; returns how many."""
    job = _kept_job(folder, (folder / "job.json").stat().st_mtime_ns)
    rows = rows_of_chunk(job.chunk_size)
    sampler, tokenizer = _sampler(
        job.checkpoint, device, job.precision, job.step_end, job.limit, rows
    )
    how = {"chunk_size": job.chunk_size, "chunks": [chunk], "step_end": job.step_end}
    [trees] = iter_search(sampler, tokenizer, job.prompts, **job.settings, **how)
    write_atomic(_part(folder, chunk), "".join(tree.to_json() + "\n" for tree in trees))
    return len(trees)


@lru_cache(maxsize=1)  # all prompts are in it: read for each chunk, that grows with their square
def _kept_job(folder: Path, written_ns: int) -> Job:
    return _read_job(folder)


@lru_cache(maxsize=2)  # a search's chunks, and often several searches, are of one checkpoint
def _sampler(
    checkpoint: str, device: str, precision: str, step_end: str, limit: int, rows: int
) -> tuple[CacheSampler, PreTrainedTokenizerBase]:
    tokenizer = load_tokenizer(checkpoint)
    model = with_fast_products(load_model(checkpoint).to(device), precision)
    return make_sampler(model, tokenizer, step_end, limit, rows), tokenizer


def _part(folder: Path, chunk: int) -> Path:
    return folder / f"chunk-{chunk:06}.jsonl"


def _read_job(folder: Path) -> Job:
    values = read_json(folder / "job.json")
    return Job(**values | {"prompts": tuple(values["prompts"])})


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


MOST_PROCESSES = 16  # each holds torch and a model: about half a gigabyte


def process_count(wanted: int) -> int:
    """How many processes are meant: 0 is one for each core."""
    return wanted or min(MOST_PROCESSES, hardware.available_cores())


class SearchPool:
    """Processes of one thread; `processes` of 0 are one for each core."""

    def __init__(self, processes: int = 0) -> None:
        self.processes = process_count(processes)
        others = set(multiprocessing.active_children())
        # Forking a process whose torch has threads can hang.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self.processes, context, _begin, (os.getpid(),))
        with _without_main():
            for _ in range(self.processes):  # they start with the first calls
                self._pool.submit(os.getpid)
        self._children = set(multiprocessing.active_children()) - others

    def __enter__(self) -> SearchPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

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
        for child in self._children:
            child.kill()
        self._pool.shutdown(cancel_futures=True)
        if _shared.get(self.processes) is self:
            del _shared[self.processes]


@contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start within the block do not run the calling script once more.

    Python would import it in each of them, and a script that trains a model, say, without asking
    whether it is the main one would train it there again. What they call is in modules.
    """
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in ("__file__",) if name in main.__dict__}
    spec, main.__spec__ = getattr(main, "__spec__", None), None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
        main.__spec__ = spec


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
    threading.Thread(target=_end_without, args=(parent,), daemon=True).start()


def _end_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # it was killed, and nobody waits any longer


if __name__ == "__main__":
    main()
