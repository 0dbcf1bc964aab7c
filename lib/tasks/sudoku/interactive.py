"""Sudoku's form in the explorer: what is typed, what a state shows, why an answer is wrong.

Takes the task's settings; gives a `lib.tasks.task.Form`. Knows nothing of models, trees or drawing.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from lib.base.errors import UserError
from lib.tasks.sudoku.problems import Settings, random_problem
from lib.tasks.sudoku.rules import EMPTY, GOAL, Board, givens
from lib.tasks.sudoku.solver import solutions
from lib.tasks.task import BACKTRACK, Field

UNITS = ("row", "column", "box")


@dataclass(frozen=True)
class SudokuForm:
    """Sudoku as a `lib.tasks.task.Form`."""

    settings: Settings
    state_label: ClassVar = "Grid"
    step_example: ClassVar = "r1c3=4"

    @property
    def about(self) -> str:
        """The task in one sentence or two."""
        board = self.settings.board
        return (
            f"Fill the empty cells with the digits 1 to {board.size} so that no row, no column and "
            f"no box ({board.box_rows} rows, {board.box_columns} columns) has a digit twice. A "
            "step such as r1c3=4 writes a 4 into row 1, column 3."
        )

    @property
    def fields(self) -> tuple[Field, ...]:
        given, size = self.settings, self.settings.board.size
        tip = (
            f"{size} rows of {size} digits; a dot or 0 is an empty cell. The models here were "
            f"trained on grids of {given.fewest_givens} to {given.most_givens} digits."
        )
        return (Field("grid", "Grid", tip, f"{size + 3}em", size),)

    def parse(self, texts: Mapping[str, str]) -> str:
        """The grid that is typed, in rows; spaces, and lines between the boxes, may stand in it."""
        board = self.settings.board
        lines = [re.sub(r"[\s|]", "", line) for line in texts["grid"].strip().splitlines()]
        lines = [line for line in lines if not re.fullmatch(r"[-+=]*", line)]
        if len(lines) == 1 and len(lines[0]) == board.cells:  # all rows in one line
            lines = board.shown(lines[0]).split("\n")
        if len(lines) != board.size:
            raise UserError(f"Grid: {len(lines)} rows given; type {board.size}.")
        for number, line in enumerate(lines, 1):
            if len(line) != board.size:
                raise UserError(f"Grid: row {number} has {len(line)} cells; type {board.size}.")
            if wrong := set(line) - {EMPTY, "0", *board.digits}:
                raise UserError(
                    f"Grid: {min(wrong)!r} in row {number}; type digits from 1 to {board.size}, "
                    "and a dot where a cell is empty."
                )
        grid = "".join(lines).replace("0", EMPTY)
        for cell, digit in enumerate(grid):
            if digit != EMPTY and (where := repeated(board, grid, cell, digit)):
                raise UserError(f"Grid: {digit} stands twice in {where}.")
        return grid

    def texts(self, problem: object) -> dict[str, str]:
        return {"grid": self.settings.board.shown(givens(problem))}

    def random_problem(self, generator: random.Random) -> str:
        """A problem that has a single solution."""
        return random_problem(self.settings, generator)

    def prompt(self, problem: object) -> str:
        return self.settings.board.prompt(givens(problem))

    def title(self, problem: object) -> str:
        return " / ".join(self.settings.board.shown(givens(problem)).split("\n"))

    def goal(self, problem: object) -> str:
        return "a solution"

    def state(self, problem: object, steps: Sequence[str]) -> str | None:
        grid = self.settings.board.after(givens(problem), steps)
        return None if grid is None else self.settings.board.shown(grid)

    def parse_step(self, text: str) -> str | None:
        board = self.settings.board
        step = board.parse_step(re.sub(r"\s", "", text).lower())
        return None if step is None else board.step_text(*step)

    def reason(self, problem: object, response: str) -> str:
        """Why the strict check fails a response, told by its first line that fails."""
        board, grid = self.settings.board, givens(problem)
        verdict = board.check(problem, response)
        if verdict.correct:
            return ""
        *steps, last = response.split("\n")
        if verdict.step is not None and verdict.step < len(steps):
            before = board.after(grid, steps[: verdict.step])
            return _illegal(board, grid, before, steps[verdict.step], verdict.step)
        if last == BACKTRACK:
            return f"ends in {BACKTRACK}"
        if last != GOAL:
            return f"the last line is no step: {_short(last)}" if last else "stops in the middle"
        empty = board.after(grid, steps).count(EMPTY)
        return f"stops with {empty} {'cell' if empty == 1 else 'cells'} empty"

    def outside(self, problem: object) -> str:
        """What of the problem lies outside the settings' ranges."""
        given, grid = self.settings, givens(problem)
        found, count = [], given.board.cells - grid.count(EMPTY)
        if not given.fewest_givens <= count <= given.most_givens:
            trained = f"{given.fewest_givens} to {given.most_givens}"
            found.append(f"{count} digits given (trained on {trained})")
        if len(solutions(given.board, grid)) > 1:
            found.append("more than one solution (trained on problems with one)")
        return "; ".join(found)


def repeated(board: Board, grid: str, cell: int, digit: str) -> str:
    """Where the digit stands beside the cell already: `row 2`, `column 3` or `box 1`; or ""."""
    here = board.units(cell)
    for peer in board.peers[cell]:
        if grid[peer] == digit:
            shared = zip(UNITS, here, board.units(peer), strict=True)
            return next(f"{name} {own + 1}" for name, own, other in shared if own == other)
    return ""


def _illegal(board: Board, given: str, grid: str, line: str, at: int) -> str:
    """Why a step, the first that is not legal, is not."""
    step = board.parse_step(line)
    if step is None:
        return f"step {at + 1} is no step: {_short(line)}"
    if grid[step.cell] != EMPTY:
        what = "is given" if given[step.cell] != EMPTY else "is filled already"
        return f"{line}: {board.names[step.cell]} {what}"
    return f"{line}: {step.digit} is in {repeated(board, grid, *step)} already"


def _short(line: str) -> str:
    return line if len(line) <= 16 else line[:15] + "…"
