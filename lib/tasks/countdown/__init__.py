"""Countdown: combine all numbers by + - * / into the target. The paper's task, in one folder.

Takes the task's settings; gives problems, prompts, traces, checks and the exact solver's truth.
Knows nothing of models, search or training.
"""

from lib.tasks.countdown.task import make_task

__all__ = ["make_task"]
