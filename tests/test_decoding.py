"""Greedy and beam decoding against token-by-token recomputation without padding or cache."""

import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.search.decoding import affordable, beam_search, greedy

TOKENIZER = build_tokenizer([*"abcdefQ", "\n"])
LINES = StepTokenizer(TOKENIZER, "\n")
PROMPTS = ["Q\n", "Qabc\n", "Qa\nb\n", "Qffffffff\n", "Qab\n", "Qcc", "Qe\n"]
ENDS = {TOKENIZER.eos_token_id: "goal", TOKENIZER.convert_tokens_to_ids("<backtrack>"): "backtrack"}
LIMIT = 7


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(TOKENIZER), **sizes)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    return model


@torch.inference_mode()
def next_logprobs(model, ids: list[int]) -> list[float]:
    return torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, -1], -1).tolist()


def by_hand(model, prompt: str, num_beams: int) -> tuple[tuple[int, ...], float]:
    """Beam search as defined: sums decide while running, mean log-probability at the end."""
    prefix = LINES.encode_prompts([prompt])[0]
    beams, finished = [((), 0.0)], []
    for _ in range(LIMIT):
        options = [
            ((*tokens, token), score + logprob)
            for tokens, score in beams
            for token, logprob in enumerate(next_logprobs(model, prefix + list(tokens)))
        ]
        options.sort(key=lambda option: -option[1])
        beams = []
        for rank, (tokens, score) in enumerate(options[: 3 * num_beams]):
            if tokens[-1] in ENDS:
                if rank < num_beams:
                    finished.append((tokens, score))
            elif len(beams) < num_beams:
                beams.append((tokens, score))
        finished.sort(key=lambda option: -option[1] / len(option[0]))
        finished = finished[:num_beams]
        full = len(finished) == num_beams
        if full and beams[0][1] / len(beams[0][0]) <= finished[-1][1] / len(finished[-1][0]):
            break
    else:
        finished += beams
    return max(finished, key=lambda option: option[1] / len(option[0]))


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_greedy_equals_token_by_token(model, batch_size):
    decoded = greedy(model, LINES, PROMPTS, LIMIT, batch_size=batch_size)
    for prompt, found in zip(PROMPTS, decoded, strict=True):
        tokens, score = by_hand(model, prompt, 1)
        assert found.tokens == tokens
        assert math.isclose(found.logprob, score, abs_tol=1e-3)
        assert found.stop == ENDS.get(tokens[-1], "limit")
        shown = tokens[:-1] if found.stop == "goal" else tokens
        assert found.text == TOKENIZER.decode(list(shown))


@pytest.mark.parametrize("num_beams", [2, 4])
def test_beam_search_equals_its_definition(model, num_beams):
    decoded = beam_search(model, LINES, PROMPTS, LIMIT, num_beams=num_beams, batch_size=3)
    for prompt, found in zip(PROMPTS, decoded, strict=True):
        tokens, score = by_hand(model, prompt, num_beams)
        assert found.tokens == tokens
        assert math.isclose(found.logprob, score, abs_tol=1e-3)


def test_both_kinds_of_end_are_met(model):
    assert {found.stop for found in greedy(model, LINES, PROMPTS, LIMIT)} >= {"limit"}


def test_progress_and_nothing_to_do(model):
    done = []
    greedy(model, LINES, PROMPTS, 2, batch_size=3, on_progress=done.append)
    assert done == [3, 3, 1]
    assert greedy(model, LINES, [], 2) == []


def test_impossible_settings(model):
    with pytest.raises(UserError, match="max_new_tokens 0"):
        greedy(model, LINES, PROMPTS, 0)


def test_how_much_a_gpu_decodes_at_once_by_hand():
    # Keys and values: 2 layers of 4 heads of 4 numbers, each twice; a vocabulary of 100.
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, vocab_size=100)
    config = LlamaConfig(**sizes)
    each = 4 * (2 * 10 * 64 + 4 * 100)
    assert affordable(config, 8, 10, 2 * 8 * each * 3 + 1) == 3
    assert affordable(config, 8, 10, 0) == 1 and affordable(config, 8, 10, 10**12) == 16
    grouped = LlamaConfig(**sizes, num_key_value_heads=1)
    assert affordable(grouped, 8, 10, 2 * 8 * 4 * (2 * 10 * 16 + 400) * 5) == 5
    # Llama-3.2-3B, 16 beams of 32 problems, on a card of 80 GB of which 65 are free.
    large = LlamaConfig(
        hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, num_key_value_heads=8,
        head_dim=128, vocab_size=128_257,
    )  # fmt: skip
    assert affordable(large, 512, 70, 65 * 2**30) == 1
