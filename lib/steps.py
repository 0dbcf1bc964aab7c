"""What became of each step of a search: legal, computed right, target still in reach.

Takes search trees, their problems and a task that can judge steps (`judge_steps`); gives one row a
state. A state is *alive* while every step so far was legal and right and the exact solver can still
reach the target; it is *lost* otherwise, for the reason that its first bad step gave. Knows nothing
of models or of choosing an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from lib.tree import SearchTree

#: Why a step loses the target: D_back's kinds of error, and a line that is no step at all.
FORMAT, RULE, COMPUTATION, EXPLORATION = "format", "rule_violation", "computation", "exploration"
KINDS = (EXPLORATION, COMPUTATION, RULE, FORMAT)
EARLIER = "earlier"  # a step before this one lost it already
COLUMNS = ["problem", "node", "step", "level", "visits", "p_backtrack"]
COLUMNS += ["alive_before", "alive", "error", "continued", "backtracked", "finished"]


def can_judge(task: Any) -> bool:
    """Whether the task has an exact solver for the states on the way."""
    return hasattr(task, "judge_steps")


def state_table(trees: Iterable[SearchTree], problems: pd.DataFrame, task: Any) -> pd.DataFrame:
    """One row a state of each tree, the question included (step 0); each is there once.

    error: why the state's last step lost the target; `earlier` where an earlier one did; None while
    it is alive. continued: samples that went on from it, those of a roll-back included; of these
    backtracked said `<backtrack>` and finished ended, right there.
    """
    rows = list(problems.itertuples(index=False))
    records = []
    for tree in trees:
        problem, steps = rows[tree.problem_id], {0: ()}
        alive, step_of, place = {0: True}, {0: 0}, {}
        for node in tree.nodes:
            if node.parent is not None:
                records[place[node.parent]]["continued"] += node.visits
            if node.kind not in ("root", "step"):
                at = records[place[node.parent]]
                if node.kind == "backtrack":
                    at["backtracked"] += node.visits
                elif node.kind == "goal":
                    at["finished"] += node.visits
                continue
            error, before = None, True
            if node.kind == "step":
                before = alive[node.parent]
                steps[node.id] = (*steps[node.parent], node.text)
                step_of[node.id] = step_of[node.parent] + 1
                error = task.judge_steps(problem, steps[node.id]) if before else EARLIER
                alive[node.id] = error is None
            place[node.id] = len(records)
            records.append(
                {
                    "problem": tree.problem_id,
                    "node": node.id,
                    "step": step_of[node.id],
                    "level": node.level,
                    "visits": node.visits,
                    "p_backtrack": np.nan if node.p_backtrack is None else node.p_backtrack,
                    "alive_before": before,
                    "alive": alive[node.id],
                    "error": error,
                    "continued": 0,
                    "backtracked": 0,
                    "finished": 0,
                }
            )
    return pd.DataFrame(records, columns=COLUMNS).astype({"p_backtrack": float})
