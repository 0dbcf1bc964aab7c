"""Ways to sample otherwise from the same model: a shifted verdict, samples without repetition, and
the published code's way.

Takes a model or a `Sampler`; gives one that samples otherwise. Each is an experiment on a cause
(of the larger model's fall, or of what the audit found), not a better default. Knows nothing of
trees or tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace

import numpy as np
import torch

from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler, Prefixes, Sampler


@dataclass(frozen=True)
class SamplingVariant:
    """shift: added to the logit of `<backtrack>`; oversampling: samples drawn for each distinct one
    that is kept, 1 being plain independent sampling."""

    shift: float = 0.0
    oversampling: int = 1


@dataclass(frozen=True)
class PublishedSampling:
    """The audit's switches of sampling; both off is plain independent sampling.

    beams: a prefix's samples are the beams of one beam sampling.
    total_tokens: no sample goes on past so many tokens, its prompt among them; 0 is no such cut.
    """

    beams: bool = False
    total_tokens: int = 0


@contextmanager
def shifted(model: torch.nn.Module, token: int, shift: float) -> Iterator[None]:
    """Within it, one token's logit is `shift` higher: its odds are exp(shift) times as high."""

    def add(module, inputs, output):
        bias = torch.zeros(output.shape[-1], dtype=output.dtype, device=output.device)
        bias[token] = shift
        return output + bias

    handle = model.get_output_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True)
class DistinctSampler:
    """Samples without replacement: draws `oversampling` times as many, keeps the first distinct.

    Independent samples in random order, of which each is kept when it comes for the first time, are
    sampled without replacement, exactly, as long as there are as many distinct ones as asked. Where
    there are not, fewer are given. Kept samples count once each.
    """

    sampler: Sampler
    oversampling: int

    def sample(
        self, prefixes: Prefixes, counts: Sequence[int], temperature: float, seed: int
    ) -> list[list[Sample]]:
        """See `Sampler`."""
        more = [count * self.oversampling for count in counts]
        found = self.sampler.sample(prefixes, more, temperature, seed)
        return [
            self._first(samples, count, np.random.default_rng([seed, index]))
            for index, (samples, count) in enumerate(zip(found, counts, strict=True))
        ]

    @staticmethod
    def _first(samples: list[Sample], count: int, generator: np.random.Generator) -> list[Sample]:
        samples = sorted(samples, key=lambda sample: sample.tokens)
        drawn = np.repeat(np.arange(len(samples)), [sample.count for sample in samples])
        order = dict.fromkeys(generator.permutation(drawn).tolist())
        return [replace(samples[i], count=1) for i in list(order)[:count]]


@contextmanager
def applied(
    variant: SamplingVariant | PublishedSampling | None,
    model: torch.nn.Module,
    token: int,
    sampler: Sampler,
) -> Iterator[Sampler]:
    """The sampler as the variant wants it; token is `<backtrack>`."""
    if variant is None:
        yield sampler
        return
    if isinstance(variant, PublishedSampling):
        yield published_sampler(variant, sampler)
        return
    if variant.oversampling > 1:
        sampler = DistinctSampler(sampler, variant.oversampling)
    with shifted(model, token, variant.shift):
        yield sampler


def published_sampler(switches: PublishedSampling, sampler: CacheSampler) -> Sampler:
    """The sampler with these switches on."""
    if switches.beams:
        return BeamSampler(sampler, switches.total_tokens)
    return CutSampler(sampler, switches.total_tokens) if switches.total_tokens else sampler


@dataclass(frozen=True)
class CutSampler:
    """Another sampler's samples, cut where prompt and response together have `total_tokens`.

    Sampling goes from left to right, so cutting afterwards is the same as having stopped there.
    """

    sampler: Sampler
    total_tokens: int

    def sample(
        self, prefixes: Prefixes, counts: Sequence[int], temperature: float, seed: int
    ) -> list[list[Sample]]:
        """See `Sampler`; a prefix that is as long already has no samples."""
        found = self.sampler.sample(prefixes, counts, temperature, seed)
        rooms = [self.total_tokens - len(prefix) for prefix in prefixes]
        return [
            merged([_cut(sample, room) for sample in samples]) if room > 0 else []
            for samples, room in zip(found, rooms, strict=True)
        ]


def _cut(sample: Sample, room: int) -> Sample:
    if len(sample.tokens) <= room:
        return sample
    kept = sum(end < room for end in sample.step_ends)
    return replace(
        sample,
        tokens=sample.tokens[:room],
        logprobs=sample.logprobs[:room],
        step_ends=sample.step_ends[:kept],
        p_backtrack=sample.p_backtrack[:kept],
        stop="limit",
    )


def merged(samples: Sequence[Sample]) -> list[Sample]:
    """Equal samples as one with their count, the most frequent first."""
    first: dict[tuple[int, ...], Sample] = {}
    counts: dict[tuple[int, ...], int] = defaultdict(int)
    for sample in samples:
        first.setdefault(sample.tokens, sample)
        counts[sample.tokens] += sample.count
    found = [replace(sample, count=counts[tokens]) for tokens, sample in first.items()]
    return sorted(found, key=lambda sample: (-sample.count, sample.tokens))


@dataclass(frozen=True)
class BeamSampler:
    """`generate(num_beams=N, do_sample=True)`: a prefix's N samples are the N beams at its end.

    They are not independent (lib/search/beams.py). A cut ends the beams, as `generate`'s own would:
    prefixes with as much room go through the model together.
    """

    sampler: CacheSampler
    total_tokens: int = 0

    def sample(
        self, prefixes: Prefixes, counts: Sequence[int], temperature: float, seed: int
    ) -> list[list[Sample]]:
        """See `Sampler`; a prefix that is as long already has no samples."""
        most = self.sampler.rules.max_new_tokens
        alike: dict[int, list[int]] = defaultdict(list)
        for i, prefix in enumerate(prefixes):
            room = self.total_tokens - len(prefix) if self.total_tokens else most
            alike[min(most, room)].append(i)
        found: list[list[Sample]] = [[] for _ in prefixes]
        for room, members in sorted(alike.items()):
            if room < 1:
                continue
            limited = copy(self.sampler)
            limited.rules = replace(self.sampler.rules, max_new_tokens=room)
            some = [prefixes[i] for i in members], [counts[i] for i in members]
            made = limited.sample(*some, temperature, seed, expansion="beam_sample")
            for i, samples in zip(members, made, strict=True):
                found[i] = samples
        return found
