"""Figure 4: what a roll-back adds, from outcomes made by hand, and where its marks stand."""

from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
from test_plots import cell

from lib.drawing.style import CEILING_MARK
from lib.evaluation.results import row, table
from lib.evaluation.statistics import paired_difference
from lib.profiles.search_spec import SearchSpec
from studies import measurements
from studies.catalogue import load_profile
from studies.measurements import SAMPLES, SEARCH, Searched
from studies.paper import figure_4

PROFILE = load_profile("smoke")
SOLVED = {0: [1, 1, 0, 0, 0, 0], 1: [1, 0, 1, 1, 1, 0]}


def experiment(**search):
    search = {"expansion": "sample", "per_state": "sqrt"} | search
    profile = replace(PROFILE, search=replace(PROFILE.search, **search))

    def spec(breadth, depth, **others):
        return SearchSpec(breadth, depth, profile.search.temperature, 4, **others)

    return SimpleNamespace(profile=profile, seed=4, spec=spec)


@pytest.fixture(autouse=True)
def outcomes(monkeypatch):
    def searches(experiment, model, spec):
        return [Searched(None, None, split, spec) for split in ("seen", "new")]

    def made(experiment, searched):
        depth = searched.spec.depth
        solved = SOLVED[depth] if searched.split == "seen" else SOLVED[0]
        rows = pd.DataFrame({"problem": range(6), "correct": solved}).astype({"correct": bool})
        rule = experiment.profile.search.selection
        both = [rows.assign(selection=rule), rows.assign(selection="another", correct=False)]
        # In another order: they are paired by problem.
        return pd.concat(both).sample(frac=1, random_state=depth)

    monkeypatch.setattr(measurements, "searches", searches)
    monkeypatch.setattr(measurements, "outcomes", made)


def test_gains_are_paired():
    found = figure_4.rollback_rows(experiment(breadths=(2, 8), depths=(0, 1)), "S")
    assert found[["N", "split", "b"]].values.tolist() == [
        [2, "seen", 1], [2, "new", 1], [8, "seen", 1], [8, "new", 1],
    ]  # fmt: skip
    seen, new = found.iloc[0], found.iloc[1]
    assert (seen["gained"], seen["lost"]) == (3, 1)
    expected = paired_difference(SOLVED[1], SOLVED[0])
    assert seen[["gain", "gain_low", "gain_high"]].tolist() == pytest.approx(expected)
    assert seen["gain"] == pytest.approx(2 / 6) and seen["accuracy"] == pytest.approx(4 / 6)
    assert (new["gained"], new["lost"], new["gain"]) == (0, 0, 0.0)
    assert new["gain_low"] < 0 < new["gain_high"]  # equal answers prove little on six problems
    shown = figure_4.gain_table(found).split("\n")
    assert len(shown) == 2 + 4 and shown[2].startswith("| S | seen | b=1 N=2 |")
    assert shown[2].endswith("| 3 | 1 |")
    assert "Of 4 comparisons" in figure_4.remark(found)


@pytest.mark.parametrize("depths", [(0,), (1,)])
def test_no_rows_without_a_pair(depths):
    assert figure_4.rollback_rows(experiment(breadths=(2,), depths=depths), "S").empty
    assert figure_4.gain_table(table([])) == figure_4.remark(table([])) == ""


def drawn(*others):
    made = [
        cell("figure_4", method, accuracy, model="S", split="seen", N=n, b=b)
        for method, accuracy in (("self_backtracking", 0.5), ("pass_at_n", 0.6))
        for n in (2, 8)
        for b in (0, 1)
    ]
    return figure_4.accuracy_against_breadth(table([*made, *others]))


def test_the_gain_of_roll_backs_stands_below_the_accuracies():
    shared = {"model": "S", "split": "seen", "N": 8, "b": 1, "problems": 100}
    gain = row("rollback", gain=0.03, gain_low=0.01, gain_high=0.05, **shared)
    assert len(drawn().axes) == 1
    above, below = drawn(gain).axes
    assert [line[0].get_ydata().tolist() for line in below.containers] == [[0.03]]
    assert above.get_title() == "S, seen split (n=100)" and above.get_xlim() == below.get_xlim()


def test_samples_and_beams_have_their_own_figures_and_gains():
    shared = {"model": "S", "split": "seen", "b": 1, "N": 8}
    rows = []
    for method, accuracy, gain in ((SEARCH, 0.9, 0.01), (SAMPLES, 0.5, 0.05)):
        rows += [
            cell("figure_4", method, accuracy - gain * (1 - b), **shared | {"b": b}) for b in (0, 1)
        ]
        bounds = {"gain": gain, "gain_low": gain - 0.01, "gain_high": gain + 0.01}
        rows.append(row("rollback", method, **bounds, **shared, problems=100))
    for draw, gain in ((figure_4.accuracy_against_breadth, 0.01), (figure_4.of_samples, 0.05)):
        _, below = draw(table(rows)).axes
        assert [line[0].get_ydata().tolist() for line in below.containers] == [[gain]]


def test_no_mark_hides_another():
    (panel,) = drawn(
        cell("best_of_n", "sft_pass_at_n", 0.9, model="S", split="seen", N=8),
        cell("best_of_n", "sft_pass_at_n", 0.9, model="S", split="seen", N=16),
    ).axes
    dots = [line[0] for line in panel.containers]
    places = sorted(x for line in dots for x in line.get_xdata())
    assert len(set(places)) == 4
    size = CEILING_MARK["markersize"]  # caps of intervals are smaller
    ceilings = [line for line in panel.lines if line.get_markersize() == size]
    # Above its own dot, and wider; SFT's at the N of this figure alone.
    assert sorted(x for line in ceilings[:2] for x in line.get_xdata()) == places
    assert ceilings[2].get_xdata().tolist() == [8.0]
    assert size > 2 * dots[0].get_markersize()
