"""Symbolic depth-first search of Countdown, stopped after so many backtracks: Table 2's DFS.

Takes a problem; gives the first solution met and the backtracks before it. Knows nothing of models.
It is the depth-first search of Stream of Search (Gandhi et al. 2024, arXiv 2404.03683): children in
the order of the sum heuristic, those whose mean distance is more than the target left out. This
reproduces the paper's 49 and 60% (docs/differences.md). A backtrack is a dead end: one number that
is not the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from lib.tasks.countdown.rules import Problem, after, legal_steps
from lib.tasks.countdown.search_streams import Path, State, sum_heuristic


def _ends(state: State, target: int, far: float, path: Path = ()) -> Iterator[tuple[Path, int]]:
    """Every path to a single number, and that number, in the order of the search."""
    if len(state) == 1:
        yield path, state[0]
        return
    children = [(step, after(state, step)) for step in legal_steps(state)]
    ranked = [(sum_heuristic(left, target), step, left) for step, left in children]
    for distance, step, left in sorted(ranked, key=lambda child: child[0]):
        if distance <= far:
            yield from _ends(left, target, far, (*path, step))


def symbolic_dfs(
    problem: Any, limit: float = math.inf, prune: bool = True
) -> tuple[list[str], int] | None:
    """The steps to the target and the backtracks before them; None if not met in `limit` of them.

    With neither a limit nor pruning it finds whatever the exact solver can.
    """
    given = Problem.of(problem)
    far = given.target if prune else math.inf
    ends = _ends(tuple(sorted(given.numbers)), given.target, far)
    for backtracks, (path, number) in enumerate(ends):
        if backtracks > limit:
            break
        if number == given.target:
            return [str(step) for step in path], backtracks
    return None
