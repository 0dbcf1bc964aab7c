"""Greedy and beam decoding for the baselines: takes a model, its tokenizer and prompts, gives one
`Decoded` per prompt.

Batched through transformers' own `generate`; a sequence ends with the end of sequence or
`<backtrack>`. Knows nothing of tasks or trees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lib.errors import UserError
from lib.tokenization import backtrack_id, encode_prompts


@dataclass(frozen=True)
class Decoded:
    """One response. `text` has no end-of-sequence token; `tokens` has it when it was generated."""

    text: str
    tokens: tuple[int, ...]
    logprob: float  # sum over the tokens, at temperature 1
    stop: str  # "backtrack", "goal" (end of sequence) or "limit"


def greedy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int = 256,
    on_progress: Callable[[int], object] | None = None,
) -> list[Decoded]:
    """The most probable token at every position."""
    return _decode(model, tokenizer, prompts, max_new_tokens, 1, batch_size, on_progress)


def beam_search(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    num_beams: int = 16,
    batch_size: int = 32,
    on_progress: Callable[[int], object] | None = None,
) -> list[Decoded]:
    """The best of `num_beams` beams by mean log-probability (transformers' length penalty 1)."""
    return _decode(model, tokenizer, prompts, max_new_tokens, num_beams, batch_size, on_progress)


@torch.inference_mode()
def _decode(
    model, tokenizer, prompts, max_new_tokens, num_beams, batch_size, on_progress
) -> list[Decoded]:
    if min(num_beams, batch_size, max_new_tokens) < 1:
        raise UserError(
            f"decoding with num_beams {num_beams}, batch_size {batch_size}, "
            f"max_new_tokens {max_new_tokens}: each must be 1 or more"
        )
    model.eval()
    ends = {tokenizer.eos_token_id: "goal"}
    if "<backtrack>" in tokenizer.get_vocab():
        ends[backtrack_id(tokenizer)] = "backtrack"
    config = GenerationConfig(
        do_sample=False,
        num_beams=num_beams,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(ends),
        pad_token_id=tokenizer.pad_token_id,
        return_dict_in_generate=False,
    )
    prefixes = encode_prompts(tokenizer, prompts)
    order = sorted(range(len(prefixes)), key=lambda i: (-len(prefixes[i]), i))
    decoded: list[Decoded | None] = [None] * len(prefixes)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        padded = tokenizer.pad(
            {"input_ids": [prefixes[i] for i in batch]}, padding_side="left", return_tensors="pt"
        ).to(model.device)
        sequences = model.generate(**padded, generation_config=config)
        width = padded["input_ids"].shape[1]
        generated = sequences[:, width:]
        logprobs = _logprobs(model, sequences, padded["attention_mask"], generated)
        for i, ids, logprob in zip(batch, generated.tolist(), logprobs.tolist(), strict=True):
            length = next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))
            tokens, stop = tuple(ids[:length]), ends.get(ids[length - 1], "limit")
            shown = tokens[:-1] if stop == "goal" else tokens
            text = tokenizer.decode(list(shown))
            decoded[i] = Decoded(text, tokens, sum(logprob[:length]), stop)
        if on_progress is not None:
            on_progress(len(batch))
    return decoded


def _logprobs(model, sequences, prompt_mask, generated) -> torch.Tensor:
    """Log-probability `[batch, generated]` of each generated token, by one more forward pass.

    Beam search's own scores are sums over beams that were dropped; this is exact for both.
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
