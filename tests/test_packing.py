"""Packed batches: every example once and whole, and the padded batch's losses and gradients."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.base import files
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.recipe import Recipe
from lib.profiles.settings import TraceSettings
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask
from lib.training import trainer
from lib.training.batches import collate, collator
from lib.training.packing import PackedShape, bins, pack, packed_shape
from lib.training.trainer import TrainingSpec, WeightedTrainer, train, weighted_loss
from studies.catalogue import load_profile

TASK = CountdownTask(problems.Settings(3, 25, 1, 60, 99, 0.1))
TOKENIZER = build_tokenizer(TASK.pieces)
TABLE = TASK.make_problems({"train": 64}, 0)
SETTINGS = TraceSettings("honest", 1.0, near_miss=0.3)
TRACES = StepTokenizer(TOKENIZER, TASK.step_end).encode_traces(
    pd.concat([TASK.optimal_traces(TABLE), TASK.backtracking_traces(TABLE, 0, SETTINGS)]),
)
EXAMPLES = [TRACES[index] for index in range(0, 128, 5)]
RECIPE = Recipe("muon", 1e-2, 1e-2, batch_size=16, epochs=1, verdict_weight=4.0, packing=True)


def tiny(attention="sdpa"):
    model = build_model(TOKENIZER, 32, 2, 2, seed=0)
    model.set_attn_implementation(attention)
    return model


def example(*ids):
    ids = np.array(ids, np.int32)
    return {"input_ids": ids, "loss_codes": np.full(len(ids), 1, np.uint8)}


def assert_same_step(*sides):
    """Two pairs of a model and a batch have the same loss and gradients."""
    found = []
    for model, batch in sides:
        weights = batch.pop("loss_weights")
        loss = weighted_loss(model(**batch, use_cache=False).logits, batch["input_ids"], weights)
        loss.backward()
        found.append((loss, [parameter.grad for parameter in model.parameters()]))
    (loss, gradients), (other, others) = found
    assert other.item() == pytest.approx(loss.item(), rel=1e-5)
    for ours, theirs in zip(others, gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_pack_by_hand():
    examples = [example(5, 6), example(7, 8, 9), example(4)]
    batch = pack(examples, 0, 4.0, PackedShape(3, 4))
    assert batch["input_ids"].tolist() == [[7, 8, 9, 4], [5, 6, 0, 0], [0, 0, 0, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    # The first token of an example follows another's last: nothing predicts it.
    assert batch["loss_weights"].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_a_batch_that_needs_more_rows_gets_a_multiple():
    examples = [example(*range(3))] * 5
    assert pack(examples, 0, 1.0, PackedShape(2, 4))["input_ids"].shape == (6, 4)
    with pytest.raises(ValueError, match="3 tokens in rows of 2"):
        pack(examples, 0, 1.0, PackedShape(2, 2))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 70))
def test_bins_hold_every_example_once(lengths, length):
    rows = bins(lengths, length)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in row) <= length for row in rows)
    # No two rows could be one: so at most twice as many as needed.
    loads = sorted(sum(lengths[index] for index in row) for row in rows)
    assert len(loads) < 2 or loads[0] + loads[1] > length


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_losses_and_gradients_are_the_padded_batch_s(attention):
    padded = collate(EXAMPLES, TOKENIZER.pad_token_id, 4.0)
    packed = pack(EXAMPLES, TOKENIZER.pad_token_id, 4.0, PackedShape(4, 200))
    assert packed["input_ids"].shape[0] < padded["input_ids"].shape[0] / 3
    assert packed["loss_weights"].sum() == padded["loss_weights"][:, 1:].sum()
    assert_same_step((tiny(attention), padded), (tiny(attention), packed))


def test_no_example_sees_another():
    """Another example in the row changes nothing of the first's logits."""
    model, shape = tiny(), PackedShape(1, 120)
    first, second = EXAMPLES[0], EXAMPLES[1]
    changed = {**second, "input_ids": second["input_ids"][::-1].copy()}
    longer = max(first, second, key=lambda found: len(found["input_ids"]))
    assert len(longer["input_ids"]) < 60
    logits = []
    for other in (second, changed):
        batch = pack([first, other], 0, 1.0, shape)
        batch.pop("loss_weights")
        with torch.no_grad():
            logits.append(model(**batch, use_cache=False).logits[0])
    size, start = len(first["input_ids"]), 0
    if len(second["input_ids"]) > size:
        start = len(second["input_ids"])
    kept = slice(start, start + size)
    assert torch.equal(logits[0][kept], logits[1][kept])
    assert not torch.equal(logits[0], logits[1])


