import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib.base.errors import UserError
from lib.explorer.engine import Engine, Stopped
from lib.models.tokenizer import build_tokenizer
from lib.tasks.countdown.rules import Problem

PIECES = ("###Question: numbers [", ", ", "]->target ", "\n###Response:\n", "\n", "Goal Reached!")
PROBLEM = Problem((2, 39, 45, 10), 62)


def save_model(folder, pieces=(*PIECES, *"0123456789+-*/="), spare=0):
    tokenizer = build_tokenizer(pieces)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=len(tokenizer) + spare, num_attention_heads=2, **size)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def engine(folder):
    return Engine(folder)


def test_search_is_the_real_one_and_repeatable(engine):
    tree = engine.search(PROBLEM, breadth=8, depth=1, temperature=1.0, seed=3)
    assert tree.prompt == PROBLEM.prompt() and tree.nodes[0].visits == 8
    assert tree == engine.search(PROBLEM, breadth=8, depth=1, temperature=1.0, seed=3)
    below = engine.search(PROBLEM, 4, 0, 1.0, 0, steps=["45-39=6"])
    assert below.prompt == PROBLEM.prompt() + "45-39=6\n"


def test_verdict_is_the_trees_own_p_backtrack(engine):
    tree = engine.search(PROBLEM, 4, 0, 1.0, 0, steps=["45-39=6"])
    assert engine.verdict(PROBLEM, ["45-39=6"]) == pytest.approx(
        tree.nodes[0].p_backtrack, abs=2e-6
    )


def test_greedy_and_token_texts(engine):
    assert isinstance(engine.greedy(PROBLEM), str)
    assert engine.token_texts(engine.tokens("45-39=6\n")) == [
        "4",
        "5",
        "-",
        "3",
        "9",
        "=",
        "6",
        "\n",
    ]


def test_stop_from_another_thread(engine):
    engine.stop()
    with pytest.raises(Stopped):
        engine.search(PROBLEM, 8, 1, 1.0, 0)
    engine.resume()
    timer = threading.Timer(0.05, engine.stop)
    timer.start()
    with pytest.raises(Stopped):
        for seed in range(1000):
            engine.search(PROBLEM, 64, 3, 1.0, seed)


def test_missing_and_foreign_checkpoints(tmp_path):
    with pytest.raises(UserError, match="no such folder; `make reproduce`"):
        Engine(tmp_path / "nothing")
    with pytest.raises(UserError, match="no checkpoint there"):
        Engine(tmp_path)
    foreign = save_model(tmp_path / "foreign", pieces=tuple("abcdef"))
    with pytest.raises(UserError, match="cannot write Countdown"):
        Engine(foreign)
    small = save_model(tmp_path / "small", spare=-3)
    with pytest.raises(UserError, match="tokenizer and model differ"):
        Engine(small)
    broken = save_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="no model can be loaded"):
        Engine(broken)
