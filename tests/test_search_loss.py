"""Losses of the hand-made tree, exactly, and the study on a tiny model."""

import numpy as np
import pandas as pd
import pytest
from hand_made_tree import PROBLEM, make_tree
from test_measurements import small

from lib.evaluation.results import row, table
from lib.evaluation.states import state_table
from lib.tasks.countdown.problems import make_settings
from lib.tasks.countdown.task import CountdownTask
from studies.beyond import search_loss
from studies.beyond.search_loss import (
    InstrumentSettings,
    loss_remark,
    loss_rows,
    where_lost,
)

SETTINGS = dict(numbers=3, max_number=9, target_low=1, target_high=30, max_result=99, held_out=0.1)
TASK = CountdownTask(make_settings(SETTINGS))
PROBLEMS = pd.DataFrame([{"numbers": list(PROBLEM.numbers), "target": PROBLEM.target}] * 8)


def test_problems_have_lengths_of_their_own():
    """Of three problems the first ends at step 2, where the others go on to 11."""
    states = pd.DataFrame({"problem": [0, 1, 2], "step": [2, 9, 11], "alive": True, "node": 1})
    outcomes = pd.DataFrame({"problem": [0, 1, 2], "correct": False, "covered": False})
    made = loss_rows(states, outcomes, [2, 11, 11], model="S", split="seen", b=0, N=4)
    shares = {each["quantity"]: each["share"] for each in made if each["share"]}
    third = pytest.approx(1 / 3)
    assert shares == {
        "solution found, not finished": pytest.approx(2 / 3),
        "lost at step 10": third,
    }
    made = loss_rows(
        states.assign(step=[0, 1, 9]), outcomes, [2, 11, 11], model="S", split="seen", b=0, N=4
    )
    labels = [each.get_text() for each in where_lost(table(made)).legends[0].get_texts()]
    assert labels[:3] == ["lost at step 1", "lost at step 2", "lost at step 10"]


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


def test_the_text_says_where_most_are_lost():
    shared = {"model": "S", "split": "seen", "N": 4, "b": 1}
    shares = {
        "solved": 0.605,
        "lost at step 1": 0.1,
        "lost at step 2": 0.25,
        "found, not chosen": 0,
    }
    rows = [row("search_loss", quantity=k, share=v) | shared for k, v in shares.items()]
    remark = loss_remark(table(rows))
    assert "S, seen split: 61% solved; the largest part of the others is lost at" in remark
    assert "lost at step 2 (25%)." in remark
    assert loss_remark(table([])) == ""


@pytest.mark.slow
def test_shares_of_a_whole_study(tmp_path):
    experiment = small(tmp_path)
    settings = InstrumentSettings(problems=6)
    experiment.profile = experiment.profile.with_sections(instruments=settings)
    rows = search_loss.rows(experiment)
    assert set(rows["artifact"]) == {"search_loss"}
    lost = rows[rows["artifact"] == "search_loss"].groupby(["model", "split", "b"])["share"].sum()
    assert np.allclose(lost, 1) and len(lost) == 2 * 2 * 2
    assert "solved; the largest part of the others is" in loss_remark(rows)
    for study_figure in search_loss.STUDY.figures:
        assert study_figure.has_rows(rows) and study_figure.draw(rows).axes
