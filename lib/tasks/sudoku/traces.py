"""What a model learns Sudoku from: optimal paths (D_op), paths that backtrack (D_back), and play.

Takes problems with solutions; gives DataFrames of text, mask and kind. Knows nothing of tokens.
Masks are those of lib/tasks/trace.py. Source: sections 3.2 and 4.1 of the paper.

Cells are filled in reading order: whether a digit was right may show only many cells later. A wrong
step computes nothing, so that the losses `paper` and `honest` both mask it whole. Errors are of
three kinds, in this order in `traces.kinds`: exploration (a digit that is legal now, and not the
solution's), a clash in the row, column or box, and a filled cell that is written again; the last
two are rule violations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.tasks.sudoku.grids import legal_digits, units_of
from lib.tasks.sudoku.problems import Settings, arrays, texts
from lib.tasks.sudoku.rules import GOAL, Board
from lib.tasks.task import EXPLORATION, RULE
from lib.tasks.trace import COLUMNS, demand_loss, right_trace, wrong_trace

REWRITTEN = 2
NAMES = (EXPLORATION, RULE, RULE)
MANY = 4  # so many legal digits, or more


def optimal_traces(table: pd.DataFrame, board: Board) -> pd.DataFrame:
    """D_op: the prompt, the solution's steps in reading order, the goal line."""
    made = []
    for grid, solution in zip(table.givens, table.solution, strict=True):
        body = "".join(f"{step}\n" for step in board.steps(grid, solution))
        made.append(right_trace(board.prompt(grid), body, GOAL, "optimal"))
    return pd.DataFrame(made, columns=COLUMNS)


def legal_along(board: Board, grids: np.ndarray, solutions: np.ndarray) -> np.ndarray:
    """The digits that are legal at each step of a solution, a bit each: uint16 [n, cells].

    Before a cell's step all empty cells before it, in reading order, are filled; 0 for a given.
    """
    units, legal = units_of(board), np.zeros(grids.shape, dtype=np.uint16)
    for cell in range(board.cells):
        before = np.arange(board.cells) < cell
        legal[:, cell] = legal_digits(units, np.where(before, solutions, grids))[:, cell]
    return legal


def backtracking_traces(
    table: pd.DataFrame,
    board: Board,
    seed: int,
    loss: str,
    kinds: Sequence[float] = (1, 1, 1),
) -> pd.DataFrame:
    """D_back: the prompt, steps of the solution, one erroneous step, `<backtrack>`.

    One trace a problem, its kind of error drawn in the parts of `kinds`. The error's place is
    uniform among the steps where there is such an error; where there is none, a filled cell is
    written again. Raises `UserError` for an unknown loss, or parts of other than three kinds.
    """
    demand_loss(loss)
    if len(kinds) != len(NAMES):
        right = "exploration, clash, filled cell"
        raise UserError(f"traces.kinds = {list(kinds)}: must be {len(NAMES)} parts: {right}")
    generator = np.random.default_rng([seed, 2])
    grids, solutions = arrays(table.givens, board), arrays(table.solution, board)
    rows, shares = np.arange(len(table)), np.asarray(kinds, float)
    kind = generator.choice(len(NAMES), len(table), p=shares / shares.sum())
    units, legal = units_of(board), legal_along(board, grids, solutions)
    empty = grids == 0
    wrong = np.where(empty, legal & ~units.bits[solutions], 0)
    clashing = np.where(empty, units.all_digits & ~legal, 0)
    offered = np.stack([wrong, clashing, np.where(empty, units.all_digits, 0)])
    kind[~offered[kind, rows].any(1)] = REWRITTEN
    here = offered[kind, rows] > 0
    place = np.where(here, generator.random(here.shape), -1.0).argmax(1)
    cell = place.copy()
    again = kind == REWRITTEN
    filled = ~empty[again] | (np.arange(board.cells) < place[again, None])
    cell[again] = np.where(filled, generator.random(filled.shape), -1.0).argmax(1)
    choices = offered[kind, rows, place]
    choices[again] &= ~units.bits[solutions[again, cell[again]]]  # another digit than is there
    digit = _chosen(choices, board, generator)
    made = []
    columns = (place.tolist(), cell.tolist(), digit.tolist(), kind.tolist())
    for grid, solution, at, where, what, name in zip(
        table.givens, table.solution, *columns, strict=True
    ):
        prefix = "".join(f"{step}\n" for step in board.steps(grid, solution, at))
        choice = f"{board.step_text(where, str(what))}\n"
        how = {"imitate": True, "exact": False}
        made.append(wrong_trace(board.prompt(grid), prefix, choice, "", NAMES[name], loss, **how))
    return pd.DataFrame(made, columns=COLUMNS)


def play_traces(table: pd.DataFrame, settings: Settings, seed: int) -> pd.DataFrame:
    """Random play: what a model knows that has read the rules, and nothing of choosing.

    Digits that are legal, drawn at random in reading order, until the grid is full (the goal line
    follows) or a cell has none (the path just ends). Half of the questions are the problems' own.
    The others have more givens than any problem has, so that many a path comes to its end; none is
    a test's.
    """
    board, generator = settings.board, np.random.default_rng([seed, 4])
    solutions, grids = arrays(table.solution, board), arrays(table.givens, board)
    more = np.flatnonzero(generator.random(len(table)) < 0.5)
    counts = generator.integers(settings.most_givens + 1, board.cells, len(more))
    order = np.where(grids[more] > 0, 1.0, generator.random((len(more), board.cells)))
    given = (-order).argsort(1).argsort(1) < counts[:, None]
    if settings.most_givens + 1 < board.cells:
        grids[more] = np.where(given, solutions[more], 0)
    played, ends = grids.copy(), np.full(len(table), board.cells)
    units = units_of(board)
    for cell in range(board.cells):
        todo = np.flatnonzero((played[:, cell] == 0) & (ends == board.cells))
        legal = legal_digits(units, played[todo])[:, cell]
        ends[todo[legal == 0]] = cell
        todo, legal = todo[legal > 0], legal[legal > 0]
        played[todo, cell] = _chosen(legal, board, generator)
    made = []
    for grid, path, end in zip(texts(grids), texts(played), ends.tolist(), strict=True):
        body = "".join(f"{step}\n" for step in board.steps(grid, path, end))
        goal = GOAL if end == board.cells else ""
        made.append(right_trace(board.prompt(grid), body, goal, "play"))
    return pd.DataFrame(made, columns=COLUMNS)


def step_kinds(table: pd.DataFrame, board: Board) -> pd.DataFrame:
    """How many digits are legal at the solutions' steps: a row a number, a column a split."""
    counts = {}
    for split, part in table.groupby("split"):
        grids = arrays(part.givens, board)
        legal = np.bitwise_count(legal_along(board, grids, arrays(part.solution, board)))
        numbers = np.minimum(legal[grids == 0], MANY)
        counts[split] = np.bincount(numbers, minlength=MANY + 1)[1:]
    names = ["1 legal digit", *(f"{number} legal" for number in range(2, MANY)), f"{MANY} or more"]
    return pd.DataFrame(counts, index=names)


def _chosen(choices: np.ndarray, board: Board, generator: np.random.Generator) -> np.ndarray:
    """One digit of each set of digits: uint8 [n]. choices: uint16 [n], a bit each."""
    offered = choices[:, None] >> np.arange(board.size, dtype=np.uint16) & 1
    return (offered * (generator.random(offered.shape) + 1)).argmax(1).astype(np.uint8) + 1
