"""Training: the weighted loss by hand, its normalisation, and runs that are killed and resumed."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib.base import hardware
from lib.base.errors import UserError
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, TokenizedTraces, build_tokenizer
from lib.profiles.recipe import Recipe
from lib.profiles.settings import TraceSettings
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask
from lib.training import trainer as trainer_module
from lib.training.batches import PAD_MULTIPLE, collate
from lib.training.trainer import (
    TrainingSpec,
    WeightedTrainer,
    train,
    training_arguments,
    weighted_loss,
)

TASK = CountdownTask(problems.Settings(3, 9, 1, 20, 81, 0.1))
TOKENIZER = build_tokenizer(TASK.pieces)
TABLE = TASK.make_problems({"train": 48}, 0)
SETTINGS = TraceSettings("honest", 1.0, near_miss=0.3)
TRACES = StepTokenizer(TOKENIZER, TASK.step_end).encode_traces(
    pd.concat([TASK.optimal_traces(TABLE), TASK.backtracking_traces(TABLE, 0, SETTINGS)]),
)
RECIPE = Recipe("muon", 1e-2, 1e-2, batch_size=8, epochs=1, save_steps=5, verdict_weight=4.0)
SPEC = TrainingSpec(RECIPE, seed=0)


def tiny():
    return build_model(TOKENIZER, 16, 1, 2, seed=0)


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(first, second) -> bool:
    return all(torch.equal(first[key], second[key]) for key in first)


def test_weighted_loss_by_hand():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [5.0, -5.0]]])
    ids = torch.tensor([[1, 0, 1]])
    # Predicts ids[1] from logits[0] (P = 1/2) and ids[2] from logits[1] (P = 1/4); the last
    # logits predict nothing, and the first token is predicted by none.
    loss = weighted_loss(logits, ids, torch.tensor([[9.0, 1.0, 4.0]]))
    assert loss.item() == pytest.approx(math.log(2) + 4 * math.log(4), rel=1e-6)
    assert weighted_loss(logits, ids, torch.tensor([[9.0, 0.0, 0.0]])).item() == 0


def test_collate():
    examples = [
        {"input_ids": np.array([5, 6, 7], np.int32), "loss_codes": np.array([0, 1, 2], np.uint8)},
        {"input_ids": np.arange(9, dtype=np.int32), "loss_codes": np.ones(9, np.uint8)},
    ]
    batch = collate(examples, pad_id=3, verdict_weight=4.0)
    assert batch["input_ids"].shape == (2, 16)
    assert batch["input_ids"][0].tolist() == [5, 6, 7] + [3] * 13
    assert batch["attention_mask"].sum(1).tolist() == [3, 9]
    assert batch["loss_weights"][0].tolist() == [0, 1, 4] + [0] * 13
    assert batch["loss_weights"][1].tolist() == [1] * 9 + [0] * 7


def trainer(recipe, folder, **options):
    arguments = training_arguments(TrainingSpec(recipe, 0), folder)
    for key, value in options.items():
        setattr(arguments, key, value)
    made = WeightedTrainer(
        model=tiny(),
        args=arguments,
        train_dataset=TRACES,
        data_collator=lambda rows: collate(rows, TOKENIZER.pad_token_id, recipe.verdict_weight),
    )
    made.recipe = recipe
    return made


def test_padding_and_masks_carry_no_loss(tmp_path):
    made = trainer(RECIPE, tmp_path)
    batch = made.data_collator([TRACES[0], TRACES[60]])
    logits = made.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    total, weight = 0.0, 0.0
    for row, trace in enumerate((TRACES[0], TRACES[60])):
        for at in range(1, len(trace["input_ids"])):
            w = (0.0, 1.0, 4.0)[trace["loss_codes"][at]]
            p = logits[row, at - 1].softmax(-1)[trace["input_ids"][at]].item()
            total, weight = total - w * math.log(p), weight + w
    assert made.compute_loss(made.model, batch).item() == pytest.approx(total / weight, rel=1e-4)


def test_the_loss_is_normalised_over_the_global_batch(tmp_path, monkeypatch):
    """A batch at once and in parts (their weights differ) gives the same steps."""
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    recipe = Recipe("adamw", 1e-2, max_grad_norm=0.0, epochs=1, batch_size=96, verdict_weight=4.0)
    once = trainer(recipe, tmp_path)
    parts = trainer(replace(recipe, batch_size=12), tmp_path, gradient_accumulation_steps=8)
    total = parts._get_num_items_in_batch([once.data_collator([TRACES[i]]) for i in (0, 60)], "cpu")
    codes = [np.array([0, 1, 4])[TRACES[i]["loss_codes"][1:]].sum() for i in (0, 60)]
    assert total.item() == sum(codes)
    assert parts._get_num_items_in_batch([], "cpu") is None
    losses = []
    for made in (once, parts):
        losses.append(made.train().training_loss)
    assert made.state.global_step == 1
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, theirs in zip(once.model.parameters(), parts.model.parameters(), strict=True):
        # AdamW's first step is the gradient's sign: where that is nearly 0, rounding decides it.
        assert ((ours - theirs).abs() < 1e-4).float().mean() > 0.99


def test_a_checkpoint_is_an_ordinary_folder(tmp_path):
    curve = train(tiny(), TOKENIZER, TRACES, SPEC, tmp_path)
    assert curve.step.tolist() == [5, 10] and curve.examples.tolist() == [40, 80]
    assert curve.loss.iloc[-1] < curve.loss.iloc[0]
    assert json.loads((tmp_path / "loss.json").read_text()) == curve.to_dict("records")
    assert not (tmp_path / "checkpoints").exists()
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert len(tokenizer) == model.config.vocab_size and model.config.use_cache
    assert not same(model.state_dict(), tiny().state_dict())


def test_the_seed_decides_the_run(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny(), TOKENIZER, TRACES, TrainingSpec(RECIPE, seed), tmp_path / name)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


class Killed(BaseException):
    """As a signal would end it."""


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("damage", [False, True], ids=["whole", "half-written"])
def test_a_killed_run_resumes_bit_by_bit(tmp_path, optimizer, damage):
    recipe = replace(RECIPE, optimizer=optimizer, epochs=2, schedule="linear")
    spec = TrainingSpec(recipe, 0)
    expected = train(tiny(), TOKENIZER, TRACES, spec, tmp_path / "unbroken")
    assert len(expected) == 4
    folder = tmp_path / "broken"
    seen = []

    def kill(step, last, loss):
        seen.append(step)
        if step == 15:
            raise Killed

    with pytest.raises(Killed):
        train(tiny(), TOKENIZER, TRACES, spec, folder, kill)
    assert sorted(path.name for path in (folder / "checkpoints").iterdir())[-1] == "checkpoint-5"
    if damage:  # killed while it wrote the next one
        half = folder / "checkpoints" / "checkpoint-15"
        half.mkdir()
        (half / "model.safetensors").write_bytes(b"half")
    resumed = []
    curve = train(tiny(), TOKENIZER, TRACES, spec, folder, lambda step, *_: resumed.append(step))
    assert seen == [5, 10, 15] and resumed == [15, 20]
    pd.testing.assert_frame_equal(curve, expected)
    assert same(weights(folder), weights(tmp_path / "unbroken"))
    assert not (folder / "checkpoints").exists()


def test_a_run_too_short_to_log_still_has_a_curve(tmp_path):
    few = TokenizedTraces(TRACES.ids, TRACES.codes, TRACES.starts[:17])
    curve = train(tiny(), TOKENIZER, few, SPEC, tmp_path)
    assert list(curve.columns) == ["step", "examples", "loss"]


def test_what_is_not_kept_leaves_nothing(tmp_path):
    curve = train(tiny(), TOKENIZER, TRACES, TrainingSpec(RECIPE, 0, 1), tmp_path, keep=False)
    assert len(curve) == len(TRACES) // 8 and not list(tmp_path.rglob("*.*"))


def test_nothing_to_train_on(tmp_path):
    none = TokenizedTraces(TRACES.ids, TRACES.codes, TRACES.starts[:1])
    with pytest.raises(UserError, match="no traces"):
        train(tiny(), TOKENIZER, none, SPEC, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["optimizer", "schedule"])
def test_bad_choices_are_named(key):
    with pytest.raises(UserError, match=f"^{key} = 'sgd': choose one of"):
        Recipe(**{key: "sgd"})


def test_the_fast_path_follows_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: "cpu")
    for fast in (False, True):
        monkeypatch.setattr(hardware, "has_bfloat16", lambda device, fast=fast: fast)
        monkeypatch.setattr(hardware, "can_compile", lambda fast=fast: fast)
        made = training_arguments(TrainingSpec(replace(RECIPE, compile=True), 0), tmp_path)
        assert (made.bf16, made.torch_compile) == (fast, fast)
        assert not training_arguments(SPEC, tmp_path).torch_compile


def test_pad_multiple_keeps_shapes_few():
    assert {
        collate([TRACES[i]], 0, 1.0)["input_ids"].shape[1] % PAD_MULTIPLE
        for i in range(len(TRACES))
    } == {0}


def test_a_loss_keeps_its_precision_under_autocast():
    """Sums of a whole batch: bfloat16 would round them to three digits."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(64, 40, 7, generator=generator)
    ids = torch.randint(0, 7, (64, 40), generator=generator)
    weights = torch.ones(64, 40)
    expected = weighted_loss(logits, ids, weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert weighted_loss(logits, ids, weights) == expected


def test_every_model_is_compiled_anew(monkeypatch, tmp_path):
    """torch compiles one function for eight models at most; a ninth would train uncompiled."""
    resets = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(1))
    monkeypatch.setattr(trainer_module.checkpoints, "resume", lambda *_: None)
    for compiled in (True, False):
        recipe = replace(RECIPE, compile=compiled)
        spec = TrainingSpec(recipe, 0)
        trainer_module.train(tiny(), TOKENIZER, TRACES, spec, tmp_path / str(compiled))
    assert len(resets) == hardware.can_compile()


@pytest.mark.parametrize(
    ("device", "packing", "cores", "loaders"),
    [("cpu", True, 16, 0), ("cuda", True, 16, 8), ("cuda", True, 3, 3), ("cuda", False, 16, 0)],
)
def test_batches_for_a_gpu_are_made_by_other_processes(
    monkeypatch, tmp_path, device, packing, cores, loaders
):
    monkeypatch.setattr(hardware, "device", lambda: device)
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(hardware, "available_cores", lambda: cores)
    made = training_arguments(TrainingSpec(replace(RECIPE, packing=packing), 0, 1), tmp_path)
    assert made.dataloader_num_workers == loaders
    assert made.dataloader_prefetch_factor == (4 if loaders else None)
    assert made.logging_nan_inf_filter == (device == "cpu")
