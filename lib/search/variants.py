"""The published code's way of sampling, from the same model: the audit's switches.

Takes a `Sampler`; gives one that samples otherwise. None is a better default. Knows nothing of
trees or tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler, Prefixes, Sampler


@dataclass(frozen=True)
class PublishedSampling:
    """The audit's switches of sampling; both off is plain independent sampling.

    beams: a prefix's samples are the beams of one beam sampling.
    total_tokens: no sample goes on past so many tokens, its prompt among them; 0 is no such cut.
    """

    beams: bool = False
    total_tokens: int = 0


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
