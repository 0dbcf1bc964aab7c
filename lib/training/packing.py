"""Packed batches: several examples in one row, so that little of a batch is padding.

Takes a batch's examples; gives the same examples laid out in rows of one fixed shape (so that
`torch.compile` compiles once), whose positions restart with each example. transformers keeps the
attention of a row's examples apart by those positions, whatever computes it (SDPA, eager, flex),
so losses and gradients are the padded batch's. Knows nothing of training. A batch's examples stay
the random ones that were drawn: only their place within the batch changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from lib.base import hardware
from lib.models.llama import head_size

SHAPE_TRIALS = 64
LENGTH_MULTIPLE = 8
MAX_LENGTH_RATIO = (
    6  # of the longest example: attention within longer rows costs more than it saves
)


@dataclass(frozen=True)
class PackedShape:
    """Rows of a batch, and tokens of a row."""

    rows: int
    length: int


def bins(lengths: Sequence[int], length: int) -> list[list[int]]:
    """Which examples share a row of `length` tokens: the longest first, each where it fits best."""
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        size = lengths[index]
        if size > length:
            raise ValueError(f"an example of {size} tokens in rows of {length}")
        fitting = [row for row, room in enumerate(left) if room >= size]
        if fitting:
            row = min(fitting, key=lambda row: (left[row], row))
            rows[row].append(index)
            left[row] -= size
        else:
            rows.append([index])
            left.append(length - size)
    return rows


def packed_shape(lengths: np.ndarray, batch_size: int, width: int) -> PackedShape:
    """The cheapest shape that holds a random batch of examples of these lengths.

    A token of a row of n tokens costs a Llama `1 + n / (6 width)`: its matrix products, and its
    attention over the row. Rows are counted in trial batches, drawn with a seed of their own.
    """
    generator = np.random.default_rng(0)
    batch_size = min(batch_size, len(lengths))
    trials = [
        generator.choice(lengths, batch_size, replace=False).tolist() for _ in range(SHAPE_TRIALS)
    ]
    longest = -(-int(lengths.max()) // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    # Between multiples of the mean little is gained: rows that just miss one more example.
    few = trials[: SHAPE_TRIALS // 8]
    best: tuple[float, int] | None = None
    for length in range(longest, MAX_LENGTH_RATIO * longest + 1, LENGTH_MULTIPLE):
        rows = max(len(bins(trial, length)) for trial in few)
        cost = rows * length * (1 + length / (6 * width))
        if best is None or cost < best[0]:
            best = cost, length
    return PackedShape(max(len(bins(trial, best[1])) for trial in trials), best[1])


def pack(
    examples: Sequence[dict[str, np.ndarray]],
    pad_id: int,
    verdict_weight: float,
    shape: PackedShape,
) -> dict[str, Tensor]:
    """Packed batch: input_ids, position_ids int64 [rows, length]; loss_weights float32.

    loss_weights[i, t] weights the loss of *predicting* token t: none for padding, nor for an
    example's first token, which follows another example's last. A batch that needs more rows than
    `shape` has gets twice as many, or three times, and so on.
    """
    rows = bins([len(example["input_ids"]) for example in examples], shape.length)
    count = -(-len(rows) // shape.rows) * shape.rows
    ids = np.full((count, shape.length), pad_id, dtype=np.int64)
    codes = np.zeros((count, shape.length), dtype=np.uint8)
    # Positions that do not rise by one separate examples: each token of padding stands alone.
    positions = np.zeros((count, shape.length), dtype=np.int64)
    for row, members in enumerate(rows):
        start = 0
        for index in members:
            example, size = examples[index], len(examples[index]["input_ids"])
            span = slice(start, start + size)
            ids[row, span] = example["input_ids"]
            codes[row, span] = example["loss_codes"]
            codes[row, start] = 0
            positions[row, span] = np.arange(size)
            start += size
    weights = np.array([0.0, 1.0, verdict_weight], dtype=np.float32)[codes]
    return {
        "input_ids": torch.from_numpy(ids),
        "position_ids": torch.from_numpy(positions),
        "loss_weights": torch.from_numpy(weights),
    }


try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # a build without it
    varlen_attn = None
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
    """Whether the kernel is there and takes this model."""
    config = model.config
    return (
        varlen_attn is not None
        and hardware.device() == "cuda"
        and torch.version.hip is None
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
    *,
    starts: Tensor,
    longest: int,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence. query, key, value: [1, heads, tokens, head size]."""
    # Rotating by float32 angles makes float32 of what autocast left in bfloat16.
    flat = [x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value)]
    # A window of what lies before and nothing after: causal.
    output = varlen_attn(
        *flat, starts, starts, longest, longest, scale=others["scaling"], window_size=(-1, 0)
    )
    return output[None], None


# transformers makes no mask for an implementation that it has none for.
AttentionInterface.register(FLAT, _attention)
