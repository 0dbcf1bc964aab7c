"""DPO and KTO: preference tuning of the SFT model on its own right and wrong paths, through TRL.

Takes an experiment; gives checkpoints and their greedy accuracy. Source: Table 1 of the paper;
Rafailov et al. 2023, arXiv 2305.18290 (DPO); Ethayarajh et al. 2024, arXiv 2402.01306 (KTO).
Knows nothing of reward models.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
from transformers import set_seed

from lib.base import files
from lib.evaluation.results import table
from lib.evaluation.scoring import evaluate_responses
from lib.evaluation.states import finished_paths
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.models.llama import load_model, load_tokenizer
from lib.models.tokenizer import encode_prompts, save_tokenizer
from lib.studies.measurements import training_samples
from lib.training import checkpoints
from lib.training.preference import (
    METHODS,
    PAIRS_PER_PROBLEM,
    TIMES,
    preference_pairs,
    preference_trainer,
)


def preferred(experiment: Experiment, model: str, method: str) -> Artifact:
    """The checkpoint after `dpo` or `kto`; an interrupted one resumes."""
    settings = experiment.profile.baselines
    recipe = getattr(settings, method)
    parent = experiment.checkpoint(model, "sft")
    made, problems = training_samples(experiment, model)
    inputs = {
        "parent": parent.key,
        "search": made.key,
        "pairs": (settings.pairs, PAIRS_PER_PROBLEM),
        "beta": settings.beta,
        "recipe": recipe.inputs(),
        "seed": experiment.seed,
    }

    def make(folder: Path) -> None:
        paths = finished_paths(experiment.read_trees(made), problems, experiment.task)
        policy, tokenizer = experiment.load(parent)
        prompts = experiment.task.prompts(problems)
        encoded = encode_prompts(tokenizer, prompts)
        pairs = preference_pairs(paths, prompts, encoded, settings.pairs, experiment.seed)
        reference = load_model(parent.path)
        set_seed(experiment.seed)
        trainer = preference_trainer(
            method,
            policy,
            reference,
            tokenizer,
            pairs,
            recipe,
            settings.beta,
            folder,
            experiment.seed,
        )
        checkpoints.train(trainer, folder / "checkpoints")
        # A copy: TRL has given the policy's class a forward pass of its own.
        policy.save_pretrained(folder)
        save_tokenizer(load_tokenizer(parent.path), folder)
        logs = [
            {key: entry[key] for key in entry if key not in TIMES}
            for entry in trainer.state.log_history
            if "rewards/margins" in entry
        ]
        files.write_atomic(folder / "preferences.json", json.dumps(logs))
        checkpoints.remove(folder / "checkpoints")

    return experiment.run.make(f"models/{model}-{method}", inputs, make)


def margins(experiment: Experiment) -> pd.DataFrame:
    """What DPO and KTO did on their training paths: the first and the last logged margin."""
    settings = experiment.profile.baselines
    records = []
    for model in [] if settings is None else settings.models:
        for method in METHODS:
            made = preferred(experiment, model, method)
            logs = files.read_json(made.path / "preferences.json")
            record = {"model": model, "method": method, "logs": len(logs)}
            for name, log in (("first", logs[:1]), ("last", logs[-1:])):
                record |= {f"{name} margin": entry["rewards/margins"] for entry in log}
            records.append(record)
    return pd.DataFrame(records)


def preference_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Table 1's rows of DPO and KTO: greedy accuracy on both test splits."""
    settings = experiment.profile.baselines
    if settings is None or model not in settings.models:
        return table([])
    problems = experiment.test_problems(model)
    rows = []
    for method in METHODS:
        decoded = experiment.decode(preferred(experiment, model, method), problems)
        rows.append(
            evaluate_responses(
                decoded["text"],
                problems,
                experiment.task,
                artifact="table_1",
                method=method,
                tokens=decoded["tokens"],
                model=model,
                seed=experiment.seed,
            )
        )
    return pd.concat(rows, ignore_index=True)
