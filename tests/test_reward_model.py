"""The reward model learns a rule, reads whole paths as they were sampled, and resumes."""

import dataclasses

import numpy as np
import pytest
import torch
from sampled_trees import PROBLEMS, TASK, TREE
from transformers import Trainer

from lib.base import hardware
from lib.base.errors import UserError
from lib.evaluation.states import finished_paths
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.recipe import Recipe
from lib.training import reward_model
from lib.training.reward_model import (
    load_reward_model,
    pad_right,
    path_sequences,
    train_reward_model,
)
from lib.training.trainer import TrainingSpec

TOKENIZER = build_tokenizer(TASK.pieces)
RECIPE = Recipe("adamw", 1e-2, 1e-2, batch_size=16, epochs=8, save_steps=10)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sft")
    build_model(TOKENIZER, 16, 1, 2, seed=0).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def test_pad_right():
    batch = pad_right([[5, 6, 7], [9]], 3)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 3, 3, 3, 3, 3], [9, 3, 3, 3, 3, 3, 3, 3]]
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]


def test_a_path_is_read_as_it_was_sampled():
    paths = finished_paths([TREE], PROBLEMS, TASK)
    prompts = TASK.prompts(PROBLEMS)
    (prompt,) = StepTokenizer(TOKENIZER, "\n").encode_prompts(prompts)
    assert path_sequences(StepTokenizer(TOKENIZER, "\n"), prompts, paths) == [
        [*prompt, 5, 6, 7, 1],
        [*prompt, 5, 8, 1],
    ]


def test_scores_do_not_depend_on_the_batch(checkpoint):
    model = load_reward_model(checkpoint)
    sequences = [list(np.random.default_rng(i).integers(4, 20, 3 + 5 * i)) for i in range(7)]
    together = reward_model.rewards(model, sequences, TOKENIZER.pad_token_id)
    alone = [reward_model.rewards(model, [each], TOKENIZER.pad_token_id)[0] for each in sequences]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(together.round(6))) == 7


def learnable(count):
    """Sequences that are right when their first token is 4."""
    numbers = np.random.default_rng(0).integers(4, 6, (count, 1))
    rest = np.random.default_rng(1).integers(6, 12, (count, 4))
    return [[*first, *more, 1] for first, more in zip(numbers, rest, strict=True)], [
        bool(first == 4) for first in numbers[:, 0]
    ]


def trained(checkpoint, folder, recipe=RECIPE):
    torch.manual_seed(0)
    model = load_reward_model(checkpoint)
    train_reward_model(model, TOKENIZER, *learnable(64), TrainingSpec(recipe, 0), folder)
    return model


def test_it_learns_and_is_an_ordinary_checkpoint(checkpoint, tmp_path, monkeypatch):
    # A model that was trained in bfloat16 goes on computing in it; one from a folder does not.
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    model = trained(checkpoint, tmp_path)
    sequences, right = learnable(64)
    scores = reward_model.rewards(model, sequences, TOKENIZER.pad_token_id)
    assert ((scores > 0) == right).mean() > 0.9
    again = reward_model.rewards(load_reward_model(tmp_path), sequences, TOKENIZER.pad_token_id)
    np.testing.assert_allclose(scores, again, atol=1e-5)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(checkpoint, tmp_path, monkeypatch):
    recipe = dataclasses.replace(RECIPE, save_steps=12)
    whole = trained(checkpoint, tmp_path / "whole", recipe).state_dict()
    step = Trainer.training_step

    def cut(self, *arguments, **named):
        if self.state.global_step == 17:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "training_step", cut)
        with pytest.raises(KeyboardInterrupt):
            trained(checkpoint, tmp_path / "cut", recipe)
    assert (tmp_path / "cut" / "checkpoints" / "checkpoint-12").is_dir()
    resumed = trained(checkpoint, tmp_path / "cut", recipe).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_right_paths_alone_teach_nothing(checkpoint, tmp_path):
    with pytest.raises(UserError, match="right and wrong paths"):
        train_reward_model(
            load_reward_model(checkpoint),
            TOKENIZER,
            [[4], [5]],
            [True, True],
            TrainingSpec(RECIPE, 0),
            tmp_path,
        )
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(tmp_path / "nothing")
