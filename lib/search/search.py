"""Self-backtracking search: takes a sampler and prompts, gives one `SearchTree` per prompt.

Expand the question, roll every `<backtrack>` back one step, expand what that gives, `depth` times
(the paper's section 3.3). Knows nothing of models (a `Sampler` makes the tokens), of the task (a
step is what a step-end token closes) or of choosing an answer (lib/search/selection.py).
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lib.base.errors import UserError
from lib.models.tokenizer import encode_prompts
from lib.profiles.search_spec import CHUNK_SIZE
from lib.search.growth import Decoder, Growth
from lib.search.sampler import Sampler
from lib.search.tree import Node, SearchTree, read_trees, write_trees

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

__all__ = ["Node", "SearchTree", "iter_search", "read_trees", "search", "write_trees"]


def iter_search(
    sampler: Sampler,
    tokenizer,
    prompts: Sequence[str],
    breadth: int,
    depth: int,
    temperature: float = 0.7,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    chunks: Iterable[int] | None = None,
    problem_ids: Sequence[int] | None = None,
    on_progress: Callable[[int], object] | None = None,
    step_end: str = "\n",
    expansion: str = "sample",
) -> Iterator[list[SearchTree]]:
    """Search tree by tree as `search` does, giving each chunk's trees when they are done.

    Chunk c holds problems `c * chunk_size` up to `(c + 1) * chunk_size` and has a random stream of
    its own, so `chunks` (which of them to do; all by default) can be dealt to any number of
    processes. `on_progress` is called with the number of problems just done. `expansion` says how a
    state's samples are made, where the sampler offers others than independent ones.
    """
    if breadth < 1 or depth < 0 or chunk_size < 1:
        raise UserError(
            f"search with breadth {breadth}, depth {depth}, chunk_size {chunk_size}: "
            "breadth and chunk_size must be 1 or more, depth 0 or more"
        )
    if problem_ids is None:
        problem_ids = range(len(prompts))
    if len(problem_ids) != len(prompts):
        raise UserError(f"{len(prompts)} prompts with {len(problem_ids)} problem ids")
    offered = getattr(sampler, "expansions", ("sample",))
    if expansion not in offered:
        raise UserError(f"expansion {expansion!r}: this sampler offers {', '.join(offered)}")
    how = {} if expansion == "sample" else {"expansion": expansion}
    text_of = Decoder(tokenizer, step_end)
    few = max(1, math.isqrt(breadth))
    for chunk in range(-(-len(prompts) // chunk_size)) if chunks is None else chunks:
        here = slice(chunk * chunk_size, (chunk + 1) * chunk_size)
        trees = [Growth(ids, text_of) for ids in encode_prompts(tokenizer, prompts[here], step_end)]
        expansions = [(tree, 0, breadth) for tree in trees]
        # One session a chunk: its memory is bounded, and so is what its trees depend on.
        session = getattr(sampler, "session", None) if depth else None
        chunk_sampler = session() if session else sampler
        for level in range(depth + 1):
            samples = chunk_sampler.sample(
                [tree.state(state) for tree, state, _ in expansions],
                [count for _, _, count in expansions],
                temperature,
                _stream(seed, chunk, level),
                **how,
            )
            for (tree, state, _), found in zip(expansions, samples, strict=True):
                tree.add(state, level, found)
            if level < depth:
                expansions = [(tree, i, few) for tree in trees for i in tree.rolled_back(few)]
        settings = dict(breadth=breadth, depth=depth, temperature=temperature, seed=seed) | how
        yield [
            tree.finish(problem_id=int(problem_id), prompt=prompt, step_end=step_end, **settings)
            for tree, problem_id, prompt in zip(
                trees, problem_ids[here], prompts[here], strict=True
            )
        ]
        if on_progress is not None:
            on_progress(len(trees))


def roll_backs(depth: int, from_one: bool = False) -> int:
    """How often leaves are rolled back at this depth.

    `from_one` is the audit's switch: the published code counts the question's own expansion as
    depth 1, so that its 1 is the paper's b = 0.
    """
    return max(depth - 1, 0) if from_one else depth


def _stream(seed: int, chunk: int, level: int) -> int:
    return int(np.random.SeedSequence([seed, chunk, level]).generate_state(1, np.uint64)[0])


def search(
    sampler: Sampler, tokenizer, prompts: Sequence[str], *args, **kwargs
) -> list[SearchTree]:
    """One tree per prompt; arguments as in `iter_search`.

    Level 0 expands the question `breadth` times. At each of the `depth` further levels every leaf
    that ended in `<backtrack>` gives its state one step back; of those that were not expanded
    before, up to sqrt(breadth), by visits and then by log-probability, are expanded sqrt(breadth)
    times each.
    """
    chunks = iter_search(sampler, tokenizer, prompts, *args, **kwargs)
    return [tree for trees in chunks for tree in trees]


def search_to_file(
    path: Path | str,
    sampler: Sampler,
    tokenizer,
    prompts: Sequence[str],
    breadth: int,
    depth: int,
    temperature: float = 0.7,
    seed: int = 0,
    chunk_size: int = CHUNK_SIZE,
    problem_ids: Sequence[int] | None = None,
    on_progress: Callable[[int], object] | None = None,
    step_end: str = "\n",
    made_of: str = "",
    expansion: str = "sample",
) -> Path:
    """Search and write the trees as JSON lines, chunk by chunk; a killed search goes on from there.

    The file's first line says what was searched. `path` appears when all trees are in it (until
    then it is `<path>.partial`); where it is there already, made of the same, nothing is done.
    `made_of` names what the arguments do not show, such as a hash of the model.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    settings = search_settings(breadth, depth, temperature, seed, expansion)
    first_line = head(prompts, problem_ids, settings, chunk_size, made_of)
    on_progress = on_progress or (lambda done: None)

    if is_written(path, first_line):
        on_progress(len(prompts))
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    done, size = _whole_chunks(partial, first_line, len(prompts), chunk_size)
    on_progress(min(done * chunk_size, len(prompts)))
    left = range(done, -(-len(prompts) // chunk_size))
    with open(partial, "ab") as file:
        file.truncate(size)
        if not size:
            file.write(first_line.encode())
        for trees in iter_search(
            sampler,
            tokenizer,
            prompts,
            **settings,
            chunk_size=chunk_size,
            chunks=left,
            problem_ids=problem_ids,
            step_end=step_end,
        ):
            file.write("".join(tree.to_json() + "\n" for tree in trees).encode())
            file.flush()
            on_progress(len(trees))
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def search_settings(
    breadth: int, depth: int, temperature: float, seed: int, expansion: str
) -> dict[str, object]:
    """A search's settings by name; the usual expansion is not told."""
    settings = dict(breadth=breadth, depth=depth, temperature=temperature, seed=seed)
    return settings if expansion == "sample" else settings | {"expansion": expansion}


def is_written(path: Path, first_line: str) -> bool:
    """Whether a file of trees is there, made of the same."""
    if not path.exists():
        return False
    with open(path, encoding="utf-8") as file:
        return file.readline() == first_line


def head(
    prompts: Sequence[str],
    problem_ids: Sequence[int] | None,
    settings: dict,
    chunk_size: int,
    made_of: str,
) -> str:
    """The first line of a file of trees: what was searched."""
    asked = hashlib.sha256("\0".join(prompts).encode())
    asked.update(json.dumps(None if problem_ids is None else list(map(int, problem_ids))).encode())
    header = {"chunk_size": chunk_size, "problems": asked.hexdigest(), "made_of": made_of}
    return json.dumps({"search": settings | header}, separators=(",", ":")) + "\n"


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
