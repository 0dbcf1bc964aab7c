"""Rollouts of one batch of prefixes, all advancing together: takes a model, prefixes and an
expansion that chooses tokens, gives `Sample`s. Knows nothing of text or trees.

What was computed stays in a `KVTrie`. With one that is kept, a prefix that continues an earlier
one's samples (a state of a search, rolled back) starts from there: its keys and values are taken
up, and where samples draw what was drawn before they pass through without the model.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from lib.search.expansion import Expansion, Independent, Stops
from lib.search.kv_cache import SHARED_PREFIX, SPARE_LENGTH, SharedPrefixCache, buffered_cache
from lib.search.kv_trie import KVTrie, Prefilled

DECIMALS = 6  # of the probabilities that a sample carries: all that float32 can promise


@dataclass(frozen=True)
class Sample:
    """`count` identical samples of one prefix."""

    tokens: tuple[int, ...]  # generated, the terminal token included when there is one
    logprobs: tuple[float, ...]  # log-probability of each token, whatever the temperature was
    step_ends: tuple[int, ...]  # positions in tokens of the tokens that ended a step
    p_backtrack: tuple[float, ...]  # P(<backtrack>) right after each step end; nan if not known
    stop: str  # "backtrack", "goal" (end of sequence) or "limit"
    count: int
    p_backtrack_start: float = math.nan  # P(<backtrack>) right after the prefix


class Samples(list):
    """One prefix's samples. `lost_tokens`: generated for beams that are in none of them."""

    lost_tokens: int = 0


@dataclass(frozen=True)
class Rules:
    """The model and where its samples end."""

    model: torch.nn.Module
    eos_id: int
    backtrack_id: int
    step_end_ids: tuple[int, ...]
    max_new_tokens: int
    pad_id: int

    @property
    def stops(self) -> Stops:
        """What ends a sample."""
        return Stops((self.eos_id, self.backtrack_id), self.max_new_tokens)


