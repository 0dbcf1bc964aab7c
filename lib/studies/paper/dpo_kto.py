"""DPO and KTO: preference tuning of the SFT model on its own right and wrong paths, through TRL.

Takes an experiment whose profile has a section `[baselines]`, which best-of-N shares; gives
checkpoints and rows of their greedy accuracy (artifact `table_1`). Source: Table 1 of the paper;
Rafailov et al. 2023, arXiv 2305.18290 (DPO); Ethayarajh et al. 2024, arXiv 2402.01306 (KTO).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import StrictInt, model_validator
from transformers import set_seed

from lib.base import files
from lib.base.checked import Count, Counts, Names, Positive, at_least, checked, demand
from lib.drawing.markdown import in_words
from lib.drawing.style import METHODS
from lib.evaluation import states
from lib.evaluation.claims import headline
from lib.evaluation.scoring import outcome_rows
from lib.evaluation.states import finished_paths
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.experiment.work import FORWARD, training
from lib.models.llama import load_tokenizer
from lib.models.tokenizer import save_tokenizer
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.studies.measurements import decoded_outcomes, unused_problems
from lib.studies.study import Study
from lib.training import checkpoints, preference
from lib.training.preference import (
    PAIRS_PER_PROBLEM,
    TIMES,
    preference_pairs,
    preference_trainer,
)
from lib.training.trainer import TrainingSpec

#: Passes over each pair, in training examples: DPO's has a reference, KTO's two paths have
#: strangers too; these without gradients.
PASSES = {"dpo": 2 + 2 * FORWARD, "kto": 2 + 6 * FORWARD}


@checked
class BaselineSettings:
    """Best-of-N with a reward model, DPO and KTO: Table 1's baselines that train further.

    All three learn from `samples` samples of the SFT model for each of `problems` problems.
    """

    models: Names
    breadths: Counts  # the N of best-of-N
    test_problems: Count  # of each test split, for best-of-N; DPO and KTO take all of the model's
    temperature: Positive
    problems: Annotated[StrictInt, at_least(10)]
    samples: Annotated[StrictInt, at_least(2)]
    reward_paths: Annotated[StrictInt, at_least(2)]  # at most so many paths train the reward model
    pairs: Annotated[
        StrictInt, at_least(2)
    ]  # at most so many pairs train DPO, and twice as many paths KTO
    beta: Positive
    reward: Recipe
    dpo: Recipe
    kto: Recipe

    @model_validator(mode="after")
    def _together(self) -> BaselineSettings:
        size, right = self.kto.batch_size, "at least 2: KTO compares within a batch"
        demand("kto.batch_size", size, size >= 2, right)
        return self

    def check(self, profile: Profile) -> None:
        """Raise `Mistake` where the profile has fewer models or problems."""
        known, most = profile.models, profile.data.test_problems
        models, tested = list(self.models), self.test_problems
        demand("baselines.models", models, set(models) <= set(known), f"of {', '.join(known)}")
        demand("baselines.test_problems", tested, tested <= most, f"at most {most}")


def training_samples(experiment: Experiment, model: str) -> tuple[Artifact, pd.DataFrame]:
    """The SFT model's samples of unused training problems, and these problems."""
    settings = experiment.profile.settings(BaselineSettings)
    problems = unused_problems(experiment, model, settings.problems)
    spec = experiment.spec(
        settings.samples, 0, temperature=settings.temperature, expansion="sample"
    )
    return experiment.search(experiment.checkpoint(model, "sft"), problems, spec), problems


def preferred(experiment: Experiment, model: str, method: str) -> Artifact:
    """The checkpoint after `dpo` or `kto`; an interrupted one resumes."""
    settings = experiment.profile.settings(BaselineSettings)
    recipe = getattr(settings, method)
    parent = experiment.checkpoint(model, "sft")
    made, problems = training_samples(experiment, model)

    def make(folder: Path) -> None:
        paths = finished_paths(experiment.read_trees(made), problems, experiment.task)
        policy, tokenizer = experiment.load(parent)
        prompts = experiment.task.prompts(problems)
        encoded = tokenizer.encode_prompts(prompts)
        pairs = preference_pairs(paths, prompts, encoded, settings.pairs, experiment.seed)
        set_seed(experiment.seed)
        how = (TrainingSpec(recipe, experiment.seed), settings.beta, folder)
        trainer = preference_trainer(method, policy, tokenizer.base, pairs, *how)
        checkpoints.resume(trainer, folder / "checkpoints")
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

    inputs = {
        "parent": parent.key,
        "search": made.key,
        "pairs": (settings.pairs, PAIRS_PER_PROBLEM),
        "beta": settings.beta,
        "recipe": recipe.inputs(),
        "seed": experiment.seed,
    }
    made_by = [preference, states, experiment.task]
    work = training(model, settings.pairs * PASSES[method] * recipe.epochs)
    return experiment.make(f"models/{model}-{method}", inputs, make, made_by, work)


def tuned(experiment: Experiment) -> Iterator[tuple[str, str, Artifact]]:
    """Model, method and checkpoint of all that the profile asks for; of none without a section."""
    settings = experiment.profile.settings(BaselineSettings)
    for model in settings.models if settings else ():
        for method in PASSES:
            yield model, method, preferred(experiment, model, method)


def margins(experiment: Experiment) -> pd.DataFrame:
    """What DPO and KTO did on their training paths: the first and the last logged margin."""
    records = []
    for model, method, made in tuned(experiment):
        logs = files.read_json(made.path / "preferences.json")
        record = {"model": model, "method": method, "logs": len(logs)}
        for name, log in (("first", logs[:1]), ("last", logs[-1:])):
            record |= {f"{name} margin": entry["rewards/margins"] for entry in log}
        records.append(record)
    return pd.DataFrame(records)


def requests(experiment: Experiment) -> Iterator[Artifact]:
    """Each method's checkpoint, and its greedy responses to all test problems."""
    for model, _, checkpoint in tuned(experiment):
        yield experiment.decoding(checkpoint, experiment.test_problems(model))


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Greedy responses on both test splits, problem by problem."""
    return pd.concat(
        decoded_outcomes(experiment, model, made).assign(artifact="table_1", method=method)
        for model, method, made in tuned(experiment)
    )


def rows(experiment: Experiment) -> pd.DataFrame:
    """Table 1's rows of DPO and KTO: greedy accuracy on both test splits."""
    return outcome_rows(outcomes(experiment))


def remark(rows: pd.DataFrame) -> str:
    """What both solve, greedily; empty where there are no rows."""
    found = headline(rows, ["table_1"])
    told = [
        f"{METHODS[method]}: {in_words(cells)}"
        for method in PASSES
        if len(cells := found[found["method"] == method])
    ]
    return f"Accuracy of greedy decoding. {'. '.join(told)}." if told else ""


STUDY = Study(
    name="dpo_kto",
    section="baselines",
    settings=BaselineSettings,
    rows=rows,
    requests=requests,
    outcomes=outcomes,
    title="DPO and KTO",
    remark=remark,
)
