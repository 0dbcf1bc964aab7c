"""Batches of tokenized traces: padded or packed, with a weight for each token's loss, and which
examples each of several processes takes.

Takes traces and a recipe; gives what a Trainer's data loader asks for. Knows nothing of any task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import SeedableRandomSampler
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from lib.models.tokenizer import TokenizedTraces
from lib.profiles.recipe import Recipe
from lib.training.packing import FLAT, flat_shape, pack, pack_flat, packed_shape

PAD_MULTIPLE = 8


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> dict[str, Tensor]:
    """input_ids and attention_mask, int64 [batch, length], padded on the right."""
    length = -(-max(map(len, sequences)) // PAD_MULTIPLE) * PAD_MULTIPLE  # few shapes to compile
    ids = np.full((len(sequences), length), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def collate(
    examples: Sequence[dict[str, np.ndarray]],
    pad_id: int,
    verdict_weight: float,
    padding_loss: bool = False,
) -> dict[str, Tensor]:
    """As `pad_right`, and loss_weights, float32 [batch, length].

    loss_weights[i, t] weights the loss of *predicting* token t; padding has none, unless the
    audit's switch `padding_loss` gives it that of any other token.
    """
    padded = pad_right([example["input_ids"] for example in examples], pad_id)
    codes = pad_right([example["loss_codes"] for example in examples], 0)["input_ids"]
    weights = torch.tensor([0.0, 1.0, verdict_weight], dtype=torch.float32)[codes]
    if padding_loss:
        weights[padded["attention_mask"] == 0] = 1.0
    return padded | {"loss_weights": weights}


def collator(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    batch_size: int,
    config: PretrainedConfig,
) -> Callable[[Sequence[dict[str, np.ndarray]]], dict[str, Tensor]]:
    """What makes a batch of `batch_size` examples: padded, or packed where the recipe says so."""
    pad_id, weight = tokenizer.pad_token_id, recipe.verdict_weight
    if recipe.padding_loss:  # the published code pads with the end of sequence
        eos = tokenizer.eos_token_id
        return lambda examples: collate(examples, eos, weight, padding_loss=True)
    if not recipe.packing:
        return lambda examples: collate(examples, pad_id, weight)
    if config._attn_implementation == FLAT:
        flat = flat_shape(traces.lengths(), batch_size)
        return lambda examples: pack_flat(examples, pad_id, weight, flat)
    shape = packed_shape(traces.lengths(), batch_size, config.hidden_size)
    return lambda examples: pack(examples, pad_id, weight, shape)


class EvenSampler(Sampler):
    """One process's order of examples, filled up to whole global batches, for several processes.

    What fills the last batch is the index past the last trace: an example without loss. Left to
    itself accelerate would repeat the first examples there, which one process does not.
    """

    def __init__(self, traces: Any, batch_size: int, seed: int) -> None:
        self.order = SeedableRandomSampler(traces, data_seed=seed)
        self.filling = -len(traces) % batch_size

    def __len__(self) -> int:
        return len(self.order) + self.filling

    def __iter__(self) -> Iterator[int]:
        yield from self.order
        yield from [len(self.order)] * self.filling

    def set_epoch(self, epoch: int) -> None:
        self.order.set_epoch(epoch)


@dataclass(frozen=True)
class FilledTraces:
    """Traces, and one more example that carries no loss."""

    traces: TokenizedTraces

    def __len__(self) -> int:
        return len(self.traces)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index < len(self.traces):
            return self.traces[index]
        first = self.traces[0]
        return {**first, "loss_codes": np.zeros_like(first["loss_codes"])}
