"""Selection rules compared on the hand-made tree."""

import pandas as pd
import pytest
from hand_made_tree import PROBLEM, make_tree

from lib.evaluation.scoring import search_outcomes
from lib.search.selection import SELECTION_RULES
from lib.studies.beyond.selection_rules import path_table, ranking, rule_rows
from lib.tasks.countdown.problems import make_settings
from lib.tasks.countdown.task import CountdownTask

SETTINGS = dict(numbers=3, max_number=9, target_low=1, target_high=30, max_result=99, held_out=0.1)
TASK = CountdownTask(make_settings(SETTINGS))
PROBLEMS = pd.DataFrame([{"numbers": list(PROBLEM.numbers), "target": PROBLEM.target}] * 8)


def test_paths_and_rules():
    found = path_table([make_tree()], PROBLEMS, TASK)
    assert found["leaf"].tolist() == [3, 7] and found["correct"].tolist() == [True, False]
    assert ranking(found, "mean_logprob")["auc"] == 1
    assert ranking(found, "mean_logprob")["auc_within"] == 1
    outcomes = search_outcomes([make_tree()], PROBLEMS, TASK, SELECTION_RULES)
    rows = rule_rows(outcomes, found, model="S", split="seen", b=1)
    assert {each["selection"] for each in rows} == set(SELECTION_RULES)
    by_rule = {each["selection"]: each for each in rows}
    assert by_rule["mean_logprob"]["accuracy"] == by_rule["mean_logprob"]["of_ceiling"] == 1
    # Doubts .25 and .75 on the right path, .5 on the wrong one.
    assert by_rule["self_verification"]["accuracy"] == 0
    assert by_rule["self_verification"]["auc"] == 0
    assert by_rule["vote"]["ceiling"] == 1


def test_without_a_finished_path():
    empty = path_table([], PROBLEMS, TASK)
    assert list(empty.columns[:4]) == ["problem", "leaf", "text", "correct"]
    areas = ranking(empty, "vote")
    assert all(value != value for value in areas.values())
    assert areas.keys() >= {"auc", "auc_within_low"}


def test_scores_are_the_rules_own():
    found = path_table([make_tree()], PROBLEMS, TASK)
    for name, rule in SELECTION_RULES.items():
        best = found.loc[found[name].idxmax(), "leaf"]
        assert rule(make_tree()) == pytest.approx(best)
