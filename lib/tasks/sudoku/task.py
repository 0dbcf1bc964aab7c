"""Sudoku as a `lib.tasks.task.Task`, made of the files beside this one.

Takes a profile's `[task.settings]`; gives the task. Knows nothing of models or search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd

from lib.tasks.sudoku import problems, rules, traces
from lib.tasks.sudoku.interactive import SudokuForm
from lib.tasks.sudoku.rules import EMPTY, GOAL, QUESTION, RESPONSE
from lib.tasks.sudoku.solver import ExactSolver
from lib.tasks.task import Grid, Task, TraceSettings, Verdict


def make_task(settings: Mapping[str, Any]) -> SudokuTask:
    """The task, as `lib.tasks.task.load_task` asks for it."""
    return SudokuTask(problems.make_settings(settings))


@dataclass(frozen=True)
class SudokuTask(Task):
    """Sudoku on a board, and with numbers of givens, of its settings."""

    settings: problems.Settings
    name: str = "sudoku"
    step_end: str = "\n"
    goal: str = GOAL
    errors: ClassVar = rules.ERRORS

    @property
    def pieces(self) -> tuple[str, ...]:
        """Two tokens a step or a given: the cell, and its digit with the line's end."""
        board = self.settings.board
        cells = (f"{name}=" for name in board.names)
        return (QUESTION, RESPONSE, GOAL, *cells, *(f"{digit}\n" for digit in board.digits))

    @property
    def max_response_tokens(self) -> int:
        """Two for each empty cell; the goal line and its end."""
        return 2 * (self.settings.board.cells - self.settings.fewest_givens) + 2

    @property
    def terms(self) -> str:
        seen, new = (_listed(self.settings.givens(split)) for split in ("seen", "new"))
        return (
            f"**Seen** problems have as many given digits as those of training ({seen}); **new** "
            f"ones have {new}, which no problem of training has. An answer is right by the "
            "**strict** checker: every empty cell filled once, no digit twice in a row, column or "
            "box."
        )

    def make_problems(self, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
        return problems.make_problems(self.settings, counts, seed)

    def prompts(self, table: pd.DataFrame) -> list[str]:
        return [self.settings.board.prompt(grid) for grid in table.givens]

    def optimal_traces(self, table: pd.DataFrame) -> pd.DataFrame:
        return traces.optimal_traces(table, self.settings.board)

    def backtracking_traces(
        self,
        table: pd.DataFrame,
        seed: int,
        settings: TraceSettings,
        tests: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        how = (seed, settings.loss, settings.kinds)
        return traces.backtracking_traces(table, self.settings.board, *how)

    def play_traces(
        self, table: pd.DataFrame, seed: int, tests: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        return traces.play_traces(table, self.settings, seed)

    def check(self, problem: Any, response: str) -> Verdict:
        return self.settings.board.check(problem, response)

    def shows_error(self, problem: Any, steps: Sequence[str]) -> bool:
        return self.settings.board.shows_error(problem, steps)

    @property
    def solver(self) -> ExactSolver:
        return ExactSolver(self.settings.board)

    @property
    def form(self) -> SudokuForm:
        return SudokuForm(self.settings)

    @property
    def grid(self) -> Grid:
        return Grid(self.settings.box_rows, self.settings.box_columns, EMPTY)

    def summary(self, table: pd.DataFrame) -> pd.DataFrame:
        counts = table["givens"].str.count("[1-9]")
        return (
            table.assign(count=counts)
            .groupby("split")
            .agg(
                problems=("count", "size"),
                fewest_givens=("count", "min"),
                most_givens=("count", "max"),
            )
        )

    def step_kinds(self, table: pd.DataFrame) -> pd.DataFrame:
        """How many digits are legal at a step."""
        return traces.step_kinds(table, self.settings.board)


def _listed(numbers: list[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
