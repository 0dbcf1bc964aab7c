"""Sampling of continuations: takes prefixes as token ids, gives samples as token ids with the
model's own log-probabilities. Knows nothing of trees or tasks.

`Sampler` is the narrow interface that lib/search/search.py works through; `CacheSampler` is the
implementation for any causal language model of transformers, and `SamplerSource` makes one.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from lib.base.errors import UserError
from lib.models.llama import load_model, load_tokenizer, with_fast_products
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import EXPANSIONS
from lib.search.beams import BeamSample, StochasticBeam
from lib.search.expansion import GREEDY_BELOW, Expansion, Independent
from lib.search.kv_trie import KVTrie
from lib.search.rollout import Rollouts, Rules, Sample, Samples

MAX_ROWS = 2048
#: The token ids of each.
Prefixes = Sequence[Sequence[int]]


class Sampler(Protocol):
    def sample(
        self, prefixes: Prefixes, counts: Sequence[int], temperature: float, seed: int
    ) -> list[list[Sample]]:
        """`counts[i]` samples of prefix i, equal ones merged; deterministic in its arguments.

        A sampler may offer two things more: other `expansions` than `sample` (their names; the one
        wanted is an argument `expansion`), and `session()`, a sampler for calls that belong
        together, which computes nothing twice.
        """


class CacheSampler:
    """Samples on transformers' cache classes, all prefixes advancing together.

    In place of `generate`: that takes one number of samples for all prompts of a batch, computes
    equal samples as often as they come, and begins anew after a roll-back (`make bench` compares).

    Samples that share everything so far are one row of the batch. Sample j of a prefix draws its
    t-th token with the t-th number of its own random stream, so merging rows saves computation and
    changes nothing else: the result is that of independent samples, and no draw depends on what
    else is in the batch. The model's own floating-point results do, in their last digits, depend on
    the shape of the batch; equal calls on one machine give equal samples.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        eos_id: int,
        backtrack_id: int,
        step_end_ids: Collection[int],
        max_new_tokens: int,
        pad_id: int,
        max_rows: int = MAX_ROWS,
    ):
        """`max_rows` bounds the rows computed at once, and with them the memory; a single prefix
        with a larger count is still sampled whole."""
        if max_new_tokens < 1 or max_rows < 1:
            raise UserError(
                f"max_new_tokens {max_new_tokens}, max_rows {max_rows}: each must be 1 or more"
            )
        ends = tuple(sorted(step_end_ids))
        self.rules = Rules(model.eval(), eos_id, backtrack_id, ends, max_new_tokens, pad_id)
        self.max_rows = max_rows
        self.trie: KVTrie | None = None

    expansions = EXPANSIONS

    def session(self) -> "CacheSampler":
        """The same sampler with a trie of its own: calls go on from what earlier ones computed.

        Same samples up to floating-point noise, for less work. The trie grows with every call.
        """
        session = copy.copy(self)
        session.trie = KVTrie(keep=True)
        return session

    @torch.inference_mode()
    def sample(
        self,
        prefixes: Prefixes,
        counts: Sequence[int],
        temperature: float,
        seed: int,
        expansion: str = "sample",
    ) -> list[Samples]:
        """See `Sampler`. A temperature of 0 is greedy decoding. Samples come most frequent first.

        `max_new_tokens` counts from the end of the prefix. Of the expansions
        (lib/search/expansion.py), beams give fewer samples than asked where there are no more, each
        once.
        """
        prefixes = checked(prefixes, counts, temperature)
        if expansion not in EXPANSIONS:
            raise UserError(f"expansion {expansion!r}: choose one of {', '.join(EXPANSIONS)}")
        if expansion != "sample" and temperature < GREEDY_BELOW:
            raise UserError(f"{expansion} at temperature {temperature}: must be {GREEDY_BELOW} up")
        streams = entropies(prefixes, seed)
        samples = [Samples() for _ in prefixes]
        # A single beam is a plain sample, as it is to transformers.
        beams = [count > 1 or expansion == "stochastic_beam" for count in counts]
        for kind in {expansion, "sample"}:
            mine = [
                count if (kind != "sample") == (expansion != "sample" and beam) else 0
                for count, beam in zip(counts, beams, strict=True)
            ]
            for batch in self._batches(prefixes, mine):
                trie = self.trie or KVTrie()
                rollouts = Rollouts(self.rules, [prefixes[i] for i in batch], trie)
                part = [mine[i] for i in batch], [streams[i] for i in batch]
                found = rollouts.run(self._expansion(kind, *part, temperature))
                for i, some in zip(batch, found, strict=True):
                    some.sort(key=lambda sample: (-sample.count, sample.tokens))
                    samples[i] = some
        return samples

    def _expansion(
        self, kind: str, counts: list[int], streams: list[list[int]], temperature: float
    ) -> Expansion:
        if kind != "sample":
            beams = BeamSample if kind == "beam_sample" else StochasticBeam
            return beams(counts, streams, temperature, self.rules.stops)
        limit = self.rules.max_new_tokens
        numbers = [
            np.random.default_rng(entropy).random((count, limit))
            for entropy, count in zip(streams, counts, strict=True)
        ]
        return Independent(counts, np.concatenate(numbers), temperature, self.rules.stops)

    def _batches(self, prefixes, counts) -> Iterator[list[int]]:
        """Indices of prefixes that are rollouts together: of similar length (little padding), and
        no more than `max_rows` samples."""
        order = sorted(
            (i for i, count in enumerate(counts) if count > 0),
            key=lambda i: (len(prefixes[i]), i),
        )
        batch: list[int] = []
        rows = 0
        for i in order:
            if batch and rows + counts[i] > self.max_rows:
                yield batch
                batch, rows = [], 0
            batch.append(i)
            rows += counts[i]
        if batch:
            yield batch