class Rollouts:
    """One batch. A row is a sequence that the model reads on, one token an iteration."""

    def __init__(self, rules: Rules, prefixes: Sequence[tuple[int, ...]], trie: KVTrie):
        self.rules, self.trie = rules, trie
        self.device = next(rules.model.parameters()).device
        distinct = list(dict.fromkeys(prefixes))
        found = np.array([trie.find(prefix) for prefix in distinct], np.int64)
        # A root's last token cannot be read again: its keys and values are not kept one by one.
        self.fresh = bool((found < 0).any()) or not bool(
            (trie.known(found) | (trie.depth[found] > 0)).all()
        )
        if self.fresh:
            found = self._prefill(distinct)
        node_of = dict(zip(distinct, found.tolist(), strict=True))
        self.starts = np.array([node_of[prefix] for prefix in prefixes], np.int64)

    def run(self, expansion: Expansion) -> list[Samples]:
        """Each prefix's samples, in no particular order."""
        nodes, logprobs = self.starts, None
        if self.fresh:
            logprobs = self._begin_at_roots()
        elif isinstance(expansion, Independent) and self.trie.known(nodes).all():
            nodes = self._walk(expansion)
            logprobs = self._begin_again(nodes, read=False)
        else:
            logprobs = self._begin_again(nodes, read=bool(self.trie.known(nodes).all()))
        while len(nodes):
            row, child = expansion.step(logprobs, self._adder(nodes, logprobs, self.trie.add))
            if not len(row):
                break
            source, place = _rearranged(row)
            nodes = np.empty(len(source), np.int64)
            nodes[place] = child
            expansion.placed(place)
            self._select(torch.as_tensor(source, device=self.device))
            logprobs = self._read(nodes)
        return self._samples(expansion)

    def _walk(self, expansion: Independent) -> np.ndarray:
        """Samples pass through what is known already; gives the nodes where they leave it."""
        trie = self.trie
        nodes, expansion.row = np.unique(self.starts[expansion.row], return_inverse=True)
        while True:
            known = trie.known(nodes)
            expansion.park(nodes, ~known)
            nodes = nodes[known]
            if not len(nodes):
                return expansion.unpark()
            logprobs = trie.distribution(nodes)
            add = self._adder(nodes, logprobs, trie.find_or_add)
            _, nodes = expansion.step(logprobs, add)

    def _adder(self, nodes: np.ndarray, logprobs: torch.Tensor, add):
        def of_rows(row: np.ndarray, token: np.ndarray) -> np.ndarray:
            index = torch.as_tensor(row * logprobs.shape[1] + token, device=logprobs.device)
            return add(nodes[row], token, logprobs.reshape(-1)[index].cpu().numpy())

        return of_rows

    def _samples(self, expansion: Expansion) -> list[Samples]:
        trie = self.trie
        prefix, node, count = expansion.samples()
        start = self.starts[prefix]
        lengths = trie.depth[node] - trie.depth[start]
        longest = int(lengths.max(initial=0))
        path = np.full((len(node), longest + 1), -1)  # the nodes from the start to the sample's end
        at = node.copy()
        for back in range(longest + 1):
            inside = lengths >= back
            path[inside.nonzero()[0], (lengths - back)[inside]] = at[inside]
            at[inside] = trie.parent[at[inside]]
        tokens = np.where(path[:, 1:] >= 0, trie.token[path[:, 1:]], -1)
        logprobs = trie.logprob[path[:, 1:]].round(DECIMALS)
        after = trie.p_backtrack[path].round(DECIMALS)
        is_step_end = np.isin(tokens, self.rules.step_end_ids)
        result = [Samples() for _ in self.starts]
        for j, length in enumerate(lengths.tolist()):
            step_ends = is_step_end[j, :length].nonzero()[0]
            sample = Sample(
                tokens=tuple(tokens[j, :length].tolist()),
                logprobs=tuple(logprobs[j, :length].tolist()),
                step_ends=tuple(step_ends.tolist()),
                p_backtrack=tuple(after[j, step_ends + 1].tolist()),
                stop=self._stop(tokens[j, length - 1]),
                count=int(count[j]),
                p_backtrack_start=float(after[j, 0]),
            )
            result[prefix[j]].append(sample)
        generated = getattr(expansion, "generated", None)
        if generated is not None:
            for i, found in enumerate(result):
                used = np.unique(path[prefix == i, 1:])
                found.lost_tokens = int(generated[i] - (used >= 0).sum())
        return result

    def _stop(self, last: int) -> str:
        if last == self.rules.backtrack_id:
            return "backtrack"
        return "goal" if last == self.rules.eos_id else "limit"

    # The model -----------------------------------------------------------------------------------

    def _prefill(self, prefixes: list[tuple[int, ...]]) -> np.ndarray:
        """One forward pass over whole prefixes, which become roots; gives their nodes."""
        trie, length = self.trie, max(map(len, prefixes))
        ids = np.full((len(prefixes), length), self.rules.pad_id)
        for row, prefix in enumerate(prefixes):
            ids[row, length - len(prefix) :] = prefix
        padding = [length - len(prefix) for prefix in prefixes]
        self.padding = torch.as_tensor(padding, device=self.device)
        self.cache = buffered_cache(getattr(self.rules.model, "config", None))
        column = torch.arange(length, device=self.device)
        self.root_logprobs = self._forward(
            torch.as_tensor(ids, device=self.device),
            (column - self.padding[:, None]).clamp(min=0),
            (column >= self.padding[:, None]).long() if any(padding) else None,
        )
        self.shared = SharedPrefixCache.supports(self.rules.model, self.cache)
        prefilled = None
        if self.shared:
            states = [(layer.keys, layer.values) for layer in self.cache.layers]
            prefilled = Prefilled(*map(list, zip(*states, strict=True)), self.padding)
        else:
            trie.keep = False  # rows of such a cache cannot be taken up again
        nodes = trie.add_roots(prefixes, prefilled)
        self._know(nodes, self.root_logprobs, None)
        return nodes

    def _begin_at_roots(self) -> torch.Tensor:
        """A row for each prefix, just read; log-probabilities `[rows, vocabulary]` after it."""
        _, prefix_of_row = np.unique(self.starts, return_inverse=True)  # nodes ascend as prefilled
        rows = torch.as_tensor(prefix_of_row, device=self.device)
        if self.shared:
            self.cache = SharedPrefixCache(self.trie.prefilled[-1], rows)
        else:
            self._select(rows)
        return self.root_logprobs[rows]

    def _begin_again(self, nodes: np.ndarray, read: bool) -> torch.Tensor | None:
        """A row for each node, its last token read already (then its distribution is kept) or to be
        read now; log-probabilities `[rows, vocabulary]` after it."""
        if not len(nodes):
            return None
        trie, self.shared = self.trie, True
        roots, prefix_of_row = np.unique(trie.root[nodes], return_inverse=True)
        taken = nodes if read else trie.parent[nodes]
        states, length, padding = trie.continuations(taken, SPARE_LENGTH)
        self.cache = SharedPrefixCache(
            trie.prefixes(roots),
            torch.as_tensor(prefix_of_row, device=self.device),
            states,
            length,
            torch.as_tensor(padding, device=self.device),
        )
        return trie.distribution(nodes) if read else self._read(nodes)

    def _read(self, nodes: np.ndarray) -> torch.Tensor:
        """The model reads the rows' last tokens; log-probabilities `[rows, vocabulary]`."""
        trie = self.trie
        ids = torch.as_tensor(trie.token[nodes], device=self.device)[:, None]
        positions = torch.as_tensor(trie.length(nodes) - 1, device=self.device)[:, None]
        mask = None
        if not self.shared and bool(self.padding.any()):
            length = int((positions[:, 0] + self.padding).max()) + 1
            column = torch.arange(length, device=self.device)
            mask = (column >= self.padding[:, None]).long()
        logprobs = self._forward(ids, positions, mask)
        states = None
        if trie.keep:
            states = [(layer.keys[:, :, -1], layer.values[:, :, -1]) for layer in self.cache.layers]
        self._know(nodes, logprobs, states)
        return logprobs

    def _know(self, nodes: np.ndarray, logprobs: torch.Tensor, states) -> None:
        p_backtrack = logprobs[:, self.rules.backtrack_id].exp().cpu().numpy()
        self.trie.know(nodes, logprobs, p_backtrack, states)

    def _forward(
        self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Log-probabilities `[rows, vocabulary]` of what follows the ids `[rows, tokens]`."""
        inputs = dict(input_ids=ids, position_ids=positions, cache=self.cache, use_cache=True)
        model = self.rules.model
        if isinstance(self.cache, SharedPrefixCache):
            with _attention_implementation(model.config, SHARED_PREFIX):
                output = model(**inputs, shared_prefixes=self.cache)
        else:
            output = model(**inputs, attention_mask=mask, logits_to_keep=1)
        return torch.log_softmax(output.logits[:, -1].float(), dim=-1)

    def _select(self, source: torch.Tensor) -> None:
        if not self.shared:
            self.padding = self.padding[source]
        self.cache.batch_select_indices(source)


@contextmanager
def _attention_implementation(config, name: str) -> Iterator[None]:
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _rearranged(parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slots for the children of the slots `parents` (ascending), moving as few as possible.

    Gives the slot whose contents each new slot takes, and the new slot of each child.
    """
    count = len(parents)
    place = np.full(count, -1)
    first = np.ones(count, bool)
    first[1:] = parents[1:] != parents[:-1]
    stays = first & (parents < count)
    place[stays] = parents[stays]
    free = np.ones(count, bool)
    free[place[stays]] = False
    place[~stays] = free.nonzero()[0]
    source = np.empty(count, np.int64)
    source[place] = parents
    return source, place
