"""Expansions by beams: takes distributions, gives the tokens that go on (lib/search/expansion.py).

`BeamSample` is the paper's expansion, as transformers does it. `StochasticBeam` samples without
replacement (Kool, van Hoof and Welling 2019, arXiv 1903.06059). Each prefix draws from a random
stream of its own, so that no draw depends on what else is in the batch. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from lib.search.expansion import PROBABILITIES_AT_ONCE, Add, Stops


class _Beams:
    """What both kinds of beams share: each prefix has up to `width` rows, best first."""

    def __init__(
        self,
        counts: Sequence[int],
        entropies: Sequence[Sequence[int]],
        temperature: float,
        stops: Stops,
    ):
        """Each prefix draws from a random stream of its own, whatever else is in the batch."""
        self.width = np.array(counts, np.int64)
        self.generators = [np.random.default_rng(entropy) for entropy in entropies]
        self.temperature, self.stops = temperature, stops
        self.start = np.arange(len(counts))  # each row's prefix
        self.rank = np.zeros(len(counts), np.int64)  # and its place among that prefix's rows
        self.score = np.zeros(len(counts))
        self.drawn = 0
        self.generated = np.zeros(len(counts), np.int64)  # tokens, those of lost beams too
        self.found: list[list[tuple[float, int]]] = [[] for _ in counts]  # (score, ended node)

    def _parts(self, vocabulary: int) -> Iterator[list[tuple[int, np.ndarray]]]:
        """Prefixes with their rows, best first; of a large vocabulary only so many at once."""
        order = np.lexsort((self.rank, self.start))
        prefixes, first = np.unique(self.start[order], return_index=True)
        part, size = [], 0
        for prefix, rows in zip(prefixes.tolist(), np.split(order, first[1:]), strict=True):
            if part and size + rows.size * vocabulary > PROBABILITIES_AT_ONCE:
                yield part
                part, size = [], 0
            part.append((prefix, rows))
            size += rows.size * vocabulary
        if part:
            yield part

    def _noise(self, part: list[tuple[int, np.ndarray]], vocabulary: int) -> np.ndarray:
        """Gumbel noise `[rows, vocabulary]`, from each prefix's own stream."""
        shapes = [(self.generators[prefix], (len(rows), vocabulary)) for prefix, rows in part]
        uniform = np.concatenate([generator.random(shape) for generator, shape in shapes])
        return -np.log(-np.log(uniform.clip(1e-300)))

    def _add(self, add: Add, prefix: np.ndarray, row: np.ndarray, token: np.ndarray) -> np.ndarray:
        self.generated += np.bincount(prefix, minlength=len(self.generated))
        return add(row, token)

    def placed(self, place: np.ndarray) -> None:
        """The i-th continuation that goes on is now row `place[i]`."""
        for name in ("start", "rank", *self.MOVED):
            values = getattr(self, name)
            moved = np.empty_like(values)
            moved[place] = values
            setattr(self, name, moved)

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prefix, node and count of each sample."""
        pairs = [(i, node) for i, found in enumerate(self.found) for _, node in found]
        prefix, node = np.array(pairs, np.int64).reshape(-1, 2).T
        return prefix, node, np.ones(len(pairs), np.int64)


class StochasticBeam(_Beams):
    """Samples without replacement: the `width` sequences of largest perturbed log-probability.

    `score` is a sequence's Gumbel-perturbed log-probability (the paper's G), `logprob` its
    log-probability (phi), at the temperature. Children's perturbations are drawn under the
    condition that their largest is the parent's, so that the beams at the end are those that
    perturbing all sequences at once would have chosen.
    """

    MOVED = ("score", "logprob")

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.logprob = np.zeros(len(self.width))

    def step(self, logprobs: torch.Tensor, add: Add) -> tuple[np.ndarray, np.ndarray]:
        """Rows (ascending) and nodes of the continuations that go on."""
        self.drawn += 1
        kept = []
        for part in self._parts(logprobs.shape[1]):
            rows = np.concatenate([some for _, some in part])
            step = torch.log_softmax(_rows(logprobs, rows) / self.temperature, -1).cpu().numpy()
            total = self.logprob[rows, None] + step
            score = conditioned(total + self._noise(part, total.shape[1]), self.score[rows])
            at = 0
            for prefix, some in part:
                here = slice(at, at + len(some))
                kept.append(self._best(prefix, some, score[here], total[here]))
                at += len(some)
        prefix, rank, row, token, score, total = map(np.concatenate, zip(*kept, strict=True))
        node = self._add(add, prefix, row, token)
        ended = np.isin(token, self.stops.tokens) | (self.drawn == self.stops.limit)
        for i in ended.nonzero()[0].tolist():
            self.found[prefix[i]].append((float(score[i]), int(node[i])))
        order = np.lexsort((token, row))
        order = order[~ended[order]]
        self.start, self.rank = prefix[order], rank[order]
        self.score, self.logprob = score[order], total[order]
        return row[order], node[order]

    def _best(
        self, prefix: int, rows: np.ndarray, score: np.ndarray, total: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """The largest scores among a prefix's continuations and ended beams; the latter are kept
        or lost here. Of the former: prefix, rank, row, token, score and log-probability."""
        ended = self.found[prefix]
        everything = np.concatenate([score.ravel(), [one for one, _ in ended]])
        best = _largest(everything, int(self.width[prefix]))
        self.found[prefix] = [ended[i - score.size] for i in best.tolist() if i >= score.size]
        best = best[best < score.size]
        at, token = best // score.shape[1], best % score.shape[1]
        same = np.full(len(best), prefix), np.arange(len(best))
        return *same, rows[at], token, score[at, token], total[at, token]


class BeamSample(_Beams):
    """Beam sampling as `generate(num_beams=N, do_sample=True)` does it.

    Among all continuations of a prefix's beams, three times as many as beams are drawn without
    replacement, by the softmax of their summed log-probabilities (each divided by the temperature).
    The best that have not ended are the next beams; an ended one of the best `width` is a result,
    of which those of the best mean are kept. It is over when no beam can improve the results.
    """

    MOVED = ("score",)
    DRAWN = 3  # for each beam: transformers' one more than there are tokens that end

    def step(self, logprobs: torch.Tensor, add: Add) -> tuple[np.ndarray, np.ndarray]:
        """Rows (ascending) and nodes of the continuations that go on."""
        self.drawn += 1
        beams, results = [], []
        for part in self._parts(logprobs.shape[1]):
            rows = np.concatenate([some for _, some in part])
            step = (_rows(logprobs, rows) / self.temperature).cpu().numpy()
            score = self.score[rows, None] + step
            noisy = score + self._noise(part, score.shape[1])
            at = 0
            for prefix, some in part:
                here = slice(at, at + len(some))
                goes_on, ended = self._drawn(prefix, some, score[here], noisy[here])
                beams.append(goes_on)
                results.append(ended)
                at += len(some)
        prefix, _, row, token, score = map(np.concatenate, zip(*results, strict=True))
        self._record(prefix, score / self.drawn, self._add(add, prefix, row, token))
        prefix, rank, row, token, score = map(np.concatenate, zip(*beams, strict=True))
        order = np.lexsort((token, row))
        self.start, self.rank, self.score = prefix[order], rank[order], score[order]
        row, token = row[order], token[order]
        return row, self._add(add, self.start, row, token)

    def _drawn(
        self, prefix: int, rows: np.ndarray, score: np.ndarray, noisy: np.ndarray
    ) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        """A prefix's next beams and new results: prefix, rank, row, token and score of each."""
        width = int(self.width[prefix])
        drawn = _largest(noisy.ravel(), self.DRAWN * width)
        drawn = drawn[np.argsort(-score.ravel()[drawn], kind="stable")]
        at, token = drawn // score.shape[1], drawn % score.shape[1]
        ended = np.isin(token, self.stops.tokens) | (self.drawn == self.stops.limit)
        done, beams = ended[:width].nonzero()[0], (~ended).nonzero()[0][:width]
        value = score[at, token]
        if self._over(prefix, value[beams], value[done] / self.drawn):
            beams = beams[:0]

        def told(chosen: np.ndarray) -> tuple[np.ndarray, ...]:
            same = np.full(len(chosen), prefix), np.arange(len(chosen))
            return *same, rows[at[chosen]], token[chosen], value[chosen]

        return told(beams), told(done)

    def _over(self, prefix: int, beams: np.ndarray, results: np.ndarray) -> bool:
        """Whether no beam can improve the results: transformers' own rule, a heuristic."""
        known = sorted([*results.tolist(), *(one for one, _ in self.found[prefix])], reverse=True)
        width = int(self.width[prefix])
        if not len(beams) or len(known) < width:
            return not len(beams)
        return beams[0] / self.drawn <= known[width - 1]

    def _record(self, prefix: np.ndarray, score: np.ndarray, node: np.ndarray) -> None:
        for i in range(len(prefix)):
            self.found[prefix[i]].append((float(score[i]), int(node[i])))
        for i in np.unique(prefix).tolist():
            best = sorted(self.found[i], key=lambda one: -one[0])
            self.found[i] = best[: int(self.width[i])]


def conditioned(perturbed: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Gumbel-perturbed values `[rows, n]` under the condition that each row's maximum is `largest`
    (Kool et al., equations 11 and 12 with appendix B.3: the stable form)."""
    top = perturbed.max(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = perturbed - top
        v = largest[:, None] - perturbed + np.log1p(-np.exp(gap))
        shifted = largest[:, None] - np.maximum(v, 0) - np.log1p(np.exp(-np.abs(v)))
    shifted[gap == 0] = np.broadcast_to(largest[:, None], gap.shape)[gap == 0]
    shifted[np.isneginf(perturbed)] = -np.inf
    return shifted


def _rows(logprobs: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    return logprobs[torch.as_tensor(rows, device=logprobs.device)].double()


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest finite values (fewer if there are fewer), largest first."""
    if count < len(values):
        chosen = np.argpartition(-values, count - 1)[:count]
    else:
        chosen = np.arange(len(values))
    chosen = chosen[np.isfinite(values[chosen])]
    return chosen[np.argsort(-values[chosen], kind="stable")]
