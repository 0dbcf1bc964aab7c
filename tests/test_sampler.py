"""The sampler against recomputation without cache, and against enumeration of a known model."""

import itertools
import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

import lib.search.kv_cache
from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.search.rollout import _rearranged
from lib.search.sampler import CacheSampler

PAD, EOS, BACKTRACK, END, VOCABULARY = 0, 1, 2, 3, 12
PREFIXES = [(5, 6, 7, 3), (8, 9, 10, 11, 4, 3), (5,), (8, 9, 10, 11, 4, 3), (7, 7)]


def random_llama(seed: int = 0, **changes) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    sizes = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2)
    heads = dict(num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64)
    config = LlamaConfig(vocab_size=VOCABULARY, **(sizes | heads | changes))
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(40)  # far from uniform
    return model


class TableModel(torch.nn.Module):
    """A language model whose next token depends on the last one alone: P(next | last) is a table.

    It keeps no cache, which the sampler must not mind.
    """

    def __init__(self, table):
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(table, dtype=torch.float32).log())

    def forward(self, input_ids, **_):
        return type("Output", (), {"logits": self.table[input_ids[:, -1:]]})


def sampler(model, max_new_tokens=8, **settings) -> CacheSampler:
    return CacheSampler(model, EOS, BACKTRACK, [END], max_new_tokens, PAD, **settings)


