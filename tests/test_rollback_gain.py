"""What a roll-back earns: paired at equal N and at equal tokens; the ladder from SFT to it."""

import numpy as np
import pandas as pd
import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.evaluation.results import table
from lib.evaluation.scoring import RECIPE, SEARCH
from studies.beyond import rollback_gain
from studies.beyond.rollback_gain import (
    RUNGS,
    RollbackSettings,
    draw_gains,
    gain_rows,
    ladder_rows,
    remark,
    text,
)


def outcomes(cells):
    """(N, b) -> tokens of a problem, and which of ten problems are solved, of both splits."""
    parts = []
    for (breadth, depth), (tokens, right) in cells.items():
        for split in ("seen", "new"):
            found = pd.DataFrame({"problem": range(10), "correct": np.arange(10) < right})
            parts.append(found.assign(N=breadth, b=depth, split=split, tokens=float(tokens)))
    return pd.concat(parts).set_index(["N", "b", "split", "problem"]).sort_index()


CELLS = {
    (4, 0): (50, 4), (4, 1): (100, 7), (16, 0): (200, 8), (16, 1): (400, 9)
}  # fmt: skip


def test_equal_tokens_are_linear_in_their_logarithm():
    rows = pd.DataFrame(gain_rows(outcomes(CELLS)))
    pooled = rows[rows["split"].isna()].set_index("N")
    assert pooled["problems"].tolist() == [20, 20] and len(rows) == 2 * 3
    assert pooled.loc[4, "gain"] == pytest.approx(0.3)
    # 100 tokens lie half-way between 50 and 200: without a roll-back (0.4 + 0.8) / 2 is solved.
    assert pooled.loc[4, "equal"] == pytest.approx(0.7 - 0.6)
    assert pooled.loc[4, "equal_low"] < 0 < pooled.loc[4, "equal_high"]
    assert pooled.loc[16, "gain"] == pytest.approx(0.1) and np.isnan(pooled.loc[16, "equal"])


def rows_of_everything():
    rows = []
    for method, expansion in ((SEARCH, "sample"), (RECIPE, "sample"), (RECIPE, "beam_sample")):
        named = {"method": method, "model": "S", "expansion": expansion}
        rows += gain_rows(outcomes(CELLS), **named)
        index = pd.MultiIndex.from_product([["new", "seen"], range(10)])
        rungs = {
            name: pd.Series(np.tile(np.arange(10) < right, 2), index)
            for name, right in zip(RUNGS, (2, 3, 6, 7, 7), strict=True)
        }
        rows += ladder_rows(rungs, N=16, **named)
    return table(rows)


def test_what_it_says_and_draws():
    rows = rows_of_everything()
    told = remark(rows)
    assert told.startswith(
        "What one roll-back adds at N=4, both test splits: the paper's recipe, beams, +30.0 ["
    )
    assert "points at equal N and +10.0 [" in told and "at equal tokens" in told
    assert "at N=16: the paper's recipe, beams, 20.0% to 70.0%: sampling +10.0 [" in told
    assert "the verdict +30.0 [" in told and "the data +10.0 [" in told
    assert "the roll-back +0.0 [" in told
    lines = text(rows)
    assert lines.count("\n| the paper's recipe, beams | 4 | 70.0 | +30.0 [") == 1
    assert lines.count("\n|") == (1 + 3 * 2) + (2 + 3)
    figure = draw_gains(rows)
    assert figure.axes[0].get_title() == "S, both splits, N=16 (n=20)"
    assert [each.get_text() for each in figure.legends[0].get_texts()] == [
        "the paper's recipe, beams",
        "the paper's recipe, independent samples",
        "our recipe, independent samples",
        "at equal N",
        "at equal tokens",
    ]
    assert remark(table([])) == text(table([])) == ""
    with pytest.raises(UserError, match="no rows"):
        draw_gains(table([]))


@pytest.mark.slow
def test_rows(tmp_path):
    experiment = small(tmp_path)
    asked = RollbackSettings((2, 4))
    experiment.profile = experiment.profile.with_sections(rollback_gain=asked)
    list(rollback_gain.requests(experiment))
    rows = rollback_gain.rows(experiment)
    gains = rows[rows["artifact"] == "rollback_gain"]
    assert len(gains) == 2 * 2 * 3 and set(gains["problems"]) == {6, 12}
    rungs = rows[rows["artifact"] == "rollback_ladder"]
    assert len(rungs) == 2 * 5 * 3 and set(rungs["N"]) == {4}
    pooled = rungs[rungs["split"].isna()]
    for _, ladder in pooled.groupby("method"):
        solved = ladder.set_index("rung")["accuracy"]
        steps = ladder.set_index("rung")["gain"].dropna()
        assert solved["with"] - solved["sft_greedy"] == pytest.approx(steps.sum())
    same = pooled.set_index(["rung", "method"])["accuracy"].unstack()
    assert (same.loc[["sft_greedy", "sft_choice"]].nunique(axis=1) == 1).all()
    assert draw_gains(rows).axes and remark(rows)


@pytest.mark.slow
def test_the_own_judge_agrees_with_the_search(tmp_path):
    experiment = small(tmp_path)
    experiment.profile = experiment.profile.with_sections(rollback_gain=RollbackSettings((4,)))
    found = next(rollback_gain.own_searches(experiment, {}))
    paths = rollback_gain.judged(experiment, SEARCH, found)
    assert np.allclose(paths["judged"], paths["mean_logprob"], atol=1e-4)
