"""DPO and KTO: preference tuning of the SFT model on right and wrong paths, through TRL.

Takes an experiment whose profile has a section `[baselines]`, which best-of-N shares; gives the
paths (`learned_paths`), checkpoints and rows of their greedy accuracy (artifact `table_1`). Source:
Table 1 of the paper; Rafailov et al. 2023, arXiv 2305.18290 (DPO); Pang et al. 2024, arXiv
2404.19733 (RPO); Ethayarajh et al. 2024, arXiv 2402.01306 (KTO).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import StrictInt, model_validator
from transformers import set_seed

from lib.base import files
from lib.base.checked import (
    NOT_EMPTY,
    Count,
    Counts,
    Names,
    NotNegative,
    Positive,
    TwoOrMore,
    at_least,
    checked,
    demand,
    one_of,
)
from lib.drawing.markdown import in_words
from lib.drawing.style import METHODS
from lib.evaluation import states
from lib.evaluation.results import headline
from lib.evaluation.scoring import outcome_rows
from lib.evaluation.states import finished_paths
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.experiment.work import FORWARD, training
from lib.models.llama import load_tokenizer
from lib.models.tokenizer import StepTokenizer, save_tokenizer
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.training import checkpoints, preference
from lib.training.preference import (
    PAIRS_PER_PROBLEM,
    TIMES,
    preference_pairs,
    preference_trainer,
    trace_paths,
)
from lib.training.trainer import TrainingSpec
from studies.measurements import SAMPLE, decoded_outcomes, unused_problems
from studies.paper.paper_recipe import PAPER_TRACES
from studies.study import Study

#: What reward models and preferences learn from, and what a method's name then ends in. `paper`:
#: D_op against D_back of the same question; `own`: right and wrong samples of the SFT model.
SOURCES = {"paper": "", "own": "_own"}
#: Passes over each pair, in training examples: DPO's has a reference, KTO's two paths have
#: strangers too; these without gradients.
PASSES = {"dpo": 2 + 2 * FORWARD, "kto": 2 + 6 * FORWARD}


@checked
class BaselineSettings:
    """Best-of-N with a reward model, DPO and KTO: Table 1's baselines that train further.

    All three learn from each of `sources`; the paper's is D_op against D_back of one question.
    """

    models: Names
    sources: Annotated[tuple[Annotated[str, one_of(SOURCES)], ...], NOT_EMPTY]
    breadths: Counts  # the N of best-of-N
    test_problems: Count  # of each test split, for best-of-N; DPO and KTO take all of the model's
    temperature: Positive
    problems: Annotated[StrictInt, at_least(10)]  # of `own`, each with so many `samples`
    samples: TwoOrMore
    reward_paths: TwoOrMore  # at most so many paths train a reward model
    pairs: TwoOrMore  # at most so many pairs train DPO, and twice as many paths KTO
    beta: Positive  # of DPO
    rpo_alpha: NotNegative  # of DPO's further loss on the right path (RPO)
    kto_beta: Positive
    reward: Recipe
    dpo: Recipe
    kto: Recipe

    @model_validator(mode="after")
    def _together(self) -> BaselineSettings:
        size, right = self.kto.batch_size, "at least 2: KTO compares within a batch"
        demand("kto.batch_size", size, size >= 2, right)
        for name in ("reward", "dpo", "kto"):  # whose trainers know neither
            recipe = getattr(self, name)
            demand(f"{name}.packing", recipe.packing, not recipe.packing, "false")
            plain = recipe.weights == "float32"
            demand(f"{name}.weights", recipe.weights, plain, "'float32'")
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
    spec = experiment.spec(settings.samples, 0, temperature=settings.temperature, expansion=SAMPLE)
    return experiment.search(experiment.checkpoint(model, "sft"), problems, spec), problems


@dataclass(frozen=True)
class Learned:
    """Right and wrong paths of training problems, which is known before they are there.

    read: with a tokenizer gives a row a path: problem (a position in `problems`), response, tokens
    (its ids, the end of sequence last), correct.
    """

    problems: pd.DataFrame
    inputs: dict[str, Any]  # what the paths are made of
    read: Callable[[StepTokenizer], pd.DataFrame]


def learned_paths(experiment: Experiment, model: str, source: str, questions: int) -> Learned:
    """What a reward model or preferences learn from, of one of SOURCES.

    The paper's are of the first `questions` that the SFT model learned to solve.
    """
    if source == "own":
        made, problems = training_samples(experiment, model)

        def read(_: StepTokenizer) -> pd.DataFrame:
            return finished_paths(experiment.read_trees(made), problems, experiment.task)

        return Learned(problems, {"search": made.key}, read)
    task, start = experiment.task, experiment.profile.models[model].trunk_examples
    problems = experiment.problems("train", start, questions)
    traces = replace(experiment.profile.traces, **PAPER_TRACES)

    def taught(tokenizer: StepTokenizer) -> pd.DataFrame:
        right = task.optimal_traces(problems)
        wrong = task.backtracking_traces(problems, experiment.seed, traces, experiment.tests)
        return trace_paths(right, wrong, task.prompts(problems), tokenizer)

    inputs = {"data": experiment.data.key, "traces": asdict(traces), "asked": (start, questions)}
    return Learned(problems, inputs, taught)


def preferred(experiment: Experiment, model: str, method: str, source: str) -> Artifact:
    """The checkpoint after `dpo` or `kto`; an interrupted one resumes."""
    settings = experiment.profile.settings(BaselineSettings)
    recipe = getattr(settings, method)
    dpo = {"beta": settings.beta, "rpo_alpha": settings.rpo_alpha}
    weights = dpo if method == "dpo" else {"beta": settings.kto_beta}
    parent = experiment.checkpoint(model, "sft")
    learned = learned_paths(experiment, model, source, settings.pairs)

    def make(folder: Path) -> None:
        policy, tokenizer = experiment.load(parent)
        prompts = experiment.task.prompts(learned.problems)
        encoded = tokenizer.encode_prompts(prompts)
        paths = learned.read(tokenizer)
        pairs = preference_pairs(paths, prompts, encoded, settings.pairs, experiment.seed)
        set_seed(experiment.seed)
        how = (TrainingSpec(recipe, experiment.seed), weights, folder)
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
        **learned.inputs,
        **weights,
        "pairs": (settings.pairs, PAIRS_PER_PROBLEM),
        "recipe": recipe.inputs(),
        "seed": experiment.seed,
    }
    made_by = [preference, states, experiment.task]
    work = training(model, settings.pairs * PASSES[method] * recipe.epochs)
    return experiment.make(f"models/{model}-{method}{SOURCES[source]}", inputs, make, made_by, work)


def tuned(experiment: Experiment) -> Iterator[tuple[str, str, Artifact]]:
    """Model, method and checkpoint of all that the profile asks for; of none without a section."""
    settings = experiment.profile.settings(BaselineSettings)
    for model in settings.models if settings else ():
        for source, method in product(settings.sources, PASSES):
            yield model, method + SOURCES[source], preferred(experiment, model, method, source)


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
        for method in (*PASSES, *(f"{method}_own" for method in PASSES))
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
