"""The reward model learns a rule, reads whole paths, resumes; and who chooses among N samples."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from sampled_trees import (
    PROBLEMS,
    TASK,
    TREE,
    lenient_checks,  # noqa: F401 (a fixture)
    small_experiment,
    tree,
)
from transformers import Trainer

from lib.base import hardware
from lib.base.errors import UserError
from lib.evaluation.results import dumps
from lib.evaluation.states import finished_paths, sample_order
from lib.models.llama import build_model
from lib.models.tokenizer import build_tokenizer, encode_prompts
from lib.profiles.recipe import Recipe
from lib.studies.paper import best_of_n
from lib.studies.paper.best_of_n import choices, held_out
from lib.training import reward_model
from lib.training.reward_model import (
    load_reward_model,
    pad_right,
    path_sequences,
    train_reward_model,
)

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
    (prompt,) = encode_prompts(TOKENIZER, prompts)
    assert path_sequences(TOKENIZER, prompts, paths) == [
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
    train_reward_model(model, TOKENIZER, *learnable(64), recipe, folder, 0)
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
            load_reward_model(checkpoint), TOKENIZER, [[4], [5]], [True, True], RECIPE, tmp_path, 0
        )
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(tmp_path / "nothing")


def test_choices_by_hand():
    made = tree(
        ("3+4=7", (5, 6), 1, "goal"),  # leaf 2, right
        ("4+3=7", (5, 7), 1, "goal"),  # leaf 4, right
        ("3*4=12", (8,), 2, "goal"),  # leaf 6, wrong
        ("4-3=1", (9,), 4, "backtrack"),  # leaf 8, unfinished
    )
    paths = finished_paths([made], PROBLEMS, TASK)
    paths["reward"] = [0.5, 2.0, 1.0]
    paths["mean_logprob"] = [-0.1, -0.9, -0.5]
    found = choices([made], PROBLEMS, TASK, paths, (1, 2, 4, 8), seed=3)
    order = sample_order(made, 3)
    rank = {
        "reward": [4, 6, 2],
        "mean_logprob": [2, 6, 4],
    }
    for row in found.itertuples():
        first = order[: row.N]
        present = [leaf for leaf in first if leaf != 8]
        if row.score == "visits":
            probable = [2, 6, 4]
            expected = sorted(set(present), key=lambda x: (-present.count(x), probable.index(x)))
        else:
            expected = [leaf for leaf in rank[row.score] if leaf in present]
        assert (None if pd.isna(row.leaf) else row.leaf) == (expected[0] if expected else None)
        assert row.correct == bool(expected and expected[0] in (2, 4))
        assert row.covered == bool({2, 4} & set(present))
    whole = found[found.N == 8].set_index("score")
    assert whole.leaf.to_dict() == {"reward": 4, "mean_logprob": 2, "visits": 6}
    assert whole.correct.to_dict() == {"reward": True, "mean_logprob": True, "visits": False}
    assert set(whole.tokens) == {2 + 1 + 1 + 1 + 1 + 1 + 1 + 1}


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_checks")
def test_the_rows_of_an_experiment(tmp_path):
    first = small_experiment(tmp_path / "first")
    rows = best_of_n.best_of_n_rows(first, "S")
    strict = rows[rows.checker == "strict"]
    table_1 = strict[strict.artifact == "table_1"]
    keys = ["method", "split", "N"]
    expected = [("best_of_n", split, n) for split in ("new", "seen") for n in (2, 4)]
    others = ("sft_sampled_mean_logprob", "sft_sampled_vote")
    expected += [(name, split, 4) for name in others for split in ("new", "seen")]
    assert sorted(table_1[keys].itertuples(index=False, name=None)) == sorted(expected)
    assert set(strict[strict.artifact == "best_of_n"].method) == {
        *best_of_n.CHOICES.values(),
        best_of_n.CEILING,
    }
    wide = strict[strict.artifact == "best_of_n"].pivot_table("accuracy", ["split", "N"], "method")
    assert (wide.max(axis=1) == wide[best_of_n.CEILING]).all()
    (known,) = held_out(first).to_dict("records")
    assert known["held_out_paths"] > 0 and known["trained_paths"] > known["held_out_paths"]
    made = {path: path.stat().st_mtime_ns for path in first.run.folder.rglob("made.json")}
    assert dumps({}, best_of_n.best_of_n_rows(first, "S")) == dumps({}, rows)
    again = {path: path.stat().st_mtime_ns for path in first.run.folder.rglob("made.json")}
    assert again == made
    second = small_experiment(tmp_path / "second")
    assert dumps({}, best_of_n.best_of_n_rows(second, "S")) == dumps({}, rows)
    assert json.dumps(known) == json.dumps(held_out(second).to_dict("records")[0])


def test_a_run_without_the_section_has_no_rows(tmp_path):
    experiment = small_experiment(tmp_path)
    experiment.profile = experiment.profile.with_sections(baselines=None)
    assert best_of_n.best_of_n_rows(experiment, "S").empty and held_out(experiment).empty
    assert not list(tmp_path.iterdir())
