"""The profiles that need GPUs, proven without: paper.toml on a stand-in for Llama-3.2, gpu.toml at
a thousandth of its size, and the public data set in place of the generator."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from llama import BEGIN, END, llama_model, llama_tokenizer, write_llama
from public_files import write_public
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib.base import hardware
from lib.base.errors import UserError
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.models import pretrained
from lib.models.llama import from_scratch, load_model, parameter_count, resize_embeddings
from lib.models.tokenizer import StepTokenizer, add_backtrack
from lib.profiles import load
from lib.profiles.settings import DeepSpeedSettings, TraceSettings
from lib.tasks.countdown import public_rows
from lib.tasks.countdown.public_splits import read_splits
from lib.tasks.task import BACKTRACK
from studies.catalogue import everything, load_profile

TASK = load_profile("paper").load_task()
TABLE = TASK.make_problems({"train": 300, "seen": 40, "new": 40}, 1)
TRAIN = TABLE[TABLE.split == "train"].reset_index(drop=True)
SETTINGS = TraceSettings("paper", 1.0, near_miss=0.0)
TRACES = pd.concat(
    [TASK.optimal_traces(TRAIN[:150]), TASK.backtracking_traces(TRAIN[150:], 1, SETTINGS)],
    ignore_index=True,
)


@pytest.fixture(scope="module")
def tokenizer():
    made = llama_tokenizer([text.removesuffix(BACKTRACK) for text in TRACES.text])
    add_backtrack(made)
    return made


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    return write_llama(folder, [text.removesuffix(BACKTRACK) for text in TRACES.text])


def scaled(name, run, share, **changes):
    """A profile's experiment with a share of its data, tiny models and no optional studies."""
    profile = load_profile(name)
    data = profile.data
    data = replace(
        data,
        train_problems=math.ceil(data.train_problems * share),
        validation_problems=2,
        test_problems=math.ceil(data.test_problems * share),
    )
    models = {
        key: replace(
            model,
            trunk_examples=round(model.trunk_examples * share),
            branch_examples=round(model.branch_examples * share),
            test_problems=data.test_problems,
            hidden_size=model.hidden_size // 16,
            layers=model.layers // 4,
            heads=model.heads // 4,
        )
        for key, model in profile.models.items()
    }
    improvement = replace(profile.improvement, problems=round(profile.improvement.problems * share))
    settings = {"data": data, "models": models, "improvement": improvement, "vllm": None}
    settings["sections"] = dict.fromkeys(profile.sections)
    return Experiment(replace(profile, **settings | changes), name, 0, Run(run))


# The paper's profile ------------------------------------------------------------------------------


def test_the_paper_profile_is_the_papers_recipe():
    profile = load_profile("paper")
    paths = [model.path for model in profile.models.values()]
    assert paths == ["meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B"]
    assert {model.max_tokens for model in profile.models.values()} == {128}
    assert {model.branch_examples for model in profile.models.values()} == {500_000}
    assert {model.test_problems for model in profile.models.values()} == {5_000}
    for recipe in (profile.training.branch, profile.improvement.recipe):
        assert (recipe.optimizer, recipe.learning_rate, recipe.schedule) == (
            "adamw",
            1e-5,
            "cosine",
        )
        assert (recipe.warmup_steps, recipe.epochs, recipe.batch_size) == (1, 3.0, 16)
        assert (recipe.weight_decay, recipe.max_grad_norm, recipe.verdict_weight) == (
            0.01,
            1.0,
            1.0,
        )
    assert (profile.traces.loss, profile.traces.mix, profile.traces.near_miss) == ("paper", 1.0, 0)
    task = profile.task.settings
    assert (task["numbers"], task["max_number"], task["held_out"]) == (4, 99, 0.1)
    assert (task["target_low"], task["target_high"]) == (10, 100)
    assert profile.deepspeed.devices == 4
    assert profile.deepspeed.configuration()["zero_optimization"]["stage"] == 2
    improvement = profile.improvement
    assert (improvement.rounds, improvement.breadth, improvement.depth) == (3, 16, 1)
    last = 500_000 + improvement.rounds * improvement.problems  # no round meets a problem twice
    assert profile.data.train_problems >= last


