"""Streams of search: the trace of a real search as one text, for a model that is to learn to search
in its own text (Gandhi et al. 2024, arXiv 2404.03683; Table 2 of the paper).

Takes Countdown problems; gives texts with loss masks, and the answer that such a text ends in.
Knows nothing of models or tokenizers. The search is depth-first or breadth-first; it looks at the
`width` best children of each state, by one of two heuristics or in random order, and stops at the
target.

The text is a sequence of blocks, a blank line between them. A block is the path from the question
to the state that is expanded (written again after each move: this is how the text backs up), then
that state's children, one a line. Depth-first search writes a block for each state of two numbers,
so that a block is a path whose last step is tried `width` times; breadth-first search writes one
for each state that it expands. The stream ends in the goal line. The answer is then the last
block's path and its last line.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from lib.tasks.countdown.rules import GOAL, Problem, Step, after, legal_steps
from lib.tasks.trace import COLUMNS

ORDERS = ("dfs", "bfs")
HEURISTICS = ("sum", "multiply", "random")
WIDTHS = (1, 2, 3, 4, 5)
MAX_TRIES = 12  # searches of one problem until one reaches the target in few enough tokens
PROMPT_TOKENS = 4  # the question's fixed pieces and the end of sequence
State = tuple[int, ...]
Path = tuple[Step, ...]


@dataclass(frozen=True)
class Strategy:
    """How a search goes: its order, what ranks the children of a state, how many it looks at."""

    order: str
    heuristic: str
    width: int


def sum_heuristic(numbers: State, target: int) -> float:
    """Mean distance to the target."""
    return sum(abs(number - target) for number in numbers) / len(numbers)


def multiply_heuristic(numbers: State, target: int) -> float:
    """Sum of the distances to the target's nearest factors, 1 not being one."""
    return sum(min(abs(number - factor) for factor in _factors(target)) for number in numbers)


@lru_cache(maxsize=1000)
def _factors(target: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, target + 1) if target % n == 0) or (target,)


@lru_cache(maxsize=100_000)
def _children(state: State, max_result: int) -> tuple[tuple[Step, State], ...]:
    steps = (step for step in legal_steps(state) if step.result <= max_result)
    return tuple((step, after(state, step)) for step in steps)


def blocks(
    problem: Problem, strategy: Strategy, max_result: int, generator: random.Random
) -> Iterator[tuple[Path, list[Step], bool]]:
    """The search, block by block: the path to a state, the children looked at, and whether the last
    of these is the target. Ends after such a block, or when the search has nothing left."""
    target, rank = problem.target, _ranking(strategy.heuristic, problem.target, generator)

    def expand(state: State) -> list[tuple[float, Step, State]]:
        found = [(rank(left), step, left) for step, left in _children(state, max_result)]
        return sorted(found, key=lambda child: child[0])[: strategy.width]

    def block(path: Path, state: State) -> tuple[Path, list[Step], bool]:
        tried = []
        for _, step, left in expand(state):
            tried.append(step)
            if left == (target,):
                return path, tried, True
        return path, tried, False

    def depth_first(path: Path, state: State) -> Iterator[tuple[Path, list[Step], bool]]:
        if len(state) == 2:
            yield block(path, state)
            return
        for _, step, left in expand(state):
            yield from depth_first((*path, step), left)

    def breadth_first(start: State) -> Iterator[tuple[Path, list[Step], bool]]:
        frontier: list[tuple[Path, State]] = [((), start)]
        for _ in range(len(start) - 2):
            found = []
            for path, state in frontier:
                children = expand(state)
                yield path, [step for _, step, _ in children], False
                found += [(score, (*path, step), left) for score, step, left in children]
            best: dict[State, Path] = {}
            for _, path, left in sorted(found, key=lambda child: child[0]):
                best.setdefault(left, path)
            frontier = [(path, left) for left, path in best.items()][: strategy.width]
        for path, state in frontier:
            yield block(path, state)

    start = tuple(sorted(problem.numbers))
    searched = depth_first((), start) if strategy.order == "dfs" else breadth_first(start)
    for found in searched:
        yield found
        if found[2]:
            return


