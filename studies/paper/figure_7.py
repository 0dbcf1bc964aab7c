"""Figure 7, a case study: one test problem that plain decoding fails and search solves by rolling
back, with its tree.

Takes an experiment whose task has a form; gives the first case by a stated rule (RULE), as a row
that holds its tree (artifact `figure_7`), so that results.json alone gives the figure. No row where
there is none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base.errors import UserError
from lib.evaluation.results import row, table
from lib.experiment.experiment import Experiment
from lib.explorer.annotation import annotate
from lib.explorer.tree_figure import draw_tree
from lib.explorer.tree_view import Labels, TreeView, describe, score_rules
from lib.profiles.load import load_profile
from lib.profiles.settings import TaskSettings
from lib.search.tree import SearchTree
from lib.tasks.task import Task, load_task
from studies.measurements import Searched, chosen, decoding_outcomes, middle_breadth, searches
from studies.study import Figure, Study

RULE = (
    "The first problem of the seen test split that both greedy decodings (SFT, and the "
    "backtracking model) answer wrongly, and whose search with b = 1 chooses a correct path that "
    "was found after a roll-back; by the strict checker."
)


MODEL, SPLIT = "S", "seen"
PLAIN = {"sft": "SFT greedy", "backtracking": "backtracking data greedy"}


def applies(experiment: Experiment) -> bool:
    """Whether there can be a case: its states are shown as the task's form has them."""
    return experiment.task.form is not None and 1 in experiment.profile.search.depths


def case_search(experiment: Experiment) -> Searched:
    """The search of the seen problems, at the middle one of the breadths."""
    spec = experiment.spec(middle_breadth(experiment), 1)
    return next(each for each in searches(experiment, MODEL, spec) if each.split == SPLIT)


def requests(experiment: Experiment) -> Iterator[object]:
    """The search, and both greedy decodings; other studies have asked for them."""
    if not applies(experiment):
        return
    for stage in PLAIN:
        checkpoint = experiment.checkpoint(MODEL, stage)
        yield experiment.decoding(checkpoint, experiment.test_problems(MODEL))
    yield case_search(experiment)


def rows(experiment: Experiment) -> pd.DataFrame:
    """The case's row."""
    if not applies(experiment):
        return table([])
    plain = {
        name: decoding_outcomes(experiment, MODEL, stage, 1).query(f"split == '{SPLIT}'")
        for stage, name in PLAIN.items()
    }
    searched = case_search(experiment)
    trees = experiment.read_trees(searched.made)
    case = first_case(list(plain.values()), chosen(experiment, searched), trees)
    if case is None:
        return table([])
    answers = {name: found.set_index("problem")["response"][case] for name, found in plain.items()}
    asked, form = list(searched.problems.itertuples(index=False))[case], experiment.task.form
    try:
        form.parse(form.texts(asked))
    except UserError:  # a problem larger than the form takes is not drawn either
        return table([])
    made_by, rule = experiment.profile.task, experiment.profile.search.selection
    return case_rows(trees[case], asked, made_by, answers, rule, model=MODEL, split=SPLIT)


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


def first_solved(experiment: Experiment, searched: Searched) -> int:
    """The position of the first problem that a search solves by a roll-back; 0 where none is."""
    trees = experiment.read_trees(searched.made)
    return first_case([], chosen(experiment, searched), trees) or 0


def case_rows(
    tree: SearchTree | None,
    problem: Any,
    made_by: TaskSettings,
    answers: Mapping[str, str],
    selection: str,
    **columns: Any,
) -> pd.DataFrame:
    """One row, artifact `figure_7`: its column `case` is JSON; no row where there is no tree.

    made_by: the problem's task; answers: what each plain decoding said, by the name to show.
    """
    if tree is None:
        return table([])
    case = {
        "task": asdict(made_by),
        "problem": load_task(**asdict(made_by)).form.texts(problem),
        "answers": dict(answers),
        "tree": json.loads(tree.to_json()),
    }
    known = {"N": tree.breadth, "b": tree.depth, "temperature": tree.temperature}
    known |= {"selection": selection, "checker": "strict", "seed": tree.seed}
    text = json.dumps(case, separators=(",", ":"), sort_keys=True)
    made = row("figure_7", "self_backtracking", **known, **columns, case=text)
    return table([made])


def remark(rows: pd.DataFrame) -> str:
    """How the case was found; empty where there is none."""
    return f"The rule: {RULE}" if (rows["artifact"] == "figure_7").any() else ""


def draw_case(rows: pd.DataFrame) -> Drawn:
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
    if "task" not in case:  # as results.json had it when there was one task
        texts = {"numbers": ", ".join(map(str, case["numbers"])), "target": str(case["target"])}
        case = {**case, "task": asdict(load_profile("paper").task), "problem": texts}
    task = load_task(**case["task"])
    problem, tree = task.form.parse(case["problem"]), SearchTree.from_json(json.dumps(case["tree"]))
    answers = [f"{name}: {_short(text, task)}" for name, text in case["answers"].items()]
    title = "   |   ".join([task.form.title(problem), *answers])
    labels = Labels(title, goal=task.form.goal(problem), grid=task.grid)
    return describe(tree, annotate(tree, problem, task), score_rules(tree), labels=labels)


def _short(response: str, task: Task) -> str:
    return "; ".join(response.split(task.step_end)[:-1]) or "no step"


STUDY = Study(
    name="figure_7",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_7",
            draw_case,
            "A case study (figure 7): a problem that greedy decoding fails and search solves after "
            "a roll-back.",
            ("figure_7",),
            columns=("case",),
        ),
    ),
    remark=remark,
    title="Figure 7: a case study",
)
