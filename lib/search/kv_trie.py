"""What a model has computed, as a trie: takes tokens, distributions, keys and values as they come;
gives them back for any sequence that was computed. Knows nothing of models, samples or searches.

A node is a sequence: a root is a whole prefix, a child adds one token to its parent. Nodes are rows
of arrays. A node is *known* once the model has read its last token, so that the distribution after
it is known, and with it the token's keys and values; the last token of a sample is never read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

#: Distributions are kept where the vocabulary is no larger: in a large one they would outweigh all
#: else, and the few tokens that keeping them saves are hardly ever drawn again.
KEPT_VOCABULARY = 1024
COLUMNS = {"parent": -1, "token": -1, "root": -1, "depth": 0, "row": -1}


@dataclass(frozen=True)
class Prefilled:
    """Keys and values of some roots: `[roots, heads, length, head size]` a layer, padded left."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    padding: torch.Tensor  # [roots]


class KVTrie:
    """A trie. With `keep`, keys, values and (small) distributions are kept for later calls."""

    def __init__(self, keep: bool = False):
        self.keep = keep
        self.count = 0  # nodes
        self.columns = {name: np.empty(0, np.int64) for name in COLUMNS}
        self.logprob, self.p_backtrack = np.empty(0), np.empty(0)
        self.roots: dict[tuple[int, ...], int] = {}
        self.root_length: list[int] = []
        self.root_place: list[tuple[int, int]] = []  # which of `prefilled`, and which row of it
        self.prefilled: list[Prefilled] = []
        self.children: dict[tuple[int, int], int] = {}
        # What is kept, as it came: known nodes are rows, numbered on from block to block.
        self.rows = 0
        self.states: list[tuple[int, list[tuple[torch.Tensor, torch.Tensor]]]] = []
        self.distributions: torch.Tensor | None = None  # log-probabilities [rows, vocabulary]

    def __getattr__(self, name: str) -> np.ndarray:
        if name in COLUMNS:
            return self.columns[name]
        raise AttributeError(name)

    # Nodes ---------------------------------------------------------------------------------------

    def _new(self, count: int) -> np.ndarray:
        first, self.count = self.count, self.count + count
        if self.count > len(self.logprob):
            room = max(256, 2 * self.count)
            for name, empty in COLUMNS.items():
                grown = np.full(room, empty, np.int64)
                grown[:first] = self.columns[name][:first]
                self.columns[name] = grown
            for name in ("logprob", "p_backtrack"):
                grown = np.full(room, np.nan)
                grown[:first] = getattr(self, name)[:first]
                setattr(self, name, grown)
        return np.arange(first, self.count)

    def add_roots(
        self, prefixes: Sequence[tuple[int, ...]], prefilled: Prefilled | None
    ) -> np.ndarray:
        """The nodes of new roots; `prefilled` has their keys and values, where there are any."""
        nodes = self._new(len(prefixes))
        self.root[nodes] = np.arange(len(self.root_length), len(self.root_length) + len(nodes))
        for place, (prefix, node) in enumerate(zip(prefixes, nodes.tolist(), strict=True)):
            self.roots[prefix] = node
            self.root_length.append(len(prefix))
            self.root_place.append((len(self.prefilled), place))
        if prefilled is not None:
            self.prefilled.append(prefilled)
        return nodes

    def add(self, parents: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray) -> np.ndarray:
        """New children; where `parents` has a child of that token already, there are then two."""
        nodes = self._new(len(parents))
        self.parent[nodes], self.token[nodes] = parents, tokens
        self.root[nodes], self.depth[nodes] = self.root[parents], self.depth[parents] + 1
        self.logprob[nodes] = logprobs
        return nodes

    def find_or_add(
        self, parents: np.ndarray, tokens: np.ndarray, logprobs: np.ndarray
    ) -> np.ndarray:
        """The children of these tokens; those that are not there yet are made."""
        pairs = list(zip(parents.tolist(), tokens.tolist(), strict=True))
        nodes = np.array([self.children.get(pair, -1) for pair in pairs], np.int64)
        new = nodes < 0
        nodes[new] = self.add(parents[new], tokens[new], logprobs[new])
        for i in new.nonzero()[0].tolist():
            self.children[pairs[i]] = int(nodes[i])
        return nodes

    def find(self, prefix: tuple[int, ...]) -> int:
        """The known node of a prefix; -1 where there is none."""
        if prefix in self.roots:
            return self.roots[prefix]
        for length in sorted(set(self.root_length), reverse=True):
            node = self.roots.get(prefix[:length], -1) if length < len(prefix) else -1
            for token in prefix[length:] if node >= 0 else ():
                node = self.children.get((node, token), -1)
                if node < 0:
                    break
            if node >= 0 and self.row[node] >= 0:
                return node
        return -1

    def length(self, nodes: np.ndarray) -> np.ndarray:
        """Tokens of each node's whole sequence."""
        return np.array(self.root_length, np.int64)[self.root[nodes]] + self.depth[nodes]

    # What the model computed ---------------------------------------------------------------------

    def know(
        self,
        nodes: np.ndarray,
        logprobs: torch.Tensor,
        p_backtrack: np.ndarray,
        states: Sequence[tuple[torch.Tensor, torch.Tensor]] | None,
    ) -> None:
        """The model has read these nodes' last tokens.

        logprobs: [nodes, vocabulary]. states: keys and values of the last tokens, a layer
        `[nodes, heads, head size]`; None for roots, whose keys and values are `prefilled`.
        """
        self.p_backtrack[nodes] = p_backtrack
        if not self.keep:
            return
        first, self.rows = self.rows, self.rows + len(nodes)
        self.row[nodes] = np.arange(first, self.rows)
        if logprobs.shape[1] <= KEPT_VOCABULARY:
            if self.distributions is None:
                self.distributions = logprobs.new_empty((0, logprobs.shape[1]))
            self.distributions = _grown(self.distributions, self.rows)
            self.distributions[first : self.rows] = logprobs
        if states is not None:
            # Copies: what is given may be a view of a buffer that changes.
            copied = [(keys.clone(), values.clone()) for keys, values in states]
            self.states.append((first, copied))
            pairs = zip(self.parent[nodes].tolist(), self.token[nodes].tolist(), strict=True)
            self.children.update(zip(pairs, nodes.tolist(), strict=True))

    def known(self, nodes: np.ndarray) -> np.ndarray:
        """Which nodes' distributions are kept."""
        return (self.row[nodes] >= 0) & (self.distributions is not None)

    def distribution(self, nodes: np.ndarray) -> torch.Tensor:
        """Log-probabilities `[nodes, vocabulary]` after known nodes."""
        return self.distributions[
            torch.as_tensor(self.row[nodes], device=self.distributions.device)
        ]

    def prefixes(self, roots: np.ndarray) -> Prefilled:
        """Keys and values of some roots' prefixes, padded to the longest among them."""
        places = [self.root_place[root] for root in roots.tolist()]
        group = self.prefilled[places[0][0]]
        if places == [(places[0][0], row) for row in range(len(group.padding))]:
            return group
        length = max(self.root_length[root] for root in roots.tolist())

        def gathered(parts: list[list[torch.Tensor]], layer: int) -> torch.Tensor:
            found = []
            for number, row in places:
                part = parts[number][layer][row, :, -length:]
                short = length - part.shape[1]
                found.append(torch.nn.functional.pad(part, (0, 0, short, 0)) if short else part)
            return torch.stack(found)

        keys, values = ([getattr(g, n) for g in self.prefilled] for n in ("keys", "values"))
        layers = range(len(group.keys))
        padding = [length - self.root_length[root] for root in roots.tolist()]
        return Prefilled(
            [gathered(keys, layer) for layer in layers],
            [gathered(values, layer) for layer in layers],
            torch.as_tensor(padding, device=group.padding.device),
        )

    def continuations(
        self, nodes: np.ndarray, spare: int
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], int, np.ndarray]:
        """Keys and values, a layer `[nodes, heads, length + spare, head size]`, of what follows the
        roots down to known nodes; their length; and how many positions on the left of each are
        padding. Padding is zeros, the spare room is to be written."""
        depth = self.depth[nodes]
        longest = int(depth.max(initial=0))
        if not longest:
            return [], 0, depth
        rows = np.full((len(nodes), longest + spare), -1, np.int64)
        node = nodes.copy()
        for column in range(longest - 1, -1, -1):
            inside = self.depth[node] > 0
            rows[inside, column] = self.row[node[inside]]
            node[inside] = self.parent[node[inside]]
        needed, place = np.unique(rows, return_inverse=True)  # -1 among them, first
        layers = self._gathered(needed[1:])
        heads, size = layers[0][0].shape[1:]
        # Head by head, so that what is spread out has the layout that attention reads.
        index = place.reshape(rows.shape)[:, None] * heads + np.arange(heads)[:, None]
        index = torch.as_tensor(index.ravel(), device=layers[0][0].device)
        shape = (len(nodes), heads, longest + spare, size)
        states = [
            tuple(part.view(-1, size).index_select(0, index).view(shape) for part in pair)
            for pair in layers
        ]
        return states, longest, longest - depth

    def _gathered(self, rows: np.ndarray) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of these rows (ascending), a layer `[1 + rows, heads, head size]`; zeros
        come first."""
        firsts = [first for first, _ in self.states]
        bounds = np.searchsorted(rows, [*firsts[1:], self.rows]).tolist()
        example = self.states[0][1]
        layers = [tuple(part.new_zeros((1 + len(rows), *part.shape[1:])) for part in pair)
                  for pair in example]  # fmt: skip
        at = 0
        for (first, states), end in zip(self.states, bounds, strict=True):
            if end > at:
                index = torch.as_tensor(rows[at:end] - first, device=example[0][0].device)
                for pair, kept in zip(layers, states, strict=True):
                    for part, source in zip(pair, kept, strict=True):
                        torch.index_select(source, 0, index, out=part[1 + at : 1 + end])
            at = end
        return layers


def _grown(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The same rows with room for `count`."""
    if count <= len(rows):
        return rows
    grown = rows.new_empty((max(2048, 2 * count), *rows.shape[1:]))
    grown[: len(rows)] = rows
    return grown
