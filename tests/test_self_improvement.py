"""Self-improvement in three ways: who learns what, who is measured on what, and what is said."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row
from lib.experiment.planner import Planner
from lib.experiment.work import decoded_tokens, search_tokens
from lib.profiles.recipe import Recipe
from lib.tasks.task import BACKTRACK
from studies.paper import figure_3, self_improvement, self_improvement_report
from studies.paper.paper_recipe import with_paper_recipe
from studies.paper.self_improvement import SelfImprovementSettings, Way, gain_rows, lessons
from studies.paper.self_improvement_report import CONTROL, FRESH, NAMES, OTHERS, PUBLISHED

RECIPE = Recipe("muon", 1e-3, 1e-3, batch_size=8, epochs=3.0)
SETTINGS = SelfImprovementSettings(2, 4, (1,), 4, 6, (1.0, 3.0), (3, 6), RECIPE)


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An untrained model finds nothing: half of the problems are made out to be solved."""
    made = small(tmp_path)
    made.profile = made.profile.with_sections(self_improvement=SETTINGS)

    def correct(trees, problems, task):
        some = problems.iloc[::2]
        responses = [
            text.removeprefix(prompt)
            for text, prompt in zip(
                task.optimal_traces(some)["text"], task.prompts(some), strict=True
            )
        ]
        return pd.DataFrame({"problem": range(0, len(problems), 2), "response": responses})

    monkeypatch.setattr(figure_3, "correct_responses", correct)
    return made


def asked(texts):
    """The questions of these traces."""
    return [re.match(r".*\n", text)[0] for text in texts]


@pytest.mark.slow
def test_what_a_round_learns(experiment):
    part = with_paper_recipe(experiment)
    before, task = part.checkpoint("S", "backtracking"), part.task
    tests = [prompt.splitlines()[0] + "\n" for prompt in task.prompts(part.problems("seen", 0, 4))]
    published = lessons(part, Way(PUBLISHED, 1, "seen"), before, 1)
    assert asked(published["text"]) == tests[::2] and set(published["kind"]) == {"self"}
    fresh = lessons(part, Way(FRESH, 1), before, 2)
    said = fresh["text"].str.endswith(BACKTRACK)
    assert said.tolist() == [False] * 3 + [True] * 3
    assert asked(fresh["text"][said]) == asked(fresh["text"][~said])
    start = part.profile.models["S"].examples + SETTINGS.fresh
    questions = task.prompts(part.problems("train", start, 6))
    lines = [question.splitlines()[0] + "\n" for question in questions]
    assert asked(fresh["text"][~said]) == lines[::2]
    control = lessons(part, Way(CONTROL, 1), before, 2)
    assert asked(control["text"][:3]) == lines[:3] and len(control) == len(fresh)
    assert len(lessons(part, Way(FRESH, 1), before, 2, most=3)) == 2 * 2


@pytest.mark.slow
def test_rows(experiment):
    rows = self_improvement.rows(experiment)
    strict = rows[rows["checker"] == "strict"]
    greedy = strict[strict["artifact"] == "self_improvement"]
    assert set(greedy["method"]) == set(NAMES) and set(greedy["problems"]) == {4}
    assert len(greedy) == 4 * 2 * 3  # methods, splits, rounds 0 to 2
    searched = strict[strict["artifact"] == "self_improvement_search"]
    assert set(searched["method"]) == set(NAMES) - {OTHERS} and len(searched) == 3 * 2 * 3
    start = greedy[(greedy["round"] == 0) & (greedy["method"] != OTHERS)]
    assert (start.groupby("split")["accuracy"].nunique() == 1).all()
    gains = rows[rows["artifact"] == "self_improvement_gain"]
    assert len(gains) == 4 * 3 * 3 and (gains.loc[gains["round"] == 0, "gain"] == 0).all()
    assert gains.loc[gains["method"].isin([FRESH, OTHERS]), "lead"].isna().all()
    swept = strict[strict["artifact"] == "self_improvement_sweep"]
    assert set(zip(swept["epochs"], swept["round_problems"], strict=True)) == {
        (1, 6), (3, 6), (3, 3)
    }  # fmt: skip
    outcomes = self_improvement.outcomes(experiment)
    others = outcomes[outcomes["method"] == OTHERS]["problem"]
    assert (others.min(), others.max()) == (4, 7)  # never those that were trained on
    assert self_improvement_report.curves_by_round(rows).axes
    assert "the jump is " in self_improvement_report.remark(rows)
    assert self_improvement_report.text(rows).count("\n|") == 2 + 3


