"""Rollouts of one batch of prefixes, all advancing together: takes a model, prefixes and random
numbers, gives `Sample`s. Knows nothing of text, trees or where the random numbers came from.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from lib.cache import SHARED_PREFIX, SharedPrefixCache, buffered_cache

DECIMALS = 6  # of the probabilities that a sample carries: all that float32 can promise
PROBABILITIES_AT_ONCE = 1 << 24  # entries of the float64 cumulative distributions held at once
GREEDY_BELOW = 1e-4  # a temperature this small is greedy decoding


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


@dataclass(frozen=True)
class Rules:
    """The model and where its samples end."""

    model: torch.nn.Module
    eos_id: int
    backtrack_id: int
    step_end_ids: tuple[int, ...]
    max_new_tokens: int
    pad_id: int


class Rollouts:
    """One batch, from the forward pass over its prefixes to the samples.

    The continuations of length t + 1 are arrays, not objects: `tokens[t][k]` is the last token of
    the k-th of them and `parents[t][k]` says which continuation of length t it extends (of length
    0: which prefix). Those that go on each have a slot, a row of the cache.
    """

    def __init__(self, rules: Rules, prefixes: list[tuple[int, ...]], counts: list[int]):
        self.rules = rules
        self.device = next(rules.model.parameters()).device
        self.prefixes = prefixes
        self.counts = counts
        self.tokens: list[np.ndarray] = []
        self.parents: list[np.ndarray] = []
        self.logprobs: list[np.ndarray] = []
        self.p_backtrack: list[np.ndarray] = []  # [t][k]: after the k-th continuation of length t
        self.ended: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # [t]: k, prefix, count

    def run(self, numbers: np.ndarray, temperature: float) -> None:
        """Advance all rows, one token per iteration, until every sample has stopped."""
        logits = self._start()
        of_sample = np.repeat(np.arange(len(self.prefixes)), self.counts)  # each sample's prefix
        slots = of_sample  # each living sample's slot
        alive = np.arange(len(of_sample))
        slotted = np.arange(len(self.prefixes))  # which continuation is in each slot
        for t in range(self.rules.max_new_tokens):
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            self._record_p_backtrack(logprobs, slotted)
            drawn = _draw(logprobs, slots, numbers[alive, t], temperature)

            vocabulary = logprobs.shape[1]
            keys, member, counts = np.unique(
                slots * vocabulary + drawn, return_inverse=True, return_counts=True
            )
            slot, token = keys // vocabulary, keys % vocabulary
            self.tokens.append(token)
            self.parents.append(slotted[slot])
            chosen = torch.as_tensor(keys, device=logprobs.device)
            self.logprobs.append(logprobs.view(-1)[chosen].cpu().numpy())

            done = (token == self.rules.eos_id) | (token == self.rules.backtrack_id)
            done |= t + 1 == self.rules.max_new_tokens
            prefix = np.empty(len(keys), np.int64)
            prefix[member] = of_sample[alive]
            self.ended.append((done.nonzero()[0], prefix[done], counts[done]))
            if done.all():
                break
            source, place = _rearranged(slot[~done])
            slotted = np.empty(len(source), np.int64)
            slotted[place] = (~done).nonzero()[0]
            new_slot = np.empty(len(keys), np.int64)
            new_slot[~done] = place
            goes_on = ~done[member]
            alive, slots = alive[goes_on], new_slot[member[goes_on]]
            self._select(torch.as_tensor(source, device=logits.device))
            logits = self._forward(torch.as_tensor(token[slotted], device=logits.device)[:, None])

    def samples(self) -> list[list[Sample]]:
        """What was sampled of each prefix, in no particular order."""
        result: list[list[Sample]] = [[] for _ in self.prefixes]
        for t, (ended, prefix, count) in enumerate(self.ended):
            tokens = np.empty((len(ended), t + 1), np.int64)
            logprobs = np.empty((len(ended), t + 1))
            after = np.full((len(ended), t + 2), np.nan)  # P(<backtrack>) after i tokens
            k = ended
            for i in range(t, -1, -1):
                if i + 1 < len(self.p_backtrack):
                    after[:, i + 1] = self.p_backtrack[i + 1][k]
                tokens[:, i], logprobs[:, i] = self.tokens[i][k], self.logprobs[i][k]
                k = self.parents[i][k]
            after[:, 0] = self.p_backtrack[0][k]
            is_step_end = np.isin(tokens, self.rules.step_end_ids)
            logprobs, after = logprobs.round(DECIMALS), after.round(DECIMALS)
            for j in range(len(ended)):
                step_ends = is_step_end[j].nonzero()[0]
                sample = Sample(
                    tokens=tuple(tokens[j].tolist()),
                    logprobs=tuple(logprobs[j].tolist()),
                    step_ends=tuple(step_ends.tolist()),
                    p_backtrack=tuple(after[j, step_ends + 1].tolist()),
                    stop=self._stop(tokens[j, -1]),
                    count=int(count[j]),
                    p_backtrack_start=float(after[j, 0]),
                )
                result[prefix[j]].append(sample)
        return result

    def _stop(self, last: int) -> str:
        if last == self.rules.backtrack_id:
            return "backtrack"
        return "goal" if last == self.rules.eos_id else "limit"

    def _record_p_backtrack(self, logprobs: torch.Tensor, slotted: np.ndarray) -> None:
        known = np.full(len(self.tokens[-1]) if self.tokens else len(self.prefixes), np.nan)
        known[slotted] = logprobs[:, self.rules.backtrack_id].exp().cpu().numpy()
        self.p_backtrack.append(known)

    def _start(self) -> torch.Tensor:
        """The forward pass over the distinct prefixes; logits `[prefixes, vocabulary]`."""
        distinct = {prefix: row for row, prefix in enumerate(dict.fromkeys(self.prefixes))}
        self.length = max(map(len, distinct))
        ids = np.full((len(distinct), self.length), self.rules.pad_id)
        for prefix, row in distinct.items():
            ids[row, self.length - len(prefix) :] = prefix
        padding = [self.length - len(prefix) for prefix in distinct]
        self.padding = torch.as_tensor(padding, device=self.device)[:, None]
        self.padded = any(padding)
        config = getattr(self.rules.model, "config", None)
        self.cache = buffered_cache(config)
        logits = self._forward(torch.as_tensor(ids, device=self.device), new=False)
        rows = [distinct[prefix] for prefix in self.prefixes]
        rows = torch.as_tensor(rows, device=self.device)
        if SharedPrefixCache.supports(self.rules.model, self.cache):
            self.cache = SharedPrefixCache(self.cache, self.padding, rows)
            self.padding = self.padding[rows]
        else:
            self._select(rows)
        return logits[rows]

    def _forward(self, ids: torch.Tensor, new: bool = True) -> torch.Tensor:
        """Logits `[rows, vocabulary]` of what follows the ids `[rows, tokens]`."""
        self.length += new
        column = torch.arange(self.length, device=ids.device)
        positions = column[-ids.shape[1] :] - self.padding
        inputs = dict(input_ids=ids, position_ids=positions.clamp(min=0), cache=self.cache)
        model = self.rules.model
        if isinstance(self.cache, SharedPrefixCache):
            with _attention_implementation(model.config, SHARED_PREFIX):
                output = model(**inputs, use_cache=True, shared_prefixes=self.cache)
        else:
            mask = (column >= self.padding).long() if self.padded else None
            output = model(**inputs, use_cache=True, attention_mask=mask, logits_to_keep=1)
        return output.logits[:, -1]

    def _select(self, source: torch.Tensor) -> None:
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


def _draw(
    logprobs: torch.Tensor, slots: np.ndarray, numbers: np.ndarray, temperature: float
) -> np.ndarray:
    """A token for each sample: inverse transform sampling from its slot's distribution."""
    if temperature < GREEDY_BELOW:
        return logprobs.argmax(-1).cpu().numpy()[slots]
    drawn = np.empty(len(slots), np.int64)
    rows, vocabulary = logprobs.shape
    at_once = max(1, PROBABILITIES_AT_ONCE // vocabulary)
    for start in range(0, rows, at_once):
        part = (slots >= start) & (slots < start + at_once)
        scaled = logprobs[start : start + at_once].double() / temperature
        cumulative = torch.softmax(scaled, dim=-1).cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        # Row r's distribution is moved to [r, r + 1): one sorted array, one binary search.
        cumulative += torch.arange(len(cumulative), device=logprobs.device)[:, None]
        row = slots[part] - start
        wanted = torch.as_tensor(numbers[part] + row, device=logprobs.device)
        found = torch.searchsorted(cumulative.view(-1), wanted, right=True).cpu().numpy()
        drawn[part] = np.clip(found - row * vocabulary, 0, vocabulary - 1)
    return drawn


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