def test_masks_fall_on_bpe_tokens_by_characters(tokenizer):
    """The paper's masks: the prompt and an erroneous step whole; tokens of up to three digits."""
    encoded = StepTokenizer(tokenizer, "\n").encode_traces(TRACES, 128)
    longest = 0
    for index, (text, kind) in enumerate(zip(TRACES.text, TRACES.kind, strict=True)):
        ids, codes = encoded[index]["input_ids"], encoded[index]["loss_codes"]
        _, response = text.split("###Response:\n")
        loss = tokenizer.decode(ids[codes > 0])
        if kind == "optimal":
            assert loss == response + END
        else:
            *prefix, _, _ = response.split("\n")
            assert loss == "".join(line + "\n" for line in prefix) + BACKTRACK
            assert codes[-1] == 2 and ids[-1] == StepTokenizer(tokenizer, "\n").backtrack_id
        assert tokenizer.decode(ids[:1]) == BEGIN
        numbers = [t for t in tokenizer.convert_ids_to_tokens(ids) if t.isdigit()]
        longest = max(longest, *map(len, numbers))
    assert longest == 3


def test_a_prompt_is_exactly_the_beginning_of_its_trace(tokenizer):
    encoded = StepTokenizer(tokenizer, "\n").encode_traces(TRACES)
    prompts = [text[: text.index("Response:\n") + 10] for text in TRACES.text]
    for index, (ids, text) in enumerate(
        zip(StepTokenizer(tokenizer, "\n").encode_prompts(prompts), TRACES.text, strict=True)
    ):
        whole = encoded[index]["input_ids"].tolist()
        assert whole[: len(ids)] == ids
        steps = text[len(prompts[index]) :].split("\n")[:-1]  # and so is every state of a search
        state = prompts[index] + "".join(step + "\n" for step in steps)
        assert (
            whole[: len(StepTokenizer(tokenizer, "\n").encode_prompts([state])[0])]
            == StepTokenizer(tokenizer, "\n").encode_prompts([state])[0]
        )


def test_the_side_of_padding_is_saved(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"


def test_new_embeddings_are_the_mean_tied_or_not(tokenizer):
    for tied in (True, False):
        model = llama_model(llama_tokenizer([t.removesuffix(BACKTRACK) for t in TRACES.text]))
        if not tied:
            model.config.tie_word_embeddings = False
            model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
        old = model.get_input_embeddings().weight.detach().clone()
        resize_embeddings(model, tokenizer)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            weight = layer.weight.detach()
            assert len(weight) == len(tokenizer) == len(old) + 2
            mean = weight[: len(old)].mean(0)
            assert torch.allclose(weight[len(old) :], mean.expand(2, -1), atol=1e-6)
        assert torch.equal(model.get_input_embeddings().weight[: len(old)], old)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [0, 2], ids=["one process", "ZeRO-2"])
def test_the_papers_recipe_on_a_stand_in(tmp_path, llama, devices):
    """Trained, saved, reloaded, searched; also with two ZeRO-2 processes."""
    paper = load_profile("paper")
    model = replace(paper.models["S"], path=str(llama), branch_examples=128, test_problems=4)
    fast = replace(paper.training.branch, learning_rate=3e-3)  # 24 steps in place of 94,000
    made = scaled(
        "paper",
        tmp_path,
        0.001,
        models={"S": model},
        training=replace(paper.training, branch=fast),
        deepspeed=DeepSpeedSettings(devices=devices) if devices else None,
    )
    assert made.stages("S") == ("sft", "backtracking")
    checkpoint = made.checkpoint("S", "backtracking")
    curve = made.loss_curve(checkpoint)
    assert curve.loss.iloc[-1] < curve.loss.iloc[0] - 1
    loaded = AutoModelForCausalLM.from_pretrained(checkpoint.path)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    config = loaded.config
    assert config.vocab_size == len(tokenizer) == len(AutoTokenizer.from_pretrained(llama)) + 2
    assert config.rope_parameters["rope_type"] == "llama3" and config.tie_word_embeddings
    assert (config.num_attention_heads, config.num_key_value_heads) == (8, 2)
    assert tokenizer.padding_side == "left" and BACKTRACK in tokenizer.all_special_tokens
    problems = made.problems("seen", 0, 4)
    trees = made.read_trees(made.search(checkpoint, problems, made.spec(4, 1, temperature=0.7)))
    assert len(trees) == 4 and all(tree.tokens_generated for tree in trees)
    assert len(made.decode(checkpoint, problems)) == 4


