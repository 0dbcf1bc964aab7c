"""Log-probabilities of whole responses under a checkpoint, by teacher forcing.

Takes a model, its tokenizer (with the task's step end) and texts; gives numbers. Knows nothing of
searches or of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from lib.models.tokenizer import StepTokenizer, TokenizedTraces
from lib.training.batches import collate

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

BATCH = 256


def _batches(traces: TokenizedTraces, pad_id: int, device) -> Iterator[tuple[np.ndarray, dict]]:
    """Indices and batches of similar length: little padding."""
    order = np.argsort(traces.lengths(), kind="stable")
    for start in range(0, len(order), BATCH):
        here = order[start : start + BATCH]
        batch = collate([traces[int(i)] for i in here], pad_id, 1.0)
        yield here, {name: part.to(device) for name, part in batch.items()}


@torch.inference_mode()
def _token_logprobs(model, batch: dict) -> torch.Tensor:
    """Log-probability `[batch, length - 1]` of each token after the first."""
    ids = batch["input_ids"]
    logits = model(input_ids=ids, attention_mask=batch["attention_mask"]).logits[:, :-1]
    return torch.log_softmax(logits.float(), -1).gather(2, ids[:, 1:, None])[:, :, 0]


def response_logprobs(
    model: PreTrainedModel,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    responses: Sequence[str],
) -> np.ndarray:
    """Mean log-probability of each response's tokens, its end of sequence included: float [n]."""
    rows = zip(prompts, responses, strict=True)
    traces = pd.DataFrame(
        [
            {"text": prompt + response, "mask": "0" * len(prompt) + "1" * len(response)}
            for prompt, response in rows
        ],
        columns=["text", "mask"],
    )
    means = np.full(len(traces), np.nan)
    if traces.empty:
        return means
    model.eval()
    encoded = tokenizer.encode_traces(traces)
    for here, batch in _batches(encoded, tokenizer.pad_id, model.device):
        carries = batch["loss_weights"][:, 1:] > 0
        sums = (_token_logprobs(model, batch) * carries).sum(1)
        means[here] = (sums / carries.sum(1)).double().cpu().numpy()
    return means
