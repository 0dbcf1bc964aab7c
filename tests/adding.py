"""A second task, for tests: add two numbers. One file, and nothing else had to change for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from lib.tasks.task import BACKTRACK, BAD_FORMAT, BAD_RESULT, NOT_REACHED, Task, Verdict


@dataclass(frozen=True)
class Adding(Task):
    """`12+7;` asks, `19.` answers, and `done` ends; a step ends with a full stop."""

    most: int
    name: str = "adding"
    step_end: str = "."
    goal: str = "done"
    max_response_tokens: int = 8
    pieces: ClassVar = (*"0123456789+;.", "done")
    errors: ClassVar = (NOT_REACHED, BAD_FORMAT, BAD_RESULT)

    def make_problems(self, counts, seed):
        generator = np.random.default_rng(seed)
        rows = [
            {"a": int(a), "b": int(b), "split": split}
            for split, count in counts.items()
            for a, b in generator.integers(0, self.most, (count, 2))
        ]
        return pd.DataFrame(rows)

    def prompts(self, problems):
        return [f"{a}+{b};" for a, b in zip(problems.a, problems.b, strict=True)]

    def traces(self, problems, wrong, end, kind):
        rows = []
        for prompt, a, b in zip(self.prompts(problems), problems.a, problems.b, strict=True):
            step = f"{a + b + wrong}."
            mask = "0" * len(prompt) + str(1 - wrong) * len(step) + "2" * len(end)
            rows.append({"text": prompt + step + end, "mask": mask, "kind": kind})
        return pd.DataFrame(rows, columns=["text", "mask", "kind"])

    def optimal_traces(self, problems):
        return self.traces(problems, 0, self.goal, "optimal")

    def backtracking_traces(self, problems, seed, settings, tests=None):
        return self.traces(problems, 1, BACKTRACK, "computation")

    def check(self, problem, response):
        step, _, last = response.partition(".")
        if not step.isascii() or not step.isdigit():
            return Verdict(False, BAD_FORMAT, 0)
        if int(step) != problem.a + problem.b:
            return Verdict(False, BAD_RESULT, 0)
        return Verdict(True) if last == self.goal else Verdict(False, NOT_REACHED, 1)


def make_task(settings):
    return Adding(**settings)
