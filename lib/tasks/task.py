"""What the rest of the package may ask of a task, and how a task module is found.

Takes a dotted module name and a table of settings; gives what its `make_task(settings)` makes: a
`Task`. Knows nothing of any particular task: search, training and evaluation work through this
alone, so that a second task is one module or folder.

A task must give

- `name`, and `pieces`: the tokens of a from-scratch tokenizer, of which every text is made;
- `step_end`, `goal`: what ends a step, and the line with which a path claims to be solved;
- `max_response_tokens`: the longest response, in from-scratch tokens;
- `errors`: the names of a failure in figure 5's order; the first is that of a path without `goal`;
- `make_problems`, `prompts`: the problems of every split, and their text;
- `optimal_traces`, `backtracking_traces`: D_op and D_back, what a model learns;
- `check`: the strict verdict on a response.

It may give (what it lacks is None, and what needs it is left out)

- `solver`: the truth about states, for the studies of single steps and the explorer's overlay;
- `shows_error`: that a path is wrong, seen without looking ahead; with a solver, how deep a wrong
  guess goes unnoticed;
- `check_published`: a second verdict by published code, reported beside the strict one;
- `goal_test`, `symbolic_dfs`, `streams`: Table 2's DFS, guided and symbolic, and Stream of Search;
- `read_public`: problems and D_back of a data set, in place of the generator's (`data.public`);
- `question_group`: what of a question its target leaves alone, for the study of leakage;
- `form`: how the explorer asks for a problem and shows its states;
- `grid`: that a state is a grid of cells, which the explorer then draws as one;
- `play_traces`: random play for the trunk, a stand-in for pretraining (`traces.trunk`);
- `near_misses`: True if D_back may hold them (`traces.near_miss`);
- `terms`: what seen, new and right mean, in a sentence or two of Markdown for a run's page;
- `summary`, `step_kinds`: these have defaults.
"""

from __future__ import annotations

import importlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pandas as pd

from lib.base.errors import UserError

BACKTRACK = "<backtrack>"

#: The paper's error names (its section 4.4 and figures 5 and 9 to 12) that are not Countdown's
#: alone. Claim 6 counts `BAD_RESULT`: a task whose steps compute something calls it so too.
NOT_REACHED = "not reached target"
BAD_FORMAT = "invalid step format"
BAD_RESULT = "incorrect result in step"
COMMON_ERRORS = (NOT_REACHED, BAD_FORMAT, BAD_RESULT)

#: Why a step loses the target: D_back's kinds of error, and a line that is no step at all.
FORMAT, RULE, COMPUTATION, EXPLORATION = "format", "rule_violation", "computation", "exploration"
KINDS = (EXPLORATION, COMPUTATION, RULE, FORMAT)
EARLIER = "earlier"  # a step before this one lost it already

#: What the goal test says of a state: the target, nothing to go on from, or neither.
REACHED, DEAD, OPEN = "goal", "dead", "open"
GoalTest = Callable[[Any, Sequence[str]], str]

# The model's verdict on a state is "step back" from this probability of <backtrack> on.
VERDICT_THRESHOLD = 0.5


@dataclass(frozen=True)
class Verdict:
    """Whether a response solves its problem; if not, which error, and in which step (from 0)."""

    correct: bool
    error: str | None = None
    step: int | None = None


class TraceSettings(Protocol):
    """How D_back is made: a profile's `[traces]`."""

    loss: str
    near_miss: float
    kinds: Sequence[float]  # parts of the kinds of error, in the task's own order


