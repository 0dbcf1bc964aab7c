"""States and paths of a search, judged: the hand-made tree exactly, and a whole search."""

import numpy as np
import pandas as pd
import pytest
import sampled_trees
from adding import Adding
from hand_made_tree import PROBLEM, make_tree
from sampled_trees import TREE, tree
from scripted_engine import LINES, ScriptedSampler

from lib.base.errors import UserError
from lib.evaluation.states import (
    finished_paths,
    path_table,
    sample_order,
    state_table,
)
from lib.profiles.search_spec import SearchSpec
from lib.search.search import search
from lib.search.selection import SELECTION_RULES
from lib.tasks.countdown.problems import make_problems, make_settings
from lib.tasks.countdown.rules import Problem, after, legal_steps
from lib.tasks.countdown.solver import reachable
from lib.tasks.countdown.task import CountdownTask

SETTINGS = dict(numbers=3, max_number=9, target_low=1, target_high=30, max_result=99, held_out=0.1)
TASK = CountdownTask(make_settings(SETTINGS))
PROBLEMS = pd.DataFrame([{"numbers": list(PROBLEM.numbers), "target": PROBLEM.target}] * 8)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        (["2*3=6"], None),
        (["2*3=6", "6+4=10"], None),
        (["4-3=1"], "exploration"),  # 2 and 1 make no 10
        (["2*3=6", "6-4=2"], "exploration"),
        (["2*3=7"], "computation"),
        (["2*5=10"], "rule_violation"),
        (["2+2=4"], "rule_violation"),  # there is one 2
        (["2*3=6", "2+4=6"], "rule_violation"),
        (["2*3"], "format"),
        (["3/2=1"], "computation"),
    ],
)
def test_why_a_step_loses_the_target(steps, why):
    assert TASK.solver.judge_steps(PROBLEM, steps) == why


def test_every_legal_step_agrees_with_the_solver():
    given = Problem((3, 5, 7, 2), 24)
    for step in legal_steps(given.numbers):
        alive = reachable(after(given.numbers, step), given.target)
        assert TASK.solver.judge_steps(given, [str(step)]) == (None if alive else "exploration")


def test_states_of_the_hand_made_tree():
    found = state_table([make_tree()], PROBLEMS, TASK).set_index("node")
    assert list(found.index) == [0, 1, 2, 4, 6, 8]
    assert found["step"].to_dict() == {0: 0, 1: 1, 2: 2, 4: 1, 6: 1, 8: 1}
    assert found["alive"].to_dict() == {0: True, 1: True, 2: True, 4: False, 6: False, 8: False}
    assert found.loc[[4, 6, 8], "error"].tolist() == ["exploration", "exploration", "computation"]
    assert found["backtracked"].to_dict() == {0: 0, 1: 0, 2: 0, 4: 1, 6: 0, 8: 0}
    assert found["finished"].to_dict() == {0: 0, 1: 0, 2: 2, 4: 0, 6: 1, 8: 0}
    assert TASK.solver is not None and Adding(10).solver is None


def test_a_whole_search_agrees_with_the_checker():
    problems = make_problems(TASK.settings, {"train": 0, "validation": 1, "seen": 30, "new": 1}, 0)
    problems = problems[problems.split == "seen"].reset_index(drop=True)
    prompts = TASK.prompts(problems)
    trees = search(ScriptedSampler(), LINES, prompts, SearchSpec(8, 1))
    states = state_table(trees, problems, TASK).set_index(["problem", "node"])
    for searched, problem in zip(trees, problems.itertuples(index=False), strict=True):
        for leaf in searched.leaves():
            if leaf.kind == "goal":
                right = TASK.check(problem, searched.response(leaf.id)).correct
                at = states.loc[searched.problem_id, leaf.parent]
                assert right == (at["alive"] and at["step"] == 2)
    assert states.loc[states["step"] == 0, "visits"].sum() >= 8 * 30


def test_finished_paths_have_verdicts_and_the_sampled_ids():
    found = finished_paths([TREE], sampled_trees.PROBLEMS, sampled_trees.TASK)
    assert found[["problem", "leaf", "visits", "tokens", "correct"]].values.tolist() == [
        [0, 2, 3, [5, 6, 7, 1], True],
        [0, 4, 1, [5, 8, 1], False],
    ]
    assert found.response.tolist() == ["3+4=7\nGoal Reached!", "3*4=12\nGoal Reached!"]
    none = finished_paths(
        [tree(("4-3=1", (9,), 2, "limit"))], sampled_trees.PROBLEMS, sampled_trees.TASK
    )
    assert none.empty and none.correct.dtype == bool


def test_the_order_holds_every_sample_and_is_uniform():
    orders = [sample_order(TREE, seed) for seed in range(3000)]
    assert all(sorted(order) == [2, 2, 2, 4, 6, 6] for order in orders)
    assert sample_order(TREE, 5) == orders[5]
    # Any place, the first n too, has each leaf as often as its share of the samples.
    for place in range(6):
        at = [order[place] for order in orders]
        for leaf, share in ((2, 1 / 2), (4, 1 / 6), (6, 1 / 3)):
            assert np.mean(np.equal(at, leaf)) == pytest.approx(share, abs=0.04)
    other = tree(*[("3+4=7", (5,), 1, "goal")] * 9, problem_id=1)
    assert sample_order(other, 0) != sample_order(other, 1)


@pytest.mark.parametrize("wrong", [{"breadth": 7}, {"depth": 1}])
def test_trees_that_are_not_n_independent_samples_are_refused(wrong):
    made = tree(("3+4=7", (5,), 3, "goal"), **wrong)
    with pytest.raises(UserError, match="best-of-N needs"):
        sample_order(made, 0)


def test_finished_paths_and_their_verdicts():
    found = path_table([make_tree()], PROBLEMS, TASK)
    assert found["leaf"].tolist() == [3, 7] and found["correct"].tolist() == [True, False]


def test_without_a_finished_path():
    empty = path_table([], PROBLEMS, TASK)
    assert list(empty.columns[:4]) == ["problem", "leaf", "text", "correct"]


def test_scores_are_the_rules_own():
    found = path_table([make_tree()], PROBLEMS, TASK)
    for name, rule in SELECTION_RULES.items():
        best = found.loc[found[name].idxmax(), "leaf"]
        assert rule(make_tree()) == pytest.approx(best)