def _ranking(
    heuristic: str, target: int, generator: random.Random
) -> Callable[[State], float]:  # lower is tried first
    if heuristic == "random":
        return lambda state: generator.random()
    measure = {"sum": sum_heuristic, "multiply": multiply_heuristic}[heuristic]
    return lambda state: measure(state, target)


def stream(
    problem: Problem,
    strategy: Strategy,
    max_result: int,
    generator: random.Random,
    max_tokens: int,
) -> str | None:
    """The text of a search, after its prompt; None where the target is not reached, or the prompt
    and the text have more than `max_tokens` of a from-scratch tokenizer's tokens."""
    room = max_tokens - prompt_tokens(problem) - 1  # the goal line
    written: list[str] = []
    for path, tried, reached in blocks(problem, strategy, max_result, generator):
        text = "".join(f"{step}\n" for step in (*path, *tried))
        room -= len(text) + bool(written)  # a character each is a token, a blank line is one more
        if room < 0:
            return None
        written.append(text)
        if reached:
            return "\n".join(written) + GOAL
    return None


def prompt_tokens(problem: Problem) -> int:
    """A from-scratch tokenizer's tokens of the prompt, and the end of sequence."""
    digits = sum(len(str(number)) for number in (*problem.numbers, problem.target))
    return PROMPT_TOKENS + digits + len(problem.numbers) - 1


def stream_traces(
    problems: pd.DataFrame, max_result: int, max_tokens: int, seed: int
) -> pd.DataFrame:
    """Streams of these problems, as traces: text, mask, kind (order, heuristic and width).

    Each problem is searched by strategies drawn at random until one reaches the target in
    `max_tokens`; a problem for which none of `MAX_TRIES` does is left out. All of a stream carries
    loss, wrong turns too; to back up (a blank line) and to stop (the goal line) are its verdicts.
    """
    rows = []
    for index, (numbers, target) in enumerate(zip(problems.numbers, problems.target, strict=True)):
        problem = Problem(tuple(map(int, numbers)), int(target))
        generator = random.Random(f"{seed} {index}")
        for _ in range(MAX_TRIES):
            strategy = Strategy(*map(generator.choice, (ORDERS, HEURISTICS, WIDTHS)))
            text = stream(problem, strategy, max_result, generator, max_tokens)
            if text is not None:
                prompt = problem.prompt()
                kind = f"{strategy.order} {strategy.heuristic} {strategy.width}"
                mask = "0" * len(prompt) + stream_mask(text)
                rows.append({"text": prompt + text, "mask": mask, "kind": kind})
                break
    return pd.DataFrame(rows, columns=COLUMNS)


def stream_mask(text: str) -> str:
    """The loss mask of a stream without its prompt (see `lib.tasks.countdown.traces`)."""
    body = text.removesuffix(GOAL)
    moved = [("2" if line == "" else "1" * (len(line) + 1)) for line in body.split("\n")[:-1]]
    return "".join(moved) + "2" * (len(text) - len(body))


def answer(problem: Any, text: str) -> str:
    """The response that a stream ends in: its last block's path, its last step, the goal line.

    Whatever else the text is, its last block is handed on, for the checker to find wrong.
    """
    given = Problem.of(problem)
    lines = text.rsplit("\n\n", 1)[-1].split("\n")
    inner = len(given.numbers) - 2  # the steps of a path before its last one
    if lines[-1] == GOAL and len(lines) > inner + 2:
        lines = [*lines[:inner], *lines[-2:]]
    return "\n".join(lines)


def moves_back(text: str) -> int:
    """How often a stream backs up."""
    return text.count("\n\n")


@dataclass(frozen=True)
class SearchStreams:
    """Countdown's `lib.tasks.task.Streams`."""

    max_result: int

    def traces(self, problems: pd.DataFrame, max_tokens: int, seed: int) -> pd.DataFrame:
        return stream_traces(problems, self.max_result, max_tokens, seed)

    answer = staticmethod(answer)
    moves_back = staticmethod(moves_back)
