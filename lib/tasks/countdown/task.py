"""Countdown as a `lib.tasks.task.Task`, made of the files beside this one.

Takes a profile's `[task.settings]`; gives the task. Knows nothing of models or search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from lib.tasks.countdown import problems, rules, traces
from lib.tasks.countdown.interactive import CountdownForm
from lib.tasks.countdown.rules import GOAL, OPERATORS, Problem
from lib.tasks.countdown.search_streams import SearchStreams
from lib.tasks.countdown.solver import ExactSolver
from lib.tasks.countdown.symbolic_dfs import symbolic_dfs
from lib.tasks.task import Task, TraceSettings


def make_task(settings: Mapping[str, Any]) -> CountdownTask:
    """The task, as `lib.tasks.task.load_task` asks for it."""
    return CountdownTask(problems.make_settings(settings))


@dataclass(frozen=True)
class CountdownTask(Task):
    """Countdown with numbers and targets from the ranges of its settings."""

    VERSION: ClassVar[int] = 5

    settings: problems.Settings
    name: str = "countdown"
    step_end: str = "\n"
    goal: str = GOAL
    errors: ClassVar = rules.ERRORS
    near_misses: ClassVar = True
    terms: ClassVar = (
        "**Seen** targets occur in training, with other numbers; **new** ones were held out. An "
        "answer is right by the **strict** checker: every number used once, every step exact, the "
        "last result the target."
    )

    @property
    def pieces(self) -> tuple[str, ...]:
        """The question's fixed parts whole, numbers digit by digit: with whole numbers as tokens a
        from-scratch model scores nothing on held-out targets."""
        fixed = ("###Question: numbers [", ", ", "]->target ", "\n###Response:\n", GOAL)
        return (*fixed, "\n", "=", *OPERATORS, *"0123456789")

    @property
    def max_response_tokens(self) -> int:
        """Three of the longest numbers, operator, `=`, line end; the goal line and its end."""
        digits = len(str(max(self.settings.max_result, self.settings.max_number)))
        return (self.settings.numbers - 1) * (3 * digits + 3) + 2

    def make_problems(self, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
        return problems.make_problems(self.settings, counts, seed)

    def prompts(self, table: pd.DataFrame) -> list[str]:
        return [Problem.of(row).prompt() for row in table.to_dict("records")]

    def optimal_traces(self, table: pd.DataFrame) -> pd.DataFrame:
        return traces.optimal_traces(table)

    def backtracking_traces(
        self,
        table: pd.DataFrame,
        seed: int,
        settings: TraceSettings,
        tests: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        how = settings.loss, settings.near_miss, tests, settings.kinds
        return traces.backtracking_traces(table, self.settings, seed, *how)

    def play_traces(
        self, table: pd.DataFrame, seed: int, tests: pd.DataFrame | None = None
    ) -> pd.DataFrame:
        return traces.play_traces(table, seed, tests)

    check = staticmethod(rules.check)
    check_published = staticmethod(rules.check_published)
    goal_test = staticmethod(rules.equation_test)
    symbolic_dfs = staticmethod(symbolic_dfs)
    question_group = staticmethod(rules.numbers_asked)
    solver = ExactSolver()
    shows_error = staticmethod(rules.shows_error)

    @property
    def streams(self) -> SearchStreams:
        return SearchStreams(self.settings.max_result)

    @property
    def form(self) -> CountdownForm:
        return CountdownForm(self.settings)

    def read_public(
        self, source: str | Path, loss: str, counts: Mapping[str, int]
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        from lib.tasks.countdown import public_splits  # `datasets` takes a second to import

        return public_splits.read_splits(source, loss, counts)

    def summary(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.groupby("split").agg(
            problems=("target", "size"), targets=("target", "nunique")
        )

    def step_kinds(self, table: pd.DataFrame) -> pd.DataFrame:
        """The operators."""
        counts = {
            split: [solutions.str.count(f"\\{operator}").sum() for operator in OPERATORS]
            for split, solutions in table.groupby("split")["solution"]
        }
        return pd.DataFrame(counts, index=list(OPERATORS))