class Task(ABC):
    """A task: problems, the traces to learn from, and a checker; see the top of this file.

    Text is `prompt + step + step_end + step + step_end + ... + goal`; a wrong path ends in
    `<backtrack>` in place of the goal. Problems are DataFrames with a `split` column (`train`,
    `validation`, `seen`, `new`); every other column belongs to the task. Wherever a `problem` is
    asked for, it is one row of such a table, as `itertuples` gives it.
    """

    #: Raised whenever its problems, traces or verdicts change: what was made with it is made again.
    VERSION: ClassVar[int] = 1

    name: str
    pieces: tuple[str, ...]
    step_end: str
    goal: str
    max_response_tokens: int
    errors: ClassVar[tuple[str, ...]]

    @abstractmethod
    def make_problems(self, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
        """So many problems of each split, all different."""

    @abstractmethod
    def prompts(self, problems: pd.DataFrame) -> list[str]:
        """The text that asks each problem."""

    @abstractmethod
    def optimal_traces(self, problems: pd.DataFrame) -> pd.DataFrame:
        """D_op: a solved path for each problem, as `lib.tasks.trace` has it."""

    @abstractmethod
    def backtracking_traces(
        self,
        problems: pd.DataFrame,
        seed: int,
        settings: TraceSettings,
        tests: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """D_back: a path with one wrong step and `<backtrack>` for each problem.

        tests: problems that must not be asked in training.
        """

    @abstractmethod
    def check(self, problem: Any, response: str) -> Verdict:
        """The strict verdict on a response (the text after the prompt, end of sequence removed)."""

    solver: Solver | None = None
    #: (problem, steps) -> whether a step is not legal or right, or nothing leads on from the last.
    shows_error: Callable[[Any, Sequence[str]], bool] | None = None
    check_published: Callable[[Any, str], Verdict] | None = None
    goal_test: GoalTest | None = None
    #: (problem, most backtracks) -> steps and the backtracks before them, or None. No model.
    symbolic_dfs: Callable[[Any, int], tuple[list[str], int] | None] | None = None
    streams: Streams | None = None
    form: Form | None = None
    grid: Grid | None = None
    #: A prompt, or a trace that begins with one -> a key, the same where only the target differs.
    question_group: Callable[[str], Hashable] | None = None
    #: (problems, seed, test problems) -> traces, as many, of random legal steps.
    play_traces: Callable[[pd.DataFrame, int, pd.DataFrame | None], pd.DataFrame] | None = None
    #: (folder or hub name, loss, a profile's `[data]`) -> the problems of every split, and D_back.
    read_public: (
        Callable[[str | Path, str, Mapping[str, int]], tuple[pd.DataFrame, pd.DataFrame]] | None
    ) = None
    near_misses: ClassVar[bool] = False
    terms: ClassVar[str] = ""

    def summary(self, problems: pd.DataFrame) -> pd.DataFrame:
        """What to know of each split: one row a split."""
        return problems.groupby("split").agg(problems=("split", "size"))

    def step_kinds(self, problems: pd.DataFrame) -> pd.DataFrame:
        """How often each kind of step stands in the solutions: a row a kind, a column a split."""
        return pd.DataFrame()


class Solver(Protocol):
    """The truth about a state: a problem and the steps taken so far."""

    def judge_steps(self, problem: Any, steps: Sequence[str]) -> str | None:
        """Why the last step loses the target (one of `KINDS`), or None while it is in reach.

        The steps before it are sound.
        """

    def reachable(self, problem: Any, steps: Sequence[str]) -> bool:
        """Whether all of the steps are sound and the target can still be reached."""

    def complete(self, problem: Any, steps: Sequence[str]) -> list[str]:
        """Steps from a state, in reach of the target, to the target."""


class Streams(Protocol):
    """Traces of a whole search in one text, for a model that learns to search in it."""

    def traces(self, problems: pd.DataFrame, max_tokens: int, seed: int) -> pd.DataFrame:
        """Streams of these problems, of at most so many tokens: columns text, mask, kind."""

    def answer(self, problem: Any, text: str) -> str:
        """The response that a stream ends in."""

    def moves_back(self, text: str) -> int:
        """How often a stream backs up."""


@dataclass(frozen=True)
class Field:
    """A field of the explorer's form: its name in code, its label, what it asks for, its width."""

    name: str
    label: str
    tip: str
    width: str  # in CSS
    lines: int = 1


class Form(Protocol):
    """How the explorer asks for a problem and shows its states."""

    about: str  # the task in one sentence
    fields: tuple[Field, ...]
    state_label: str  # what `state` tells, such as "Numbers left"
    step_example: str

    def parse(self, texts: Mapping[str, str]) -> Any:
        """The problem that the fields' texts state; `UserError` says which field is wrong."""

    def texts(self, problem: Any) -> dict[str, str]:
        """The fields' texts for a problem, also for a row of the task's table."""

    def random_problem(self, generator: random.Random) -> Any:
        """A problem that can be solved."""

    def prompt(self, problem: Any) -> str:
        """The text that asks it."""

    def title(self, problem: Any) -> str:
        """The problem on one line."""

    def goal(self, problem: Any) -> str:
        """What is in reach or not, in a word or two: a target, a solution."""

    def state(self, problem: Any, steps: Sequence[str]) -> str | None:
        """What is there after these steps, of one or more lines; None if a step is not legal."""

    def parse_step(self, text: str) -> str | None:
        """A step that was typed, as the model writes it; None where it is none."""

    def reason(self, problem: Any, response: str) -> str:
        """Why a response is wrong, in plain words; "" where it is right."""

    def outside(self, problem: Any) -> str:
        """What of the problem no model of these settings was trained on; "" if nothing."""


@dataclass(frozen=True)
class Grid:
    """The lines that `Form.state` gives are the rows of a grid, a character a cell.

    Heavier lines part its boxes, of so many rows and columns.
    """

    box_rows: int
    box_columns: int
    empty: str = "."


def load_task(module: str, settings: Mapping[str, Any]) -> Task:
    """Import `module` and return its `make_task(settings)`; `UserError` if there is none."""
    try:
        make_task = importlib.import_module(module).make_task
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UserError(f"task.module = {module!r}: no task there ({error})") from error
    return make_task(settings)
