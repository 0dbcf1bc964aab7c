"""Sudoku grids in bulk: full ones, and which of their givens leave a single solution.

Takes a board, full grids and a random generator; gives arrays of grids (uint8 [n, cells], 0 where
empty). Knows nothing of text, splits or traces.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lib.tasks.sudoku.rules import Board
from lib.tasks.sudoku.symmetry import random_images

POOL = 64  # full grids that are searched for at a time; all others are images of them


class Units:
    """A board's rows, columns and boxes for arrays: the cells of each, and those of each cell."""

    def __init__(self, board: Board):
        of_cell = np.array([board.units(cell) for cell in range(board.cells)])
        self.of_cell = of_cell + board.size * np.arange(3)  # int64 [cells, 3]: numbers of units
        self.cells = np.array(
            [np.flatnonzero(self.of_cell.T[kind] == kind * board.size + unit)
             for kind in range(3) for unit in range(board.size)]
        )  # fmt: skip
        self.all_digits = np.uint16((1 << board.size) - 1)
        #: The bit of each digit, none for an empty cell.
        self.bits = np.array([0, *(1 << digit for digit in range(board.size))], dtype=np.uint16)


@lru_cache(maxsize=8)
def units_of(board: Board) -> Units:
    """The board's `Units`, made once."""
    return Units(board)


def full_grids(board: Board, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random full grids: uint8 [count, cells]; images of at most `POOL` ones."""
    if not count:
        return np.zeros((0, board.cells), dtype=np.uint8)
    pool = np.array([_filled(board, generator) for _ in range(min(POOL, count))], dtype=np.uint8)
    return random_images(board, pool[generator.integers(0, len(pool), count)], generator)


def _filled(board: Board, generator: np.random.Generator) -> list[int]:
    """A full grid, by depth-first search through random digits in reading order."""
    digits = range(1, board.size + 1)
    order = generator.random((board.cells, board.size)).argsort(1) + 1
    grid, at, tried = [0] * board.cells, 0, [0] * (board.cells + 1)
    while at < board.cells:
        taken = {grid[peer] for peer in board.peers[at] if peer < at}
        grid[at] = 0
        while tried[at] < len(digits):
            digit = int(order[at, tried[at]])
            tried[at] += 1
            if digit not in taken:
                grid[at] = digit
                break
        if grid[at]:
            at += 1
            tried[at] = 0
        else:
            at -= 1
    return grid


def legal_digits(units: Units, grids: np.ndarray) -> np.ndarray:
    """The digits that each cell may have, a bit each: uint16 [n, cells]; 0 where it is full."""
    used = np.bitwise_or.reduce(units.bits[grids][:, units.cells], axis=2)
    taken = np.bitwise_or.reduce(used[:, units.of_cell], axis=2)
    return np.where(grids > 0, np.uint16(0), units.all_digits & ~taken)


def other_solutions(board: Board, grids: np.ndarray, solutions: np.ndarray) -> np.ndarray:
    """A solution of each grid other than the known one: uint8 [n, cells]; 0 where there is none.

    Depth-first, one state of each grid at a time, all grids side by side.
    """
    units = units_of(board)
    found = np.zeros_like(grids)
    states, owners = grids.copy(), np.arange(len(grids))
    while len(states):
        # The newest state of each grid; states of a grid stand in the order of their making.
        _, last = np.unique(owners[::-1], return_index=True)
        taken = len(owners) - 1 - last
        rest = np.ones(len(owners), dtype=bool)
        rest[taken] = False
        (now, alive, left), whose = _forced(units, states[taken]), owners[taken]
        states, owners = states[rest], owners[rest]
        full = alive & (now > 0).all(1)
        full[full] = (now[full] != solutions[whose[full]]).any(1)
        found[whose[full]] = now[full]
        ended = np.zeros(len(grids), dtype=bool)
        ended[whose[full]] = True
        goes_on = alive & (now == 0).any(1)
        more, of = _branched(board, now[goes_on], left[goes_on])
        states = np.concatenate([states[~ended[owners]], more])
        owners = np.concatenate([owners[~ended[owners]], whose[goes_on][of]])
    return found


def _forced(units: Units, grids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """These grids with every forced digit written, which of them have no contradiction, and the
    digits left for each cell of those that have none.

    A digit is forced where a cell has no other, or a row, column or box no other cell for it.
    """
    now, alive = grids.copy(), np.ones(len(grids), dtype=bool)
    left = np.zeros(now.shape, dtype=np.uint16)
    open_ = np.arange(len(now))
    while len(open_):
        grids = now[open_]
        left[open_] = legal = legal_digits(units, grids)
        of_unit = legal[:, units.cells]
        once, twice = np.zeros_like(of_unit[:, :, 0]), np.zeros_like(of_unit[:, :, 0])
        for place in range(of_unit.shape[2]):
            twice |= once & of_unit[:, :, place]
            once |= of_unit[:, :, place]
        bits = units.bits[grids]
        written = np.bitwise_or.reduce(bits[:, units.cells], axis=2)
        # A digit stands twice, or has no place left, or a cell has no digit left.
        twice_there = np.bitwise_count(written) != (bits[:, units.cells] > 0).sum(2)
        nowhere = (written | once) != units.all_digits
        bad = (twice_there | nowhere).any(1) | ((grids == 0) & (legal == 0)).any(1)
        only = np.bitwise_or.reduce((once & ~twice)[:, units.of_cell], axis=2) & legal
        single = np.where(only > 0, only, np.where(np.bitwise_count(legal) == 1, legal, 0))
        bad |= (np.bitwise_count(single) > 1).any(1)
        alive[open_[bad]] = False
        some = ~bad & (single > 0).any(1)
        digit = np.bitwise_count(single[some] - np.uint16(1)).astype(np.uint8) + 1
        now[open_[some]] = np.where(single[some] > 0, digit, grids[some])
        open_ = open_[some]
    return now, alive, left


def _branched(board: Board, now: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each grid once for every digit of a cell that has the fewest; and which grid each is of."""
    rows = np.arange(len(now))
    counts = np.where(left > 0, np.bitwise_count(left), board.size + 1)
    cell = counts.argmin(1)
    digits = left[rows, cell][:, None] >> np.arange(board.size, dtype=np.uint16) & 1
    of, digit = np.nonzero(digits)
    made = now[of]
    made[np.arange(len(of)), cell[of]] = digit + 1
    return made, of


def with_givens(
    board: Board, solutions: np.ndarray, counts: np.ndarray, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """So many givens of each full grid that leave no other solution: grids, and which were found.

    counts: int64 [n]. It begins with half of them at random. Where another solution is left, a cell
    in which the two differ is given too; once there is none, random cells fill the number up.
    """
    total = len(solutions)
    given = generator.random(solutions.shape).argsort(1).argsort(1) < (counts // 2)[:, None]
    found, open_ = np.zeros(total, dtype=bool), np.arange(total)
    while len(open_):
        known = solutions[open_]
        other = other_solutions(board, np.where(given[open_], known, np.uint8(0)), known)
        ambiguous = other.any(1)
        found[open_[~ambiguous]] = True
        kept = ambiguous & (given[open_].sum(1) < counts[open_])
        open_, other, known = open_[kept], other[kept], known[kept]
        differ = np.where(other != known, generator.random(other.shape), -1.0)
        given[open_, differ.argmax(1)] = True
    order = np.where(given, 1.0, generator.random(given.shape))  # what is given stays so
    given = (-order).argsort(1).argsort(1) < counts[:, None]
    return np.where(given, solutions, np.uint8(0)), found