def test_work(tmp_path):
    planner = Planner.of(small(tmp_path))
    planner.profile = planner.profile.with_sections(self_improvement=SETTINGS)
    part = with_paper_recipe(planner)
    planner.work_of([part.checkpoint("S", "backtracking")])
    work = planner.work_of(self_improvement.requests(planner))
    # Two splits' 4 problems; 6 fresh ones with D_back, and a control; one epoch, and 3 of the 6.
    assert work.examples["S"] == 2 * 2 * 4 * 3 + 2 * 2 * 12 * 3 + 12 + 6 * 3
    # What a round as published searches, the model before it is measured on.
    searched = 2 * search_tokens(6, 4, 1) + 2 * search_tokens(4, 4, 1) * (1 + 2 + 2 + 2)
    greedy = (2 * (1 + 2 + 2 + 2) + 2 * (1 + 2) + 3) * decoded_tokens(4, 1)
    assert work.tokens["S"] == pytest.approx(searched + greedy)


def answers(solved):
    """Outcomes of ten problems of both splits: (method, round) -> how many are solved."""
    parts = []
    for (method, number), right in solved.items():
        for split in ("seen", "new"):
            found = pd.DataFrame({"problem": range(10), "correct": np.arange(10) < right})
            parts.append(found.assign(method=method, b=1, round=number, split=split))
    return pd.concat(parts, ignore_index=True)


def gains(published, others):
    solved = {(method, 0): 3 for method in NAMES}
    solved |= {(PUBLISHED, 1): published, (OTHERS, 1): others, (FRESH, 1): 4, (CONTROL, 1): 4}
    return pd.DataFrame(gain_rows(answers(solved)))


def test_gains_are_paired_and_the_verdict_follows_the_rule():
    found = gains(10, 3)
    pooled = found[found["split"].isna() & (found["round"] == 1)].set_index("method")
    assert pooled.loc[PUBLISHED, "gain"] == 0.7 and pooled.loc[FRESH, "gain"] == 0.1
    assert pooled.loc[PUBLISHED, "lead"] == pytest.approx(0.6)
    told = self_improvement_report.remark(table(found))
    assert "first round gives +45.9 and its third +51.6" in told
    assert "TRAINED ON THESE TEST PROBLEMS* +70.0" in told and "**learned by heart**" in told
    for published, others in ((4, 3), (10, 10)):
        told = self_improvement_report.remark(table(gains(published, others)))
        assert "**not** by heart alone" in told
    assert self_improvement_report.remark(table([])) == ""
    assert self_improvement_report.text(table([])) == ""


def test_the_figure_says_loudly_what_was_trained_on():
    rows = []
    for split in ("seen", "new"):
        for number in (0, 1):
            for method in NAMES:
                for artifact in ("self_improvement", "self_improvement_search"):
                    at = {"model": "S", "split": split, "N": 16, "b": 1, "round": number}
                    rows.append(accuracy_row([True, False], artifact=artifact, method=method, **at))
    figure = self_improvement_report.curves_by_round(table(rows))
    assert figure.axes[0].get_title() == "S, seen split, b=1 N=16 (n=2)"
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "TRAINED ON THESE TEST PROBLEMS" in labels[0] and len(labels) == 6
    [study_figure] = self_improvement.STUDY.figures
    assert "THE TEST PROBLEMS THEMSELVES" in study_figure.caption


def test_as_many_test_problems_are_left_untrained():
    profile = small("nowhere").profile  # of 8 test problems in each split
    SETTINGS.check(profile)
    with pytest.raises(ValueError, match=r"self_improvement.evaluated = 5: must be at most 4"):
        dataclasses.replace(SETTINGS, evaluated=5).check(profile)
    with pytest.raises(UserError, match="rounds"):
        dataclasses.replace(SETTINGS, rounds=0)
