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

import numpy as np
import torch
from torch import Tensor

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
