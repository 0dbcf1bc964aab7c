"""Mined D_back: what a model's own searches did wrong, as traces that it can learn from.

Takes search trees of training problems and a task with an exact solver (`judge_steps`, `complete`);
gives traces (text, mask, kind). Source: the paper makes D_back at random (its section 3.2); here
the errors are those that the model makes. Three kinds of traces come of a tree:

* the first step that loses the target, then `<backtrack>` (a missed error: kind as in D_back);
* a `<backtrack>` said while the target was still in reach: the steps so far, and the solver's way
  from there on (kind `false_alarm`);
* a correct path, as it stands (kind `self`).

Knows nothing of how a search is done, nor of choosing answers: only training data sees the solver.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from lib.masks import COLUMNS, right_trace, wrong_trace
from lib.steps import EXPLORATION, FORMAT
from lib.tree import SearchTree

FALSE_ALARM, SELF = "false_alarm", "self"


def joined(steps: Sequence[str], task: Any) -> str:
    """Steps as text, each with its end."""
    return "".join(step + task.step_end for step in steps)


def wrong_step(
    prompt: str, steps: Sequence[str], task: Any, kind: str, loss: str
) -> dict[str, str]:
    """A trace whose last step loses the target."""
    choice, equals, outcome = steps[-1].partition("=")
    parts = (prompt, joined(steps[:-1], task), choice + equals, outcome + task.step_end)
    # Of other errors that are found first the result may be wrong as well.
    return wrong_trace(*parts, kind, loss, imitate=True, exact=kind == EXPLORATION)


def mined_traces(
    trees: Sequence[SearchTree], problems: pd.DataFrame, task: Any, loss: str
) -> pd.DataFrame:
    """The traces of these trees, each text once: columns text, mask, kind.

    A state that is lost gives one trace, at its first bad step; what follows it gives none. A line
    that is no step at all gives none: D_back has no such error.
    """
    found: dict[str, dict[str, str]] = {}
    rows = list(problems.itertuples(index=False))
    for tree in trees:
        problem = rows[tree.problem_id]
        steps: dict[int, tuple[str, ...]] = {0: ()}  # of the states that are not lost
        for node in tree.nodes:
            before = steps.get(node.parent) if node.parent is not None else None
            if before is None:
                continue
            trace = None
            if node.kind == "step":
                path = (*before, node.text)
                error = task.judge_steps(problem, path)
                if error is None:
                    steps[node.id] = path
                elif error != FORMAT:
                    trace = wrong_step(tree.prompt, path, task, error, loss)
            elif node.kind == "backtrack":
                whole = joined((*before, *task.complete(problem, before)), task)
                trace = right_trace(tree.prompt, whole, task.goal, FALSE_ALARM)
            elif node.kind == "goal" and task.check(problem, tree.response(node.id)).correct:
                trace = right_trace(tree.prompt, joined(before, task), task.goal, SELF)
            if trace:
                found.setdefault(trace["text"], trace)
    return pd.DataFrame(list(found.values()), columns=COLUMNS)
