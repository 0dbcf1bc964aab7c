"""DPO and KTO: which pairs there are, that TRL sees our tokens, and what training does."""

import dataclasses
import json

import pandas as pd
import pytest
import torch
from sampled_trees import TASK, lenient_checks, small_experiment  # noqa: F401
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, Trainer

from lib.base import hardware
from lib.base.errors import UserError
from lib.models.llama import build_model
from lib.models.tokenizer import EOS, build_tokenizer, encode_prompts, encode_traces
from lib.profiles.recipe import Recipe
from lib.studies.paper import dpo_kto
from lib.training import preference
from lib.training.preference import preference_pairs, preference_trainer, unpaired

RECIPE = Recipe("adamw", 1e-3, 1e-3, batch_size=4, epochs=6, save_steps=3)
FEW = dataclasses.replace(RECIPE, batch_size=2)
TABLE = TASK.make_problems({"train": 8}, 0)
PROMPTS = TASK.prompts(TABLE)
TRACES = TASK.optimal_traces(TABLE)
RIGHT = [text.removeprefix(prompt) for text, prompt in zip(TRACES.text, PROMPTS, strict=True)]
WRONG = [f"1+{i}={i}\nGoal Reached!" for i in range(len(RIGHT))]


def ids(made, texts):
    return [made(text + EOS, add_special_tokens=False)["input_ids"] for text in texts]


def pairs_of(made):
    return pd.DataFrame(
        {
            "prompt": PROMPTS,
            "prompt_tokens": encode_prompts(made, PROMPTS),
            "chosen": RIGHT,
            "chosen_tokens": ids(made, RIGHT),
            "rejected": WRONG,
            "rejected_tokens": ids(made, WRONG),
        }
    )


def paths(*found):
    table = pd.DataFrame(found, columns=["problem", "response", "correct"])
    return table.assign(tokens=[[*response.encode()] for response in table["response"]])


def test_pairs_are_of_one_problem_and_hold_each_path_once():
    table = paths(
        (0, "a", True),  # no wrong path: no pair
        (1, "b", False),  # no right path
        (2, "c", True),
        (2, "d", False),
        (2, "e", False),
        *[(3, f"r{i}", True) for i in range(9)],
        *[(3, f"w{i}", False) for i in range(7)],
    )
    prompts, encoded = ["p0", "p1", "p2", "p3"], [[0], [1], [2], [3]]
    pairs = preference_pairs(table, prompts, encoded, 100, 0)
    assert pairs.prompt.value_counts().to_dict() == {"p3": preference.PAIRS_PER_PROBLEM, "p2": 1}
    assert pairs[pairs.prompt == "p2"].chosen.tolist() == ["c"]
    assert pairs.chosen.is_unique and pairs.rejected.is_unique
    third = pairs[pairs.prompt == "p3"]
    assert third.prompt_tokens.tolist() == [[3]] * len(third)
    for side in ("chosen", "rejected"):
        assert pairs[f"{side}_tokens"].tolist() == [[*text.encode()] for text in pairs[side]]
    assert third.chosen.str.startswith("r").all() and third.rejected.str.startswith("w").all()
    assert len(preference_pairs(table, prompts, encoded, 3, 0)) == 3
    pd.testing.assert_frame_equal(preference_pairs(table, prompts, encoded, 100, 0), pairs)
    assert not preference_pairs(table, prompts, encoded, 100, 1).equals(pairs)
    assert preference_pairs(paths((0, "a", True)), prompts, encoded, 9, 0).empty


def test_unpaired_paths_are_half_right_and_shuffled():
    pairs = pairs_of(tokenizer("none"))
    found = unpaired(pairs, 0)
    assert found.label.sum() == len(pairs) and len(found) == 2 * len(pairs)
    assert found.label.tolist() != sorted(found.label, reverse=True)
    assert set(found[found.label].completion) == set(RIGHT)
    assert sorted(found.prompt) == sorted(PROMPTS * 2)
    whole = dict(zip([*RIGHT, *WRONG], [*pairs.chosen_tokens, *pairs.rejected_tokens], strict=True))
    assert found.completion_tokens.tolist() == [whole[text] for text in found.completion]


def tokenizer(begin):
    """The from-scratch tokenizer; with a beginning of sequence, put there by itself or not."""
    made = build_tokenizer(TASK.pieces)
    if begin != "none":
        made.add_special_tokens({"bos_token": "<s>"})
    if begin == "added":
        made.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.bos_token_id)]
        )
    return made


def trainer(method, made, folder, recipe=RECIPE, pairs=None):
    pairs = pairs_of(made) if pairs is None else pairs
    policy = build_model(made, 16, 1, 2, seed=0)
    reference = build_model(made, 16, 1, 2, seed=0)
    return preference_trainer(method, policy, reference, made, pairs, recipe, 0.1, folder, 0)


