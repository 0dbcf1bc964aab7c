"""Packed batches for a GPU: all examples of a batch behind each other in one row, each attending to
itself alone by FlashAttention's kernel for sequences of different lengths.

Takes a batch's examples; gives one row of a fixed number of tokens (so that `torch.compile`
compiles once) and where each example starts in it. Rows of lib/packing.py need an attention mask,
with which a GPU computes every pair of a row's tokens; here only an example's own pairs are
computed, and no example has to fit beside others. Knows nothing of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # a build without it
    varlen_attn = None

from lib import hardware
from lib.models import head_size

FLAT = "flat"  # the name of its attention among transformers' implementations
TOKENS_MULTIPLE = 128
DEVIATIONS = 5  # of a batch's tokens, that a row has room for beyond their mean
LARGEST_HEAD = 256  # what FlashAttention takes


@dataclass(frozen=True)
class FlatShape:
    """Tokens of a batch's row, sequences in it (padding's too), and tokens of the longest."""

    tokens: int
    sequences: int
    longest: int


def flat_attention_fits(model: PreTrainedModel) -> bool:
    """Whether the kernel is there and takes this model, on one GPU alone.

    Several GPUs in one process would split the row.
    """
    config = model.config
    return (
        varlen_attn is not None
        and hardware.device() == "cuda"
        and torch.version.hip is None
        and torch.cuda.device_count() == 1
        and torch.cuda.get_device_capability() >= (8, 0)
        and config.model_type == "llama"
        and config.num_key_value_heads == config.num_attention_heads
        and not config.attention_dropout
        and head_size(config) % 8 == 0
        and head_size(config) <= LARGEST_HEAD
    )


def flat_shape(lengths: np.ndarray, batch_size: int) -> FlatShape:
    """What holds a random batch of examples of these lengths, all but one in a million."""
    batch_size, longest = min(batch_size, len(lengths)), int(lengths.max())
    room = DEVIATIONS * float(lengths.std()) * batch_size**0.5
    tokens = _rounded_up(int(batch_size * lengths.mean() + room), TOKENS_MULTIPLE)
    padding = -(-int(2 * room + TOKENS_MULTIPLE) // longest)  # of a batch as far below the mean
    return FlatShape(tokens, batch_size + padding, longest)


def pack_flat(
    examples: Sequence[dict[str, np.ndarray]],
    pad_id: int,
    verdict_weight: float,
    shape: FlatShape,
) -> dict[str, Any]:
    """Packed batch: input_ids, position_ids int64 [1, tokens]; loss_weights float32 [1, tokens];
    starts int32 [sequences + 1], where each sequence begins and the last one ends; longest, an int.

    Padding is a few sequences more, none longer than the longest example, and those that are left
    over are empty. loss_weights[0, t] weights the loss of *predicting* token t: none for padding,
    nor for an example's first token. A batch of more tokens than `shape` has gets twice as many, or
    three times, and so on.
    """
    lengths = np.array([len(example["input_ids"]) for example in examples])
    used, longest = int(lengths.sum()), max(shape.longest, int(lengths.max()))
    tokens = _rounded_up(used, shape.tokens)
    ids = np.full(tokens, pad_id, dtype=np.int64)
    codes = np.zeros(tokens, dtype=np.uint8)
    ends = lengths.cumsum()
    ids[:used] = np.concatenate([example["input_ids"] for example in examples])
    codes[:used] = np.concatenate([example["loss_codes"] for example in examples])
    codes[ends - lengths] = 0
    least = -(-(tokens - used) // longest)
    spare = max(shape.sequences - len(lengths), least)
    padding = np.minimum(used + longest * np.arange(1, spare + 1), tokens)
    starts = np.concatenate([[0], ends, padding])
    positions = np.arange(tokens)
    sizes = np.diff(starts)
    positions -= np.repeat(starts[:-1], sizes)
    weights = np.array([0.0, 1.0, verdict_weight], dtype=np.float32)[codes]
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "position_ids": torch.from_numpy(positions)[None],
        "loss_weights": torch.from_numpy(weights)[None],
        "starts": torch.from_numpy(starts.astype(np.int32)),
        "longest": longest,
    }


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    starts: Tensor,
    longest: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence. query, key, value: [1, heads, tokens, head size]."""
    # Rotating by float32 angles makes float32 of what autocast left in bfloat16.
    flat = [x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value)]
    # A window of what lies before and nothing after: causal.
    output = varlen_attn(
        *flat, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0)
    )
    return output[None], None


# transformers makes no mask for an implementation that it has none for.
AttentionInterface.register(FLAT, _attention)
