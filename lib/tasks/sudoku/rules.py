"""The rules of Sudoku: fill the empty cells so that no row, column or box has a digit twice.

Takes a board, a problem and text; gives its steps, the grid that they leave, and the strict
verdict. Knows nothing of the exact solver, of models or tokens. A grid is a text of one character
a cell in reading order, `.` where it is empty; a step `r2c3=4` writes 4 into row 2, column 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import pandas as pd

from lib.tasks.task import BACKTRACK, BAD_FORMAT, NOT_REACHED, Verdict

FILLED = "filled cell in step"
REPEATED = "repeated digit in step"
#: Nothing is computed in a step, so that no step has a wrong result.
ERRORS = (NOT_REACHED, BAD_FORMAT, FILLED, REPEATED)
GOAL = "Goal Reached!"
QUESTION, RESPONSE = "###Question: sudoku\n", "###Response:\n"
EMPTY = "."
_STEP = re.compile(r"r([1-9])c([1-9])=([1-9])")


class Step(NamedTuple):
    """One line of a response: a digit for a cell, both counted as the board does."""

    cell: int  # from 0, in reading order
    digit: str


@dataclass(frozen=True)
class Board:
    """The size of the boxes; a grid has as many rows and columns as a box has cells."""

    box_rows: int
    box_columns: int

    @property
    def size(self) -> int:
        """Rows, columns, boxes and digits."""
        return self.box_rows * self.box_columns

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.size**2

    @property
    def digits(self) -> str:
        """All digits."""
        return "123456789"[: self.size]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """What a step calls each cell: `r1c1`, `r1c2`, ..."""
        numbers = range(1, self.size + 1)
        return tuple(f"r{row}c{column}" for row in numbers for column in numbers)

    def units(self, cell: int) -> tuple[int, int, int]:
        """The row, the column and the box of a cell, each from 0."""
        row, column = divmod(cell, self.size)
        box = row // self.box_rows * self.box_rows + column // self.box_columns
        return row, column, box

    @cached_property
    def peers(self) -> tuple[tuple[int, ...], ...]:
        """For each cell, the others of its row, column and box."""
        units, everything = [self.units(cell) for cell in range(self.cells)], range(self.cells)
        return tuple(
            tuple(
                other
                for other in everything
                if other != cell
                and any(a == b for a, b in zip(units[other], units[cell], strict=True))
            )
            for cell in everything
        )

    def parse_step(self, line: str) -> Step | None:
        """The step that a line states, or None where it names no cell or digit of this board."""
        match = _STEP.fullmatch(line)
        if match is None or max(map(int, match.groups())) > self.size:
            return None
        row, column, digit = match.groups()
        return Step((int(row) - 1) * self.size + int(column) - 1, digit)

    def step_text(self, cell: int, digit: str) -> str:
        """A step as a line of a response has it, without its end."""
        return f"{self.names[cell]}={digit}"

    def clashes(self, grid: Sequence[str], cell: int, digit: str) -> bool:
        """Whether the digit stands in the cell's row, column or box already."""
        return any(grid[peer] == digit for peer in self.peers[cell])

    def after(self, grid: str, steps: Sequence[str]) -> str | None:
        """The grid after these steps; None where one of them is not legal."""
        now = list(grid)
        for line in steps:
            step = self.parse_step(line)
            if step is None or now[step.cell] != EMPTY or self.clashes(now, *step):
                return None
            now[step.cell] = step.digit
        return "".join(now)

    def shows_error(self, problem: Any, steps: Sequence[str]) -> bool:
        """Whether these steps show, without looking ahead, that they reach no solution: one is not
        legal, or an empty cell has no legal digit left."""
        grid = self.after(givens(problem), steps)
        if grid is None:
            return True
        empty = (cell for cell, digit in enumerate(grid) if digit == EMPTY)
        taken = ({grid[peer] for peer in self.peers[cell]} - {EMPTY} for cell in empty)
        return any(len(digits) == self.size for digits in taken)

    def sound(self, grid: str) -> bool:
        """Whether no digit of the grid stands twice in a row, column or box."""
        filled = (cell for cell in range(self.cells) if grid[cell] != EMPTY)
        return not any(self.clashes(grid, cell, grid[cell]) for cell in filled)

    def steps(self, grid: str, solution: str, end: int | None = None) -> list[str]:
        """The steps from a grid to its solution, in reading order; of the cells before `end`."""
        empty = (cell for cell, digit in enumerate(grid[:end]) if digit == EMPTY)
        return [self.step_text(cell, solution[cell]) for cell in empty]

    def prompt(self, grid: str) -> str:
        """The question: its givens, written as steps are.

        A digit's cell then is a word of the text, and a model need not count to know it.
        """
        filled = ((cell, digit) for cell, digit in enumerate(grid) if digit != EMPTY)
        lines = "".join(f"{self.step_text(*each)}\n" for each in filled)
        return f"{QUESTION}{lines}{RESPONSE}"

    def shown(self, grid: str) -> str:
        """The grid in its rows."""
        return "\n".join(grid[at : at + self.size] for at in range(0, self.cells, self.size))

    def check(self, problem: Any, response: str) -> Verdict:
        """The strict verdict on a response (the text after the prompt, end-of-sequence removed).

        Every empty cell is filled once, in any order, no digit stands twice in a row, column or
        box, no filled cell is written into again, and the goal line ends the response. The first
        failing line names the error; in one line, format comes before the cell, and the cell
        before its digit.
        """
        grid = list(givens(problem))
        lines = response.split("\n")
        steps = lines[:-1]
        for index, line in enumerate(steps):
            step = self.parse_step(line)
            if step is None:
                return Verdict(False, BAD_FORMAT, index)
            if grid[step.cell] != EMPTY:
                return Verdict(False, FILLED, index)
            if self.clashes(grid, *step):
                return Verdict(False, REPEATED, index)
            grid[step.cell] = step.digit
        if lines[-1] != GOAL:
            bad = lines[-1] not in ("", BACKTRACK)
            return Verdict(False, BAD_FORMAT if bad else NOT_REACHED, len(steps))
        if EMPTY in grid:
            return Verdict(False, NOT_REACHED, len(steps))
        return Verdict(True)


@lru_cache(maxsize=8)
def board_of(box_rows: int, box_columns: int) -> Board:
    """The board with boxes of this size, whose tables are made once."""
    return Board(box_rows, box_columns)


def givens(problem: Any) -> str:
    """The grid that a problem gives: of a text, a mapping, or a table's row with `givens`."""
    if isinstance(problem, str):
        return problem
    known = isinstance(problem, Mapping | pd.Series)
    return problem["givens"] if known else problem.givens
