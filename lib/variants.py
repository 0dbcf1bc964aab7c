"""Ways to sample otherwise from the same model: a shifted verdict, samples without repetition.

Takes a model or a `Sampler`; gives one that samples otherwise. Each is an experiment on a cause
(the notebook's hypotheses a and b), not a better default. Knows nothing of trees or tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch

from lib.published import PublishedSampling, published_sampler
from lib.sampler import Sample, Sampler


@dataclass(frozen=True)
class Variant:
    """shift: added to the logit of `<backtrack>`; oversampling: samples drawn for each distinct one
    that is kept, 1 being plain independent sampling."""

    shift: float = 0.0
    oversampling: int = 1


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
        self,
        prefixes: Sequence[Sequence[int]],
        counts: Sequence[int],
        temperature: float,
        seed: int,
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
    variant: Variant | PublishedSampling | None,
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
