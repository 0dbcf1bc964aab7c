"""Whether a causal language model can be searched here: told before any work, by trying.

Takes a model and its tokenizer; samples a few tokens through the cache and computes their
log-probabilities once more, by plain forward passes. Knows nothing of families: docs/models.md
has a table of them, which a test makes.
"""

from __future__ import annotations

import random

import torch
from transformers import DynamicCache, PreTrainedModel

from lib.base.errors import UserError, first_line
from lib.models.tokenizer import StepTokenizer
from lib.search.sampler import Samples, make_sampler

LENGTHS = (5, 9, 9, 12)  # of the trial's prefixes: some are padded, some are not
SAMPLES, LIMIT = 4, 6
#: Nats: float32 leaves less than a thousandth of it, and a wrong cache is off by whole nats.
TOLERANCE = 0.02


def demand_searchable(model: PreTrainedModel, tokenizer: StepTokenizer, name: str) -> None:
    """Raise `UserError` where the model's samples would not have its own log-probabilities."""
    why = trouble(model, tokenizer)
    if why:
        family = getattr(model.config, "model_type", type(model).__name__)
        raise UserError(
            f"{name}: models of the family {family} cannot be searched here ({why}); docs/models.md"
            " lists those that can"
        )


@torch.inference_mode()
def trouble(model: PreTrainedModel, tokenizer: StepTokenizer) -> str:
    """What a trial search of two levels finds wrong; empty where nothing is."""
    draw = random.Random(0)
    plain = sorted(set(range(len(tokenizer.base))) - set(tokenizer.base.all_special_ids))
    prefixes = [tuple(draw.choices(plain, k=length)) for length in LENGTHS]
    session = make_sampler(model, tokenizer, LIMIT).session()
    worst = 0.0
    try:
        cache = DynamicCache(config=model.config)
        model(torch.tensor([prefixes[0]], device=model.device), cache=cache, use_cache=True)
        for layer in cache.layers:
            if not hasattr(layer, "batch_select_indices"):
                return "it keeps a state in place of keys and values, and samples cannot share one"
        if not cache.layers or cache.get_seq_length() != LENGTHS[0]:
            return "it does not keep what it read in transformers' cache"
        for level in range(2):
            found = session.sample(prefixes, [SAMPLES] * len(prefixes), 1.0, level)
            pairs = list(zip(prefixes, found, strict=True))
            worst = max([worst, *(_error(model, *pair) for pair in pairs)])
            prefixes = [prefix + samples[0].tokens[:2] for prefix, samples in pairs]
    except UserError:
        raise
    except Exception as error:  # whatever a model's own code raises where it meets another cache
        return f"its cache is of another kind: {first_line(error)}"
    if worst > TOLERANCE:
        return f"its log-probabilities are off by {worst:.1f} nats where it reads from its cache"
    return ""


def _error(model: PreTrainedModel, prefix: tuple[int, ...], samples: Samples) -> float:
    """How far the log-probabilities of a prefix's samples are from a plain forward's, in nats."""
    worst = 0.0
    for sample in samples:
        ids = torch.tensor([prefix + sample.tokens], device=model.device)
        logprobs = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        own = logprobs[len(prefix) - 1 : -1].gather(1, ids[0, len(prefix) :, None])[:, 0]
        told = torch.tensor(sample.logprobs, device=model.device)
        worst = max(worst, float((own - told).abs().max()))
    return worst
