"""Clustered intervals against hand-solved cases, brute force and simulation."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.statistics import (
    DRAWS,
    at_cost,
    bounds,
    clustered_auc,
    clustered_share,
    hierarchical_draws,
    roc_auc,
)


def test_share_of_weighted_hits():
    share, low, high = clustered_share([1, 0, 1], [2, 1, 1], ["a", "a", "b"])
    assert share == pytest.approx(3 / 4)
    # Clusters: (n=3, k=2), (n=1, k=1); residuals -1/4 and 1/4; spread 1/8 * 2.
    half = 1.959964 * math.sqrt(2 * 2 / 16) / 4
    assert (low, high) == pytest.approx((0.75 - half, min(1.0, 0.75 + half)))


def test_share_without_weight_and_without_spread():
    assert all(map(math.isnan, clustered_share([1, 0], [0, 0], [0, 1])))
    assert clustered_share([1] * 30, [1] * 30, range(30)) == (1.0, pytest.approx(0.9), 1.0)
    assert clustered_share([5.0, 5.0], [1, 1], [0, 1])[0] == 5


def test_share_covers_as_often_as_it_says_where_clusters_agree():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        levels = generator.random(60)  # each problem has a share of its own, of mean 1/2
        found = generator.random((60, 10)) < levels[:, None]
        _, low, high = clustered_share(found.ravel(), np.ones(600), np.repeat(range(60), 10))
        hits += low <= 0.5 <= high
    assert 0.91 <= hits / 300 <= 0.98


def test_auc_is_sklearns_and_counts_ties_half():
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 8, 200)
    positive = generator.random(200) < 0.3 + scores / 20
    auc, low, high = clustered_auc(scores, positive, generator.integers(0, 40, 200))
    assert auc == pytest.approx(roc_auc(scores, positive))
    assert low < auc < high
    assert all(map(math.isnan, clustered_auc([1, 2], [True, True], [0, 1])))


def test_auc_of_singletons_has_delongs_interval():
    # Placements: 1, 1/2 of the positives; 0, 1/2 of the negatives' complement.
    auc, low, _ = clustered_auc([3, 2, 1, 2.5], [True, True, False, False], range(4))
    assert auc == 0.75
    up = np.array([0.25, -0.25]) / 2
    variance = 4 / 3 * (2 * (up**2).sum())
    assert low == pytest.approx(max(0, 0.75 - 1.959964 * math.sqrt(variance)))


def exact(seeds):
    """Every resample of the hierarchical bootstrap, and its probability: {mean: probability}.

    seeds: for each seed its clusters, each a list of values.
    """
    of_seed = []
    for clusters in seeds:
        count, found = max(1, len(clusters) - 1), {}
        for drawn in itertools.product(clusters, repeat=count):
            mean = np.mean([value for cluster in drawn for value in cluster])
            found[mean] = found.get(mean, 0) + len(clusters) ** -count
        of_seed.append(found)
    slots, means = max(1, len(seeds) - 1), {}
    for picked in itertools.product(of_seed, repeat=slots):
        for each in itertools.product(*(found.items() for found in picked)):
            mean = round(np.mean([value for value, _ in each]), 9)
            chance = math.prod(p for _, p in each) * len(seeds) ** -slots
            means[mean] = means.get(mean, 0) + chance
    return means


def flat(seeds):
    rows = [
        (value, seed, cluster)
        for seed, clusters in enumerate(seeds)
        for cluster, values in enumerate(clusters)
        for value in values
    ]
    return [list(column) for column in zip(*rows, strict=True)]


TABLES = {
    "one seed": [[[1], [0, 0], [1, 1, 0], [1, 0]]],
    "one target": [[[1, 0, 1]], [[0, 0, 1, 1]]],
    "two seeds": [[[1], [0, 0], [1, 1, 0]], [[1, 1], [0]]],
    "three seeds": [[[1], [0, 0]], [[1, 1, 1], [0], [1, 0]], [[1, 0], [1]]],
    "differences": [[[1, -1], [0, 0], [1]], [[0, 1], [-1]], [[1], [0, 0, 0]]],
}


@pytest.mark.parametrize("name", TABLES)
def test_the_bootstrap_draws_every_resample_as_often_as_it_should(name):
    expected, values = exact(TABLES[name]), flat(TABLES[name])
    assert sum(expected.values()) == pytest.approx(1)
    drawn = hierarchical_draws(*values)
    assert len(drawn) == DRAWS and (drawn == hierarchical_draws(*values)).all()
    found = pd.Series(np.round(drawn, 9)).value_counts(normalize=True).to_dict()
    assert set(found) <= set(expected)
    for mean, chance in expected.items():
        error = math.sqrt(chance * (1 - chance) / DRAWS)
        assert found.get(mean, 0) == pytest.approx(chance, abs=4.5 * error + 1e-9)
    if len(expected) > 1:
        low, high = bounds(drawn, 10)
        below = sum(p for mean, p in expected.items() if mean < low - 1e-9)
        above = sum(p for mean, p in expected.items() if mean > high + 1e-9)
        assert below <= 0.035 and above <= 0.035


def test_the_bootstraps_variance_is_that_of_a_mean():
    generator = np.random.default_rng(3)
    values = generator.normal(size=40)  # one seed, a cluster each: the variance is s^2 / n
    drawn = hierarchical_draws(values, [0] * 40, range(40))
    assert drawn.var() == pytest.approx(values.var(ddof=1) / 40, rel=0.1)
    seeds = np.repeat(range(6), 5)  # seeds alone vary: again s^2 / n, of seeds
    of_seed = generator.normal(size=6)
    drawn = hierarchical_draws(of_seed[seeds], seeds, np.tile(range(5), 6))
    assert drawn.var() == pytest.approx(of_seed.var(ddof=1) / 6, rel=0.1)


def test_nothing_varies():
    drawn = hierarchical_draws([1.0] * 30, [0] * 30, range(30))
    assert bounds(drawn, 30) == (0.9, 1.1)


@pytest.mark.parametrize("count, spread, least", [(3, 0.01, 0.93), (3, 0.05, 0.9), (2, 0.03, 0.9)])
def test_pooled_seeds_cover_about_as_often_as_they_say(count, spread, least):
    """Seeds that differ by so much, seven targets that differ by three points."""
    generator, hits = np.random.default_rng(0), 0
    for _ in range(200):
        level = 0.8 + generator.normal(0, spread, (count, 1))
        level = level + generator.normal(0, 0.03, (count, 7))
        right = generator.random((70, count, 7)) < level
        seeds, targets = (index.ravel() for index in np.indices((70, count, 7))[1:])
        draws = hierarchical_draws(right.ravel(), seeds, targets)
        low, high = bounds(draws, right.size, right.mean((0, 2)))
        hits += low <= 0.8 <= high
    assert least <= hits / 200 <= 0.995


def test_an_interval_of_a_few_seeds_is_wider_than_they_are():
    seeds = np.repeat([0, 1, 2], 100)
    values = np.take([0.1, 0.2, 0.3], seeds)
    draws = hierarchical_draws(values, seeds, np.tile(range(100), 3))
    low, high = bounds(draws, 300, [0.1, 0.2, 0.3])
    reach = 4.303 * 0.1 / 3**0.5  # Student's t of two degrees of freedom: the seeds alone vary
    assert high - 0.2 == pytest.approx(reach, rel=0.1) == 0.2 - low


def test_between_two_costs_values_are_linear_in_the_logarithm():
    costs, values = [10.0, 100.0, 1000.0], np.array([[0.0, 1.0], [0.5, 1.0], [0.5, 0.0]])
    assert at_cost(10 * 10**0.5, costs, values) == pytest.approx(np.array([0.25, 1.0]))
    assert at_cost(1000.0, costs, values[:, 0]) == 0.5 and at_cost(10.0, costs, values[:, 1]) == 1
    assert at_cost(9.9, costs, values) is at_cost(1001.0, costs, values) is None
    assert at_cost(1.0, [], values[:0]) is None
