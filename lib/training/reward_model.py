"""TODO training.reward_model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    set_seed,
)

from lib.base.errors import UserError
from lib.models.tokenizer import encode_prompts, save_tokenizer
from lib.profiles.recipe import Recipe
from lib.training import checkpoints
from lib.training.batches import PAD_MULTIPLE
from lib.training.trainer import fast_attention, optimizers, training_arguments

SCORING_BATCH = 256


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask, int64 [batch, length], padded on the right."""
    length = max(map(len, sequences))
    length = -(-length // PAD_MULTIPLE) * PAD_MULTIPLE
    ids = torch.full((len(sequences), length), pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence, dtype=torch.int64)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def load_reward_model(path: Path) -> PreTrainedModel:
    """A checkpoint with a head of two classes, wrong and right; a new head's weights are random."""
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            path,
            num_labels=2,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no reward model can be loaded ({error})") from error
    model.config.problem_type = "single_label_classification"
    return model.eval()


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: object,
    sequences: Sequence[Sequence[int]],
    labels: Sequence[bool],
    recipe: Recipe,
    folder: Path,
    seed: int,
) -> None:
    """Train on whole paths (prompt, response, end of sequence); leaves a checkpoint in `folder`.

    Resumes from `folder/checkpoints`.
    """
    if len(set(labels)) < 2:
        raise UserError("reward model: it needs right and wrong paths; raise baselines.problems")
    examples = [
        {"ids": ids, "label": int(label)} for ids, label in zip(sequences, labels, strict=True)
    ]

    def collate(batch: list[dict]) -> dict[str, torch.Tensor]:
        padded = pad_right([example["ids"] for example in batch], tokenizer.pad_token_id)
        return padded | {"labels": torch.tensor([example["label"] for example in batch])}

    fast_attention(model)
    set_seed(seed)
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id  # the head reads the last token before it
    trainer = Trainer(
        model=model,
        args=training_arguments(recipe, folder, seed, log_steps=5),
        train_dataset=examples,
        data_collator=collate,
        optimizers=optimizers(model, recipe),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoints.train(trainer, folder / "checkpoints")
    model.config.use_cache = True
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    checkpoints.remove(folder / "checkpoints")


@torch.inference_mode()
def rewards(model: PreTrainedModel, sequences: Sequence[Sequence[int]], pad_id: int) -> np.ndarray:
    """The log-odds that each path is right, float32 [paths]."""
    model.eval()
    order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i))
    scores = np.zeros(len(sequences), dtype=np.float32)
    for start in range(0, len(order), SCORING_BATCH):
        batch = order[start : start + SCORING_BATCH]
        padded = pad_right([sequences[i] for i in batch], pad_id)
        logits = model(**{key: value.to(model.device) for key, value in padded.items()}).logits
        scores[batch] = (logits[:, 1] - logits[:, 0]).float().cpu().numpy()
    return scores


def path_sequences(tokenizer: object, prompts: Sequence[str], paths: pd.DataFrame) -> list[list]:
    """Prompt and response of each path as ids, exactly as they were sampled."""
    encoded = encode_prompts(tokenizer, prompts)
    return [
        [*encoded[problem], *tokens]
        for problem, tokens in zip(paths["problem"], paths["tokens"], strict=True)
    ]
