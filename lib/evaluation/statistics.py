"""Shares, means, ROC areas and differences, with 95% intervals.

Takes outcomes; gives (estimate, low, high). The steps and paths of one search are not independent:
what comes in clusters (here: problems) has its interval from the spread between them, and what
comes in several runs from that between seeds, and between targets within one. Knows nothing of
searches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np
import pandas as pd
from scipy.stats import t as student


def wilson_interval(
    successes: float, trials: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Wilson's score interval of a share; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    z = _z(confidence)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def paired_difference(
    correct_a: Sequence[bool], correct_b: Sequence[bool], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Accuracy of a less that of b on the same problems -> (difference, low, high).

    The interval is Agresti and Min's: normal, with half an observation added to each cell of the
    2 by 2 table, so that it does not collapse where the two methods never disagree.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"paired_difference: {len(a)} and {len(b)} outcomes; pair them one to one")
    return counted_difference(int((a & ~b).sum()), int((b & ~a).sum()), len(a), confidence)


def counted_difference(
    only_a: int, only_b: int, problems: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """`paired_difference` where it is known how many problems only a, and only b, got right."""
    gained, lost, total = only_a + 0.5, only_b + 0.5, problems + 2
    centre = (gained - lost) / total
    half = _z(confidence) * sqrt((gained + lost) - (gained - lost) ** 2 / total) / total
    difference = (only_a - only_b) / max(problems, 1)
    return difference, max(-1.0, centre - half), min(1.0, centre + half)


def roc_auc(scores: Sequence[float], correct: Sequence[bool]) -> float | None:
    """Area under the ROC curve of a score for right against wrong paths; None without both."""
    from sklearn.metrics import roc_auc_score  # slow to import, and few callers need it

    right = np.asarray(correct, dtype=bool)
    if right.all() or not right.any():
        return None
    return float(roc_auc_score(right, np.asarray(scores, dtype=float)))


NOTHING = (float("nan"), float("nan"), float("nan"))


def _sums(values: np.ndarray, clusters: np.ndarray, count: int) -> np.ndarray:
    return np.bincount(clusters, weights=values, minlength=count)


def clustered_share(
    hits: object, weights: object, clusters: object, confidence: float = 0.95, cut: bool = True
) -> tuple[float, float, float]:
    """A weighted share (or mean) -> (share, low, high); nan without weight.

    The linearised interval of a ratio of sums over clusters, with `cut` cut to 0..1 where the hits
    are; where every cluster says the same, the rule of three (3 / clusters) takes its place.
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
    if cut and hits.min() >= 0 and hits.max() <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return float(share), float(low), float(high)


def mean_interval(values: object) -> tuple[float, float, float]:
    """The mean of one value a problem -> (mean, low, high), as `clustered_share`; uncut, unless the
    values are verdicts: a difference that is nowhere below 0 may be so elsewhere."""
    values = np.asarray(values)
    places = np.arange(len(values))
    return clustered_share(values, np.ones(len(values)), places, cut=values.dtype == bool)


def with_interval(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    """An estimate and its interval as columns of a row."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))


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


DRAWS = 5_000  # the ends of an interval then move by a twentieth of its half-width, or less


def hierarchical_draws(
    values: object, seeds: object, clusters: object, stream: int = 0
) -> np.ndarray:
    """Bootstrap resamples of a mean over seeds -> float [DRAWS]; the same at every call.

    values, seeds, clusters: one a problem. Each draw takes seeds with replacement, and of each of
    them clusters with replacement, one fewer than there are where there are several: as many would
    give too little variance of few (Rao and Wu 1988). The seeds' means count alike. Every call
    draws the same seeds; one of another `stream` draws other clusters: of other problems.
    """
    frame = pd.DataFrame({"value": np.asarray(values, float), "seed": seeds, "cluster": clusters})
    sums = frame.groupby(["seed", "cluster"])["value"].agg(["sum", "size"])
    within, means = np.random.default_rng([1, stream]), []
    names = sums.index.unique("seed")
    slots = max(1, len(names) - 1)
    for name in names:
        total, size = sums.loc[name].to_numpy(float).T
        shape = (DRAWS, max(1, len(size) - 1))
        drawn = [within.integers(len(size), size=shape, dtype=np.int32) for _ in range(slots)]
        means.append([total[each].sum(1) / size[each].sum(1) for each in drawn])
    picked = np.random.default_rng(0).integers(len(names), size=(DRAWS, slots))
    return np.array(means)[picked, np.arange(slots), np.arange(DRAWS)[:, None]].mean(1)


def bounds(
    draws: np.ndarray, problems: int, seeds: Sequence[float] = (), confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of a mean over so many problems, from its `hierarchical_draws`.

    Of one seed that of percentiles. seeds: the means of several; then mean ± t · standard deviation
    of the draws, since percentiles of few seeds end where the seeds do. The degrees of freedom are
    the seeds' (one fewer than there are) where all variance lies between them, and more where less
    does (Satterthwaite 1946). Where no draw differs from another, the rule of three (3 / problems)
    takes its place.
    """
    half = (1 - confidence) / 2
    low, high = np.quantile(draws, [half, 1 - half])
    if np.ptp(draws) < 1e-12:
        low, high = low - 3 / problems, high + 3 / problems
    elif len(seeds) > 1:
        between = max(float(np.var(seeds, ddof=1)) / len(seeds), 1e-12)
        freedom = (len(seeds) - 1) * max(1.0, float(draws.var()) / between) ** 2
        reach = float(student.ppf(1 - half, freedom) * draws.std())
        low, high = np.mean(seeds) - reach, np.mean(seeds) + reach
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """One comparison that a claim rests on: a less b, with its 95% interval."""

    label: str
    a: float
    b: float
    low: float
    high: float
    margin: float = 0.0

    def __str__(self) -> str:
        points, low, high = (100 * value for value in (self.a - self.b, self.low, self.high))
        return (
            f"{self.label}: {100 * self.a:.1f} against {100 * self.b:.1f}, "
            f"{points:+.1f} [{low:+.1f}, {high:+.1f}]"
        )


def difference(label: str, a: Mapping, b: Mapping, margin: float = 0.0) -> Difference:
    """Newcombe's hybrid score interval of a's accuracy less b's, from their Wilson intervals.

    On the same problems the two are positively correlated, so the interval errs on the wide side.
    """
    gap = a["accuracy"] - b["accuracy"]
    low = gap - sqrt((a["accuracy"] - a["low"]) ** 2 + (b["high"] - b["accuracy"]) ** 2)
    high = gap + sqrt((a["high"] - a["accuracy"]) ** 2 + (b["accuracy"] - b["low"]) ** 2)
    return Difference(label, a["accuracy"], b["accuracy"], low, high, margin)


def at_cost(cost: float, costs: Sequence[float], values: np.ndarray) -> np.ndarray | None:
    """What `values` [n, ...] come to at this cost, of the rising `costs` [n]: linear in the
    logarithm between the two that lie around it; None where none do."""
    if not len(costs) or not costs[0] <= cost <= costs[-1]:
        return None
    at = np.interp(np.log(cost), np.log(costs), np.arange(len(costs)))
    low, high = int(np.floor(at)), int(np.ceil(at))
    return values[low] + (at - low) * (values[high] - values[low])
