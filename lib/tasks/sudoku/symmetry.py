"""The symmetries of Sudoku: what turns a grid into another that is the same puzzle.

Takes grids in bulk; gives random images of them, and a key that all images of a grid share. Knows
nothing of problems or text. The group, in full:

- the digits are renamed, by any permutation;
- the bands (the rows of a row of boxes) change places, and so do the rows within each band;
- the stacks (the columns of a column of boxes) change places, and so do the columns within each;
- where a box has as many rows as columns, the grid is mirrored at its diagonal.

That is 720 x 48 x 72 = 2,488,320 images of a 6x6 grid.
"""

from __future__ import annotations

import numpy as np

from lib.tasks.sudoku.rules import Board

ROUNDS = 4


def _lines(groups: int, each: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Random orders of lines that keep groups of `each` together; int64 [count, groups * each]."""
    order = generator.random((count, groups)).argsort(1)
    within = generator.random((count, groups, each)).argsort(2)
    return (order[:, :, None] * each + within).reshape(count, groups * each)


def random_images(board: Board, grids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each grid moved by a random symmetry. grids: uint8 [n, cells], 0 where empty."""
    count, size = len(grids), board.size
    rows = _lines(size // board.box_rows, board.box_rows, count, generator)
    columns = _lines(size // board.box_columns, board.box_columns, count, generator)
    cells = rows[:, :, None] * size + columns[:, None, :]
    if board.box_rows == board.box_columns:
        mirrored = generator.random(count) < 0.5
        cells[mirrored] = cells[mirrored].transpose(0, 2, 1)
    names = np.zeros((count, size + 1), dtype=np.uint8)
    names[:, 1:] = generator.random((count, size)).argsort(1) + 1
    moved = np.take_along_axis(grids, cells.reshape(count, -1), 1)
    return np.take_along_axis(names, moved.astype(np.int64), 1)


def keys(board: Board, grids: np.ndarray) -> np.ndarray:
    """One uint64 a grid (uint8 [n, cells]), equal for all images of a grid under the group above.

    Grids whose keys differ are no images of each other. The converse holds of nearly all puzzles,
    but not of full grids, whose cells have all the same surroundings.
    """
    found = _refined(board, grids)
    if board.box_rows == board.box_columns:
        size = board.size
        mirrored = grids.reshape(-1, size, size).transpose(0, 2, 1).reshape(len(grids), -1)
        found = found + _refined(board, mirrored)  # a sum: whichever of the two comes first
    return found


def _refined(board: Board, grids: np.ndarray) -> np.ndarray:
    """The key but for the mirror: cells are told apart by their surroundings, round by round.

    What is summed has no order, so that no renaming or change of places is seen.
    """
    count, size = grids.shape[0], board.size
    bands, stacks = size // board.box_rows, size // board.box_columns
    shape = (count, bands, board.box_rows, stacks, board.box_columns)
    digits = grids.astype(np.int64)
    places = digits + (size + 1) * np.arange(count)[:, None]
    cell = _mixed((grids > 0).astype(np.uint64))
    for _ in range(ROUNDS):
        here = _mixed(cell).reshape(shape)
        row, column, box = (
            _mixed(here.sum(axis, keepdims=True)) for axis in ((3, 4), (1, 2), (2, 4))
        )
        band, stack = row.sum(2, keepdims=True), column.sum(4, keepdims=True)
        same = np.zeros(count * (size + 1), dtype=np.uint64)
        np.add.at(same, places.ravel(), here.ravel())
        same = np.where(digits > 0, _mixed(same)[places], np.uint64(0)).reshape(shape)
        parts = (row, column, box, _mixed(band), _mixed(stack), same)
        now = cell.reshape(shape)
        for number, part in enumerate(parts, 1):
            now = _mixed(now + part * np.uint64(2 * number + 1))
        cell = now.reshape(count, -1)
    return _mixed(cell).sum(1)


def _mixed(values: np.ndarray) -> np.ndarray:
    """Bits stirred (splitmix64's end), so that sums of such values hardly ever meet."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
