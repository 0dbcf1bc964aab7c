"""The plan that a run prints: durations as read, and stages that follow the profile."""

from dataclasses import replace

import pytest

from lib import estimate as estimates
from lib.estimate import estimate, format_duration, stages
from lib.experiment import Experiment
from lib.profiles import ModelSettings, load_profile
from lib.store import Run


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
    return Experiment(load_profile("smoke"), "smoke", 0, Run(tmp_path))


def test_stages_scale_with_speed_and_size(experiment):
    slow, fast = (stages(experiment, "S", speed, 10 * speed) for speed in (100.0, 200.0))
    assert all(slow[stage] == pytest.approx(2 * fast[stage]) for stage in slow)
    sizes = experiment.profile.models["S"]
    assert slow["trunk"] == sizes.trunk_examples / 100
    larger = replace(sizes, trunk_examples=2 * sizes.trunk_examples)
    experiment.profile = replace(experiment.profile, models={"S": larger})
    assert stages(experiment, "S", 100.0, 1000.0)["trunk"] == 2 * slow["trunk"]


def test_the_plan_names_every_stage_and_its_total(experiment, monkeypatch):
    monkeypatch.setattr(estimates, "speeds", lambda *_: (1_234_567, 100.0, 1000.0))
    text = estimate(experiment)
    for stage in stages(experiment, "S", 100.0, 1000.0):
        assert stage in text
    assert "1.2M parameters, 100 training examples/s" in text
    total = sum(stages(experiment, "S", 100.0, 1000.0).values())
    assert text.endswith(f"together about {format_duration(total)}")


def test_pretrained_models_are_not_guessed_at(experiment):
    pretrained = ModelSettings(0, 8, 10, path="models/some")
    experiment.profile = replace(experiment.profile, models={"S": pretrained})
    assert "models/some, pretrained" in estimate(experiment)


def test_speeds_are_measured(experiment):
    sizes = replace(experiment.profile.models["S"], hidden_size=16, layers=1, heads=2)
    parameters, examples_per_s, tokens_per_s = estimates.speeds(experiment, sizes)
    assert parameters > 1_000 and examples_per_s > 0 and tokens_per_s > 0
