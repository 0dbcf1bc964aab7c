"""Sampling of continuations: takes prefixes as token ids, gives samples as token ids with the
model's own log-probabilities. Knows nothing of text, trees or tasks.

`Sampler` is the narrow interface that lib/search.py works through; `CacheSampler` is the
implementation for any causal language model of transformers.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from lib.errors import UserError
from lib.rollout import Rollouts, Rules, Sample

__all__ = ["CacheSampler", "Sample", "Sampler", "step_end_ids"]


class Sampler(Protocol):
    def sample(
        self,
        prefixes: Sequence[Sequence[int]],
        counts: Sequence[int],
        temperature: float,
        seed: int,
    ) -> list[list[Sample]]:
        """`counts[i]` samples of prefix i, equal ones merged; deterministic in its arguments."""


class CacheSampler:
    """Samples on transformers' cache classes, all prefixes advancing together.

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
        max_rows: int = 2048,
    ):
        """`max_rows` bounds the rows computed at once, and with them the memory; a single prefix
        with a larger count is still sampled whole."""
        if max_new_tokens < 1 or max_rows < 1:
            raise UserError(
                f"max_new_tokens {max_new_tokens}, max_rows {max_rows}: each must be 1 or more"
            )
        ends = tuple(sorted(step_end_ids))
        self.rules = Rules(model.eval(), eos_id, backtrack_id, ends, max_new_tokens, pad_id)
        self.backtrack_id, self.max_rows = backtrack_id, max_rows

    @torch.inference_mode()
    def sample(
        self,
        prefixes: Sequence[Sequence[int]],
        counts: Sequence[int],
        temperature: float,
        seed: int,
    ) -> list[list[Sample]]:
        """See `Sampler`. A temperature of 0 is greedy decoding. Samples come most frequent first.

        `max_new_tokens` counts from the end of the prefix.
        """
        prefixes = checked(prefixes, counts, temperature)
        samples: list[list[Sample]] = [[] for _ in prefixes]
        numbers = _uniforms(prefixes, counts, self.rules.max_new_tokens, seed)
        for batch in self._batches(prefixes, counts):
            rollouts = Rollouts(
                self.rules, [prefixes[i] for i in batch], [counts[i] for i in batch]
            )
            rollouts.run(np.concatenate([numbers.pop(i) for i in batch]), temperature)
            for i, found in zip(batch, rollouts.samples(), strict=True):
                samples[i] = sorted(found, key=lambda sample: (-sample.count, sample.tokens))
        return samples

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


def checked(
    prefixes: Sequence[Sequence[int]], counts: Sequence[int], temperature: float
) -> list[tuple[int, ...]]:
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


def _uniforms(prefixes, counts, length: int, seed: int) -> dict[int, np.ndarray]:
    """Random numbers `[count, length]` of each prefix."""
    streams = zip(entropies(prefixes, seed), counts, strict=True)
    return {
        i: np.random.default_rng(entropy).random((count, length))
        for i, (entropy, count) in enumerate(streams)
    }


def step_end_ids(tokenizer: PreTrainedTokenizerBase, step_end: str = "\n") -> tuple[int, ...]:
    """Every token whose text contains the end of a step: one in a small vocabulary, many in BPE."""
    texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return tuple(token for token, text in enumerate(texts) if step_end in text)
