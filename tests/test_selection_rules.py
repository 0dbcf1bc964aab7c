"""Selection rules compared on the hand-made tree."""

import pandas as pd
from hand_made_tree import PROBLEM, make_tree
from test_measurements import small

from lib.evaluation.scoring import search_outcomes
from lib.evaluation.states import path_table
from lib.search.selection import SELECTION_RULES
from lib.tasks.countdown.problems import make_settings
from lib.tasks.countdown.task import CountdownTask
from studies.beyond import selection_rules
from studies.beyond.selection_rules import rule_rows
from studies.beyond.step_coverage import InstrumentSettings

SETTINGS = dict(numbers=3, max_number=9, target_low=1, target_high=30, max_result=99, held_out=0.1)
TASK = CountdownTask(make_settings(SETTINGS))
PROBLEMS = pd.DataFrame([{"numbers": list(PROBLEM.numbers), "target": PROBLEM.target}] * 8)


def test_rules():
    found = path_table([make_tree()], PROBLEMS, TASK)
    outcomes = search_outcomes([make_tree()], PROBLEMS, TASK, SELECTION_RULES)
    rows = rule_rows(outcomes, found, model="S", split="seen", b=1)
    assert {each["selection"] for each in rows} == set(SELECTION_RULES)
    by_rule = {each["selection"]: each for each in rows}
    assert by_rule["mean_logprob"]["accuracy"] == by_rule["mean_logprob"]["of_ceiling"] == 1
    # Doubts .25 and .75 on the right path, .5 on the wrong one.
    assert by_rule["self_verification"]["accuracy"] == 0
    assert by_rule["self_verification"]["auc"] == 0
    assert by_rule["vote"]["ceiling"] == 1


def test_the_default_is_chosen_on_validation_alone(tmp_path):
    experiment = small(tmp_path)
    settings = InstrumentSettings(problems=6, validation_problems=4)
    experiment.profile = experiment.profile.with_sections(instruments=settings)
    rows = selection_rules.rows(experiment)
    rows = rows[rows["model"] == "S"]
    assert set(rows["split"]) == {"seen", "new", "validation"}
    default = rows[rows["default"]]
    assert default["selection"].nunique() == 1
    validation = rows[rows["split"] == "validation"].set_index("selection")["accuracy"]
    assert validation[default["selection"].iloc[0]] == validation.max()
    text, remark = selection_rules.selection_text(rows), selection_rules.selection_remark(rows)
    assert f"For S validation chose `{default['selection'].iloc[0]}`: " in remark
    assert text.count("\n|") == 2 + 5 and selection_rules.selection_text(rows.iloc[:0]) == ""
    assert selection_rules.selection_remark(rows.iloc[:0]) == ""
