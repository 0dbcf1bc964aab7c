"""A run's problems, traces and checkpoints: what each stage of training reads and leaves.

Takes a profile and a seed; makes each artifact once in the run's folder and hands it out. What is
done inside one lives in lib/tasks and lib/training. Knows nothing of searches and of figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from lib.base import files, hardware
from lib.base.errors import UserError
from lib.experiment.artifacts import Artifact, Run, versions
from lib.experiment.work import NO_WORK, Work, model_of, training
from lib.models import pretrained as pretrained_module
from lib.models.llama import build_model, load_model, load_tokenizer, resize_embeddings
from lib.models.pretrained import model_folder
from lib.models.tokenizer import StepTokenizer, TokenizedTraces, add_backtrack, build_tokenizer
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.search.compatibility import demand_searchable
from lib.search.vllm import close_shared
from lib.tasks.task import BACKTRACK, Task
from lib.training import trainer
from lib.training.deepspeed import train_in_processes
from lib.training.trainer import TrainingSpec

Known = TypeVar("Known")


@dataclass
class Stages:
    """A profile, a seed, their problems, and the checkpoint after each stage of training."""

    profile: Profile
    source: str  # what the profile was loaded from: a name, or a TOML file's path
    seed: int
    run: Run

    @cached_property
    def task(self) -> Task:
        """The profile's task."""
        return self.profile.load_task()

    # Artifacts -----------------------------------------------------------------------------------

    def make(
        self,
        name: str,
        inputs: Mapping[str, Any],
        fill: Callable[[Path], None],
        made_by: Sequence[ModuleType | Task | Callable] = (),
        work: Work = NO_WORK,
    ) -> Artifact:
        """The artifact `name`, made by `fill(folder)` where it is not there (artifacts.py).

        `made_by` are the modules (or functions of theirs, or the task) whose code decides what is
        in it: their VERSION is a part of the key. `work` is what making it will take, for a planner
        alone.
        """
        return self.run.make(name, {**inputs, "versions": versions(made_by)}, fill)

    def known(self, read: Callable[[], Known], expected: Known) -> Known:
        """What `read()` gives; a planner goes on with `expected` where it is not there yet."""
        return read()

    # Problems ------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> Artifact:
        """The problems of every split, as parquet."""
        counts = asdict(self.profile.data)
        public = counts.pop("public")
        inputs = {"task": asdict(self.profile.task), "counts": counts, "seed": self.seed}
        if public:
            inputs |= {"public": public, "loss": self.profile.traces.loss}

        def make(folder: Path) -> None:
            if public:
                read = self.task.read_public(public, self.profile.traces.loss, counts)
                files.write_parquet(folder / "wrong.parquet", read[1])
                files.write_parquet(folder / "problems.parquet", read[0])
                return
            table = self.task.make_problems(
                {
                    "train": counts["train_problems"],
                    "validation": counts["validation_problems"],
                    "seen": counts["test_problems"],
                    "new": counts["test_problems"],
                },
                self.seed,
            )
            files.write_parquet(folder / "problems.parquet", table)

        return self.make("data", inputs, make, [self.task])

    @cached_property
    def table(self) -> pd.DataFrame:
        """All problems, with their split."""
        return files.read_parquet(self.data.path / "problems.parquet")

    def problems(self, split: str, start: int = 0, count: int | None = None) -> pd.DataFrame:
        """`count` problems of a split from `start` on; those of training wrap around at their end.

        Raises `UserError` where another split has fewer: a repeated problem would count twice.
        """
        table = self.table[self.table.split == split]
        count = len(table) if count is None else count
        if split != "train" and start + count > len(table):
            raise UserError(
                f"problems: the profile asks for {start + count:,} of the split {split!r}, and "
                f"there are {len(table):,}"
            )
        rows = np.arange(start, start + count) % len(table)
        return table.iloc[rows].reset_index(drop=True)

    # Traces and checkpoints ----------------------------------------------------------------------

    def traces(self, model: str, stage: str) -> pd.DataFrame:
        """The traces that a stage of a model is trained on (text, mask, kind).

        The trunk sees D_op alone, or random play (`traces.trunk`). Every branch sees as many
        examples as every other, of the problems that follow the trunk's: `sft` D_op alone,
        `backtracking` D_op and D_back.
        """
        sizes, traces = self.profile.models[model], self.profile.traces
        if stage == "trunk":
            problems = self.problems("train", 0, sizes.trunk_examples)
            if traces.trunk == "play":
                return self.task.play_traces(problems, self.seed, self.tests)
            return self.task.optimal_traces(problems)
        count, start = sizes.branch_examples, sizes.trunk_examples
        if stage == "sft":
            return self.task.optimal_traces(self.problems("train", start, count))
        return self.mixture(start, count, traces.mix)

    def mixture(self, start: int, count: int, mix: float) -> pd.DataFrame:
        """D_op and D_back, `mix` of the latter for each of the former, `count` traces.

        Of as many problems; of one half of them twice where both ask the same questions.
        """
        traces, optimal = self.profile.traces, round(count / (1 + mix))
        right = self.task.optimal_traces(self.problems("train", start, optimal))
        if self.profile.data.public:
            wrong = files.read_parquet(self.data.path / "wrong.parquet")
            wrong = wrong.iloc[np.arange(count - optimal) % len(wrong)].copy()
        else:
            asked = start if traces.same_questions else start + optimal
            rest = self.problems("train", asked, count - optimal)
            wrong = self.task.backtracking_traces(rest, self.seed, traces, self.tests)
        if traces.ending != "backtrack":  # encoding ends such a path as it does any other
            for column in ("text", "mask"):
                wrong[column] = wrong[column].str.slice(stop=-len(BACKTRACK))
        return pd.concat([right, wrong], ignore_index=True)

    @property
    def tests(self) -> pd.DataFrame:
        """The problems that no training trace may ask."""
        return self.table[self.table.split != "train"]

    def checkpoint(self, model: str, stage: str) -> Artifact:
        """The checkpoint of a model (`S` or `L`) after a stage; trained if it is not there."""
        sizes = self.profile.models[model]
        recipes = self.profile.training
        recipe = recipes.trunk if stage == "trunk" else recipes.branch
        parent = None if stage == "trunk" or sizes.path else self.checkpoint(model, "trunk")
        inputs = {
            "data": self.data.key,
            "parent": parent.key if parent else (sizes.path, *sizes.size),
            "traces": self.trace_inputs(stage),
            "examples": sizes.trunk_examples if stage == "trunk" else sizes.branch_examples,
            "seed": self.seed,
        }
        if sizes.path and sizes.trunk_examples:  # whose problems a branch then leaves out
            inputs["start"] = sizes.trunk_examples
        return self.train(
            f"models/{model}-{stage}",
            inputs,
            lambda: self.start(model, parent),
            lambda: self.traces(model, stage),
            recipe,
            inputs["examples"],
            sizes.max_tokens,
        )

    def trace_inputs(self, stage: str) -> dict[str, Any] | None:
        """What of the profile's [traces] a stage learns from."""
        traces = asdict(self.profile.traces)
        trunk, ending = traces.pop("trunk"), traces.pop("ending")
        if stage == "backtracking":
            return traces | ({} if ending == "backtrack" else {"ending": ending})
        return {"trunk": trunk} if stage == "trunk" else None

    def start(self, model: str, parent: Artifact | None) -> tuple:
        """The model and tokenizer that a stage starts from."""
        sizes = self.profile.models[model]
        if parent is not None:
            return load_model(parent.path), load_tokenizer(parent.path)
        if sizes.path:
            pretrained_module.demand(sizes.path)
            kept = Run(self.run.folder.parent / "pretrained-models")  # for every run
            folder = model_folder(sizes.path, kept.make)
            pretrained, tokenizer = load_model(folder), load_tokenizer(folder)
            add_backtrack(tokenizer)
            resize_embeddings(pretrained, tokenizer)
            steps = StepTokenizer(tokenizer, self.task.step_end)
            demand_searchable(pretrained, steps, sizes.path)
            return pretrained, tokenizer
        tokenizer = build_tokenizer(self.task.pieces)
        return build_model(tokenizer, *sizes.size, self.seed), tokenizer

    def train(
        self,
        name: str,
        inputs: Mapping[str, Any],
        start: Callable[[], tuple],
        traces: Callable[[], pd.DataFrame],
        recipe: Recipe,
        examples: int,
        max_tokens: int = 0,
    ) -> Artifact:
        """A checkpoint: `start()` gives model and tokenizer, `traces()` what it learns.

        The recipe is an input of its own. `examples` is how many traces there will be, for a
        planner. A trace of more than the model's `max_tokens` tokens is an error; 0 is no limit.
        """

        def encode(tokenizer: PreTrainedTokenizerBase) -> TokenizedTraces:
            steps = StepTokenizer(tokenizer, self.task.step_end)
            return steps.encode_traces(traces(), max_tokens or None)

        precision = self.profile.models[model_of(name)].precision

        def make(folder: Path) -> None:
            close_shared()
            hardware.release_memory()  # training in other processes needs the GPU
            with progress_bar(name, "step") as bar:

                def progress(step: int, last: int, loss: float) -> None:
                    bar.total = last
                    bar.update(step - bar.n)
                    bar.set_postfix(loss=f"{loss:.3f}")

                spec, processes = (
                    TrainingSpec(recipe, self.seed, precision=precision),
                    self.profile.deepspeed,
                )
                if processes is not None:
                    news = bar.set_postfix_str
                    train_in_processes(start, encode, spec, folder, processes, progress, news)
                    return
                model, tokenizer = start()
                trainer.train(model, tokenizer, encode(tokenizer), spec, folder, progress)

        work = training(model_of(name), examples * recipe.epochs)
        inputs = {**inputs, "recipe": recipe.inputs()}
        inputs |= {"precision": precision} if precision else {}
        return self.make(name, inputs, make, [trainer, self.task], work)

    def loss_curve(self, checkpoint: Artifact) -> pd.DataFrame:
        """A checkpoint's training loss: columns step, examples, loss."""
        return trainer.read_curve(checkpoint.path)


def progress_bar(label: str, unit: str, total: int | None = None) -> tqdm:
    """A plain text bar: a notebook's widget would not reach the terminal of a headless run."""
    return tqdm(desc=label, unit=unit, total=total, mininterval=5, ncols=100, ascii=True)
