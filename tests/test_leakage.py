"""Leakage: what was trained on is told from the training texts, and both parts make the whole."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.evaluation.results import dumps, table
from lib.evaluation.scoring import outcome_rows
from studies.beyond import leakage
from studies.catalogue import load_profile

TASK = load_profile("smoke").load_task()
#: A trace asks (3, 4, 5) in another order; nothing asks (3, 4, 6), nor 4 alone.
TEXTS = {
    "trunk": ["###Question: numbers [5, 3, 4]->target 9\n###Response:\n5+4=9\n"],
    "sft": ["###Question: numbers [4, 4, 4]->target 4\n###Response:\n"],
}
PROBLEMS = pd.DataFrame(
    {
        "numbers": [[3, 4, 5], [3, 4, 6], [4, 4, 4], [4, 5, 3]],
        "target": [12, 13, 8, 2],
        "split": ["seen", "seen", "new", "new"],
    }
)
SEEN = [True, False, True, True]


@pytest.fixture
def experiment(monkeypatch):
    monkeypatch.setattr(leakage, "kept_table", lambda e, name, inputs, measure, made_by: measure())
    monkeypatch.setattr(leakage.table_1, "outcomes", lambda experiment: outcomes())
    return SimpleNamespace(
        task=TASK,
        profile=SimpleNamespace(models={"S": None}),
        stages=lambda model: tuple(TEXTS),
        traces=lambda model, stage: pd.DataFrame({"text": TEXTS[stage]}),
        checkpoint=lambda model, stage: SimpleNamespace(key=stage),
        test_problems=lambda model: PROBLEMS,
    )


def outcomes():
    parts = []
    for method, breadth, correct in (("sft_greedy", None, [1, 0, 1, 0]), ("dfs", 8, [1, 1, 1, 0])):
        part = PROBLEMS[["split"]].assign(problem=[0, 1, 0, 1], correct=correct, tokens=2)
        named = {"artifact": "table_1", "method": method, "N": breadth, "b": None}
        parts.append(part.assign(model="S", seed=1, correct_published=True, **named))
    return pd.concat(parts, ignore_index=True)


def test_the_texts_decide(experiment):
    found = leakage.numbers_seen(experiment, "S")
    assert found["numbers_seen"].tolist() == SEEN
    assert found["problem"].tolist() == [0, 1, 0, 1]
    for text in [*TEXTS["trunk"], TASK.prompts(PROBLEMS)[0]]:
        assert TASK.question_group(text) == (3, 4, 5)


def test_both_parts_make_the_whole(experiment):
    rows = leakage.rows(experiment)
    assert set(rows["checker"]) == {"strict"} and set(rows["artifact"]) == {"leakage"}
    for whole in outcome_rows(outcomes()).query("checker == 'strict'").to_dict("records"):
        part = rows[(rows["method"] == whole["method"]) & (rows["split"] == whole["split"])]
        assert part["problems"].sum() == whole["problems"]
        right = (part["problems"] * part["accuracy"]).sum()
        assert right == pytest.approx(whole["problems"] * whole["accuracy"])
    told = leakage.remark(rows)
    assert told.startswith("3 of 4 test problems (75%) have numbers that were trained on, with")
    shown = leakage.text(rows).split("\n")
    head = "| accuracy, %, on numbers ... | S, seen, trained on | S, seen, never |"
    assert shown[0].startswith(head) and len(shown) == 4
    assert "**100.0**" in shown[2] and shown[2].count("(n=1)") == 2 and "(n=2)" in shown[2]
    assert '"numbers_seen": true' in dumps({}, rows)


def test_all_was_trained_on(experiment):
    TEXTS["play"] = ["[3, 6, 4]"]
    try:
        rows = leakage.rows(experiment)
    finally:
        del TEXTS["play"]
    assert rows["numbers_seen"].all() and leakage.text(rows) == ""
    assert leakage.remark(rows).endswith(
        "(100%) have numbers that were trained on, with another target."
    )


def test_a_task_that_cannot_tell(experiment):
    experiment.task = SimpleNamespace(question_group=None)
    assert leakage.rows(experiment).empty
    assert leakage.with_numbers_seen(experiment, outcomes()).equals(outcomes())
    assert leakage.remark(table([])) == leakage.text(table([])) == ""
