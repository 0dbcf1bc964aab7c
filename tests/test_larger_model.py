"""The paper's asymmetry: its own numbers, what a branch differs in, and the rule that decides."""

import numpy as np
import pandas as pd
import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.evaluation.paper import failures
from lib.evaluation.results import row, table
from lib.evaluation.scoring import accuracy_row
from studies.beyond import larger_model
from studies.beyond.larger_model import NAMES, USUAL, LargerModelSettings, remark, text, verdict
from studies.paper.figure_6 import ends_of_epochs

SETTINGS = LargerModelSettings(384, 1e-2, 4, 4, (0, 1))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    made.profile = made.profile.with_sections(larger_model=SETTINGS)
    return made


def test_the_papers_failures_are_points_of_accuracy():
    small_one, large = (failures(model, "seen", 1) for model in ("S", "L"))
    assert 100 * sum(small_one.values()) == pytest.approx(26.46, abs=0.05)
    assert 100 * small_one["not reached"] == pytest.approx(0.74, abs=0.01)
    assert 100 * large["not reached"] == pytest.approx(9.29, abs=0.01)
    told = larger_model.paper_gap()
    assert "Of the 9.4 points that the paper's 3B loses to its 1B" in told
    assert ", 8.6 are *not reached*" in told and told.count("\n|") == 2 + 4


def test_a_variant_changes_what_it_is_called_after():
    part = small("nowhere")
    part.profile = part.profile.with_sections(larger_model=SETTINGS)
    recipes = {name: larger_model.recipe_of(part, name) for name in NAMES}
    usual = recipes[USUAL]
    assert (usual.optimizer, usual.learning_rate, usual.epochs) == ("adamw", 1e-2, 1)
    values = {
        name: (recipe.batch_size, recipe.epochs, recipe.weights) for name, recipe in recipes.items()
    }
    size = usual.batch_size
    assert values == {
        USUAL: (size, 1, "float32"),
        "batch": (size // 4, 1, "float32"),
        "epochs": (size, 3, "float32"),
        "bfloat16": (size, 1, "bfloat16"),
        "together": (size // 4, 3, "bfloat16"),
    }


def test_the_loss_around_the_end_of_an_epoch():
    steps = np.arange(1, 31)
    losses = np.select([steps <= 10, steps <= 20], [1.0, 0.8], 0.6)
    curve = pd.DataFrame({"step": steps, "examples": 8 * steps, "loss": losses})
    first, second, last = ends_of_epochs(curve, 3)
    assert (first["loss"], first["loss_after"]) == (1.0, 0.8)
    assert first["fall"] == pytest.approx(0.2) and second["fall"] == pytest.approx(0.25)
    assert last["loss"] == 0.6 and np.isnan(last["fall"])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.05, "holds"), (-0.03, 0.01, "does not hold"), (-0.03, 0.05, "undecided")],
)
def test_a_cause_must_take_more_from_l_than_from_s(low, high, said):
    assert verdict({"excess_low": low, "excess_high": high}) == said


def rows_of(models):
    at = {"split": None, "N": 16, "b": 1}
    rows = []
    for model, solved in zip(models, (80, 75), strict=False):
        for variant in NAMES:
            lost = 10 if (model, variant) == ("L", "together") else 0
            right = np.arange(100) < solved - lost
            known = {"variant": variant, "not_reached": 0.1, "p_backtrack": 0.2, "unchanged": 0.85}
            for name in ("not_reached", "p_backtrack"):
                known |= {f"{name}_low": 0.05, f"{name}_high": 0.3}
            known |= {"gain": -lost / 100, "gain_low": -0.15, "gain_high": 0.02}
            rows.append(accuracy_row(right, artifact="asymmetry", model=model, **at) | known)
            ends = {"epoch": 1, "loss": 1.0, "loss_after": 0.9, "fall": 0.1}
            rows.append(row("asymmetry_loss", model=model, variant=variant) | ends)
    for variant in list(NAMES)[1:] if len(models) == 2 else ():
        excess = 0.1 if variant == "together" else 0.0
        gap = {"excess": excess, "excess_low": excess - 0.03, "excess_high": excess + 0.03}
        rows.append(row("asymmetry_gap", variant=variant, problems=100, **at) | gap)
    return table(rows)


def test_what_it_says_and_draws():
    rows = rows_of(["S", "L"])
    told = remark(rows)
    assert "S solves 80.0% and L 75.0% (both test splits, b=1 N=16)" in told
    assert "L with all three differences 65.0%" in told
    assert "all three, +10.0 [+7.0, +13.0] points, **holds**." in told
    assert "weights kept in bfloat16, +0.0 [-3.0, +3.0] points, **undecided**;" in told
    lines = text(rows)
    assert "| L, all three | 65.0 | -10.0 [-15.0, +2.0] | 10.0 | 20.0 | 10 | 85.0 |" in lines
    assert larger_model.draw_asymmetry(rows).axes[2].get_xlabel().startswith("P(<backtrack>)")
    alone = rows_of(["S"])
    assert remark(alone) == "" and text(alone) and larger_model.draw_asymmetry(alone).axes
    assert remark(table([])) == text(table([])) == ""
    with pytest.raises(UserError, match="no rows"):
        larger_model.draw_asymmetry(table([]))


@pytest.mark.slow
def test_rows(experiment):
    rows = larger_model.rows(experiment)
    assert set(rows["artifact"]) == set(larger_model.ARTIFACTS)
    found = rows[rows["artifact"] == "asymmetry"]
    assert len(found) == 2 * 5 * 2 * 3 and set(found["problems"]) == {4, 8}
    assert (found.loc[found["variant"] == USUAL, "gain"] == 0).all()
    assert found["not_reached"].between(0, 1).all()
    kept = found["variant"].isin(["bfloat16", "together"])
    assert found.loc[kept, "unchanged"].between(0, 1).all()
    assert found.loc[~kept, "unchanged"].isna().all()
    gaps = rows[rows["artifact"] == "asymmetry_gap"]
    assert len(gaps) == 4 * 2 * 3
    accuracy = found.set_index(["model", "variant", "split", "b"])["accuracy"]
    for gap in gaps[gaps["split"].notna()].to_dict("records"):
        at = gap["split"], gap["b"]
        drops = [accuracy[m, USUAL, *at] - accuracy[m, gap["variant"], *at] for m in "LS"]
        assert gap["excess"] == pytest.approx(drops[0] - drops[1])
    losses = rows[rows["artifact"] == "asymmetry_loss"]
    known = losses.dropna(subset="fall")  # only small batches are logged so often
    assert losses["epoch"].max() == 3 and set(known["variant"]) == {"together"}
    assert len(known) == 2 * 2
    assert larger_model.draw_asymmetry(rows).axes and "**" in remark(rows)