def test_a_trace_beyond_the_context_is_named(tmp_path, llama):
    model = replace(load_profile("paper").models["S"], path=str(llama), branch_examples=4)
    model = replace(model, test_problems=1, max_tokens=20)
    made = scaled("paper", tmp_path, 0.001, models={"S": model}, deepspeed=None)
    with pytest.raises(UserError, match=r"trace 0: \d+ tokens, more than 20"):
        made.checkpoint("S", "sft")


def test_a_hub_that_gives_no_model_is_one_line(tmp_path, monkeypatch):
    made = scaled("paper", tmp_path, 0.001, deepspeed=None)
    for answer in ("GATED: accept its licence", "THE HUB CANNOT BE REACHED: run `hf download`"):
        monkeypatch.setattr(pretrained, "availability", lambda path, answer=answer: answer)
        with pytest.raises(UserError) as error:
            made.start("S", None)
        assert str(error.value) == f"meta-llama/Llama-3.2-1B: {answer}"


# The gpu profile ----------------------------------------------------------------------------------


def test_the_gpu_profile_is_the_papers_task_from_scratch():
    profile, paper = load_profile("gpu"), load_profile("paper")
    assert profile.task == paper.task and profile.deepspeed is None
    for model in profile.models.values():
        assert model.trunk_examples + model.branch_examples == 500_000
        assert model.test_problems == 2_000
    sizes = [from_scratch(25, *model.size).parameters() for model in profile.models.values()]
    assert 20e6 < sizes[0] < sizes[1] < 100e6


@pytest.mark.slow
def test_the_gpu_profile_at_a_thousandth(tmp_path, monkeypatch):
    """Every stage, search, table and figure of S, and L trained; but compiling takes too long."""
    monkeypatch.setattr(hardware, "can_compile", lambda: False)
    gpu = load_profile("gpu").training
    recipes = {key: replace(getattr(gpu, key), batch_size=16) for key in ("trunk", "branch")}
    made = scaled("gpu", tmp_path, 0.001, training=replace(gpu, **recipes))
    sizes = [parameter_count(made.start(model, None)[0]) for model in ("S", "L")]
    assert 25e3 < sizes[0] < sizes[1] < 100e3
    for stage in made.stages("L"):
        checkpoint = made.checkpoint("L", stage)
        assert load_model(checkpoint.path).config.vocab_size == len(made.load(checkpoint)[1].base)
    made.profile = replace(
        made.profile,
        models={"S": made.profile.models["S"]},
        search=replace(made.profile.search, breadths=(8, 64), temperatures=(0.7, 1.2)),
        improvement=replace(made.profile.improvement, rounds=1),
    )
    rows = everything(made)
    assert set(rows.stage.dropna()) >= {"trunk", "sft", "backtracking"}
    assert {"table_1", "figure_3", "figure_4", "figure_5", "figure_13"} <= set(rows.artifact)
    greedy = rows.query("method == 'sft_greedy' and artifact == 'table_1'")
    assert set(greedy.problems) == {5} and set(greedy.split) == {"seen", "new"}


# The public data set ------------------------------------------------------------------------------


@pytest.fixture
def public(tmp_path):
    """A small folder in the public columns: D_op and D_back of training, two test splits."""
    folder = tmp_path / "public" / "data"
    write_public(TRACES, folder / "train-00000-of-00001.parquet")
    for split, name in (("seen", "test_seen"), ("new", "test_unseen")):
        traces = TASK.optimal_traces(TABLE[TABLE.split == split])
        if split == "seen":  # a problem of training too: it may not stay there
            traces = pd.concat([traces, TASK.optimal_traces(TRAIN[:1])], ignore_index=True)
        write_public(traces, folder / f"{name}-00000-of-00001.parquet")
    return folder.parent


