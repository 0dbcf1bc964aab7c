"""Self-backtracking search: takes a sampler and prompts, gives one `SearchTree` per prompt.

Expand the question, roll every `<backtrack>` back one step, expand what that gives, `depth` times
(the paper's section 3.3). Knows nothing of models (a `Sampler` makes the tokens), of the task (a
step is what a step-end token closes) or of choosing an answer (lib/search/selection.py).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.growth import Decoder, Growth
from lib.search.sampler import Sampler
from lib.search.tree import SearchTree

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1


def search(
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    spec: SearchSpec,
    on_progress: Callable[[int], object] | None = None,
) -> list[SearchTree]:
    """One tree per prompt.

    Level 0 expands the question N times. At each of the `depth` further levels every leaf that
    ended in `<backtrack>` gives its state one step back; of those that were not expanded before, up
    to sqrt(N), by visits and then by log-probability, are expanded (`spec.per_state` says how many
    times each).
    """
    chunks = iter_search(sampler, tokenizer, prompts, spec, on_progress=on_progress)
    return [tree for trees in chunks for tree in trees]


def iter_search(
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    spec: SearchSpec,
    chunks: Iterable[int] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> Iterator[list[SearchTree]]:
    """As `search`, giving each chunk's trees when they are done.

    Chunk c holds problems `c * spec.chunk` up to `(c + 1) * spec.chunk` and has a random stream of
    its own, so `chunks` (which of them to do; all by default) can be dealt to any number of
    processes. `on_progress` is called with the number of problems just done. `UserError` where the
    sampler does not offer the expansion.
    """
    offered = getattr(sampler, "expansions", ("sample",))
    if spec.expansion not in offered:
        raise UserError(f"expansion {spec.expansion!r}: this sampler offers {', '.join(offered)}")
    text_of = Decoder(tokenizer)
    for chunk in range(chunk_count(prompts, spec)) if chunks is None else chunks:
        first = chunk * spec.chunk
        asked = prompts[first : first + spec.chunk]
        growing = [Growth(ids, text_of) for ids in tokenizer.encode_prompts(asked)]
        _grow(growing, sampler, spec, chunk)
        yield [
            each.finish(first + place, prompt, tokenizer.step_end, spec)
            for place, (each, prompt) in enumerate(zip(growing, asked, strict=True))
        ]
        if on_progress is not None:
            on_progress(len(growing))


def _grow(trees: Sequence[Growth], sampler: Sampler, spec: SearchSpec, chunk: int) -> None:
    """Expand the questions of one chunk together; roll back, select, expand, `depth` times."""
    # One session a chunk: its memory is bounded, and so is what its trees depend on.
    session = getattr(sampler, "session", None) if spec.depth else None
    sampler = session() if session else sampler
    how = {} if spec.expansion == "sample" else {"expansion": spec.expansion}

    def expand(states: Sequence[tuple[Growth, int]], count: int, level: int) -> None:
        prefixes = [tree.state(state) for tree, state in states]
        seed = _stream(spec.seed, chunk, level)
        found = sampler.sample(prefixes, [count] * len(states), spec.temperature, seed, **how)
        for (tree, state), samples in zip(states, found, strict=True):
            tree.add(state, level, samples)

    expand([(tree, 0) for tree in trees], spec.breadth, 0)  # node 0 is the question
    for level in range(1, spec.depth + 1):
        states = [(tree, state) for tree in trees for state in tree.rolled_back(spec.states)]
        expand(states, spec.continuations, level)


def _stream(seed: int, chunk: int, level: int) -> int:
    """The seed of one level's samples: the first levels are the same whatever follows."""
    return int(np.random.SeedSequence([seed, chunk, level]).generate_state(1, np.uint64)[0])


def chunk_count(prompts: Sequence[str], spec: SearchSpec) -> int:
    """How many chunks a search of these prompts has."""
    return -(-len(prompts) // spec.chunk)


def roll_backs(depth: int, from_one: bool = False) -> int:
    """How often leaves are rolled back at this depth.

    `from_one` is the audit's switch: the published code counts the question's own expansion as
    depth 1, so that its 1 is the paper's b = 0.
    """
    return max(depth - 1, 0) if from_one else depth


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
