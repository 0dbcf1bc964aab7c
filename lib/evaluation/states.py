"""What became of each state, sample and path of a search: right or wrong, target still in reach.

Takes search trees, their problems and a task; gives one row a state (of a task that has an exact
solver) or a path, and what the first n of a search's samples give. A state is *alive* while every
step so far was legal and right and the exact solver can still reach the target; it is *lost*
otherwise, for the reason that its first bad step gave. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.evaluation.scoring import score_paths, verdict_columns
from lib.search.selection import SELECTION_RULES, TreePath, paths
from lib.search.tree import SearchTree, path_tokens, tokens_after
from lib.tasks.task import EARLIER, Task

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

COLUMNS = ["problem", "node", "step", "level", "visits", "p_backtrack"]
COLUMNS += ["alive_before", "alive", "error", "continued", "backtracked", "finished"]


def state_table(trees: Iterable[SearchTree], problems: pd.DataFrame, task: Task) -> pd.DataFrame:
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
                error = task.solver.judge_steps(problem, steps[node.id]) if before else EARLIER
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


PATH_COLUMNS = ["problem", "leaf", "visits", "response", "tokens", "mean_logprob"]


def finished_paths(trees: Sequence[SearchTree], problems: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Distinct paths that ended in the end of sequence; `tokens` are their ids, as sampled.

    `problem` is a position in `problems`.
    """
    records, verdicts = [], verdict_columns(task)
    for tree, problem in zip(trees, problems.itertuples(index=False), strict=True):
        scored = score_paths(tree, problem, task)
        for path in scored[scored["finished"]].to_dict("records"):
            path |= {"problem": tree.problem_id, "tokens": path_tokens(tree, path["leaf"])}
            records.append({column: path[column] for column in (*PATH_COLUMNS, *verdicts)})
    columns = [*PATH_COLUMNS, *verdicts]
    return pd.DataFrame(records, columns=columns).astype(dict.fromkeys(verdicts, bool))


def path_table(trees: Iterable[SearchTree], problems: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row a finished path: problem, leaf, text, correct, and its score under every rule."""
    rows = list(problems.itertuples(index=False))
    records = [
        {
            "problem": tree.problem_id,
            "leaf": path.leaf,
            "text": path.text,
            "correct": task.check(rows[tree.problem_id], path.text).correct,
        }
        | {name: rule.score(path) for name, rule in SELECTION_RULES.items()}
        for tree in trees
        for path in paths(tree)
        if path.kind == "goal"
    ]
    columns = ["problem", "leaf", "text", "correct", *SELECTION_RULES]
    return pd.DataFrame(records, columns=columns).astype({"correct": bool})


def sample_order(tree: SearchTree, seed: int) -> list[int]:
    """The leaves of the tree's N samples in random order: the first n are n independent samples.

    So one search at the largest N serves every smaller one, and N alone differs between them.
    """
    leaves = tree.leaves()
    samples = np.repeat([leaf.id for leaf in leaves], [leaf.visits for leaf in leaves])
    if tree.depth or len(samples) != tree.breadth:
        raise UserError(
            f"search tree of problem {tree.problem_id}: {len(samples)} samples at b={tree.depth};"
            f" best-of-N needs {tree.breadth} at b=0"
        )
    generator = np.random.default_rng([seed, tree.problem_id])
    return [int(leaf) for leaf in generator.permutation(samples)]


def first_samples(
    trees: Iterable[SearchTree],
    problems: pd.DataFrame,
    task: Task,
    breadths: Sequence[int],
    rules: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """What the first n of a tree's N independent samples give, for each n and rule.

    One row a problem, n and rule: correct, covered (some finished path is right) and tokens.
    """
    rows = list(problems.itertuples(index=False))
    records = []
    for tree in trees:
        problem = rows[tree.problem_id]
        order = sample_order(tree, seed)
        tokens = tokens_after(tree, order)
        found = {path.leaf: path for path in paths(tree) if path.kind == "goal"}
        right = {leaf: task.check(problem, path.text).correct for leaf, path in found.items()}
        for breadth in breadths:
            leaves, counts = np.unique(order[:breadth], return_counts=True)
            drawn = [
                (found[leaf], count)
                for leaf, count in zip(leaves.tolist(), counts.tolist(), strict=True)
                if leaf in found
            ]
            covered = any(right[path.leaf] for path, _ in drawn)
            for rule in rules:
                answer = _choose(drawn, rule)
                records.append(
                    {
                        "problem": tree.problem_id,
                        "N": breadth,
                        "selection": rule,
                        "correct": answer is not None and right[answer],
                        "covered": covered,
                        "tokens": tokens[breadth - 1],
                    }
                )
    return pd.DataFrame(records)


def _choose(drawn: Sequence[tuple[TreePath, int]], rule: str) -> int | None:
    if not drawn:
        return None
    order = SELECTION_RULES[rule].order
    # A rule that counts samples must count those drawn, not the whole tree's.
    own = [TreePath(**(vars(path) | {"visits": count})) for path, count in drawn]
    return min(own, key=lambda path: (*(-part for part in order(path)), path.leaf)).leaf
