"""A shifted verdict and samples without replacement, on samplers whose probabilities are known."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from lib.models.llama import build_model
from lib.models.tokenizer import build_tokenizer
from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler
from lib.search.variants import DistinctSampler, SamplingVariant, applied, shifted


class Dice:
    """Samples one of four sequences with probabilities .4 .3 .2 .1."""

    shares = (0.4, 0.3, 0.2, 0.1)

    def sample(self, prefixes, counts, temperature, seed):
        generator = np.random.default_rng([seed, len(prefixes)])
        drawn = [Counter(generator.choice(4, count, p=self.shares).tolist()) for count in counts]
        return [
            [Sample((5 + t,), (math.log(self.shares[t]),), (), (), "goal", n) for t, n in d.items()]
            for d in drawn
        ]


def test_without_replacement_has_the_probabilities_of_successive_draws():
    found = Counter()
    for seed in range(3000):
        [samples] = DistinctSampler(Dice(), 8).sample([(1,)], [2], 1.0, seed)
        assert len(samples) == 2 and {sample.count for sample in samples} == {1}
        found[frozenset(sample.tokens[0] - 5 for sample in samples)] += 1
    p = Dice.shares
    for i in range(4):
        for j in range(i):
            expected = p[i] * p[j] / (1 - p[i]) + p[i] * p[j] / (1 - p[j])
            assert found[frozenset((i, j))] / 3000 == pytest.approx(expected, abs=0.035)


def test_fewer_are_given_where_there_are_no_more():
    [samples] = DistinctSampler(Dice(), 50).sample([(1,)], [9], 1.0, 0)
    assert {sample.tokens for sample in samples} == {(5,), (6,), (7,), (8,)}


@pytest.fixture(scope="module")
def parts():
    tokenizer = build_tokenizer([*"0123456789+=", "\n"])
    model = build_model(tokenizer, 16, 1, 1, 0).eval()
    return model, CacheSampler(model, 1, 3, (5,), 4, 0)


def test_a_shift_multiplies_the_odds_of_backtrack(parts):
    model, sampler = parts
    [plain] = sampler.sample([(7, 8)], [4], 1.0, 0)
    with applied(SamplingVariant(shift=math.log(3)), model, 3, sampler) as varied:
        [moved] = varied.sample([(7, 8)], [4], 1.0, 0)
    before, after = plain[0].p_backtrack_start, moved[0].p_backtrack_start
    assert after / (1 - after) == pytest.approx(3 * before / (1 - before), rel=1e-3)
    [again] = sampler.sample([(7, 8)], [4], 1.0, 0)
    assert again == plain  # nothing is left behind


def test_an_extreme_shift_always_and_never_says_it(parts):
    model, sampler = parts
    with shifted(model, 3, 50.0):
        [samples] = sampler.sample([(7, 8)], [4], 1.0, 0)
    assert [sample.tokens for sample in samples] == [(3,)]
    with shifted(model, 3, -50.0):
        [samples] = sampler.sample([(7, 8)], [64], 1.0, 0)
    assert all(3 not in sample.tokens for sample in samples)


def test_the_hook_leaves_no_trace_after_an_error(parts):
    model, _ = parts
    ids = torch.tensor([[7, 8]])
    before = model(input_ids=ids).logits
    with pytest.raises(RuntimeError), shifted(model, 3, 9.0):
        raise RuntimeError
    assert torch.equal(before, model(input_ids=ids).logits)
