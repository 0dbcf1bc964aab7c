"""The plan that a run prints: durations as read, and the parts of the profile."""

from collections import Counter
from dataclasses import replace

import pytest

from commands import estimate as estimate_module
from commands.estimate import estimate, format_duration, seconds
from lib.base.errors import UserError
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.experiment.planner import Planner
from lib.experiment.work import Work
from lib.profiles.settings import ModelSettings
from studies import catalogue
from studies.catalogue import load_profile
from studies.study import Study


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


def study(name, section, requests=lambda _: ()):
    return Study(name, rows=None, requests=requests, section=section)


def cannot_say(_):
    raise UserError("not known yet")


STUDIES = (
    study("table", ""),
    study("ratios", "ratios"),
    study("one", "dfs"),
    study("two", "dfs"),
    study("compute", "compute", cannot_say),
    study("new", "new"),
)


def test_the_plan_names_every_part_and_their_sum(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "rates", lambda *_: RATES)
    monkeypatch.setattr(catalogue, "STUDIES", STUDIES)
    monkeypatch.setattr(Planner, "work_of", lambda *_: Work(Counter(S=6_000)))
    text = estimate(experiment).text
    assert "S: 1.2M parameters, 100 training examples/s" in text
    lines = [line.split() for line in text.splitlines()]
    for name in ("trunk", "table", "[ratios]"):
        assert [name, "60", "s"] in lines
    assert ["[dfs]", "2", "min"] in lines  # two studies have that section
    assert text.split("NOT COUNTED")[1].splitlines()[0].endswith(": [compute]")
    assert "[new]" not in text
    assert text.endswith("together about 7 min")


def test_a_finished_run_is_not_measured(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "speeds", None)
    monkeypatch.setattr(Planner, "work_of", lambda *_: Work())
    text = estimate(experiment).text
    assert "  S: all made\n" in text and text.endswith("together about 0 s")


def test_only_what_has_work_is_measured(experiment, monkeypatch):
    monkeypatch.setattr(estimate_module, "speeds", lambda made, sizes: (made, sizes))
    planner = Planner.of(experiment)
    assert estimate_module.rates(planner, {"S"}) == {"S": (planner, experiment.profile.models["S"])}


def test_pretrained_models_are_not_guessed_at(experiment):
    pretrained = ModelSettings(0, 8, 10, path="models/some")
    experiment.profile = replace(experiment.profile, models={"S": pretrained})
    text = estimate(experiment).text
    assert "models/some, pretrained" in text
    assert "[compute]" in text.split("NOT COUNTED")[1] and not list(experiment.run.folder.iterdir())


def test_speeds_are_measured(experiment):
    sizes = replace(experiment.profile.models["S"], hidden_size=16, layers=1, heads=2)
    parameters, examples_per_s, tokens_per_s = estimate_module.speeds(experiment, sizes)
    assert parameters > 1_000 and examples_per_s > 0 and tokens_per_s > 0
