"""A search written to a file of JSON lines, chunk by chunk: a killed one goes on from there.

Takes what a search takes, and a path; leaves the file, whose first line says what was searched.
Knows nothing of how a search goes, nor of processes (lib/search/parallel.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import Sampler
from lib.search.search import chunk_count, iter_search


def search_to_file(
    path: Path | str,
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    spec: SearchSpec,
    made_of: str = "",
    on_progress: Callable[[int], object] | None = None,
) -> Path:
    """Search and write the trees as JSON lines, chunk by chunk; a killed search goes on from there.

    The file's first line says what was searched. `path` appears when all trees are in it (until
    then it is `<path>.partial`); where it is there already, made of the same, nothing is done.
    `made_of` names what the arguments do not show, such as a hash of the model.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    first_line = file_header(prompts, spec, made_of)
    on_progress = on_progress or (lambda done: None)

    if is_written(path, first_line):
        on_progress(len(prompts))
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    done, size = _whole_chunks(partial, first_line, len(prompts), spec.chunk)
    on_progress(min(done * spec.chunk, len(prompts)))
    left = range(done, chunk_count(prompts, spec))
    with open(partial, "ab") as file:
        file.truncate(size)
        if not size:
            file.write(first_line.encode())
        for trees in iter_search(sampler, tokenizer, prompts, spec, left):
            file.write("".join(tree.to_json() + "\n" for tree in trees).encode())
            file.flush()
            on_progress(len(trees))
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def is_written(path: Path, first_line: str) -> bool:
    """Whether a file of trees is there, made of the same."""
    if not path.exists():
        return False
    with open(path, encoding="utf-8") as file:
        return file.readline() == first_line


def file_header(prompts: Sequence[str], spec: SearchSpec, made_of: str) -> str:
    """The first line of a file of trees: what was searched."""
    asked = hashlib.sha256("\0".join(prompts).encode())
    asked.update(b"null")  # the problems have no numbers but their places
    header = {"chunk_size": spec.chunk, "problems": asked.hexdigest(), "made_of": made_of}
    return json.dumps({"search": spec.settings() | header}, separators=(",", ":")) + "\n"


def _whole_chunks(
    partial: Path, first_line: str, problems: int, chunk_size: int
) -> tuple[int, int]:
    """How many chunks a partial file holds whole, and how many bytes they are."""
    if not partial.exists():
        return 0, 0
    with open(partial, "rb") as file:
        if file.readline() != first_line.encode():
            return 0, 0
        chunks, size = 0, file.tell()
        for lines, line in enumerate(iter(file.readline, b""), 1):
            if not line.endswith(b"}\n"):
                break
            if lines % chunk_size == 0 or lines == problems:
                chunks, size = chunks + 1, file.tell()
    return chunks, size
