"""A study is one file. Named in the catalogue, it is checked, planned, run, drawn and reported."""

import json

import adding_study
import pytest
from adding_study import SampleCostSettings
from test_measurements import small

from commands import estimate as estimate_module
from lib.base.errors import UserError
from lib.evaluation.results import read_results, write_results
from lib.experiment.artifacts import MADE, Run
from lib.experiment.experiment import Experiment
from lib.experiment.planner import Planner
from lib.experiment.work import search_tokens
from lib.profiles.load import PROFILES
from studies import catalogue
from studies.beyond import equal_compute, expansions
from studies.catalogue import load_profile
from studies.report.page import draw_all, render
from studies.report.show import lacking


@pytest.fixture(autouse=True)
def in_the_catalogue(monkeypatch):
    """Its one line in studies/catalogue.py."""
    monkeypatch.setattr(catalogue, "STUDIES", (*catalogue.STUDIES, adding_study.STUDY))


@pytest.fixture
def profile(tmp_path):
    """A function that loads the profile `smoke` with a section `[sample_cost]` of these lines."""

    def loaded(*lines):
        path = tmp_path / "own.toml"
        smoke = (PROFILES / "smoke.toml").read_text()
        path.write_text("\n".join([smoke, "[sample_cost]", *lines]))
        return load_profile(str(path))

    return loaded


def test_its_section_is_checked_as_any_other(profile):
    settings = profile("problems = 3", "breadths = [2, 5]").settings(SampleCostSettings)
    assert settings == SampleCostSettings(problems=3, breadths=(2, 5))
    for lines, message in (
        (["problems = 0", "breadths = [2]"], "sample_cost.problems = 0: must be at least 1"),
        (["problems = 3", "breadths = []"], r"sample_cost.breadths = \[\]: must not be empty"),
        (["problems = 3"], "sample_cost.breadths: missing"),
        (["problems = 3", "breadths = [2]", "b = 1"], "sample_cost.b: no such key"),
    ):
        with pytest.raises(UserError, match=f"^own.toml: {message}"):
            profile(*lines)


def test_it_is_planned_run_drawn_and_reported(tmp_path, monkeypatch):
    experiment = small(tmp_path / "run")
    asked = SampleCostSettings(problems=3, breadths=(2, 5))
    assert adding_study.STUDY not in catalogue.wanted(experiment)
    experiment.profile = experiment.profile.with_sections(sample_cost=asked)
    assert catalogue.wanted(experiment)[-1] is adding_study.STUDY

    monkeypatch.setattr(estimate_module, "speeds", lambda *_: (1_000_000, 100.0, 1.0))
    planner = Planner.of(experiment)
    work = planner.work_of(adding_study.STUDY.requests(planner))
    assert work.tokens == {"S": pytest.approx(2 * sum(search_tokens(3, n, 0) for n in (2, 5)))}
    seconds = estimate_module.format_duration(sum(work.tokens.values()))
    assert f"[sample_cost] {seconds}" in " ".join(estimate_module.estimate(experiment).text.split())

    rows = adding_study.rows(experiment)
    assert set(rows["N"]) == {2, 5} and set(rows["problems"]) == {3}
    for made in (tmp_path / "run" / "search").rglob(MADE):  # where they took no tenth of a second
        made.write_text(json.dumps(json.loads(made.read_text()) | {"duration_s": 1.0}))
    assert "[sample_cost]" in estimate_module.spent(experiment)
    planner = Planner.of(experiment)
    assert not planner.work_of(adding_study.STUDY.requests(planner)).models()

    write_results(tmp_path / "results.json", experiment.manifest(), rows)
    manifest, known = read_results(tmp_path / "results.json")
    drawn = draw_all(known, manifest, tmp_path)
    assert [path.name for path in drawn] == ["sample_cost.png", "sample_cost.svg"]
    page = render(manifest, known)
    assert "## What one more sample costs" in page and "| seen | 5 |" in page
    assert "![Tokens of a problem against N.](sample_cost.png)" in page


def test_what_a_profile_lacks_is_in_one_of_its_task(tmp_path):
    def said(profile, study):
        return lacking(Experiment(load_profile(profile), profile, 0, Run(tmp_path)), study)

    assert "`make reproduce PROFILE=studies` makes it" in said("cpu", expansions.STUDY)
    assert "`make reproduce PROFILE=cpu` makes it" in said("pretrained", equal_compute.STUDY)
    assert "nor does any that ships for its task" in said("sudoku", expansions.STUDY)
