"""`make fuzz`: the targets of tests/fuzz_targets.py, many times over.

Takes targets and counts from the command line; ends with status 1 at the first input that breaks
one, and says which. With atheris (requirements-fuzz.txt) the inputs are guided by the branches of
lib/ that they reach; `--random` needs nothing and takes the same steps without a guide.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[1]
#: Inputs for each target, a million in all: many where one takes microseconds.
COUNTS = {"step": 400_000, "response": 300_000, "row": 60_000, "tokens": 80_000}
COUNTS |= {"json": 100_000, "tree": 40_000, "parquet": 18_000, "profile": 1_000, "public": 1_000}
MODULES = ("tasks.countdown.rules", "tasks.countdown.problems", "tasks.countdown.public_rows")
MODULES += ("models.tokenizer", "base.checked", "profiles.load", "base.files", "search.tree")
SLOWEST_S = 20  # for one input: more is a hang
LONGEST = 4_096  # bytes that one input's choices are made from
BEGINNINGS = 200  # random inputs to begin with


class GuidedSource:
    """Choices out of a fuzzer's bytes."""

    def __init__(self, provider: object) -> None:
        self.provider = provider

    def pick(self, options: Sequence[T]) -> T:
        return options[self.provider.ConsumeIntInRange(0, len(options) - 1)]

    def text(self) -> str:
        return self.provider.ConsumeUnicode(20)

    def data(self) -> bytes:
        return self.provider.ConsumeBytes(20)


def target(name: str, folder: Path) -> Callable:
    """The target called `name` as a function of its source alone."""
    from fuzz_targets import FILE_TARGETS, TEXT_TARGETS

    if name in TEXT_TARGETS:
        return TEXT_TARGETS[name]
    return lambda source: FILE_TARGETS[name](source, folder)


def at_random(name: str, count: int, seed: int) -> None:
    """Run a target on random choices; an input that breaks it is told by its seed."""
    from fuzz_targets import RandomSource

    with tempfile.TemporaryDirectory() as folder:
        run, slowest, start = target(name, Path(folder)), 0.0, time.monotonic()
        for index in range(seed, seed + count):
            before = time.monotonic()
            try:
                run(RandomSource(index))
            except Exception:
                print(f"{name}: broken by seed {index}", file=sys.stderr)
                raise
            slowest = max(slowest, time.monotonic() - before)
        seconds = time.monotonic() - start
    print(f"{name}: {count} inputs at random in {seconds:.0f} s, the slowest in {slowest:.2f} s")
    if slowest > SLOWEST_S:
        raise SystemExit(f"{name}: one input took {slowest:.0f} s")


def guided(name: str, count: int, seed: int) -> None:
    """Run a target under atheris, in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=[f"lib.{module}" for module in MODULES]):
        for module in MODULES:
            __import__(f"lib.{module}")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as begin:
        run = target(name, Path(folder))
        options = [f"-runs={count}", f"-seed={seed + 1}", f"-timeout={SLOWEST_S}"]
        options += [f"-max_len={LONGEST}", "-len_control=0", "-rss_limit_mb=4096"]
        options += ["-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={begin}/"]
        # From nothing it would try short inputs for long, whose choices are all the first.
        generator = random.Random(seed)
        for number in range(BEGINNINGS):
            Path(begin, str(number)).write_bytes(generator.randbytes(LONGEST // 4))
        atheris.Setup(
            [sys.argv[0], *options, begin],
            lambda data: run(GuidedSource(atheris.FuzzedDataProvider(data))),
        )
        atheris.Fuzz()


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python tests/fuzz.py", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(COUNTS)}; all by default")
    parser.add_argument("--random", action="store_true", help="without atheris")
    parser.add_argument("--count", type=int, help="inputs for each target")
    parser.add_argument("--share", type=float, default=1.0, help="of each target's usual inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.targets:
        if name not in COUNTS:
            parser.error(f"{name}: no such target; choose from {', '.join(COUNTS)}")
    for name in options.targets or COUNTS:
        count = options.count or max(1, round(options.share * COUNTS[name]))
        if options.random:
            at_random(name, count, options.seed)
        elif options.in_process:
            guided(name, count, options.seed)
        else:  # a process for each: atheris ends the one it runs in
            command = [sys.executable, __file__, "--in-process", name, f"--count={count}"]
            start = time.monotonic()
            done = subprocess.run([*command, f"--seed={options.seed}"], cwd=ROOT)
            if done.returncode:
                print(f"{name}: broken", file=sys.stderr)
                return 1
            print(f"{name}: {count} guided inputs in {time.monotonic() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
