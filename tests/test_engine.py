import threading

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib.base.errors import UserError
from lib.explorer.engine import Engine, Stopped
from lib.models.tokenizer import build_tokenizer
from lib.tasks.countdown.rules import Problem

PIECES = ("###Question: numbers [", ", ", "]->target ", "\n###Response:\n", "\n", "Goal Reached!")
PROMPT = Problem((2, 39, 45, 10), 62).prompt()
EXAMPLE = PROMPT + "45-39=6\n"


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
    return Engine(folder, EXAMPLE, "\n")


def test_search_is_the_real_one_and_repeatable(engine):
    tree = engine.search(PROMPT, breadth=8, depth=1, temperature=1.0, seed=3)
    assert tree.prompt == PROMPT and tree.nodes[0].visits == 8
    assert tree == engine.search(PROMPT, breadth=8, depth=1, temperature=1.0, seed=3)
    assert engine.search(PROMPT, 8, 1, 1.0, 3, per_state="breadth").per_state == "breadth"
    below = engine.search(PROMPT + "45-39=6\n", 4, 0, 1.0, 0)
    assert below.prompt == PROMPT + "45-39=6\n"


def test_a_step_is_read_as_the_search_would(engine):
    reading = engine.read(PROMPT, "45-39=6\n")
    tree = engine.search(PROMPT + "45-39=6\n", 4, 0, 1.0, 0)
    assert reading.p_backtrack == pytest.approx(tree.nodes[0].p_backtrack, abs=2e-6)
    tree = engine.search(PROMPT, 64, 0, 1.0, 0)
    node = tree.nodes[1]
    text = engine.tokenizer.decode(node.tokens)
    assert engine.read(PROMPT, text).logprobs == pytest.approx(node.logprobs, abs=2e-5)
    assert engine.read(PROMPT).tokens == ()


def test_greedy_and_token_texts(engine):
    assert isinstance(engine.greedy(PROMPT), str)
    assert engine.token_texts(engine.read(PROMPT, "45-39=6\n").tokens) == [
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
        engine.search(PROMPT, 8, 1, 1.0, 0)
    engine.resume()
    timer = threading.Timer(0.05, engine.stop)
    timer.start()
    with pytest.raises(Stopped):
        for seed in range(1000):
            engine.search(PROMPT, 64, 3, 1.0, seed)


def test_missing_and_foreign_checkpoints(tmp_path):
    with pytest.raises(UserError, match="no such folder; `make reproduce`"):
        Engine(tmp_path / "nothing", EXAMPLE, "\n")
    with pytest.raises(UserError, match="no checkpoint there"):
        Engine(tmp_path, EXAMPLE, "\n")
    foreign = save_model(tmp_path / "foreign", pieces=tuple("abcdef"))
    with pytest.raises(UserError, match="cannot write this task"):
        Engine(foreign, EXAMPLE, "\n")
    small = save_model(tmp_path / "small", spare=-3)
    with pytest.raises(UserError, match="tokenizer and model differ"):
        Engine(small, EXAMPLE, "\n")
    broken = save_model(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="no model can be loaded"):
        Engine(broken, EXAMPLE, "\n")
