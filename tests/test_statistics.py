"""Clustered intervals against hand-solved cases, brute force and simulation."""

import math

import numpy as np
import pytest

from lib.evaluation.statistics import clustered_auc, clustered_share, roc_auc, within_auc


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


def test_auc_within_problems_is_the_share_of_pairs():
    scores = [1, 2, 3, 9, 8, 7]
    positive = [False, True, True, False, False, True]
    problem = [0, 0, 0, 1, 1, 1]
    # Problem 0: both pairs right; problem 1: both wrong.
    assert within_auc(scores, positive, problem)[0] == pytest.approx(0.5)
    assert within_auc([1, 1], [True, False], [0, 0])[0] == 0.5
    assert all(map(math.isnan, within_auc([1, 2], [True, False], [0, 1])))
