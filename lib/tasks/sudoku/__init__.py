"""Sudoku: fill a grid so that no row, column or box has a digit twice. The second task, one folder.

Takes the task's settings; gives problems, prompts, traces, checks and the exact solver's truth.
Knows nothing of models, search or training.
"""

from lib.tasks.sudoku.task import make_task

__all__ = ["make_task"]
