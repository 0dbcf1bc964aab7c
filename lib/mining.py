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

from lib.steps import COMPUTATION, FORMAT
from lib.task import BACKTRACK
from lib.tree import SearchTree

FALSE_ALARM, SELF = "false_alarm", "self"
COLUMNS = ["text", "mask", "kind"]


def wrong_step(prompt: str, steps: Sequence[str], end: str, kind: str, loss: str) -> dict[str, str]:
    """A trace whose last step loses the target; masked as `lib.traces` masks D_back."""
    prefix = "".join(step + end for step in steps[:-1])
    choice, equals, outcome = steps[-1].partition("=")
    learned = "1" if loss == "honest" and kind != COMPUTATION else "0"
    mask = "0" * len(prompt) + "1" * len(prefix) + "0" * len(choice + equals)
    mask += learned * len(outcome + end) + "2" * len(BACKTRACK)
    return {"text": prompt + prefix + steps[-1] + end + BACKTRACK, "mask": mask, "kind": kind}


def right_path(prompt: str, steps: Sequence[str], task: Any, kind: str) -> dict[str, str]:
    """A trace of correct steps and the goal line."""
    body = "".join(step + task.step_end for step in steps)
    mask = "0" * len(prompt) + "1" * len(body) + "2" * len(task.goal)
    return {"text": prompt + body + task.goal, "mask": mask, "kind": kind}


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
                    trace = wrong_step(tree.prompt, path, task.step_end, error, loss)
            elif node.kind == "backtrack":
                rest = task.complete(problem, before)
                trace = right_path(tree.prompt, (*before, *rest), task, FALSE_ALARM)
            elif node.kind == "goal" and task.check(problem, tree.response(node.id)).correct:
                trace = right_path(tree.prompt, before, task, SELF)
            if trace:
                found.setdefault(trace["text"], trace)
    return pd.DataFrame(list(found.values()), columns=COLUMNS)
