"""The exact solver of Sudoku: can a grid still be filled, and how?

Takes a board and grids; gives solutions, and the verdict on each step of a path (`ExactSolver`, the
task's `lib.tasks.task.Solver`). Knows nothing of models or trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lib.tasks.sudoku.rules import EMPTY, Board, givens
from lib.tasks.task import EXPLORATION, FORMAT, RULE


@lru_cache(maxsize=50_000)
def solutions(board: Board, grid: str, most: int = 2) -> tuple[str, ...]:
    """Up to `most` solutions of a grid: none where it has none, in no particular order.

    Depth-first, always at a cell that has the fewest digits left; a set of digits is a bit each.
    """
    if not board.sound(grid):
        return ()
    units = [board.units(cell) for cell in range(board.cells)]
    everything = (1 << board.size) - 1
    used = [[0] * board.size for _ in range(3)]
    now, empty, found = list(grid), set(), []
    for cell, digit in enumerate(grid):
        if digit == EMPTY:
            empty.add(cell)
            continue
        for kind, unit in enumerate(units[cell]):
            used[kind][unit] |= 1 << (int(digit) - 1)

    def left(cell: int) -> int:
        row, column, box = units[cell]
        return everything & ~(used[0][row] | used[1][column] | used[2][box])

    def fill() -> None:
        if not empty:
            found.append("".join(now))
            return
        best, digits, count = -1, 0, board.size + 1
        for cell in empty:
            those = left(cell)
            if (number := those.bit_count()) < count:
                best, digits, count = cell, those, number
                if count < 2:
                    break
        empty.discard(best)
        while digits and len(found) < most:
            bit = digits & -digits
            digits ^= bit
            now[best] = board.digits[bit.bit_length() - 1]
            for kind, unit in enumerate(units[best]):
                used[kind][unit] ^= bit
            fill()
            for kind, unit in enumerate(units[best]):
                used[kind][unit] ^= bit
        empty.add(best)

    fill()
    return tuple(found)


def solvable(board: Board, given: str, grid: str) -> bool:
    """Whether a grid that legal steps made of the given one can be filled; exact."""
    known = solutions(board, given)
    if len(known) < 2:  # then there is nothing to search for
        return any(all(a in (EMPTY, b) for a, b in zip(grid, one, strict=True)) for one in known)
    return bool(solutions(board, grid, 1))


@dataclass(frozen=True)
class ExactSolver:
    """The truth about a state, as `lib.tasks.task.Solver` has it."""

    board: Board

    def judge_steps(self, problem: Any, steps: Sequence[str]) -> str | None:
        """Why the last of `steps` loses the solution, or None while it can still be reached.

        The steps before the last are taken to be legal.
        """
        before = self.board.after(givens(problem), steps[:-1])
        if before is None:
            raise ValueError(f"steps before the last must be legal: {list(steps[:-1])}")
        if self.board.parse_step(steps[-1]) is None:
            return FORMAT
        grid = self.board.after(before, steps[-1:])
        if grid is None:
            return RULE
        return None if solvable(self.board, givens(problem), grid) else EXPLORATION

    def reachable(self, problem: Any, steps: Sequence[str]) -> bool:
        """Whether all of the steps are legal, and the grid can still be filled."""
        grid = self.board.after(givens(problem), steps)
        return grid is not None and solvable(self.board, givens(problem), grid)

    def complete(self, problem: Any, steps: Sequence[str]) -> list[str]:
        """Steps from a state, in reach of a solution, to it; in reading order."""
        grid = self.board.after(givens(problem), steps)
        found = solutions(self.board, grid, 1) if grid is not None else ()
        if not found:
            raise ValueError(f"no solution is in reach after {list(steps)}")
        return self.board.steps(grid, found[0])
