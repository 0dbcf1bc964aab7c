"""How the published code samples, for the audit: beam sampling, and a cut of prompt and response.

Takes a `CacheSampler`; gives a `Sampler` that differs from it in these points alone. Off unless an
audit asks for it (lib/audit.py). Knows nothing of trees, text or tasks. Beam sampling is that of
transformers' own `generate`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import GenerationConfig

from lib.rollout import DECIMALS, Rules
from lib.sampler import CacheSampler, Sample, Sampler

ROWS_AT_ONCE = 1024


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
        return BeamSampler(sampler.rules, switches.total_tokens)
    return CutSampler(sampler, switches.total_tokens) if switches.total_tokens else sampler


@dataclass(frozen=True)
class CutSampler:
    """Another sampler's samples, cut where prompt and response together have `total_tokens`.

    Sampling goes from left to right, so cutting afterwards is the same as having stopped there.
    """

    sampler: Sampler
    total_tokens: int

    def sample(
        self,
        prefixes: Sequence[Sequence[int]],
        counts: Sequence[int],
        temperature: float,
        seed: int,
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

    They are not independent: beams draw tokens without replacement, and are kept by the
    log-probability of what they have. Prefixes of one length go through the model together.
    """

    rules: Rules
    total_tokens: int = 0
    rows_at_once: int = ROWS_AT_ONCE

    @torch.inference_mode()
    def sample(
        self,
        prefixes: Sequence[Sequence[int]],
        counts: Sequence[int],
        temperature: float,
        seed: int,
    ) -> list[list[Sample]]:
        """See `Sampler`; a prefix that leaves no room has no samples."""
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, (prefix, count) in enumerate(zip(prefixes, counts, strict=True)):
            if count and not 0 < self.total_tokens <= len(prefix):
                alike[len(prefix), count].append(i)
        found: list[list[Sample]] = [[] for _ in prefixes]
        devices = [] if self._device.type == "cpu" else [self._device]
        with torch.random.fork_rng(devices=devices, device_type=self._device.type):
            for (length, count), members in sorted(alike.items()):
                step = max(1, self.rows_at_once // count)
                for start in range(0, len(members), step):
                    batch = members[start : start + step]
                    stream = np.random.SeedSequence([seed, length, count, start])
                    torch.manual_seed(int(stream.generate_state(1, np.uint64)[0] >> np.uint64(1)))
                    ids = torch.tensor([list(prefixes[i]) for i in batch], device=self._device)
                    for i, samples in zip(batch, self._batch(ids, count, temperature), strict=True):
                        found[i] = samples
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.rules.model.parameters()).device

    def _batch(self, ids: torch.Tensor, count: int, temperature: float) -> list[list[Sample]]:
        """ids: [batch, length] -> each row's samples."""
        rules, length = self.rules, ids.shape[1]
        room = rules.max_new_tokens
        if self.total_tokens:
            room = min(room, self.total_tokens - length)
        config = GenerationConfig(
            do_sample=True,
            num_beams=count,
            num_return_sequences=count,
            temperature=temperature,
            max_new_tokens=room,
            eos_token_id=[rules.eos_id, rules.backtrack_id],
            pad_token_id=rules.pad_id,
        )
        sequences = rules.model.generate(
            ids, attention_mask=torch.ones_like(ids), generation_config=config
        )
        # Its own scores are sums of beams that may be gone. Padding is on the right, so that it
        # cannot reach what stands before it.
        new = sequences[:, length:]
        logits = rules.model(sequences, use_cache=False, logits_to_keep=new.shape[1] + 1).logits
        logprobs = torch.log_softmax(logits.float(), -1)
        chosen = logprobs[:, :-1].gather(2, new[:, :, None])[:, :, 0].double().cpu().numpy()
        doubt = logprobs[:, :, rules.backtrack_id].exp().double().cpu().numpy()
        each = [
            self._sample(*row) for row in zip(new.cpu().numpy(), chosen.round(DECIMALS),
                                              doubt.round(DECIMALS), strict=True)
        ]  # fmt: skip
        return [merged(each[at : at + count]) for at in range(0, len(each), count)]

    def _sample(self, tokens: np.ndarray, logprobs: np.ndarray, doubt: np.ndarray) -> Sample:
        rules = self.rules
        ends = np.flatnonzero((tokens == rules.eos_id) | (tokens == rules.backtrack_id))
        length = int(ends[0]) + 1 if len(ends) else len(tokens)
        last = tokens[length - 1]
        stop = {rules.eos_id: "goal", rules.backtrack_id: "backtrack"}.get(int(last), "limit")
        step_ends = np.flatnonzero(np.isin(tokens[:length], rules.step_end_ids))
        return Sample(
            tokens=tuple(tokens[:length].tolist()),
            logprobs=tuple(logprobs[:length].tolist()),
            step_ends=tuple(step_ends.tolist()),
            p_backtrack=tuple(doubt[step_ends + 1].tolist()),
            stop=stop,
            count=1,
            p_backtrack_start=float(doubt[0]),
        )
