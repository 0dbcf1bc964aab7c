"""An outcome reward model: a checkpoint with a head that says how likely a whole path is right.

Takes a checkpoint's folder, and paths as token ids with their labels; gives a trained classifier
and scores. Knows nothing of where the paths come from. Source: Cobbe et al. 2021, arXiv 2110.14168.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    set_seed,
)

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer, save_tokenizer
from lib.training import checkpoints
from lib.training.batches import pad_right
from lib.training.trainer import TrainingSpec, fast_attention, optimizers, training_arguments

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

SCORING_BATCH = 256


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
    tokenizer: PreTrainedTokenizerBase,
    sequences: Sequence[Sequence[int]],
    labels: Sequence[bool],
    spec: TrainingSpec,
    folder: Path,
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
    set_seed(spec.seed)
    model.config.use_cache = False
    model.config.pad_token_id = tokenizer.pad_token_id  # the head reads the last token before it
    trainer = Trainer(
        model=model,
        args=training_arguments(spec, folder),
        train_dataset=examples,
        data_collator=collate,
        optimizers=optimizers(model, spec.recipe),
    )
    trainer.remove_callback(PrinterCallback)
    checkpoints.resume(trainer, folder / "checkpoints")
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


def path_sequences(
    tokenizer: StepTokenizer, prompts: Sequence[str], paths: pd.DataFrame
) -> list[list[int]]:
    """Prompt and response of each path (columns problem, tokens) as ids, exactly as sampled."""
    encoded = tokenizer.encode_prompts(prompts)
    return [
        [*encoded[problem], *tokens]
        for problem, tokens in zip(paths["problem"], paths["tokens"], strict=True)
    ]
