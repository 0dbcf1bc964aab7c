"""The plan that a run prints: durations as read, and the parts of the profile."""

from collections import Counter
from dataclasses import replace

import pytest

from lib.commands import estimate as estimate_module
from lib.commands.estimate import estimate, format_duration, seconds
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.experiment.planner import Work
from lib.profiles.settings import ModelSettings
from lib.studies import work as work_module
from lib.studies.sections import load_profile


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (3_599, "60 min"),
        (5_400, "1 h 30 min"),
        (3_600 * 2 + 300, "2 h 05 min"),
        (36_000, "10 h 00 min"),
    ],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.fixture
def experiment(tmp_path):
    profile = load_profile("smoke")
    profile = replace(profile, data=replace(profile.data, train_problems=200))
    return Experiment(profile, "smoke", 0, Run(tmp_path))


RATES = {"S": (1_234_567, 100.0, 1000.0), "L": (2_000_000, 50.0, 500.0)}


def test_seconds_are_examples_and_tokens_over_their_rates():
    work = Work(Counter(S=300, L=100), Counter(S=2_000))
    assert seconds(work, RATES) == 300 / 100 + 100 / 50 + 2_000 / 1_000
    assert seconds(Work(), RATES) == 0


def test_the_plan_names_every_part_and_their_sum(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "rates", lambda *_: RATES | {"sweep S": RATES["S"]})
    parts = {"trunk": "S", "search": "S"}
    monkeypatch.setattr(work_module, "main_parts", lambda *_: parts)
    monkeypatch.setattr(work_module, "STUDIES", {"ratios": None, "sweep": None, "new": None})
    monkeypatch.setattr(work_module, "work_of", lambda *_: Work(Counter({"sweep S": 6_000})))
    text = estimate(experiment)
    assert "S: 1.2M parameters, 100 training examples/s" in text
    lines = [line.split() for line in text.splitlines()]
    for name in ("trunk", "search", "[ratios]", "[sweep]"):
        assert [name, "60", "s"] in lines
    assert "NOT COUNTED" in text and "[compute]" in text.split("NOT COUNTED")[1]
    assert "[ratios]" not in text.split("NOT COUNTED")[1] and "[new]" not in text
    assert text.endswith("together about 4 min")


def test_a_finished_run_is_not_measured(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "speeds", None)
    monkeypatch.setattr(work_module, "work_of", lambda *_: Work())
    text = estimate(experiment)
    assert "  S: all made\n" in text and text.endswith("together about 0 s")


def test_only_what_has_work_is_measured_on_its_own_task_and_recipe(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "speeds", lambda made, sizes: (made, sizes))
    (name, (small, sizes)), *more = estimate_module.rates(experiment, {"sweep L"}).items()
    assert (name, more) == ("sweep L", [])
    assert small.profile.task.settings == experiment.profile.sweep.task
    assert small.profile.training.branch.batch_size == experiment.profile.sweep.batch_size
    assert sizes.hidden_size == experiment.profile.sweep.models["L"].hidden_size
    assert estimate_module.rates(experiment, {"S"}) == {
        "S": (experiment, experiment.profile.models["S"])
    }


def test_pretrained_models_are_not_guessed_at(experiment):
    pretrained = ModelSettings(0, 8, 10, path="models/some")
    experiment.profile = replace(experiment.profile, models={"S": pretrained})
    assert "models/some, pretrained" in estimate(experiment)


def test_speeds_are_measured(experiment):
    sizes = replace(experiment.profile.models["S"], hidden_size=16, layers=1, heads=2)
    parameters, examples_per_s, tokens_per_s = estimate_module.speeds(experiment, sizes)
    assert parameters > 1_000 and examples_per_s > 0 and tokens_per_s > 0