def test_the_public_data_set_takes_the_generators_place(tmp_path, public):
    profile = load_profile("paper")
    data = replace(profile.data, public=str(public), validation_problems=10, test_problems=41)
    model = replace(profile.models["S"], path="none", branch_examples=100, test_problems=5)
    made = scaled("paper", tmp_path / "run", 0.001, data=data, models={"S": model}, deepspeed=None)
    counts = made.table.groupby("split").size().to_dict()
    assert counts == {"seen": 41, "new": 40, "validation": 10, "train": 150 - 10 - 1}
    train = made.problems("train")
    assert train.solution.tolist() == TRAIN.solution[1:140].tolist()
    assert [list(numbers) for numbers in train.numbers] == TRAIN.numbers[1:140].tolist()
    for row in made.problems("seen", 0, 5).itertuples():
        assert TASK.check(row, f"{row.solution}\n{TASK.goal}").correct
    traces = made.traces("S", "backtracking")
    assert (traces.kind == "optimal").sum() == 50 == (traces.kind != "optimal").sum()
    assert traces["text"].iloc[50:].tolist() == TRACES["text"].iloc[150:200].tolist()
    assert traces["mask"].iloc[50:].tolist() == TRACES["mask"].iloc[150:200].tolist()
    assert set(made.traces("S", "sft").kind) == {"optimal"}
    # The generator's own data has another key, as it had before there was a choice.
    own = scaled("paper", tmp_path / "run", 0.001, models={"S": model}, deepspeed=None)
    assert own.data.key != made.data.key


def test_public_splits_that_are_missing_are_named(public, tmp_path):
    counts = {"train_problems": 10, "validation_problems": 2, "test_problems": 5}
    for file in (public / "data").glob("test_seen*"):
        file.unlink()
    with pytest.raises(UserError, match=r"one split for each .*splits are .*test_unseen"):
        read_splits(public, "paper", counts)
    with pytest.raises(UserError, match="no such folder"):
        read_splits(tmp_path / "none", "paper", counts)


@pytest.mark.parametrize(
    ("nums", "target"), [([3] * 30, 7), ("12", 7), ([3, -4], 7), ([3, 4], 7.5), (None, 7)]
)
def test_a_test_split_s_problems_are_checked(public, nums, target):
    """The solver would take years over thirty numbers."""
    (file,) = (public / "data").glob("test_unseen*")
    table = pd.DataFrame({"nums": [nums], "target": [target], "search_path": [""]})
    table.to_parquet(file)
    counts = {"train_problems": 10, "validation_problems": 2, "test_problems": 5}
    with pytest.raises(UserError, match=r"has no problem|cannot be read") as error:
        read_splits(public, "paper", counts)
    assert "\n" not in str(error.value)


def test_splits_are_the_same_in_small_batches(public, monkeypatch):
    counts = {"train_problems": 60, "validation_problems": 7, "test_problems": 15}
    whole = read_splits(public, "paper", counts)
    monkeypatch.setattr(public_rows, "BATCH", 11)
    for one, other in zip(whole, read_splits(public, "paper", counts), strict=True):
        pd.testing.assert_frame_equal(one, other)
    assert len(whole[0][whole[0].split == "train"]) == 60 and len(whole[1]) == 150


def test_the_data_keys_of_old_runs_hold():
    """A key that came later must not make data anew."""
    profile = load_profile("smoke")
    made = Experiment(profile, "smoke", 0, Run(load.ROOT / "none"))
    seen = {}

    class Recorder(Run):
        def make(self, name, inputs, function):
            seen.update(inputs)

    made.run = Recorder(load.ROOT / "none")
    assert made.data is None
    assert set(seen["counts"]) == {"train_problems", "validation_problems", "test_problems"}
    assert "public" not in seen and np.all([seen["seed"] == 0])
