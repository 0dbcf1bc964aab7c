"""Every table and figure of a run, from an experiment small enough to train in seconds."""

import dataclasses
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_outcomes import assert_means

from lib.evaluation.results import dumps
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.profiles.settings import ModelSettings
from studies.catalogue import every_outcome, everything, load_profile
from studies.measurements import unused_problems


def small(folder):
    profile = load_profile("smoke")
    replace = dataclasses.replace
    sizes = {"hidden_size": 16, "layers": 1, "heads": 1, "test_problems": 6}
    examples = {"trunk_examples": 384, "branch_examples": 384}  # a loss is logged every 5 steps
    model = replace(profile.models["S"], **sizes, **examples)
    profile = replace(
        profile,
        data=replace(profile.data, train_problems=800, test_problems=8, validation_problems=4),
        models={"S": model, "L": replace(model, test_problems=4)},
        search=replace(
            profile.search,
            breadths=(1, 4),
            depths=(0, 1),
            temperatures=(1.0,),
            beams=2,
            expansion="sample",
            per_state="sqrt",
        ),
        improvement=replace(profile.improvement, rounds=1, problems=8, breadth=4),
        deepspeed=None,
        vllm=None,
        # No study: an untrained model samples no right path to learn from.
        sections=dict.fromkeys(profile.sections),
    )
    return Experiment(profile, "smoke", 0, Run(folder))


@pytest.mark.slow
def test_every_row_is_made_once_and_again_the_same(tmp_path):
    first = small(tmp_path / "first")
    rows = everything(first)
    found = set(rows["artifact"])
    figures = {f"figure_{number}" for number in (3, 4, 5, 6, 13)}
    assert found == {"table_1", "claims", "rollback", "leakage"} | figures
    assert set(rows["model"].dropna()) == {"S", "L"}
    table_1 = rows[(rows["artifact"] == "table_1") & (rows["checker"] == "strict")]
    assert set(table_1["method"]) >= {"sft_greedy", "sft_beam", "self_backtracking", "pass_at_n"}
    assert set(table_1[table_1["model"] == "L"]["problems"]) == {4}
    made = {name: artifact.duration_s for name, artifact in first.run.made.items()}
    again = everything(first)
    assert dumps({}, again) == dumps({}, rows)
    assert {name: artifact.duration_s for name, artifact in first.run.made.items()} == made
    assert dumps({}, everything(small(tmp_path / "second"))) == dumps({}, rows)
    outcomes = every_outcome(first)
    assert set(outcomes["artifact"]) == {"table_1", "figure_3", "figure_4"}
    assert_means(rows, outcomes)
    new = outcomes[outcomes["split"] == "new"]
    asked = first.problems("new")["target"].iloc[new["problem"]]
    assert new["target"].tolist() == asked.tolist()
    sizes = first.profile.models["S"]  # both models learn from the same problems
    trained = set(map(tuple, first.problems("train", 0, sizes.examples)["numbers"].map(sorted)))
    numbers = first.problems("new")["numbers"].iloc[new["problem"]].map(sorted).map(tuple)
    assert new["numbers_seen"].tolist() == numbers.isin(trained).tolist()


def test_problems_that_nothing_trained_on():
    profile = load_profile("smoke")
    small = ModelSettings(5, 3, 1, hidden_size=16, layers=1, heads=1)
    models = {"S": small, "L": replace(small, rounds=1)}
    improvement = replace(profile.improvement, rounds=2, problems=4)
    experiment = SimpleNamespace(
        profile=replace(profile, models=models, improvement=improvement),
        problems=lambda split, start, count: (split, start, count),
    )
    assert unused_problems(experiment, "S", 9) == ("train", 16, 9)
    assert unused_problems(experiment, "L", 9) == ("train", 12, 9)  # fewer rounds of its own
