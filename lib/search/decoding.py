"""Greedy and beam decoding for the baselines: takes a model, its tokenizer (with the task's step
end) and prompts, gives one `Decoded` per prompt.

Greedy decoding is our own sampler at temperature 0, two to three times as fast as transformers'
`generate`, which beam search goes through. A sequence ends with the end of sequence or
`<backtrack>`. Knows nothing of tasks or trees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from lib.base.errors import UserError
from lib.models.llama import head_size
from lib.models.tokenizer import StepTokenizer
from lib.search.sampler import CacheSampler
from lib.tasks.task import BACKTRACK

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

GPU_BATCHES = 16  # at most so many times a processor's batch are decoded together on a GPU


@dataclass(frozen=True)
class Decoded:
    """One response. `text` has no end-of-sequence token; `tokens` has it when it was generated."""

    text: str
    tokens: tuple[int, ...]
    logprob: float  # sum over the tokens, at temperature 1
    stop: str  # "backtrack", "goal" (end of sequence) or "limit"


def greedy(
    model: PreTrainedModel,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int = 256,
    on_progress: Callable[[int], object] | None = None,
) -> list[Decoded]:
    """The most probable token at every position."""
    _check(1, batch_size, max_new_tokens)
    prefixes = tokenizer.encode_prompts(prompts)
    batch_size *= _times(model, batch_size, prefixes, max_new_tokens)
    token_of = {stop: token for token, stop in _ends(tokenizer).items()}
    backtrack = token_of.get("backtrack", -1)  # no token is -1
    ids = (tokenizer.eos_id, backtrack, ())
    sampler = CacheSampler(model, *ids, max_new_tokens, tokenizer.pad_id, batch_size)
    decoded: list[Decoded | None] = [None] * len(prefixes)
    for batch in _batches(prefixes, batch_size):
        found = sampler.sample([prefixes[i] for i in batch], [1] * len(batch), 0.0, 0)
        for i, [sample] in zip(batch, found, strict=True):
            text = _text(tokenizer, sample.tokens, sample.stop)
            decoded[i] = Decoded(text, sample.tokens, sum(sample.logprobs), sample.stop)
        if on_progress is not None:
            on_progress(len(batch))
    return decoded


@torch.inference_mode()
def beam_search(
    model: PreTrainedModel,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    num_beams: int = 16,
    batch_size: int = 32,
    on_progress: Callable[[int], object] | None = None,
) -> list[Decoded]:
    """The best of `num_beams` beams by mean log-probability (transformers' length penalty 1)."""
    _check(num_beams, batch_size, max_new_tokens)
    model.eval()
    ends = _ends(tokenizer)
    config = GenerationConfig(
        do_sample=False,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends),
        pad_token_id=tokenizer.pad_id,
        return_dict_in_generate=False,
    )
    prefixes = tokenizer.encode_prompts(prompts)
    batch_size *= _times(model, batch_size * num_beams, prefixes, max_new_tokens)
    decoded: list[Decoded | None] = [None] * len(prefixes)
    for batch in _batches(prefixes, batch_size):
        padded = tokenizer.base.pad(
            {"input_ids": [prefixes[i] for i in batch]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        sequences = model.generate(**padded, generation_config=config)
        width = padded["input_ids"].shape[1]
        generated = sequences[:, width:]
        logprobs = _logprobs(model, sequences, padded["attention_mask"], generated)
        for i, ids, logprob in zip(batch, generated.tolist(), logprobs.tolist(), strict=True):
            length = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
            tokens, stop = tuple(ids[:length]), ends.get(ids[length - 1], "limit")
            text = _text(tokenizer, tokens, stop)
            decoded[i] = Decoded(text, tokens, sum(logprob[:length]), stop)
        if on_progress is not None:
            on_progress(len(batch))
    return decoded


def _check(num_beams: int, batch_size: int, max_new_tokens: int) -> None:
    if min(num_beams, batch_size, max_new_tokens) < 1:
        raise UserError(
            f"decoding with num_beams {num_beams}, batch_size {batch_size}, "
            f"max_new_tokens {max_new_tokens}: each must be 1 or more"
        )


def _times(
    model: PreTrainedModel, sequences: int, prefixes: Sequence[Sequence[int]], max_new_tokens: int
) -> int:
    """So many batches of `sequences` sequences may be one: more on a GPU, as its memory allows."""
    if model.device.type != "cuda" or not prefixes:
        return 1
    free, _ = torch.cuda.mem_get_info()
    return affordable(model.config, sequences, max(map(len, prefixes)) + max_new_tokens, free)


def affordable(config: PretrainedConfig, sequences: int, length: int, free_bytes: int) -> int:
    """From 1 to GPU_BATCHES: how often half the memory holds the sequences, `length` tokens each.

    A sequence has keys and values in float32, a copy of them when beams change places, and a few
    copies of its logits.
    """
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    kept = 2 * config.num_hidden_layers * head_size(config) * heads
    each = 4 * (2 * length * kept + 4 * config.vocab_size)
    return max(1, min(GPU_BATCHES, free_bytes // (2 * sequences * each)))


def _ends(tokenizer: StepTokenizer) -> dict[int, str]:
    ends = {tokenizer.eos_id: "goal"}
    if BACKTRACK in tokenizer.base.get_vocab():
        ends[tokenizer.backtrack_id] = "backtrack"
    return ends


def _batches(prefixes: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Indices of prefixes that are decoded together: the longest first, little padding."""
    order = sorted(range(len(prefixes)), key=lambda i: (-len(prefixes[i]), i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def _text(tokenizer: StepTokenizer, tokens: Sequence[int], stop: str) -> str:
    return tokenizer.decode(tokens[:-1] if stop == "goal" else tokens)


def _logprobs(model, sequences, prompt_mask, generated) -> torch.Tensor:
    """Log-probability `[batch, generated]` of each generated token, by one more forward pass.

    Beam search's own scores are sums over beams that were dropped; this is exact.
    """
    mask = torch.cat([prompt_mask, torch.ones_like(generated)], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    length = generated.shape[1]
    logits = model(
        input_ids=sequences,
        attention_mask=mask,
        position_ids=positions,
        use_cache=False,
        logits_to_keep=length + 1,
    ).logits[:, :-1]
    chosen = torch.log_softmax(logits.float(), -1).gather(2, generated[:, :, None])
    return chosen[:, :, 0]
