"""What the rest of the package may ask of a task, and how a task module is found.

Takes a dotted module name and a table of settings; gives an object that follows `Task`.
Knows nothing of any particular task: search, training and evaluation work through this alone,
so that a second task costs one module with a `make_task(settings)` function.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from lib.base.errors import UserError

BACKTRACK = "<backtrack>"

#: The paper's four error names (its section 4.4 and figures 5 and 9 to 12).
NOT_REACHED = "not reached target"
BAD_FORMAT = "invalid step format"
BAD_RESULT = "incorrect result in step"
UNKNOWN_NUMBER = "unknown number in step"
ERRORS = (NOT_REACHED, BAD_FORMAT, BAD_RESULT, UNKNOWN_NUMBER)


@dataclass(frozen=True)
class Verdict:
    """Whether a response solves its problem; if not, which error, and in which step (from 0)."""

    correct: bool
    error: str | None = None
    step: int | None = None


class Task(Protocol):
    """A task: problems, the traces to learn from, and a checker.

    Text is `prompt + step + step_end + step + step_end + ... + goal`; a wrong path ends in
    `<backtrack>` in place of the goal. Problems are DataFrames with a `split` column (`train`,
    `validation`, `seen`, `new`); every other column belongs to the task. A checker's `problem` is
    one row of such a table, as `itertuples` gives it.
    """

    name: str
    pieces: tuple[str, ...]  # the tokens of a from-scratch tokenizer
    step_end: str
    goal: str
    max_response_tokens: int  # the longest response, in from-scratch tokens

    def make_problems(self, counts: Mapping[str, int], seed: int) -> pd.DataFrame: ...

    def prompts(self, problems: pd.DataFrame) -> list[str]: ...

    def optimal_traces(self, problems: pd.DataFrame) -> pd.DataFrame: ...

    def backtracking_traces(
        self,
        problems: pd.DataFrame,
        seed: int,
        loss: str,
        near_miss: float,
        tests: pd.DataFrame | None = None,  # problems that must not be asked in training
    ) -> pd.DataFrame: ...

    def check(self, problem: Any, response: str) -> Verdict: ...

    def check_published(self, problem: Any, response: str) -> Verdict: ...


def load_task(module: str, settings: Mapping[str, Any]) -> Task:
    """Import `module` and return its `make_task(settings)`; `UserError` if there is none."""
    try:
        make_task = importlib.import_module(module).make_task
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"task.module = {module!r}: no task there ({error})") from error
    return make_task(settings)


# The model's verdict on a state is "step back" from this probability of <backtrack> on.
VERDICT_THRESHOLD = 0.5


#: What the goal test says of a state: the target, nothing to go on from, or neither.
REACHED, DEAD, OPEN = "goal", "dead", "open"
GoalTest = Callable[[Any, Sequence[str]], str]


#: Why a step loses the target: D_back's kinds of error, and a line that is no step at all.
FORMAT, RULE, COMPUTATION, EXPLORATION = "format", "rule_violation", "computation", "exploration"
KINDS = (EXPLORATION, COMPUTATION, RULE, FORMAT)
EARLIER = "earlier"  # a step before this one lost it already
