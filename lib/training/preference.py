"""Preference tuning with TRL (DPO, KTO) on the very tokens that a model reads and samples.

Takes right and wrong paths of the same prompts; gives pairs, and a trainer of them. Knows nothing
of where the paths come from. Sources: Rafailov et al. 2023, arXiv 2305.18290; Pang et al. 2024,
arXiv 2404.19733 (RPO); Ethayarajh et al. 2024, arXiv 2402.01306.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, Trainer

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer
from lib.tasks.task import BACKTRACK
from lib.training.trainer import TrainingSpec, optimizers, training_arguments

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1
#: What Trainer logs last, of the clock: no two runs would be the same.
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
METHODS = ("dpo", "kto")
PAIRS_PER_PROBLEM = 4  # more of one problem would teach that problem
SIDES = ("prompt", "chosen", "rejected", "completion")
PAIR_COLUMNS = [f"{side}{form}" for side in SIDES[:3] for form in ("", "_tokens")]


def trace_paths(
    right: pd.DataFrame, wrong: pd.DataFrame, prompts: Sequence[str], tokenizer: StepTokenizer
) -> pd.DataFrame:
    """D_op and D_back of the same prompts as paths: columns problem, response, tokens, correct.

    A wrong path is D_back's prefix and erroneous step, then the end of sequence: `<backtrack>` is
    taken off, since no sample of a model of D_op has one, and it alone would tell the two apart.
    """
    traces = pd.concat([right, wrong], ignore_index=True)
    texts, asked = traces["text"].str.removesuffix(BACKTRACK), [*prompts, *prompts]
    masks = ["0" * len(text) for text in texts]  # nothing here is learned by its mask
    encoded = tokenizer.encode_traces(pd.DataFrame({"text": texts, "mask": masks}))
    starts = [len(ids) for ids in tokenizer.encode_prompts(asked)]
    return pd.DataFrame(
        {
            "problem": [*range(len(right)), *range(len(wrong))],
            "response": [text[len(prompt) :] for text, prompt in zip(texts, asked, strict=True)],
            "tokens": [encoded[i]["input_ids"][start:].tolist() for i, start in enumerate(starts)],
            "correct": [*[True] * len(right), *[False] * len(wrong)],
        }
    )


def preference_pairs(
    paths: pd.DataFrame,
    prompts: Sequence[str],
    encoded: Sequence[Sequence[int]],
    count: int,
    seed: int,
) -> pd.DataFrame:
    """At most `count` pairs of a right and a wrong path of one problem, drawn at random.

    Columns prompt, chosen and rejected, as text and (`_tokens`) as ids. No path stands in two
    pairs. encoded: the prompts' ids.
    """
    generator = np.random.default_rng(seed)
    records = []
    for problem, found in paths.groupby("problem"):
        right, wrong = (
            [
                found.iloc[i]
                for i in generator.permutation(np.flatnonzero(found["correct"] == is_right))
            ]
            for is_right in (True, False)
        )
        for chosen, rejected in list(zip(right, wrong, strict=False))[:PAIRS_PER_PROBLEM]:
            sides = {"chosen": chosen, "rejected": rejected}
            record = {"prompt": prompts[problem], "prompt_tokens": list(encoded[problem])}
            record |= {name: path["response"] for name, path in sides.items()}
            record |= {f"{name}_tokens": list(path["tokens"]) for name, path in sides.items()}
            records.append(record)
    table = pd.DataFrame(records, columns=PAIR_COLUMNS)
    return table.iloc[generator.permutation(len(table))[:count]].reset_index(drop=True)


def unpaired(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The pairs' paths one by one (prompt, completion, label), as KTO wants them.

    In random order: KTO estimates its reference point from the neighbours in a batch, which TRL
    keeps in this order, and two paths of one problem would be poor strangers.
    """
    parts = [
        pairs[["prompt", "prompt_tokens"]].assign(
            completion=pairs[side], completion_tokens=pairs[f"{side}_tokens"], label=label
        )
        for side, label in (("chosen", True), ("rejected", False))
    ]
    return pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)


class SampledTokens:
    """A collator that hands TRL's own collator the ids that were sampled.

    TRL tokenizes texts itself: it may put a beginning of sequence where search put none or merge a
    prompt's end with what follows, and it would learn from ids that the model never sees.
    """

    def __init__(self, collator: Callable[[list[dict]], dict]) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[dict]) -> dict:
        rows = [
            row | {f"{key}_ids": row[f"{key}_tokens"] for key in SIDES if f"{key}_tokens" in row}
            for row in rows
        ]
        if "completion_ids" in rows[0]:  # KTO: each prompt with its neighbour's path, as TRL does
            others = [row["completion_ids"] for row in (rows[-1], *rows[:-1])]
            rows = [row | {"KL_completion_ids": ids} for row, ids in zip(rows, others, strict=True)]
        return self.collator(rows)


def preference_trainer(
    method: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: pd.DataFrame,
    spec: TrainingSpec,
    weights: Mapping[str, float],
    folder: Path,
) -> Trainer:
    """TRL's trainer for `dpo` or `kto`, on the pairs' ids; its reference is the model as it is.

    weights: `beta`, and of DPO `rpo_alpha`: what the chosen paths' negative log-likelihood, a mean
    over tokens, weighs beside DPO's own loss.
    """
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer  # slow to import

    if method not in METHODS:
        raise UserError(f"preference method {method!r}: choose one of {', '.join(METHODS)}")
    if pairs.empty:
        raise UserError("preference pairs: no problem has right and wrong paths; sample more")
    config, trainer, data = (
        (DPOConfig, DPOTrainer, pairs)
        if method == "dpo"
        else (KTOConfig, KTOTrainer, unpaired(pairs, spec.seed))
    )
    datasets.disable_progress_bars()
    # TRL calls these settings by transformers' older names.
    warnings.filterwarnings("ignore", ".*gradient_checkpointing.*deprecated", FutureWarning)
    # TRL's own default, recomputing activations, would cost a fifth of the time.
    more = {"beta": weights["beta"], "max_length": None, "gradient_checkpointing": False}
    if alpha := weights.get("rpo_alpha"):  # as TRL's own argument of that name once did
        more |= {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, alpha]}
    made = trainer(
        model=model,
        ref_model=copy.deepcopy(model),
        args=training_arguments(spec, folder, config, **more),
        train_dataset=datasets.Dataset.from_pandas(data, preserve_index=False),
        processing_class=tokenizer,
        optimizers=optimizers(model, spec.recipe),
    )
    made.data_collator = SampledTokens(made.data_collator)
    made.remove_callback(PrinterCallback)
    return made