@torch.inference_mode()
def recomputed(model, prefix, tokens) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each token, and P(<backtrack>) before each and after the last."""
    logits = model(input_ids=torch.tensor([prefix + tokens])).logits[0]
    logprobs = torch.log_softmax(logits.float(), -1)[len(prefix) - 1 :]
    return logprobs[range(len(tokens)), list(tokens)], logprobs[:, BACKTRACK].exp()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("max_rows", [1, 50, 1000])
@pytest.mark.parametrize("shared", [True, False])
def test_log_probabilities_equal_recomputation(temperature, max_rows, shared, monkeypatch):
    if not shared:
        monkeypatch.setattr(lib.search.kv_cache, "SHARED_PREFIX_MODELS", ())
    model = random_llama()
    counts = [20, 30, 1, 7, 0]
    result = sampler(model, max_rows=max_rows).sample(PREFIXES, counts, temperature, seed=3)
    assert [sum(s.count for s in found) for found in result] == counts
    for prefix, found in zip(PREFIXES, result, strict=True):
        assert len({s.tokens for s in found}) == len(found)
        for s in found:
            logprobs, backtrack = recomputed(model, prefix, s.tokens)
            np.testing.assert_allclose(s.logprobs, logprobs, atol=1e-4)
            assert s.step_ends == tuple(i for i, t in enumerate(s.tokens) if t == END)
            for i, p in zip(s.step_ends, s.p_backtrack, strict=True):
                unknown = i == 7  # the limit: no distribution was computed after it
                assert math.isnan(p) if unknown else abs(p - backtrack[i + 1]) < 1e-4
            assert abs(s.p_backtrack_start - backtrack[0]) < 1e-4
            ends = [t for t in s.tokens if t in (EOS, BACKTRACK)]
            assert (ends == []) == (s.stop == "limit")
            if ends:
                assert s.tokens[-1] == ends[0] and len(ends) == 1
                assert s.stop == ("goal" if ends[0] == EOS else "backtrack")
            else:
                assert len(s.tokens) == 8
    assert {s.stop for found in result for s in found} >= ({"limit"} if temperature == 0 else set())


def test_models_whose_layers_are_not_plain_keep_transformers_own_cache():
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=5,
    )
    model = MistralForCausalLM(config).eval()
    for prefix, found in zip(PREFIXES, sampler(model).sample(PREFIXES, [9] * 5, 1, 0), strict=True):
        for s in found:
            np.testing.assert_allclose(
                s.logprobs, recomputed(model, prefix, s.tokens)[0], atol=1e-4
            )


def test_temperature_zero_is_greedy():
    model = random_llama()
    for prefix, (s,) in zip(PREFIXES, sampler(model).sample(PREFIXES, [4] * 5, 0, 0), strict=True):
        ids = list(prefix)
        for token in s.tokens:
            assert token == model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()
            ids.append(token)
        assert s.count == 4


def exact_probabilities(table, start, length, temperature=1.0):
    """P of every continuation of `start`, by enumeration."""
    table = np.array(table) ** (1 / temperature)
    table /= table.sum(1, keepdims=True)
    result = {}
    for n in range(1, length + 1):
        for tokens in itertools.product(range(len(table)), repeat=n):
            ended = tokens[-1] in (EOS, BACKTRACK)
            if any(t in (EOS, BACKTRACK) for t in tokens[:-1]) or not (ended or n == length):
                continue
            steps = zip((start, *tokens), tokens, strict=False)
            result[tokens] = math.prod(table[a, b] for a, b in steps)
    return result


TABLE = [
    [0.2, 0.2, 0.2, 0.2, 0.2],
    [0.2, 0.2, 0.2, 0.2, 0.2],
    [0.2, 0.2, 0.2, 0.2, 0.2],
    [0.0, 0.25, 0.25, 0.1, 0.4],
    [0.0, 0.05, 0.15, 0.6, 0.2],
]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_are_those_of_independent_samples(temperature):
    count = 40_000
    (found,) = sampler(TableModel(TABLE), 4).sample([(4,)], [count], temperature, seed=1)
    exact = exact_probabilities(TABLE, 4, 4, temperature)
    assert sum(exact.values()) == pytest.approx(1)
    drawn = {s.tokens: s.count for s in found}
    assert drawn.keys() <= {tokens for tokens, p in exact.items() if p > 0}
    for tokens, p in exact.items():
        sigma = math.sqrt(count * p * (1 - p))
        assert abs(drawn.get(tokens, 0) - count * p) <= 4.5 * sigma + 1e-9


def test_samples_of_one_prefix_are_independent_of_each_other():
    """The number of equal pairs among a few samples is that of independent draws."""
    exact = exact_probabilities(TABLE, 4, 4)
    expected = sum(p * p for p in exact.values())
    runs, count = 3000, 6
    pairs = 0
    result = sampler(TableModel(TABLE), 4, max_rows=100_000).sample(
        [(4,)] * runs, [count] * runs, 1, 5
    )
    for found in result:
        pairs += sum(s.count * (s.count - 1) // 2 for s in found)
    total = runs * count * (count - 1) // 2
    assert pairs / total == pytest.approx(expected, abs=0.012)


def test_draws_do_not_depend_on_the_batch():
    model = random_llama()
    together = sampler(model).sample(PREFIXES, [6, 5, 4, 3, 2], 1.0, seed=9)
    for i, count in ((0, 6), (1, 5), (2, 4), (4, 2)):
        (alone,) = sampler(model).sample([PREFIXES[i]], [count], 1.0, seed=9)
        assert [(s.tokens, s.count) for s in alone] == [(s.tokens, s.count) for s in together[i]]
    again = sampler(model).sample(PREFIXES, [6, 5, 4, 3, 2], 1.0, seed=9)
    assert repr(again) == repr(together)
    assert repr(sampler(model).sample(PREFIXES, [6, 5, 4, 3, 2], 1.0, seed=8)) != repr(together)


def test_equal_prefixes_have_streams_of_their_own():
    first, second = sampler(random_llama()).sample([(5, 6)] * 2, [20, 20], 1.0, seed=0)
    assert [s.tokens for s in first] != [s.tokens for s in second]


def test_the_model_is_left_as_it_was():
    model = random_llama()
    before = model.config._attn_implementation
    sampler(model).sample(PREFIXES, [3] * 5, 1.0, 0)
    assert model.config._attn_implementation == before
    broken = sampler(model)
    model.model.norm.forward = None  # fails in the middle of a forward pass
    with pytest.raises(TypeError):
        broken.sample(PREFIXES, [3] * 5, 1.0, 0)
    assert model.config._attn_implementation == before


def test_step_ends_are_found_in_the_vocabulary():
    tokenizer = build_tokenizer(["a", "\n", "b\n", "="])
    ids = StepTokenizer(tokenizer, "\n").step_end_ids
    assert [tokenizer.decode([i]) for i in ids] == ["\n", "b\n"]


def test_nothing_to_sample():
    assert sampler(random_llama()).sample([], [], 1.0, 0) == []
    assert sampler(random_llama()).sample([(5,)], [0], 1.0, 0) == [[]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([()], [1], 1.0, 0), "empty"),
        (([(5,)], [1, 2], 1.0, 0), "1 prefixes with 2 counts"),
        (([(5,)], [1], -1.0, 0), "temperature -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        sampler(random_llama()).sample(*arguments)


def test_rows_that_can_stay_do():
    rng = np.random.default_rng(0)
    for _ in range(200):
        parents = np.sort(rng.integers(0, rng.integers(1, 12), rng.integers(1, 20)))
        source, place = _rearranged(parents)
        assert sorted(place) == list(range(len(parents)))
        assert (source[place] == parents).all()
        kept = {p for p in parents if p < len(parents)}
        assert (source == np.arange(len(source))).sum() == len(kept)
