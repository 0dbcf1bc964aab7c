"""The paper's own recipe, in Table 1 directly above ours: its loss, its data, its weights.

Takes an experiment; trains two more branches of the same trunk and gives their rows (artifact
`table_1`). `paper_recipe`: D_back asks D_op's questions, its errors are 1 : 2 : 2 and no near
misses, an erroneous step is masked whole, `<backtrack>` weighs as much as any token (section 3.2).
`end_of_sequence`, a control: the same D_back, whose paths just end where `<backtrack>` stood, and
which can no more be answered with than the given-up ones of the recipe. Does the token do it, or
the negative data?
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
from pydantic import StrictBool

from lib.base.checked import checked
from lib.drawing.markdown import in_words
from lib.evaluation import scoring
from lib.evaluation.results import headline
from lib.evaluation.scoring import CONTROL, RECIPE
from lib.experiment.experiment import Experiment
from lib.search import selection
from lib.search.selection import SELECTION_RULES
from lib.search.tree import SearchTree
from studies import measurements
from studies.measurements import (
    Searched,
    asked_models,
    by_profiles_rule,
    decoding_outcomes,
    kept_table,
    method_outcomes,
    table_breadths,
    tabled_searches,
)
from studies.study import Study

STAGE = "backtracking"
#: Its `[traces]`. The kinds of error are exploration : computation : rule violation.
PAPER_TRACES = {"loss": "paper", "near_miss": 0.0, "kinds": (1.0, 2.0, 2.0), "same_questions": True}
GREEDY = "paper_recipe_greedy"


@checked
class RecipeSettings:
    """Which models learn by the paper's recipe too."""

    models: tuple[str, ...]
    control: StrictBool = True


def with_paper_recipe(experiment: Experiment, **traces: str) -> Experiment:
    """The experiment, in the same folder, whose backtracking model learns by the paper's recipe.

    traces: what differs from it in `[traces]`.
    """
    profile = experiment.profile
    branch = replace(profile.training.branch, verdict_weight=1.0)
    own = replace(
        profile,
        traces=replace(profile.traces, **PAPER_TRACES, **traces),
        training=replace(profile.training, branch=branch),
    )
    return replace(experiment, profile=own)


def branches(experiment: Experiment) -> dict[str, Experiment]:
    """Method -> the experiment whose backtracking model is its own."""
    found = {RECIPE: with_paper_recipe(experiment)}
    if experiment.profile.settings(RecipeSettings).control:
        found[CONTROL] = with_paper_recipe(experiment, ending="end_of_sequence")
    return found


def method_searches(part: Experiment, model: str, method: str) -> Iterator[Searched]:
    """Table 1's searches; the control, which cannot be rolled back, at b = 0 alone."""
    depths = () if method == RECIPE else [0]
    yield from tabled_searches(part, model, table_breadths(part), depths, kinds=[{}])


def claimed(tree: SearchTree, goal: str) -> SearchTree:
    """The tree, in which a path that ends without the goal line is not finished.

    So are the recipe's paths that end in `<backtrack>`; the control's end in nothing.
    """
    nodes = (
        replace(node, kind="limit")
        if node.kind == "goal" and goal not in tree.response(node.id)
        else node
        for node in tree.nodes
    )
    return replace(tree, nodes=tuple(nodes))


def claimed_outcomes(part: Experiment, searched: Searched) -> pd.DataFrame:
    """The outcomes of a search of which `claimed` says what is finished, made once."""

    def measure() -> pd.DataFrame:
        trees = (claimed(tree, part.task.goal) for tree in part.read_trees(searched.made))
        return scoring.search_outcomes(trees, searched.problems, part.task, SELECTION_RULES)

    inputs = {"search": searched.made.key, "finished": "goal line"}
    made_by = [scoring, selection, part.task]
    return kept_table(part, f"outcomes/{searched.made.name}-claimed", inputs, measure, made_by)


def requests(experiment: Experiment) -> Iterator[object]:
    """Two branches, their searches, and the first one's greedy decoding."""
    for method, part in branches(experiment).items():
        for model in asked_models(part, RecipeSettings):
            yield from method_searches(part, model, method)
            if method == RECIPE:
                yield part.decoding(part.checkpoint(model, STAGE), part.test_problems(model))


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Both branches' outcomes, problem by problem."""
    found = []
    for method, part in branches(experiment).items():
        for model in asked_models(part, RecipeSettings):
            outcomes_of = measurements.outcomes if method == RECIPE else claimed_outcomes
            made = method_searches(part, model, method)
            made = method_outcomes(part, model, made, "table_1", method, outcomes_of)
            found.append(by_profiles_rule(part, made))
            if method == RECIPE:
                decoded = decoding_outcomes(part, model, STAGE, 1)
                found.append(decoded.assign(artifact="table_1", method=GREEDY))
    return pd.concat(found, ignore_index=True)


def rows(experiment: Experiment) -> pd.DataFrame:
    """The table's rows of both branches."""
    return scoring.outcome_rows(outcomes(experiment))


def remark(rows: pd.DataFrame) -> str:
    """What the paper's recipe solves, what ours does, and what the control does."""
    found = headline(rows, ["table_1"])
    if not (found["method"] == RECIPE).any():
        return ""
    found = found[found["N"] == found["N"].max()]
    told = []
    names = {
        (RECIPE, 1): "the paper's recipe, b=1",
        ("self_backtracking", 1): "ours, b=1",
        (RECIPE, 0): "the paper's recipe, b=0",
        (CONTROL, 0): "its control without `<backtrack>`, b=0",
    }
    for (method, depth), name in names.items():
        cells = found[(found["method"] == method) & (found["b"] == depth).fillna(False)]
        if len(cells):
            told.append(f"{name}: {in_words(cells)}")
    return f"Accuracy at N={found['N'].max()}. {'; '.join(told)}."


STUDY = Study(
    name="paper_recipe",
    section="paper_recipe",
    settings=RecipeSettings,
    rows=rows,
    outcomes=outcomes,
    requests=requests,
    remark=remark,
    title="The paper's own recipe, and a control",
)
