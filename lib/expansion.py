"""Which continuations of a prefix are followed: takes distributions, gives the tokens that go on.

An expansion steers one batch of rollouts (lib/rollout.py). It is asked once a token: given the
log-probabilities after each row, which (row, token) pairs go on? It is told where they went, and
at the end it names the nodes that are samples. Knows nothing of models, caches or text.

`sample`: independent samples. `beam_sample`: the paper's, transformers' beam sampling.
`stochastic_beam`: sampling without replacement (Kool, van Hoof and Welling 2019, arXiv 1903.06059).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

EXPANSIONS = ("sample", "beam_sample", "stochastic_beam")
PROBABILITIES_AT_ONCE = 1 << 24  # entries of the float64 cumulative distributions held at once
GREEDY_BELOW = 1e-4  # a temperature this small is greedy decoding

#: (rows, tokens) -> the nodes of these continuations
Add = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Stops:
    """What ends a sample: one of these tokens, or so many of them."""

    tokens: tuple[int, ...]
    limit: int


class Independent:
    """Independent samples. Those that share everything so far are one row with a count.

    Sample j of a prefix draws its t-th token with the t-th number of its own random stream, so that
    merging rows changes nothing.
    """

    def __init__(
        self, counts: Sequence[int], numbers: np.ndarray, temperature: float, stops: Stops
    ):
        """numbers `[samples, limit]`: of the first prefix's samples, then the second's..."""
        self.start = np.repeat(np.arange(len(counts)), counts)  # each sample's prefix
        self.numbers, self.temperature, self.stops = numbers, temperature, stops
        self.alive = np.arange(len(self.start))
        self.row = self.start  # each living sample's row
        self.drawn = np.zeros(len(self.start), np.int64)  # tokens so far
        self.final = np.full(len(self.start), -1)  # the node where a sample ended
        self.parked: list[tuple[np.ndarray, np.ndarray]] = []

    def step(self, logprobs: torch.Tensor, add: Add) -> tuple[np.ndarray, np.ndarray]:
        """Rows (ascending) and nodes of the continuations that go on."""
        numbers = self.numbers[self.alive, self.drawn[self.alive]]
        token = draw(logprobs, self.row, numbers, self.temperature)
        vocabulary = logprobs.shape[1]
        keys, member = np.unique(self.row * vocabulary + token, return_inverse=True)
        row, node = keys // vocabulary, add(keys // vocabulary, keys % vocabulary)
        self.drawn[self.alive] += 1
        ended = np.isin(token, self.stops.tokens) | (self.drawn[self.alive] == self.stops.limit)
        self.final[self.alive[ended]] = node[member[ended]]
        self.alive = self.alive[~ended]
        children, self.row = np.unique(member[~ended], return_inverse=True)
        return row[children], node[children]

    def placed(self, place: np.ndarray) -> None:
        """The i-th continuation that goes on is now row `place[i]`."""
        self.row = place[self.row]

    def park(self, nodes: np.ndarray, mask: np.ndarray) -> None:
        """The samples of the rows in `mask` wait at their nodes; the other rows move up."""
        waits = mask[self.row]
        self.parked.append((self.alive[waits], nodes[self.row[waits]]))
        self.alive, self.row = self.alive[~waits], (np.cumsum(~mask) - 1)[self.row[~waits]]

    def unpark(self) -> np.ndarray:
        """All that wait go on: the nodes of their rows."""
        self.alive = np.concatenate([samples for samples, _ in self.parked])
        nodes, self.row = np.unique(
            np.concatenate([at for _, at in self.parked]), return_inverse=True
        )
        self.parked = []
        return nodes

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prefix, node and count of each distinct sample."""
        pairs, counts = np.unique(
            np.stack([self.start, self.final], axis=1), axis=0, return_counts=True
        )
        return pairs[:, 0], pairs[:, 1], counts


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

    def _noise(self, vocabulary: int) -> np.ndarray:
        """Gumbel noise `[rows, vocabulary]`."""
        noise = np.empty((len(self.start), vocabulary))
        order = np.lexsort((self.rank, self.start))
        rows = np.bincount(self.start, minlength=len(self.generators))
        at = 0
        for prefix, count in enumerate(rows.tolist()):
            if count:
                uniform = self.generators[prefix].random((count, vocabulary))
                noise[order[at : at + count]] = -np.log(-np.log(uniform.clip(1e-300)))
                at += count
        return noise

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
        step = torch.log_softmax(logprobs.double() / self.temperature, -1).cpu().numpy()
        vocabulary = step.shape[1]
        total = self.logprob[:, None] + step
        score = conditioned(total + self._noise(vocabulary), self.score)
        self.drawn += 1
        kept = []
        for prefix, rows in _by_prefix(self.start):
            flat = score[rows].ravel()
            ended = [one for one, _ in self.found[prefix]]
            everything = np.concatenate([flat, ended])
            best = _largest(everything, int(self.width[prefix]))
            self.found[prefix] = [
                self.found[prefix][i - len(flat)] for i in best.tolist() if i >= len(flat)
            ]
            best = best[best < len(flat)]
            row, token = rows[best // vocabulary], best % vocabulary
            kept.append((np.full(len(best), prefix), np.arange(len(best)), row, token))
        prefix, rank, row, token = map(np.concatenate, zip(*kept, strict=True))
        node = self._add(add, prefix, row, token)
        ended = np.isin(token, self.stops.tokens) | (self.drawn == self.stops.limit)
        for i in ended.nonzero()[0].tolist():
            self.found[prefix[i]].append((score[row[i], token[i]], int(node[i])))
        order = np.lexsort((token, row))
        order = order[~ended[order]]
        self.start, self.rank = prefix[order], rank[order]
        row, token, node = row[order], token[order], node[order]
        self.score, self.logprob = score[row, token], total[row, token]
        return row, node


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
        step = (logprobs.double() / self.temperature).cpu().numpy()
        vocabulary = step.shape[1]
        score = self.score[:, None] + step
        noisy = score + self._noise(vocabulary)
        self.drawn += 1
        beams, results = [], []
        for prefix, rows in _by_prefix(self.start):
            width = int(self.width[prefix])
            candidates = _largest(noisy[rows].ravel(), self.DRAWN * width)
            order = np.argsort(-score[rows].ravel()[candidates], kind="stable")
            row, token = rows[candidates[order] // vocabulary], candidates[order] % vocabulary
            ended = np.isin(token, self.stops.tokens) | (self.drawn == self.stops.limit)
            done = ended[:width].nonzero()[0]
            results.append((np.full(len(done), prefix), row[done], token[done]))
            row, token = row[~ended][:width], token[~ended][:width]
            if self._over(prefix, score[row, token], score[results[-1][1:]] / self.drawn):
                row, token = row[:0], token[:0]
            beams.append((np.full(len(row), prefix), np.arange(len(row)), row, token))
        prefix, row, token = map(np.concatenate, zip(*results, strict=True))
        self._record(prefix, score[row, token] / self.drawn, self._add(add, prefix, row, token))
        prefix, rank, row, token = map(np.concatenate, zip(*beams, strict=True))
        order = np.lexsort((token, row))
        self.start, self.rank = prefix[order], rank[order]
        row, token = row[order], token[order]
        self.score = score[row, token]
        return row, self._add(add, self.start, row, token)

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


def draw(
    logprobs: torch.Tensor, rows: np.ndarray, numbers: np.ndarray, temperature: float
) -> np.ndarray:
    """A token for each sample: inverse transform sampling from its row's distribution."""
    if temperature < GREEDY_BELOW:
        return logprobs.argmax(-1).cpu().numpy()[rows]
    drawn = np.empty(len(rows), np.int64)
    total, vocabulary = logprobs.shape
    at_once = max(1, PROBABILITIES_AT_ONCE // vocabulary)
    for start in range(0, total, at_once):
        part = (rows >= start) & (rows < start + at_once)
        scaled = logprobs[start : start + at_once].double() / temperature
        cumulative = torch.softmax(scaled, dim=-1).cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        # Row r's distribution is moved to [r, r + 1): one sorted array, one binary search.
        cumulative += torch.arange(len(cumulative), device=logprobs.device)[:, None]
        row = rows[part] - start
        wanted = torch.as_tensor(numbers[part] + row, device=logprobs.device)
        found = torch.searchsorted(cumulative.view(-1), wanted, right=True).cpu().numpy()
        drawn[part] = np.clip(found - row * vocabulary, 0, vocabulary - 1)
    return drawn


def _by_prefix(start: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each prefix that has rows, and these rows."""
    order = np.argsort(start, kind="stable")
    prefixes, first = np.unique(start[order], return_index=True)
    return list(zip(prefixes.tolist(), np.split(order, first[1:]), strict=True))


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest finite values (fewer if there are fewer), largest first."""
    if count < len(values):
        chosen = np.argpartition(-values, count - 1)[:count]
    else:
        chosen = np.arange(len(values))
    chosen = chosen[np.isfinite(values[chosen])]
    return chosen[np.argsort(-values[chosen], kind="stable")]
