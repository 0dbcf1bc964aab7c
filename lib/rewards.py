"""Best-of-N with an outcome reward model: what search needs where no token judges a state.

Takes an experiment; gives a reward model (the SFT checkpoint with a sequence-classification head,
trained on the SFT model's own right and wrong paths), the scores that it gives paths, and the
accuracy of the best-scored of N samples. Source: Table 1 of the paper (`SFT + RM`); Cobbe et al.
2021, arXiv 2110.14168. Knows nothing of search by backtracking.
"""

from __future__ import annotations

import json
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

from lib import checkpoints, hardware, store
from lib.batches import PAD_MULTIPLE
from lib.errors import UserError
from lib.evaluation import checker_rows, roc_auc
from lib.experiment import TEST_SPLITS, Experiment
from lib.models import load_tokenizer
from lib.recipe import Recipe
from lib.results import table
from lib.samples import finished_paths, sample_order, training_samples
from lib.store import Artifact
from lib.task import Task
from lib.tokenization import encode_prompts
from lib.training import fast_attention, optimizers, training_arguments
from lib.tree import SearchTree, tokens_after

HELD_OUT = 10  # one problem in ten tells how well the reward model knows paths it never saw
SCORING_BATCH = 256
CHOICES = {
    "reward": "best_of_n",
    "mean_logprob": "sft_sampled_mean_logprob",
    "visits": "sft_sampled_vote",
}
CEILING = "sft_pass_at_n"


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
    tokenizer.save_pretrained(folder)
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


def reward_model(experiment: Experiment, model: str) -> Artifact:
    """The reward model of an SFT model, and how well it ranks held-out paths (`held_out.json`)."""
    settings = experiment.profile.baselines
    parent = experiment.checkpoint(model, "sft")
    made, problems = training_samples(experiment, model)
    inputs = {
        "parent": parent.key,
        "search": made.key,
        "paths": settings.reward_paths,
        "recipe": settings.reward.inputs(),
        "seed": experiment.seed,
    }

    def make(folder: Path) -> None:
        paths = finished_paths(experiment.read_trees(made), problems, experiment.task)
        unseen = paths["problem"] % HELD_OUT == HELD_OUT - 1
        train = paths[~unseen].sample(frac=1, random_state=experiment.seed)
        train = train.iloc[: settings.reward_paths]
        tokenizer = load_tokenizer(parent.path)
        prompts = experiment.task.prompts(problems)
        set_seed(experiment.seed)  # of the new head
        scorer = load_reward_model(parent.path)
        train_reward_model(
            scorer,
            tokenizer,
            path_sequences(tokenizer, prompts, train),
            train["correct"].tolist(),
            settings.reward,
            folder,
            experiment.seed,
        )
        held = paths[unseen]
        scores = rewards(scorer, path_sequences(tokenizer, prompts, held), tokenizer.pad_token_id)
        known = {
            "trained_paths": len(train),
            "trained_right": float(train["correct"].mean()),
            "held_out_paths": len(held),
            "auc": roc_auc(scores, held["correct"]),
            "auc_mean_logprob": roc_auc(held["mean_logprob"], held["correct"]),
        }
        store.write_atomic(folder / "held_out.json", json.dumps(known))

    return experiment.run.make(f"models/{model}-reward", inputs, make)


def held_out(experiment: Experiment) -> pd.DataFrame:
    """How well each model's reward model ranks paths of problems that it never saw."""
    settings = experiment.profile.baselines
    models = [] if settings is None else settings.models
    return pd.DataFrame(
        {
            "model": model,
            **store.read_json(reward_model(experiment, model).path / "held_out.json"),
        }
        for model in models
    )


