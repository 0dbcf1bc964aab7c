"""Shares, means and ROC areas of things that come in clusters, with 95% intervals.

Takes values and the cluster (here: the problem) of each; gives (estimate, low, high). The steps and
paths of one search are not independent, so intervals come from the spread between clusters. Knows
nothing of searches.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

import numpy as np

NOTHING = (float("nan"), float("nan"), float("nan"))


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def _sums(values: np.ndarray, clusters: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(clusters, weights=values, minlength=count)


def clustered_share(
    hits: object, weights: object, clusters: object, confidence: float = 0.95
) -> tuple[float, float, float]:
    """A weighted share (or mean) -> (share, low, high); nan without weight.

    The linearised interval of a ratio of sums over clusters, cut to 0..1 where the hits are; where
    every cluster says the same, the rule of three (3 / clusters) takes its place.
    """
    hits, weights = np.asarray(hits, float), np.asarray(weights, float)
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if weights.sum() <= 0:
        return NOTHING
    n, k = (_sums(values, cluster, len(names)) for values in (weights, weights * hits))
    n, k = n[n > 0], k[n > 0]
    share, count = k.sum() / n.sum(), len(n)
    spread = float(((k - share * n) ** 2).sum()) * count / max(1, count - 1)
    half = _z(confidence) * sqrt(spread) / n.sum()
    if spread < 1e-18:
        half = min(1.0, 3 / count)
    low, high = share - half, share + half
    if hits.min() >= 0 and hits.max() <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return float(share), float(low), float(high)


def clustered_auc(
    scores: object, positive: object, clusters: object, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Area under the ROC curve of scores -> (auc, low, high); nan without both classes.

    The interval is Obuchowski's (1997): DeLong's placement values, summed within clusters.
    """
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if positive.all() or not positive.any():
        return NOTHING
    above, below = scores[positive], scores[~positive]
    # Of each positive: the share of negatives below it, half of the equal ones; and the reverse.
    place_above, place_below = _placement(above, below), 1 - _placement(below, above)
    auc, count = float(place_above.mean()), len(names)
    m, n = len(above), len(below)
    up = _sums(place_above - auc, cluster[positive], count)
    down = _sums(place_below - auc, cluster[~positive], count)
    scale = count / max(1, count - 1)
    variance = scale * float(((up / m + down / n) ** 2).sum())
    half = _z(confidence) * sqrt(variance)
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def _placement(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    ordered = np.sort(among)
    low, high = (np.searchsorted(ordered, of, side) for side in ("left", "right"))
    return (low + high) / (2 * len(ordered))


def within_auc(scores: object, positive: object, clusters: object) -> tuple[float, float, float]:
    """As `clustered_auc`, over pairs of one cluster alone: what choosing among its paths needs."""
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    names, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    wins, pairs = np.zeros(len(names)), np.zeros(len(names))
    order = np.argsort(cluster, kind="stable")
    bounds = np.searchsorted(cluster[order], np.arange(len(names) + 1))
    for number in range(len(names)):
        here = order[bounds[number] : bounds[number + 1]]
        above, below = scores[here][positive[here]], scores[here][~positive[here]]
        if len(above) and len(below):
            pairs[number] = len(above) * len(below)
            wins[number] = _placement(above, below).sum() * len(below)
    if not pairs.any():
        return NOTHING
    return clustered_share(wins / np.maximum(pairs, 1), pairs, names)