def checked(prefixes: Prefixes, counts: Sequence[int], temperature: float) -> list[tuple[int, ...]]:
    """The prefixes as tuples; `UserError` where a sampler cannot do what is asked."""
    if temperature < 0:
        raise UserError(f"temperature {temperature}: must be 0 (greedy) or more")
    if len(prefixes) != len(counts):
        raise UserError(f"{len(prefixes)} prefixes with {len(counts)} counts: must be as many")
    prefixes = [tuple(map(int, prefix)) for prefix in prefixes]
    for i, (prefix, count) in enumerate(zip(prefixes, counts, strict=True)):
        if count > 0 and not prefix:
            raise UserError(f"prefix {i} is empty: it needs at least one token")
    return prefixes


def entropies(prefixes: Sequence[tuple[int, ...]], seed: int) -> list[list[int]]:
    """Entropy of each prefix's random stream.

    Keyed by the prefix itself, not by its place, so that it is the same in every batch; a prefix
    that comes again has a stream of its own.
    """
    seen: Counter = Counter()
    found = []
    for prefix in prefixes:
        digest = hashlib.blake2b(np.array(prefix, np.int64).tobytes(), digest_size=16).digest()
        found.append([seed, int.from_bytes(digest, "little"), seen[prefix]])
        seen[prefix] += 1
    return found


def rows_of_chunk(problems: int) -> int:
    """How many rows to compute at once where so many problems advance together."""
    return max(MAX_ROWS, 32 * problems)


def make_sampler(
    model: torch.nn.Module, tokenizer: StepTokenizer, limit: int, max_rows: int = MAX_ROWS
) -> CacheSampler:
    """A checkpoint's sampler; its samples have at most `limit` tokens."""
    return CacheSampler(model, *tokenizer.stop_ids, limit, tokenizer.pad_id, max_rows)


@dataclass(frozen=True)
class SamplerSource:
    """What a process makes a checkpoint's sampler from."""

    checkpoint: str  # the folder
    step_end: str
    limit: int  # tokens of a sample
    precision: str = "float32"  # see lib/models/llama.py

    def load(self, device: str, max_rows: int = MAX_ROWS) -> tuple[CacheSampler, StepTokenizer]:
        """The sampler, and the tokenizer that goes with it."""
        tokenizer = StepTokenizer(load_tokenizer(self.checkpoint), self.step_end)
        model = with_fast_products(load_model(self.checkpoint).to(device), self.precision)
        return make_sampler(model, tokenizer, self.limit, max_rows), tokenizer
