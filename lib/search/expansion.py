"""Which continuations of a prefix are followed: takes distributions, gives the tokens that go on.

An expansion steers one batch of rollouts (lib/search/rollout.py). It is asked once a token: given
the log-probabilities after each row, which (row, token) pairs go on? It is told where they went,
and at the end it names the nodes that are samples. Knows nothing of models, caches or text.

`sample`, here: independent samples. In lib/search/beams.py: `beam_sample`, the paper's, which is
transformers' beam sampling; and `stochastic_beam`, sampling without replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

PROBABILITIES_AT_ONCE = 1 << 24  # entries of float64 distributions held at once
GREEDY_BELOW = 1e-4  # a temperature this small is greedy decoding

#: (rows, tokens) -> the nodes of these continuations
Add = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Stops:
    """What ends a sample: one of these tokens, or so many of them."""

    tokens: tuple[int, ...]
    limit: int


class Expansion(Protocol):
    """What rollouts ask of an expansion."""

    def step(self, logprobs: torch.Tensor, add: Add) -> tuple[np.ndarray, np.ndarray]:
        """Rows (ascending) and nodes of the continuations that go on after `logprobs
        [rows, vocabulary]`."""

    def placed(self, place: np.ndarray) -> None:
        """The i-th continuation that goes on is now row `place[i]`."""

    def samples(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Prefix, node and count of each sample."""


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
