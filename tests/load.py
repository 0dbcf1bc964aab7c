"""`make load`: time and peak memory of large inputs, each measured in a process of its own.

Takes the names of measurements (all by default) and `--share` to scale them down; prints a line for
each. Not in CI: tests/test_load.py has what of it takes no time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"numbers": 4, "max_number": 25, "target_low": 10, "target_high": 75}
GENERATED |= {"max_result": 99, "held_out": 0.1}


class Repeating:
    """Gives every question the same four paths, as trained models do: nothing but the search costs.

    One of them is rolled back, so that a second level is expanded.
    """

    paths = ("3+4=7\nGoal Reached!", "3*4=12\n", "4-3=1\n1+2=3\n", "3+4=7\n7+1=8\nGoal Reached!")

    def sample(self, prefixes, counts, temperature, seed):
        from lib.search.rollout import Sample

        found = []
        for count in counts:
            samples = []
            for path in self.paths[:count]:
                tokens = (*map(ord, path), 1 if path.endswith("\n") else 2)
                ends = tuple(at for at, token in enumerate(tokens) if token == 10)
                stop = "backtrack" if path.endswith("\n") else "goal"
                how = ((-0.1,) * len(tokens), ends, (0.5,) * len(ends), stop)
                samples.append(Sample(tokens, *how, count=1, p_backtrack_start=0.1))
            found.append(samples)
        return found


def searching(count: int, folder: Path) -> str:
    """A search of `count` problems, written to a file."""
    from scripted_engine import LINES

    from lib.profiles.search_spec import SearchSpec
    from lib.search.search_file import search_to_file

    prompts = [f"###Question: numbers [3, 4]->target {n}\n###Response:\n" for n in range(count)]
    spec = SearchSpec(4, 1)
    path = search_to_file(folder / "trees.jsonl", Repeating(), LINES, prompts, spec)
    return f"{path.stat().st_size / 1e6:.0f} MB of trees"


def reading(count: int, folder: Path) -> str:
    """A search of `count` problems read back and judged."""
    import pandas as pd

    from lib.evaluation.scoring import search_outcomes
    from lib.search.selection import SELECTION_RULES
    from lib.search.tree import TreeFile
    from lib.tasks.countdown.problems import make_settings
    from lib.tasks.countdown.task import CountdownTask

    aside(searching, count, folder)
    problems = pd.DataFrame({"numbers": [[3, 4]] * count, "target": 7, "split": "seen"})
    task = CountdownTask(make_settings(GENERATED))
    start = time.monotonic()
    found = search_outcomes(TreeFile(folder / "trees.jsonl"), problems, task, SELECTION_RULES)
    return f"{len(found)} rows of outcomes in {time.monotonic() - start:.0f} s"


def generating(count: int, folder: Path) -> str:
    """`count` training problems generated and written."""
    from lib.base import files
    from lib.tasks.countdown.problems import make_problems, make_settings

    wide = GENERATED | {"max_number": 99, "target_high": 100, "max_result": 9_999}
    counts = {"train": count, "validation": 1_000, "seen": 5_000, "new": 5_000}
    table = make_problems(make_settings(wide), counts, 0)
    files.write_parquet(folder / "problems.parquet", table)
    return f"{(folder / 'problems.parquet').stat().st_size / 1e6:.0f} MB of parquet"


def write_public_rows(count: int, folder: Path) -> None:
    """A data set of `count` training rows, half of them D_back, and two small test splits."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
    from public_files import write_public

    from lib.tasks.countdown import traces
    from lib.tasks.countdown.problems import make_problems, make_settings
    from lib.tasks.countdown.public_rows import PROMPT

    settings = make_settings(GENERATED)
    table = make_problems(settings, {"train": 20_000, "seen": 500, "new": 500}, 0)
    train = table[table.split == "train"].reset_index(drop=True)
    parts = [traces.optimal_traces(train)]
    parts.append(traces.backtracking_traces(train, settings, 0, "paper", 0.0))
    made = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=0)
    for split in ("seen", "new"):
        part = traces.optimal_traces(table[table.split == split])
        write_public(part, folder / "data" / f"test_{split}-00000-of-00001.parquet")
    write_public(made, folder / "once.parquet")
    rows = pq.read_table(folder / "once.parquet").replace_schema_metadata()
    (folder / "once.parquet").unlink()
    assert made["text"].map(PROMPT.match).all()
    with pq.ParquetWriter(folder / "data" / "train-00000-of-00001.parquet", rows.schema) as writer:
        for start in range(0, count, len(rows)):
            writer.write_table(pa.table(rows)[: count - start])


