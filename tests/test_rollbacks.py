"""What a roll-back adds, from outcomes made by hand."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from lib.drawing import markdown
from lib.evaluation.results import table
from lib.evaluation.statistics import paired_difference
from lib.studies import measurements
from lib.studies.beyond import rollbacks
from lib.studies.sections import load_profile

PROFILE = load_profile("smoke")
SOLVED = {0: [1, 1, 0, 0, 0, 0], 1: [1, 0, 1, 1, 1, 0]}


def experiment(**search):
    profile = replace(PROFILE, search=replace(PROFILE.search, **search))
    return SimpleNamespace(profile=profile, seed=4)


@pytest.fixture(autouse=True)
def outcomes(monkeypatch):
    def made(experiment, model, split, breadth, depth):
        solved = SOLVED[depth] if split == "seen" else SOLVED[0]
        rows = pd.DataFrame({"problem": range(6), "correct": solved}).astype({"correct": bool})
        rule = experiment.profile.search.selection
        both = [rows.assign(selection=rule), rows.assign(selection="another", correct=False)]
        # In another order: they are paired by problem.
        return pd.concat(both).sample(frac=1, random_state=depth)

    monkeypatch.setattr(measurements, "outcomes", made)


def test_gains_are_paired():
    found = rollbacks.rows(experiment(breadths=(2, 8), depths=(0, 1)), "S")
    assert found[["split", "N", "b"]].values.tolist() == [
        ["seen", 2, 1], ["seen", 8, 1], ["new", 2, 1], ["new", 8, 1],
    ]  # fmt: skip
    seen, new = found.iloc[0], found.iloc[2]
    assert (seen["gained"], seen["lost"]) == (3, 1)
    expected = paired_difference(SOLVED[1], SOLVED[0])
    assert seen[["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(expected)
    assert seen["gain"] == pytest.approx(2 / 6) and seen["accuracy"] == pytest.approx(4 / 6)
    assert (new["gained"], new["lost"], new["gain"]) == (0, 0, 0.0)
    assert new["gain_low"] < 0 < new["gain_high"]  # equal answers prove little on six problems
    shown = markdown.rollbacks(found)
    assert len(shown) == 4 and shown.loc[0, "gained"] == 3


@pytest.mark.parametrize("depths", [(0,), (1,)])
def test_no_rows_without_a_pair(depths):
    assert rollbacks.rows(experiment(breadths=(2,), depths=depths), "S").empty
    assert markdown.rollbacks(table([])).empty