def test_the_shape_holds_random_batches_with_little_padding():
    lengths = np.random.default_rng(1).integers(30, 52, 5000)
    shape = packed_shape(lengths, 128, 224)
    generator = np.random.default_rng(2)
    for _ in range(50):
        batch = generator.choice(lengths, 128, replace=False)
        assert len(bins(batch.tolist(), shape.length)) <= shape.rows + 1
    assert 128 * lengths.mean() / (shape.rows * shape.length) > 0.92
    assert shape == packed_shape(lengths, 128, 224)  # the same for a resumed run


def test_training_packed_is_training_padded(tmp_path):
    """The same random batches step by step, and the same losses."""
    padded = train(
        tiny(),
        TOKENIZER,
        TRACES,
        TrainingSpec(replace(RECIPE, packing=False), 0, 1),
        tmp_path / "a",
    )
    packed = train(tiny(), TOKENIZER, TRACES, TrainingSpec(RECIPE, 0, 1), tmp_path / "b")
    assert len(packed) == 8 and packed.step.tolist() == padded.step.tolist()
    np.testing.assert_allclose(packed.loss, padded.loss, rtol=2e-3)


def test_static_shapes_compile_once(tmp_path):
    made = collator(RECIPE, TOKENIZER, TRACES, 16, tiny().config)
    generator = np.random.default_rng(0)
    shapes = {
        made([TRACES[i] for i in generator.choice(128, 16, replace=False)])["input_ids"].shape
        for _ in range(30)
    }
    assert len(shapes) == 1


def test_packing_off_leaves_artifact_keys_as_they_were(tmp_path, monkeypatch):
    """The key of the cpu profile's trunk, as recorded before packing was a recipe's key."""
    monkeypatch.setattr(trainer, "train", lambda *_, **__: None)
    monkeypatch.setattr(StepTokenizer, "encode_traces", lambda *_: [])
    experiment = Experiment(load_profile("cpu"), "cpu", 0, Run(tmp_path))
    rates = {"learning_rate": 4e-3, "adamw_learning_rate": 4e-3}
    recipe = replace(experiment.profile.training.trunk, packing=False, batch_size=128, **rates)
    keys = []
    for each in (recipe, replace(recipe, packing=True)):
        inputs = {"data": "0152fa1a47f4", "parent": ("", 224, 4, 7), "traces": None}
        inputs |= {"examples": 38400, "seed": 0}
        made = experiment.train("models/S-trunk", inputs, lambda: (None, None), list, each, 38400)
        record = files.read_json(made.path / "made.json")
        assert ("packing" in json.dumps(record)) == each.packing
        assert record["inputs"].pop("versions")  # the code's own part of the key
        keys.append(files.digest({"name": record["name"], **record["inputs"]}))
    assert keys[0] == "88b8880e4f1f" != keys[1]


def test_the_trainer_hands_positions_on(tmp_path):
    arguments = trainer.training_arguments(TrainingSpec(RECIPE, 0), tmp_path)
    made = WeightedTrainer(model=tiny(), args=arguments, train_dataset=TRACES)
    padded = made.compute_loss(made.model, collate(EXAMPLES, 0, 4.0))
    packed = made.compute_loss(made.model, pack(EXAMPLES, 0, 4.0, PackedShape(10, 100)))
    assert packed.item() == pytest.approx(padded.item(), rel=1e-5)
