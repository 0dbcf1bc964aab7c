"""The verdict token as a classifier, on states whose labels are known by hand."""

import numpy as np
import pandas as pd
import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.evaluation.results import table
from studies.beyond import verdicts
from studies.beyond.search_loss import InstrumentSettings
from studies.beyond.verdicts import (
    curve_rows,
    verdict_curves,
    verdict_rows,
    verdicts_remark,
    verdicts_text,
)


def states():
    """Question apart: alive at doubts .1 .6 .2 .3; lost at .9 (twice) and .4, .05."""
    rows = [
        (0, 0, True, None, 0.99),  # the question is no state of the table
        (0, 1, True, None, 0.1),
        (0, 1, False, "exploration", 0.9),
        (0, 2, True, None, 0.6),
        (1, 1, True, None, 0.2),
        (1, 1, False, "computation", 0.9),
        (1, 2, False, "exploration", 0.4),
        (2, 1, True, None, 0.3),
        (2, 2, False, "earlier", 0.05),
        (2, 2, False, "format", np.nan),  # not known: left out
    ]
    columns = ["problem", "step", "alive", "error", "p_backtrack"]
    return pd.DataFrame(rows, columns=columns)


def test_scores():
    rows = verdict_rows(states(), model="S", split="seen")
    all_states = {
        each["quantity"]: each["share"]
        for each in rows
        if each.get("step") is None and each.get("error") is None
    }
    assert all_states["precision"] == pytest.approx(2 / 3)
    assert all_states["recall"] == pytest.approx(2 / 4)
    assert all_states["specificity"] == pytest.approx(3 / 4)
    assert all_states["auc"] == pytest.approx((4 + 4 + 3 + 0) / 16)
    errors = [0.1, 0.1, 0.6, 0.2, 0.1, 0.6, 0.3, 0.95]
    assert all_states["brier"] == pytest.approx(np.mean(np.square(errors)))
    kinds = {(each.get("error"), each["quantity"]): each["share"] for each in rows}
    assert kinds["exploration", "recall"] == pytest.approx(1 / 2)
    assert kinds["computation", "auc"] == 1 and kinds["earlier", "auc"] == 0
    assert ("format", "auc") not in kinds


def test_curves():
    rows = curve_rows(states())
    roc = [each for each in rows if each["artifact"] == "verdict_roc"]
    assert roc[0]["share"] == pytest.approx(0.5)  # both .9 come before any alive state
    assert roc[-1]["share"] == 1
    shares = [each["share"] for each in roc]
    assert shares == sorted(shares)
    bins = [each for each in rows if each["artifact"] == "verdict_calibration"]
    assert sum(each["states"] for each in bins) == 8
    assert bins[-1]["predicted"] == pytest.approx(0.9) and bins[-1]["share"] == 1


def test_a_perfect_and_a_calibrated_verdict():
    generator = np.random.default_rng(0)
    doubt = generator.random(4000)
    lost = generator.random(4000) < doubt
    table = pd.DataFrame(
        {"problem": range(4000), "step": 1, "alive": ~lost, "p_backtrack": doubt, "error": None}
    )
    found = {each["quantity"]: each["share"] for each in verdict_rows(table)}
    assert found["calibration_error"] < 0.03
    perfect = table.assign(p_backtrack=lost.astype(float))
    assert {each["quantity"]: each["share"] for each in verdict_rows(perfect)}["auc"] == 1


def test_the_text_and_the_figure():
    named = {"model": "S", "split": "seen", "N": 4, "b": 1}
    rows = table([*verdict_rows(states(), **named), *curve_rows(states(), **named)])
    text = verdicts_text(rows)
    told = "of the states that it calls lost, 67% are; of those that are, it finds 50%."
    assert told in verdicts_remark(rows)
    assert "| S, seen | 0.69 [" in text and "| recall, exploration | recall, computation |" in text
    titles = [axes.get_title() for axes in verdict_curves(rows).axes]
    assert titles == ["ROC, seen split", "calibration, seen split"]
    assert verdicts_remark(table([])) == verdicts_text(table([])) == ""
    with pytest.raises(UserError, match="no rows"):
        verdict_curves(table([]))


@pytest.mark.slow
def test_shares_of_a_whole_study(tmp_path):
    experiment = small(tmp_path)
    settings = InstrumentSettings(problems=6)
    experiment.profile = experiment.profile.with_sections(instruments=settings)
    rows = verdicts.rows(experiment)
    assert {"verdicts", "verdict_calibration"} <= set(rows["artifact"])
    assert rows["share"].dropna().between(0, 1).all()
    assert set(rows["b"].dropna()) == {1}
