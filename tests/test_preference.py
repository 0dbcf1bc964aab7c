"""Preference tuning: which pairs there are, that TRL sees our tokens, what training does."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from sampled_trees import TASK
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from lib.base import hardware
from lib.base.errors import UserError
from lib.models.llama import build_model
from lib.models.tokenizer import EOS, StepTokenizer, build_tokenizer
from lib.profiles.recipe import Recipe
from lib.training import preference
from lib.training.preference import preference_pairs, preference_trainer, unpaired
from lib.training.trainer import TrainingSpec
from studies.catalogue import load_profile

NO_NEAR_MISS = replace(load_profile("smoke").traces, near_miss=0.0)
RECIPE = Recipe("adamw", 1e-3, 1e-3, batch_size=4, epochs=6, save_steps=3)
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
            "prompt_tokens": StepTokenizer(made, "\n").encode_prompts(PROMPTS),
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


def trainer(method, made, folder, pairs=None, **weights):
    pairs = pairs_of(made) if pairs is None else pairs
    policy = build_model(made, 16, 1, 2, seed=0)
    spec, weights = TrainingSpec(RECIPE, 0), {"beta": 0.1, **weights}
    return preference_trainer(method, policy, made, pairs, spec, weights, folder)


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
    encoded = StepTokenizer(made, "\n").encode_traces(TRACES)
    whole = [list(map(int, each["input_ids"])) for each in encoded]
    starts = StepTokenizer(made, "\n").encode_prompts(PROMPTS)
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


def test_rpo_adds_the_chosen_paths_own_loss(tmp_path):
    made = tokenizer("none")
    plain, rpo = trainer("dpo", made, tmp_path), trainer("dpo", made, tmp_path, rpo_alpha=2.0)
    batch = plain.data_collator([plain.train_dataset[i] for i in range(4)])
    model = plain.model.eval()
    losses = [each.compute_loss(model, dict(batch)).item() for each in (plain, rpo)]
    ids, mask = batch["input_ids"][:4], batch["completion_mask"][:4, 1:].bool()
    logprobs = model(ids, attention_mask=batch["attention_mask"][:4]).logits.log_softmax(-1)
    chosen = logprobs[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0][mask]
    assert losses[1] - losses[0] == pytest.approx(-2 * chosen.mean().item(), abs=1e-4)


@pytest.mark.parametrize("begin", ["none", "added"])
def test_paths_of_traces_are_read_as_sft_reads_them(begin):
    made = tokenizer(begin)
    steps = StepTokenizer(made, "\n")
    wrong = TASK.backtracking_traces(TABLE, 0, NO_NEAR_MISS)
    found = preference.trace_paths(TRACES, wrong, PROMPTS, steps)
    whole = [list(map(int, each["input_ids"])) for each in steps.encode_traces(TRACES)]
    starts = steps.encode_prompts(PROMPTS)
    right = found[found["correct"]]
    assert [starts[p] + t for p, t in zip(right.problem, right.tokens, strict=True)] == whole
    cut = [text.removesuffix("<backtrack>") for text in wrong.text]
    left = found[~found["correct"]]
    assert [PROMPTS[p] + r for p, r in zip(left.problem, left.response, strict=True)] == cut
    assert all(tokens[-1] == made.eos_token_id for tokens in found.tokens)
    pairs = preference_pairs(found, PROMPTS, starts, 100, 0)
    assert len(pairs) == len(TABLE) and set(pairs.chosen) == set(RIGHT)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="choose one of dpo, kto"):
        trainer("ppo", tokenizer("none"), tmp_path)
    with pytest.raises(UserError, match="sample more"):
        trainer("dpo", tokenizer("none"), tmp_path, pairs_of(tokenizer("none")).iloc[:0])
