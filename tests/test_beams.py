"""Expansions against brute-force enumeration on a model of known probabilities, against
transformers' own beam sampling, and against recomputation without a cache."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from test_sampler import (
    BACKTRACK,
    EOS,
    PAD,
    PREFIXES,
    TABLE,
    TableModel,
    exact_probabilities,
    random_llama,
    recomputed,
    sampler,
)
from transformers import GenerationConfig

import lib.search.beams
from lib.base.errors import UserError
from lib.search.beams import StochasticBeam, conditioned
from lib.search.expansion import Stops

BEAMS = ("beam_sample", "stochastic_beam")


def without_replacement(probabilities: dict, count: int) -> dict[frozenset, float]:
    """P of every set of `count` drawn one after another without replacement, by enumeration."""
    sets: Counter = Counter()
    for order in itertools.permutations(probabilities, count):
        left, p = 1.0, 1.0
        for one in order:
            p *= probabilities[one] / left
            left -= probabilities[one]
        sets[frozenset(order)] += p
    return sets


@pytest.mark.parametrize(("count", "temperature"), [(1, 1.0), (2, 1.0), (3, 0.6)])
def test_stochastic_beam_samples_without_replacement(count, temperature):
    exact = {
        tokens: p for tokens, p in exact_probabilities(TABLE, 4, 3, temperature).items() if p > 0
    }
    expected = without_replacement(exact, count)
    assert sum(expected.values()) == pytest.approx(1)
    runs = 4000
    found = sampler(TableModel(TABLE), 3, max_rows=100_000).sample(
        [(4,)] * runs, [count] * runs, temperature, 5, "stochastic_beam"
    )
    assert all(len(some) == count and all(s.count == 1 for s in some) for some in found)
    drawn = Counter(frozenset(s.tokens for s in some) for some in found)
    assert drawn.keys() <= expected.keys()
    # Whole sets where they are frequent, the rest together.
    frequent = [key for key, p in expected.items() if runs * p >= 8]
    counts = [drawn[key] for key in frequent]
    shares = [runs * expected[key] for key in frequent]
    if len(frequent) < len(expected):
        counts, shares = [*counts, runs - sum(counts)], [*shares, runs - sum(shares)]
    assert chisquare(counts, shares).pvalue > 1e-4
    # Inclusion: how often a sequence is in the set at all.
    for tokens in exact:
        p = sum(q for key, q in expected.items() if tokens in key)
        share = sum(n for key, n in drawn.items() if tokens in key)
        assert abs(share - runs * p) <= 4.5 * math.sqrt(runs * p * (1 - p)) + 1e-9


def test_stochastic_beam_finds_everything_that_there_is():
    exact = {tokens for tokens, p in exact_probabilities(TABLE, 4, 3).items() if p > 0}
    (found,) = sampler(TableModel(TABLE), 3).sample([(4,)], [1000], 1, 0, "stochastic_beam")
    assert {s.tokens for s in found} == exact and found.lost_tokens == 0


def test_perturbations_under_a_condition_keep_their_maximum_and_their_order():
    generator = np.random.default_rng(0)
    perturbed = generator.gumbel(size=(200, 7)) - generator.exponential(20, (200, 7))
    perturbed[:, 3] = -np.inf
    largest = generator.normal(size=200) * 3
    found = conditioned(perturbed, largest)
    np.testing.assert_allclose(found.max(1), largest)
    assert (found.argsort(1) == perturbed.argsort(1)).all() and np.isneginf(found[:, 3]).all()
    finite = np.delete(np.arange(7), 3)
    top = perturbed.max(1, keepdims=True)
    with np.errstate(over="ignore", divide="ignore"):
        plain = -np.log(
            np.exp(-largest[:, None]) - np.exp(-top) + np.exp(-perturbed)
        )  # equation 12, unstable
    usable = np.isfinite(plain[:, finite])
    np.testing.assert_allclose(found[:, finite][usable], plain[:, finite][usable], atol=1e-4)


def test_the_largest_perturbed_child_is_gumbel_at_the_parents_log_probability():
    """Top-down or bottom-up, the perturbed log-probabilities have one distribution."""
    runs = 4000
    stops = Stops((EOS, BACKTRACK), 2)
    beam = StochasticBeam([25] * runs, [[7, i] for i in range(runs)], 1.0, stops)
    logprobs = torch.tensor(TABLE[4]).log()
    _, nodes = beam.step(logprobs.repeat(runs, 1), lambda row, token: row * 5 + token)
    for token in (3, 4):  # those that go on
        p = math.exp(logprobs[token])
        score = beam.score[nodes % 5 == token]
        # The root's perturbation was fixed at 0: exp(-G) of a child is then at least 1, and the
        # child is the largest with its own probability.
        assert (score <= 1e-9).all()
        assert abs((score > -1e-9).mean() - p) < 4.5 * math.sqrt(p * (1 - p) / runs)


@pytest.mark.parametrize("count", [2, 4])
def test_beam_sampling_is_that_of_transformers(count):
    """The same distribution of results, on a model of 12 tokens."""
    model, prefix, limit, runs = random_llama(), (8, 9, 4, 3), 4, 1500
    config = GenerationConfig(
        do_sample=True,
        num_beams=count,
        num_return_sequences=count,
        temperature=0.8,
        max_new_tokens=limit,
        eos_token_id=[EOS, BACKTRACK],
        pad_token_id=PAD,
    )
    torch.manual_seed(0)
    ids = torch.tensor([prefix] * runs)
    theirs = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    theirs = theirs[:, len(prefix) :].view(runs, count, -1).tolist()

    def trimmed(tokens) -> tuple[int, ...]:
        ends = [i for i, token in enumerate(tokens) if token in (EOS, BACKTRACK)]
        return tuple(tokens[: ends[0] + 1] if ends else tokens)

    mine = sampler(model, limit, max_rows=100_000).sample(
        [prefix] * runs, [count] * runs, 0.8, 3, "beam_sample"
    )
    best_theirs = Counter(frozenset(map(trimmed, some)) for some in theirs)
    best_mine = Counter(frozenset(s.tokens for s in some) for some in mine)
    for key in best_theirs | best_mine:
        a, b = best_theirs[key], best_mine[key]
        assert abs(a - b) <= 4.5 * math.sqrt(a + b) + 1, (key, a, b)


@pytest.mark.parametrize("expansion", BEAMS)
def test_log_probabilities_are_the_models_own_and_samples_distinct(expansion):
    model, counts = random_llama(), [20, 9, 1, 7, 0]
    result = sampler(model).sample(PREFIXES, counts, 0.7, 3, expansion)
    for prefix, found, count in zip(PREFIXES, result, counts, strict=True):
        assert len({s.tokens for s in found}) == len(found) <= count
        assert found.lost_tokens >= 0
        for s in found:
            logprobs, backtrack = recomputed(model, prefix, s.tokens)
            np.testing.assert_allclose(s.logprobs, logprobs, atol=1e-4)
            assert s.count == 1 and abs(s.p_backtrack_start - backtrack[0]) < 1e-4
            assert (s.tokens[-1] in (EOS, BACKTRACK)) == (s.stop != "limit")


@pytest.mark.parametrize("expansion", BEAMS)
def test_beams_do_not_depend_on_the_batch(expansion, monkeypatch):
    model = random_llama()
    together = sampler(model).sample(PREFIXES, [6, 5, 4, 3, 2], 1.0, 9, expansion)
    for i, count in ((0, 6), (1, 5), (2, 4), (4, 2)):
        (alone,) = sampler(model).sample([PREFIXES[i]], [count], 1.0, 9, expansion)
        assert [s.tokens for s in alone] == [s.tokens for s in together[i]]
        assert alone.lost_tokens == together[i].lost_tokens
    monkeypatch.setattr(lib.search.beams, "PROBABILITIES_AT_ONCE", 40)  # part by part
    few = sampler(model, max_rows=7).sample(PREFIXES, [6, 5, 4, 3, 2], 1.0, 9, expansion)
    assert [[s.tokens for s in f] for f in few] == [[s.tokens for s in f] for f in together]


def test_tokens_of_lost_beams_are_counted():
    """Two beams of two tokens: four tokens, of which the results hold what they hold."""
    for seed in range(20):
        (found,) = sampler(TableModel(TABLE), 2).sample([(4,)], [2], 1, seed, "stochastic_beam")
        paths = {s.tokens[:i] for s in found for i in range(1, len(s.tokens) + 1)}
        ended_first = sum(len(s.tokens) == 1 for s in found)
        assert 2 <= len(paths) + found.lost_tokens <= 4
        if not ended_first:
            assert len(paths) + found.lost_tokens == 4


def test_bad_expansions():
    with pytest.raises(UserError, match="choose one of sample, beam_sample, stochastic_beam"):
        sampler(random_llama()).sample([(5,)], [1], 1.0, 0, "beam")
    with pytest.raises(UserError, match="temperature 0"):
        sampler(random_llama()).sample([(5,)], [1], 0, 0, "stochastic_beam")
