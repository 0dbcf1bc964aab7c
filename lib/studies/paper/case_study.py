"""The case study (figure 7 of the paper): one test problem that plain decoding fails and search
solves by rolling back, with its tree.

Takes the outcomes of greedy decoding and of one search over the same Countdown problems; gives the
first case by a stated rule, as a tidy row that holds its tree, and draws it. Knows nothing of
models. The tree is in the row itself, so that results.json alone gives the figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib.base.errors import UserError
from lib.evaluation.results import row, table
from lib.explorer.annotation import annotate
from lib.explorer.tree_figure import draw_tree
from lib.explorer.tree_view import Labels, TreeView, describe, score_rules
from lib.search.tree import SearchTree
from lib.tasks.countdown import problems
from lib.tasks.countdown.rules import Problem
from lib.tasks.countdown.task import CountdownTask

TASK = CountdownTask(problems.Settings(4, 99, 10, 100, 9999, 0.1))  # for its rules alone
RULE = (
    "The first problem of the seen test split that both greedy decodings (SFT, and the "
    "backtracking model) answer wrongly, and whose search with b = 1 chooses a correct path that "
    "was found after a roll-back; by the strict checker."
)


def first_case(
    greedy: Sequence[pd.DataFrame], searched: pd.DataFrame, trees: Iterable[SearchTree]
) -> int | None:
    """The position of the case that `RULE` names, or None where there is none.

    greedy: outcomes (columns problem, correct) of each plain decoding; searched: outcomes (problem,
    correct, leaf) of one selection rule; trees in the problems' order.
    """
    failed = set(searched["problem"])
    for outcomes in greedy:
        failed &= set(outcomes.loc[~outcomes["correct"], "problem"])
    solved = searched[searched["correct"] & searched["problem"].isin(failed)]
    leaves = dict(zip(solved["problem"], solved["leaf"], strict=True))
    for problem, tree in enumerate(trees):
        if problem in leaves and tree.nodes[int(leaves[problem])].level > 0:
            return problem
    return None


def case_rows(
    tree: SearchTree | None,
    problem: Any,
    answers: Mapping[str, str],
    selection: str,
    **columns: Any,
) -> pd.DataFrame:
    """One row, artifact `figure_7`: its column `case` is JSON; no row where there is no tree.

    answers: what each plain decoding said, by the name to show.
    """
    if tree is None:
        return table([])
    given = Problem.of(problem)
    case = {
        "numbers": given.numbers,
        "target": given.target,
        "answers": dict(answers),
        "tree": json.loads(tree.to_json()),
    }
    known = {"N": tree.breadth, "b": tree.depth, "temperature": tree.temperature}
    known |= {"selection": selection, "checker": "strict", "seed": tree.seed}
    text = json.dumps(case, separators=(",", ":"), sort_keys=True)
    made = row("figure_7", "self_backtracking", **known, **columns, case=text)
    return table([made])


def draw_case(rows: pd.DataFrame) -> Figure:
    """Figure 7: the tree, its chosen path green, wrong verdicts marked; greedy answers above."""
    found = rows[rows["artifact"] == "figure_7"]
    found = found.dropna(subset=["case"]) if "case" in found else found.iloc[:0]
    if found.empty:
        raise UserError("figure of figure_7: the results have no case study")
    first = found.iloc[0]
    view = case_view(json.loads(first["case"]))
    return draw_tree(view, rule=first["selection"], truth=True)


def case_view(case: Mapping[str, Any]) -> TreeView:
    """The view of a case, its title naming the problem and what plain decoding said."""
    problem = Problem(tuple(case["numbers"]), case["target"])
    tree = SearchTree.from_json(json.dumps(case["tree"]))
    answers = [f"{name}: {_short(text)}" for name, text in case["answers"].items()]
    numbers = ", ".join(map(str, problem.numbers))
    title = "   |   ".join([f"{numbers} \N{RIGHTWARDS ARROW} {problem.target}", *answers])
    labels = Labels(title, goal=str(problem.target))
    return describe(tree, annotate(tree, problem, TASK), score_rules(tree), labels=labels)


def _short(response: str) -> str:
    steps = [line for line in response.split("\n") if "=" in line]
    return "; ".join(steps) if steps else "no step"
