"""Where two run folders differ, and what in one is left over or does not open.

Takes finished run folders; gives lines of text, none where all is well. Knows nothing of how they
came about.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from safetensors import safe_open

from lib.base import files as files_module
from lib.base.files import TEMPORARY
from lib.evaluation.results import read_results
from lib.experiment.artifacts import MADE

#: Names of what is there only while something is made.
UNFINISHED = ("*.partial", "*.parts", "*.gone", f"*{TEMPORARY}", "*.tmp.ipynb", ".spent")
UNFINISHED += ("checkpoints", "job")
#: They tell times, so that no two runs have the same.
TIMED = (MADE, "timings.json", "*.ipynb", "*.html")


def broken_files(folder: Path) -> list[str]:
    """Files of finished artifacts that do not open; what is still being made is left out."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": files_module.read_json,
        ".parquet": files_module.read_parquet,
        ".ipynb": lambda path: nbformat.read(path, as_version=4),
        ".jsonl": lambda path: [json.loads(line) for line in path.open(encoding="utf-8")],
        ".safetensors": _read_tensors,
    }
    found = []
    for path in files(folder):
        if ".partial" in str(path) or path.name.startswith("."):
            continue
        try:
            readers.get(path.suffix, lambda path: None)(folder / path)
        except FileNotFoundError:
            continue  # replaced just now
        except Exception as error:  # each format has its own
            found.append(f"{path}: {type(error).__name__}")
    return found


def _read_tensors(path: Path) -> None:
    with safe_open(path, framework="np") as tensors:
        for name in tensors.keys():  # noqa: SIM118 - it is no mapping
            tensors.get_tensor(name)


def files(folder: Path) -> Iterator[Path]:
    """All files, relative to the folder, in order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder)


def problems(unbroken: Path, broken: Path) -> list[str]:
    """What distinguishes two finished run folders, and what is wrong with the second."""
    found = [f"does not open: {name}" for name in broken_files(broken)]
    for pattern in UNFINISHED:
        found += [f"left over: {path.relative_to(broken)}" for path in broken.rglob(pattern)]
    names = [set(files(folder)) for folder in (unbroken, broken)]
    found += [f"missing: {path}" for path in sorted(names[0] - names[1])]
    found += [f"only after kills: {path}" for path in sorted(names[1] - names[0])]
    for path in sorted(names[0] & names[1]):
        timed = any(path.match(pattern) for pattern in TIMED)
        if not timed and (unbroken / path).read_bytes() != (broken / path).read_bytes():
            found.append(f"differs: {path}")
    return found + different_rows(*(run / "figures" / "results.json" for run in (unbroken, broken)))


def different_rows(first: Path, second: Path) -> list[str]:
    """Where two results.json differ: the manifest's keys, and rows that only one of them has."""
    if first.read_bytes() == second.read_bytes():
        return []
    manifests, rows = zip(*(read_results(path) for path in (first, second)), strict=True)
    keys = sorted(set(manifests[0]) | set(manifests[1]))
    changed = [key for key in keys if manifests[0].get(key) != manifests[1].get(key)]
    found = [f"results.json, manifest: {key}" for key in changed]
    texts = [{json.dumps(row, default=str) for row in each.to_dict("records")} for each in rows]
    return found + [f"results.json, row: {text}" for text in sorted(texts[0] ^ texts[1])]
