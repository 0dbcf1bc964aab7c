"""Weights kept in bfloat16: what a step leaves, what is counted, keys that stay as they were."""

from dataclasses import replace

import pytest
import torch
from test_measurements import small
from test_trainer import RECIPE, TOKENIZER, TRACES, tiny

from lib.base.errors import UserError
from lib.models.llama import load_model
from lib.profiles.recipe import Recipe
from lib.training.rounding import CHANGED, RoundedWeights
from lib.training.trainer import CURVE, TrainingSpec, read_curve, train
from studies.beyond import bfloat16
from studies.beyond.bfloat16 import BFloat16Settings

KEPT = replace(RECIPE, optimizer="adamw", weights="bfloat16")


def test_the_default_leaves_keys_as_they_were():
    assert "weights" not in Recipe().inputs()
    assert KEPT.inputs()["weights"] == "bfloat16"


def test_only_adamw_keeps_weights_so():
    with pytest.raises(UserError, match=r"weights = 'bfloat16': with optimizer = 'adamw' alone"):
        replace(RECIPE, weights="bfloat16")
    with pytest.raises(UserError, match="weights = 'float16': choose one of float32, bfloat16"):
        replace(KEPT, weights="float16")


class Told:
    """A Trainer's state."""

    def __init__(self):
        self.log_history = [{}]


def test_an_update_is_counted_before_rounding_and_after_it():
    model = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1, 1.0], [1e-4, 0.0]]))
    callback, state = RoundedWeights(), Told()
    callback.on_train_begin(None, state, None, model=model)
    start = model.weight.detach().clone()
    assert torch.equal(start, start.bfloat16().float()) and start[0, 0] != 0.1
    callback.on_pre_optimizer_step(None, state, None, model=model)
    with torch.no_grad():
        model.weight += torch.tensor([[1e-5, 1e-5], [1e-5, 0.0]])
    callback.on_optimizer_step(None, state, None, model=model)
    callback.on_log(None, state, None, logs={"loss": 1.0})
    # Three of four change in float32; of these 0.1 and 1 are rounded back to what they were.
    assert state.log_history == [dict(zip(CHANGED, (0.75, 0.25), strict=True))]
    assert torch.equal(model.weight[0], start[0]) and model.weight[1, 0] > start[1, 0]


def test_a_training_leaves_bfloat16_numbers_and_says_what_it_changed(tmp_path):
    curve = train(tiny(), TOKENIZER, TRACES, TrainingSpec(KEPT, seed=0), tmp_path)
    assert list(curve) == [*CURVE, *CHANGED] == list(read_curve(tmp_path))
    assert (curve["changed_bfloat16"] <= curve["changed_float32"]).all()
    assert curve["changed_float32"].between(0.01, 1).all()
    for weight in load_model(tmp_path).parameters():
        assert torch.equal(weight, weight.bfloat16().float())


@pytest.mark.slow
def test_the_study_of_both_kinds(tmp_path):
    experiment = small(tmp_path)
    asked = BFloat16Settings(192, 1e-3, 8)
    experiment.profile = experiment.profile.with_sections(bfloat16=asked)
    rows = bfloat16.rows(experiment)
    assert set(rows["weights"]) == {"float32", "bfloat16"}
    assert rows.loc[rows["weights"] == "float32", "changed_float32"].isna().all()
    told = bfloat16.remark(rows)
    assert "at a learning rate of 0.001 changes " in told and "over 20 steps" in told
    assert len(bfloat16.losses_and_changes(rows).axes) == 2
    assert bfloat16.remark(rows.iloc[:0]) == ""
