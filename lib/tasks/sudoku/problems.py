"""Sudoku problems in bulk: a single solution, a set number of givens, disjoint between the splits.

Takes task settings, counts and a seed; gives a DataFrame of problems, each with its solution. Knows
nothing of traces or models. No problem of one split is an image of one of another under the
symmetries of lib/tasks/sudoku/symmetry.py (digits renamed, lines moved, a square box's mirror).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import StrictInt, model_validator

from lib.base.checked import Count, Counts, between, build, checked, demand
from lib.base.errors import UserError
from lib.tasks.sudoku.grids import full_grids, with_givens
from lib.tasks.sudoku.rules import EMPTY, Board, board_of
from lib.tasks.sudoku.symmetry import keys

# Test sets first: whatever the training set's size, the test problems stay the same.
SPLITS = ("new", "seen", "validation", "train")
BATCH, FEWEST_TRIES = 20_000, 500
FRUITLESS = 10
Side = Annotated[StrictInt, between(2, 3)]


@checked
class Settings:
    """The `[task.settings]` table of a profile that uses this task."""

    box_rows: Side
    box_columns: Side
    fewest_givens: Count
    most_givens: Count
    #: Numbers of givens that only the `new` split has.
    held_out: Counts

    @model_validator(mode="after")
    def _together(self) -> Settings:
        fewest, most, cells = self.fewest_givens, self.most_givens, self.board.cells
        demand("most_givens", most, most < cells, f"less than the board's {cells} cells")
        inside = fewest < min(self.held_out) and max(self.held_out) < most
        # So that new problems are neither harder nor easier than all that training has.
        right = f"numbers between fewest_givens and most_givens ({fewest} and {most}), without them"
        demand("held_out", self.held_out, inside, right)
        return self

    @property
    def board(self) -> Board:
        """The board of these boxes."""
        return board_of(self.box_rows, self.box_columns)

    def givens(self, split: str) -> list[int]:
        """The numbers of givens that a split's problems have."""
        every = range(self.fewest_givens, self.most_givens + 1)
        return [number for number in every if (number in self.held_out) == (split == "new")]


def make_settings(table: Mapping[str, Any]) -> Settings:
    """Settings from a profile's table; `UserError` names a missing, unknown or mistyped key."""
    return build(Settings, table, "task.settings")


def texts(grids: np.ndarray) -> list[str]:
    """Grids (uint8 [n, cells]) as texts."""
    letters = np.where(grids > 0, grids + ord("0"), ord(EMPTY)).astype(np.uint8)
    return [row.tobytes().decode() for row in letters]


def arrays(grids: pd.Series, board: Board) -> np.ndarray:
    """Texts of grids as an array: uint8 [n, cells]; `UserError` names one that is no such grid."""
    known = {EMPTY, *board.digits}
    for row, grid in enumerate(grids):
        if len(grid) != board.cells or not known.issuperset(grid):
            raise UserError(f"row {row}: {grid!r} is no grid of {board.cells} cells")
    letters = np.frombuffer("".join(grids).encode(), dtype=np.uint8)
    digits = np.where(letters == ord(EMPTY), 0, letters - ord("0")).astype(np.uint8)
    return digits.reshape(len(grids), board.cells)


def make_problems(settings: Settings, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
    """Problems for each split, all different; between splits also under the symmetries.

    Returns columns givens, solution (grids as texts), split. Raises `UserError` where the board has
    too few problems for the counts asked.
    """
    unknown = set(counts) - set(SPLITS)
    if unknown:
        raise UserError(f"split {min(unknown)!r}: no such split; choose from {', '.join(SPLITS)}")
    board, frames = settings.board, []
    others = np.empty(0, dtype=np.uint64)  # keys of the splits before
    for index, split in enumerate(SPLITS):
        generator = np.random.default_rng([seed, 1, index])
        numbers, known = np.array(settings.givens(split)), pd.DataFrame(columns=["givens"])
        wanted, fruitless, parts, own = counts.get(split, 0), 0, [known], [others]
        while wanted > 0:
            tries = min(max(2 * wanted, FEWEST_TRIES), BATCH)
            solutions = full_grids(board, tries, generator)
            grids, found = with_givens(
                board, solutions, generator.choice(numbers, tries), generator
            )
            key = keys(board, grids)
            found &= ~np.isin(key, others)
            made = {"givens": texts(grids[found]), "solution": texts(solutions[found])}
            made = pd.DataFrame(made).drop_duplicates("givens")
            fresh = made.index[~made["givens"].isin(known["givens"])][:wanted]
            parts.append(made.loc[fresh])
            own.append(key[found][fresh])
            known = pd.concat(parts, ignore_index=True)
            wanted -= len(fresh)
            fruitless = 0 if len(fresh) else fruitless + 1
            if fruitless == FRUITLESS:
                raise UserError(
                    f"{split}: {counts[split]} problems asked, and only about {len(known)} were "
                    "found that no other split has; ask for fewer or widen task.settings"
                )
        others = np.unique(np.concatenate(own))
        frames.append(known.assign(split=split))
    return pd.concat(frames, ignore_index=True)[["givens", "solution", "split"]]


def random_problem(settings: Settings, chance: random.Random) -> str:
    """The givens of a problem that has a single solution, as many as training problems have."""
    generator = np.random.default_rng(chance.getrandbits(64))
    numbers = np.array(settings.givens("train"))
    while True:
        solutions = full_grids(settings.board, 16, generator)
        how = (generator.choice(numbers, len(solutions)), generator)
        grids, found = with_givens(settings.board, solutions, *how)
        if found.any():
            return texts(grids[found][:1])[0]
