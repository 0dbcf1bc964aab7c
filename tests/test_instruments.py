"""Steps, coverage, losses and diversity of the hand-made tree, exactly."""

import pandas as pd
import pytest
from adding import Adding
from hand_made_tree import PROBLEM, make_tree
from scripted_engine import CharacterTokenizer, ScriptedSampler

from lib.evaluation.states import state_table
from lib.search.search import search
from lib.studies.beyond.step_coverage import coverage_rows, diversity_rows, loss_rows
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


def test_coverage_by_step():
    rows = coverage_rows(state_table([make_tree()], PROBLEMS, TASK), model="S", split="seen")
    found = {(each["step"], each["quantity"]): each["share"] for each in rows}
    # Five samples took a first step: 2*3=6 twice, two explorations and a wrong result.
    assert found[1, "legal"] == 1
    assert found[1, "computed"] == pytest.approx(4 / 5)
    assert found[1, "reachable"] == pytest.approx(2 / 4)
    assert found[1, "kept"] == pytest.approx(2 / 5)
    assert found[2, "kept"] == 1 and found[2, "gave_up"] == 0
    assert {each["samples"] for each in rows if each["quantity"] == "legal"} == {5, 2}


def test_where_the_search_is_lost():
    states = state_table([make_tree()], PROBLEMS, TASK)

    def shares(correct, covered):
        outcomes = pd.DataFrame([{"problem": 7, "correct": correct, "covered": covered}])
        return {each["quantity"]: each["share"] for each in loss_rows(states, outcomes)}

    assert shares(True, True)["solved"] == 1
    assert shares(False, True)["found, not chosen"] == 1
    assert shares(False, False)["solution found, not finished"] == 1
    lost = states[states["node"] != 2]  # then no state keeps the target at the last step
    other = states.assign(problem=8)
    outcomes = pd.DataFrame(
        [
            {"problem": problem, "correct": problem == 8, "covered": problem == 8}
            for problem in (7, 8)
        ]
    )
    rows = loss_rows(pd.concat([lost, other]), outcomes)
    found = {each["quantity"]: each["share"] for each in rows}
    assert found["lost at step 2"] == found["solved"] == 0.5
    assert sum(found.values()) == pytest.approx(1)


def test_diversity():
    rows = diversity_rows([make_tree()], model="S")
    found = {(each["quantity"], each.get("step")): each["value"] for each in rows}
    assert found["distinct_paths", None] == 4
    assert found["distinct_finished", None] == 2
    assert found["finished_samples", None] == 3
    # Of the question: 2, 1, 1, 1 of 5 samples; 3 / (10 ln 2) is the correction.
    assert found["entropy", 1] == pytest.approx(1.921928 + 3 / (10 * 0.693147), abs=1e-5)


def test_a_whole_search_agrees_with_the_checker():
    problems = make_problems(TASK.settings, {"train": 0, "validation": 1, "seen": 30, "new": 1}, 0)
    problems = problems[problems.split == "seen"].reset_index(drop=True)
    prompts = TASK.prompts(problems)
    trees = search(ScriptedSampler(), CharacterTokenizer(), prompts, 8, 1)
    states = state_table(trees, problems, TASK).set_index(["problem", "node"])
    for tree, problem in zip(trees, problems.itertuples(index=False), strict=True):
        for leaf in tree.leaves():
            if leaf.kind == "goal":
                right = TASK.check(problem, tree.response(leaf.id)).correct
                at = states.loc[tree.problem_id, leaf.parent]
                assert right == (at["alive"] and at["step"] == 2)
    assert states.loc[states["step"] == 0, "visits"].sum() >= 8 * 30
