"""A task whose states are grids, for tests: fill a Latin square of three rows, a cell a step.

`GridEngine` has no model: it gives one tree written by hand, with a roll-back that finds the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lib.base.errors import UserError
from lib.explorer.session import Reading
from lib.search.tree import Node, SearchTree
from lib.tasks.task import BAD_FORMAT, BAD_RESULT, NOT_REACHED, Field, Task, Verdict

SIZE = 3
DIGITS = "123"
FIRST = "12.\n...\n..2"


def filled(grid: str, steps) -> str | None:
    """The grid after steps such as `r1c3=3`; None where one does not fit."""
    rows = [list(row) for row in grid.split("\n")]
    for step in steps:
        if not GridForm.is_step(step):
            return None
        row, column, digit = int(step[1]) - 1, int(step[3]) - 1, step[5]
        taken = {*rows[row], *(each[column] for each in rows)}
        if rows[row][column] != "." or digit in taken:
            return None
        rows[row][column] = digit
    return "\n".join(map("".join, rows))


def solution(grid: str) -> str | None:
    if "." not in grid:
        return grid
    row, column = divmod(grid.replace("\n", "").index("."), SIZE)
    for digit in DIGITS:
        rest = filled(grid, [f"r{row + 1}c{column + 1}={digit}"])
        found = rest and solution(rest)
        if found:
            return found
    return None


class GridForm:
    about: ClassVar = "Fill the grid so that no row and no column has a digit twice."
    state_label: ClassVar = "Grid"
    step_example: ClassVar = "r1c3=3"
    fields: ClassVar = (Field("grid", "Grid", "Three rows of digits and dots.", "6em", 3),)

    @staticmethod
    def is_step(text):
        return len(text) == 6 and text[::2] == "rc=" and all(d in DIGITS for d in text[1::2])

    def parse(self, texts):
        rows = texts["grid"].split()
        if len(rows) != SIZE or any(len(row) != SIZE or set(row) - set("123.") for row in rows):
            raise UserError("Grid: type three rows of three, of the digits 1 to 3 and dots.")
        return "\n".join(rows)

    def texts(self, problem):
        return {"grid": problem}

    def random_problem(self, generator):
        return FIRST

    def prompt(self, problem):
        return f"{problem};"

    def title(self, problem):
        return problem.replace("\n", " / ")

    def goal(self, problem):
        return "a full grid"

    def state(self, problem, steps):
        return filled(problem, steps)

    def parse_step(self, text):
        return text.strip() if self.is_step(text.strip()) else None

    def reason(self, problem, response):
        *steps, last = response.split(",")
        state = filled(problem, steps)
        if state is None:
            return "a digit stands twice"
        return "" if "." not in state and last == "done" else "cells are empty"

    def outside(self, problem):
        return ""


class GridSolver:
    def reachable(self, problem, steps):
        state = filled(problem, steps)
        return state is not None and solution(state) is not None

    def judge_steps(self, problem, steps):
        return None if self.reachable(problem, steps) else "exploration"

    def complete(self, problem, steps):
        raise NotImplementedError


@dataclass(frozen=True)
class GridTask(Task):
    name: str = "grid"
    step_end: str = ","
    goal: str = "done"
    max_response_tokens: int = 40
    pieces: ClassVar = (*"123.\n;rc=,", "done")
    errors: ClassVar = (NOT_REACHED, BAD_FORMAT, BAD_RESULT)
    form: ClassVar = GridForm()
    solver: ClassVar = GridSolver()

    def check(self, problem, response):
        reason = self.form.reason(problem, response)
        return Verdict(False, NOT_REACHED) if reason else Verdict(True)

    def make_problems(self, counts, seed):
        raise NotImplementedError

    prompts = optimal_traces = backtracking_traces = make_problems


def make_task(settings):
    return GridTask()


WAY = ["r1c3=3", "r2c1=2", "r2c2=3", "r2c3=1", "r3c1=3", "r3c2=1"]


@dataclass(frozen=True)
class GridEngine:
    """Plays the way with one sample and errs with three others, from which a roll-back goes on."""

    way: Sequence[str] = tuple(WAY)
    wrong: str = "r2c1=3"  # legal after the first step, and no solution is left
    illegal: str = "r1c3=1"
    step_end: str = ","
    goal: str = "done"

    def search(self, prompt, breadth, depth, temperature, seed, per_state="sqrt"):
        nodes = [Node(0, None, "root", 0, "", (), (), 0.01, 4)]

        def add(parent, kind, level, text, p=None, visits=1):
            tokens = tuple(map(ord, text if kind != "backtrack" else "B"))
            made = (tokens, (-0.1,) * len(tokens), p, visits)
            nodes.append(Node(len(nodes), parent, kind, level, text, *made))
            return len(nodes) - 1

        at = add(0, "step", 0, self.way[0], 0.1, 3)
        wrong = add(at, "step", 0, self.wrong, 0.9, 2)
        add(wrong, "backtrack", 0, "<backtrack>", visits=2)
        early = add(at, "step", 0, self.way[1], 0.2)
        add(early, "backtrack", 0, "<backtrack>")
        illegal = add(0, "step", 0, self.illegal, 0.6)
        add(illegal, "goal", 0, self.goal)
        back, at = at, early
        if depth:
            for step in self.way[2:]:
                at = add(at, "step", 1, step, 0.05)
            add(at, "goal", 1, self.goal)
        expanded = ((0, 0), (back, 1)) if depth else ((0, 0),)
        made = (tuple(nodes), expanded, 40, 60, self.step_end)
        return SearchTree(0, prompt, breadth, depth, temperature, seed, *made)

    def greedy(self, prompt):
        return f"{self.illegal}{self.step_end}{self.goal}"

    def read(self, prompt, text=""):
        return Reading(tuple(map(ord, text)), (-0.5,) * len(text), 0.25)

    def token_texts(self, tokens):
        return [chr(token) for token in tokens]


#: The same with Sudoku of 4x4 cells, solved by hand in tests/test_sudoku.py.
SUDOKU = """[task]
module = "lib.tasks.sudoku"
settings = { box_rows = 2, box_columns = 2, fewest_givens = 5, most_givens = 8, held_out = [6] }
"""
SUDOKU_FIRST = "12..\n.4.2\n.14.\n..2."
SUDOKU_WAY = ("r1c3=3", "r1c4=4", "r2c1=3", "r2c3=1", "r3c1=2", "r3c4=3", "r4c1=4", "r4c2=3",
              "r4c4=1")  # fmt: skip


def sudoku_engine() -> GridEngine:
    return GridEngine(
        SUDOKU_WAY, wrong="r3c1=3", illegal="r1c3=2", step_end="\n", goal="Goal Reached!"
    )