def rows(batch, prefix=""):
    """Each row's ids without padding, and its completion's."""
    found = []
    parts = (
        batch[f"{prefix}{name}"] for name in ("input_ids", "attention_mask", "completion_mask")
    )
    for row, mask, completion in zip(*parts, strict=True):
        length = int(mask.sum())
        assert mask[:length].all() and not completion[length:].any()
        found.append((row[:length].tolist(), row[completion.bool()].tolist()))
    return found


@pytest.mark.parametrize("begin", ["none", "added", "not added"])
def test_trl_trains_on_the_tokens_that_sft_and_search_see(begin, tmp_path):
    made = tokenizer(begin)
    whole = [list(map(int, each["input_ids"])) for each in encode_traces(made, TRACES)]
    starts = encode_prompts(made, PROMPTS)
    assert begin == "none" or starts[0][0] == made.bos_token_id
    wrong = [start + end for start, end in zip(starts, ids(made, WRONG), strict=True)]
    found = trainer("dpo", made, tmp_path)
    batch = found.data_collator([found.train_dataset[i] for i in range(8)])
    seen = rows(batch)
    assert [row for row, _ in seen] == whole + wrong
    assert [start + end for start, (_, end) in zip(starts * 2, seen, strict=True)] == whole + wrong
    assert all(row.count(made.eos_token_id) == 1 for row, _ in seen)
    assert (batch["input_ids"] == made.pad_token_id).any()
    assert not found.args.bf16 or hardware.has_bfloat16("cpu")
    assert not found.args.gradient_checkpointing

    found = trainer("kto", made, tmp_path)
    order = unpaired(pairs_of(made), 0)
    batch = next(iter(found.get_train_dataloader()))
    assert batch["label"].tolist() == order["label"].tolist()[:4]
    first = order.iloc[:4]
    seen, strangers = rows(batch), rows(batch, "KL_")
    assert [end for _, end in seen] == first["completion_tokens"].tolist()
    assert [row for row, _ in seen] == (first.prompt_tokens + first.completion_tokens).tolist()
    turned = [seen[-1][1], *(end for _, end in seen[:-1])]
    assert [end for _, end in strangers] == turned
    expected = [start + end for start, end in zip(first.prompt_tokens, turned, strict=True)]
    assert [row for row, _ in strangers] == expected


@pytest.mark.parametrize("method", preference.METHODS)
def test_training_prefers_the_chosen_and_leaves_the_reference(method, tmp_path):
    made = tokenizer("none")
    found = trainer(method, made, tmp_path)
    start = {name: value.clone() for name, value in found.model.state_dict().items()}
    found.train()
    margins = [log["rewards/margins"] for log in found.state.log_history if "loss" in log]
    assert len(margins) > 1 and margins[-1] > margins[0]
    reference = found.accelerator.unwrap_model(found.ref_model).state_dict()
    assert all(torch.equal(reference[name], start[name]) for name in start)
    found.model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(again[name], found.model.state_dict()[name]) for name in again)
    assert any(not torch.equal(again[name], start[name]) for name in again)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="choose one of dpo, kto"):
        trainer("ppo", tokenizer("none"), tmp_path)
    with pytest.raises(UserError, match="sample more"):
        trainer("dpo", tokenizer("none"), tmp_path, pairs=pairs_of(tokenizer("none")).iloc[:0])


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_checks")
def test_the_rows_of_an_experiment_and_a_killed_run(tmp_path, monkeypatch):
    whole = small_experiment(tmp_path / "whole", dpo=FEW, kto=FEW)
    rows = dpo_kto.preference_rows(whole, "S")
    strict = rows[rows.checker == "strict"]
    assert sorted(strict[["method", "split"]].itertuples(index=False, name=None)) == [
        (method, split) for method in ("dpo", "kto") for split in ("new", "seen")
    ]
    assert set(strict.problems) == {6} and (strict.artifact == "table_1").all()
    assert dpo_kto.preference_rows(dataclasses.replace(whole), "L").empty
    logs = json.loads((dpo_kto.preferred(whole, "S", "kto").path / "preferences.json").read_text())
    assert logs and all("rewards/margins" in log for log in logs)
    assert not any(key.startswith("train_") and key != "train_loss" for log in logs for key in log)

    killed = small_experiment(tmp_path / "killed", dpo=FEW, kto=FEW)
    step = Trainer.training_step

    def cut(self, *arguments, **named):
        if "DPO" in type(self).__name__ and self.state.global_step == 4:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "training_step", cut)
        with pytest.raises(KeyboardInterrupt):
            dpo_kto.preferred(killed, "S", "dpo")
    assert list((killed.run.folder / "models").glob("S-dpo*.partial/checkpoints/checkpoint-3"))
    first, second = (
        AutoModelForCausalLM.from_pretrained(dpo_kto.preferred(each, "S", "dpo").path)
        for each in (whole, killed)
    )
    kept = second.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in first.state_dict().items())