def choices(
    trees: Sequence[SearchTree],
    problems: pd.DataFrame,
    task: Task,
    paths: pd.DataFrame,
    breadths: Sequence[int],
    seed: int,
) -> pd.DataFrame:
    """The best of the first N samples by each score: one row a problem, N and score.

    paths: `finished_paths` of these trees with a column `reward`. Equal scores go to the more
    probable path. Whoever chooses sees scores alone; the verdicts are looked up afterwards.
    """
    by_problem = dict(list(paths.groupby("problem")))
    records = []
    for tree, split in zip(trees, problems["split"], strict=True):
        order = sample_order(tree, seed)
        tokens = tokens_after(tree, order)
        known = by_problem.get(tree.problem_id, paths.iloc[:0]).set_index("leaf")
        for breadth in breadths:
            first = pd.Series(order[:breadth]).value_counts()
            found = known[known.index.isin(first.index)]
            found = found.assign(visits=first.reindex(found.index))
            common = {"problem": tree.problem_id, "split": split, "N": breadth}
            common |= {"tokens": tokens[breadth - 1]}
            common |= {"covered": bool(found["correct"].any())}
            common |= {"covered_published": bool(found["correct_published"].any())}
            for score in CHOICES:
                by = list(dict.fromkeys([score, "mean_logprob"]))
                ranked = found.sort_values(by, ascending=False, kind="stable")
                best = ranked.iloc[0] if len(ranked) else None
                records.append(
                    common
                    | {"score": score, "leaf": None if best is None else int(best.name)}
                    | {"correct": best is not None and bool(best["correct"])}
                    | {"correct_published": best is not None and bool(best["correct_published"])}
                )
    return pd.DataFrame(records)


def best_of_n(experiment: Experiment, model: str, split: str) -> pd.DataFrame:
    """`choices` over a test split, by the SFT model's samples and its reward model."""
    settings = experiment.profile.baselines
    scorer = reward_model(experiment, model)
    problems = experiment.problems(split, 0, settings.test_problems)
    checkpoint, most = experiment.checkpoint(model, "sft"), max(settings.breadths)
    made = experiment.search(checkpoint, problems, most, 0, settings.temperature)
    inputs = {"search": made.key, "reward": scorer.key, "breadths": settings.breadths}

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        paths = finished_paths(trees, problems, experiment.task)
        tokenizer = load_tokenizer(scorer.path)
        sequences = path_sequences(tokenizer, experiment.task.prompts(problems), paths)
        scoring = load_reward_model(scorer.path).to(hardware.device())
        paths["reward"] = rewards(scoring, sequences, tokenizer.pad_token_id)
        found = choices(trees, problems, experiment.task, paths, settings.breadths, experiment.seed)
        store.write_parquet(folder / "choices.parquet", found)

    made = experiment.run.make(f"outcomes/{model}-best_of_n-{split}", inputs, make)
    return store.read_parquet(made.path / "choices.parquet")


def best_of_n_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Best-of-N by the reward model, and the same samples by log-probability and by vote.

    Artifact `best_of_n` has every N, and the ceiling; `table_1` the paper's rows, and the other two
    choices at the largest N.
    """
    settings = experiment.profile.baselines
    if settings is None or model not in settings.models:
        return table([])
    found = pd.concat([best_of_n(experiment, model, split) for split in TEST_SPLITS])
    rows = []
    for (split, breadth), cell in found.groupby(["split", "N"]):
        common = {"model": model, "split": split, "N": int(breadth), "seed": experiment.seed}
        common |= {"temperature": settings.temperature}
        common |= {"tokens_per_problem": float(cell["tokens"].mean())}
        common |= {"artifact": "best_of_n"}
        for score, chosen in cell.groupby("score"):
            both = chosen["correct"], chosen["correct_published"]
            measured = checker_rows(*both, method=CHOICES[score], **common)
            rows += measured
            if score == "reward" or breadth == max(settings.breadths):
                rows += [each | {"artifact": "table_1"} for each in measured]
        once = cell.drop_duplicates("problem")
        rows += checker_rows(once["covered"], once["covered_published"], method=CEILING, **common)
    return table(rows)