def public(count: int, folder: Path) -> str:
    """A public data set of `count` rows read as a run does."""
    from lib.tasks.countdown.public_splits import read_splits

    aside(write_public_rows, count, folder)
    counts = {"train_problems": 100_000, "validation_problems": 1_000, "test_problems": 500}
    start = time.monotonic()
    problems, wrong = read_splits(folder, "paper", counts)
    seconds = time.monotonic() - start
    return f"{len(problems)} problems and {len(wrong)} traces of D_back kept, in {seconds:.0f} s"


def results_rows(count: int) -> list[dict]:
    """Rows of a run whose losses were logged that often, and of every other figure."""
    import random

    from lib.evaluation.results import row

    draw, rows = random.Random(0), []
    for model in ("S", "L"):
        for split in ("seen", "new"):
            known = {"model": model, "split": split, "checker": "strict", "problems": 500}
            for number, method in enumerate(("sft_greedy", "sft_beam", "self_backtracking")):
                for artifact in ("table_1", "figure_4", "figure_13"):
                    share = draw.random()
                    given = known | {"accuracy": share, "low": share / 2, "high": (share + 1) / 2}
                    if number == 2:
                        given |= {"N": 8, "b": 1, "temperature": 0.7, "selection": "mean_logprob"}
                    rows.append(row(artifact, method, **given))
    stages = [(model, stage) for model in ("S", "L") for stage in ("trunk", "sft", "backtracking")]
    for number in range(count - len(rows)):
        model, stage = stages[number % len(stages)]
        step = 5 * (number // len(stages) + 1)
        loss = 2 / (1 + step / 1_000) + draw.random() / 10
        known = {"model": model, "stage": stage, "step": step, "examples": 64 * step}
        rows.append(row("figure_6", loss=loss, **known))
    return rows


def results(count: int, folder: Path) -> str:
    """A results file of `count` rows: written, read, every figure drawn, its page made."""
    from lib.evaluation.results import read_results, write_results
    from studies.report.page import draw_all, render

    rows = results_rows(count)
    times = {}

    def timed(name: str, work: Callable) -> object:
        start = time.monotonic()
        made = work()
        times[name] = time.monotonic() - start
        return made

    timed("written", lambda: write_results(folder / "results.json", {}, rows))
    manifest, read = timed("read", lambda: read_results(folder / "results.json"))
    timed("figures", lambda: draw_all(read, manifest, folder / "figures"))
    timed("page", lambda: render(manifest, read))
    return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())


MEASUREMENTS: dict[str, tuple[Callable[[int, Path], str], tuple[int, ...]]] = {
    "search": (searching, (1_000, 10_000, 100_000)),
    "outcomes": (reading, (1_000, 10_000, 100_000)),
    "generator": (generating, (500_000, 5_000_000)),
    "public": (public, (50_000, 500_000, 5_000_000)),
    "results": (results, (10_000, 100_000, 1_000_000)),
}


def aside(work: Callable, count: int, folder: Path) -> None:
    """Do it in another process: its memory does not count."""
    code = f"import load, pathlib; load.{work.__name__}({count}, pathlib.Path({str(folder)!r}))"
    paths = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ) | paths)


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python tests/load.py", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(MEASUREMENTS)}; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="of each measurement's size")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for name in options.names:
        if name not in MEASUREMENTS:
            parser.error(f"{name}: no such measurement; choose from {', '.join(MEASUREMENTS)}")
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            work, _ = MEASUREMENTS[options.names[0]]
            start = time.monotonic()
            told = work(options.one, Path(folder))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            record = {"s": time.monotonic() - start, "peak": peak, "told": told}
            print("\n" + json.dumps(record))
        return 0
    for name in options.names or MEASUREMENTS:
        for size in MEASUREMENTS[name][1]:
            count = max(200, round(size * options.share))
            command = [sys.executable, __file__, name, f"--one={count}"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            found = json.loads(done.stdout.splitlines()[-1])
            line = f"{name:9} {count:>9,}: {found['s']:6.0f} s, at most {found['peak']:6.0f} MB"
            print(f"{line}; {found['told']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
