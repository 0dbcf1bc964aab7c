"""The paper's experiment as artifacts: problems, checkpoints, search trees, decoded responses.

Takes a profile and a seed; makes each artifact once in the run's folder and hands it out. The
notebooks call this; what is done inside an artifact lives in the modules beside it. Knows nothing
of figures.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.base import files, hardware
from lib.base.files import ROOT
from lib.experiment.artifacts import Artifact, Run, versions
from lib.experiment.work import (
    NO_WORK,
    Work,
    decoded_tokens,
    model_of,
    sampling,
    search_tokens,
    training,
)
from lib.models import pretrained as pretrained_module
from lib.models.llama import (
    build_model,
    load_model,
    load_tokenizer,
    resize_embeddings,
    with_fast_products,
)
from lib.models.pretrained import model_folder
from lib.models.tokenizer import StepTokenizer, TokenizedTraces, add_backtrack, build_tokenizer
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import SearchSpec
from lib.profiles.settings import VllmSettings
from lib.search import decoding
from lib.search import search as search_module
from lib.search.compatibility import demand_searchable
from lib.search.parallel import search_in_processes
from lib.search.sampler import SamplerSource, make_sampler, rows_of_chunk
from lib.search.search_file import search_to_file
from lib.search.tree import TreeFile
from lib.search.variants import PublishedSampling, SamplingVariant, applied
from lib.search.vllm import close_shared, shared_sampler
from lib.tasks.task import BACKTRACK, Task
from lib.training import trainer
from lib.training.deepspeed import train_in_processes
from lib.training.trainer import TrainingSpec

Known = TypeVar("Known")

TEST_SPLITS = ("seen", "new")
#: A stage is what a checkpoint has been trained on.
STAGES = ("trunk", "sft", "backtracking")
#: The environment variable in which `make reproduce` hands RUNS to the notebooks.
RUNS_VARIABLE = "SELF_BACKTRACKING_RUNS"


@dataclass
class Experiment:
    """A profile, a seed, and the artifacts that they make."""

    profile: Profile
    source: str  # what the profile was loaded from: a name, or a TOML file's path
    seed: int
    run: Run

    @cached_property
    def task(self) -> Task:
        """The profile's task."""
        return self.profile.load_task()

    def manifest(self) -> dict:
        """What made this run: for results.json and the figures. Holds no time: it must not vary."""
        return {
            "profile": self.profile.name,
            "seed": self.seed,
            "commit": commit(),
            "versions": hardware.versions(),
            "hardware": hardware.describe(),
            "data_hash": files.file_digest(self.data.path / "problems.parquet"),
            "settings": self.profile.table(),
        }

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
        """`count` problems of a split from `start` on, wrapping around at its end."""
        table = self.table[self.table.split == split]
        count = len(table) if count is None else count
        rows = np.arange(start, start + count) % len(table)
        return table.iloc[rows].reset_index(drop=True)

    def test_problems(self, model: str, *splits: str) -> pd.DataFrame:
        """The problems of test splits (both, if none is named) that a model is measured on."""
        count = self.profile.models[model].test_problems
        parts = [self.problems(split, 0, count) for split in splits or TEST_SPLITS]
        return pd.concat(parts, ignore_index=True)

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
            wrong = wrong.iloc[np.arange(count - optimal) % len(wrong)]
            return pd.concat([right, wrong], ignore_index=True)
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

    def stages(self, model: str) -> tuple[str, ...]:
        """The stages of a model: a pretrained one has no trunk."""
        return STAGES[1:] if self.profile.models[model].path else STAGES

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

        def make(folder: Path) -> None:
            close_shared()
            with progress_bar(name, "step") as bar:

                def progress(step: int, last: int, loss: float) -> None:
                    bar.total = last
                    bar.update(step - bar.n)
                    bar.set_postfix(loss=f"{loss:.3f}")

                spec, processes = TrainingSpec(recipe, self.seed), self.profile.deepspeed
                if processes is not None:
                    news = bar.set_postfix_str
                    train_in_processes(start, encode, spec, folder, processes, progress, news)
                    return
                model, tokenizer = start()
                trainer.train(model, tokenizer, encode(tokenizer), spec, folder, progress)

        work = training(model_of(name), examples * recipe.epochs)
        inputs = {**inputs, "recipe": recipe.inputs()}
        return self.make(name, inputs, make, [trainer, self.task], work)

    def loss_curve(self, checkpoint: Artifact) -> pd.DataFrame:
        """A checkpoint's training loss: columns step, examples, loss."""
        return trainer.read_curve(checkpoint.path)

    # Inference -----------------------------------------------------------------------------------

    def tokenizer(self, checkpoint: Artifact) -> StepTokenizer:
        """A checkpoint's tokenizer, with the task's step end."""
        return StepTokenizer(load_tokenizer(checkpoint.path), self.task.step_end)

    def load(self, checkpoint: Artifact) -> tuple[PreTrainedModel, StepTokenizer]:
        """A checkpoint's model and tokenizer, ready for inference."""
        model = load_model(checkpoint.path).to(hardware.device())
        return model, self.tokenizer(checkpoint)

    def load_fast(self, checkpoint: Artifact) -> tuple[PreTrainedModel, StepTokenizer]:
        """As `load`, with the products of the profile's `search.precision`."""
        model, tokenizer = self.load(checkpoint)
        return with_fast_products(model, self.profile.search.precision), tokenizer

    @property
    def precision_inputs(self) -> dict[str, str]:
        """What an artifact's inputs say of it: nothing where it is the usual one."""
        precision = self.profile.search.precision
        return {} if precision == "float32" else {"precision": precision}

    def max_new_tokens(self, tokenizer: StepTokenizer) -> int:
        """Enough for the longest response: from-scratch tokens, of which the goal line is one."""
        goal = len(tokenizer.base(self.task.goal, add_special_tokens=False)["input_ids"])
        return self.task.max_response_tokens + goal - 1

    def spec(self, breadth: int, depth: int, **others: Any) -> SearchSpec:
        """A search as the profile's `[search]` says, of this run's seed."""
        search = self.profile.search
        names = ("temperature", "expansion", "per_state", "chunk")
        usual = {name: getattr(search, name) for name in names} | {"seed": self.seed}
        return SearchSpec(breadth, depth, **(usual | others))

    def search(
        self,
        checkpoint: Artifact,
        problems: pd.DataFrame,
        spec: SearchSpec,
        variant: SamplingVariant | PublishedSampling | None = None,
    ) -> Artifact:
        """Search trees of a checkpoint over problems, as JSON lines (`trees`)."""
        # Variants need the model's own modules, other expansions its distributions.
        plain = variant is None and spec.expansion == "sample"
        with_vllm = self.profile.search.sampler == "vllm" and plain
        prompts = self.task.prompts(problems)
        inputs = (
            {"checkpoint": checkpoint.key, "prompts": files.digest(prompts)}
            | spec.inputs()
            | ({"variant": asdict(variant)} if variant else {})
            | ({"sampler": "vllm", "dtype": self.vllm.dtype} if with_vllm else {})
            | ({} if with_vllm else self.precision_inputs)
        )

        def make(folder: Path) -> None:
            path = folder / "trees.jsonl"
            label = f"search N={spec.breadth} b={spec.depth} T={spec.temperature}"
            processes, precision = self.profile.search.processes, self.profile.search.precision
            cached = not with_vllm and variant is None
            with progress_bar(label, "problem", len(prompts)) as bar:
                more = {"made_of": checkpoint.key, "on_progress": bar.update}
                if cached and processes != 1 and len(prompts) > spec.chunk:
                    limit = self.max_new_tokens(self.tokenizer(checkpoint))
                    how = (self.task.step_end, limit, precision)
                    source = SamplerSource(str(checkpoint.path), *how)
                    search_in_processes(path, source, prompts, spec, processes, **more)
                    return
                with self.sampling(checkpoint, variant, with_vllm) as (sampler, tokenizer):
                    search_to_file(path, sampler, tokenizer, prompts, spec, **more)

        suffix = "" if spec.expansion == "sample" else f"-{spec.expansion}"
        name = f"search/{checkpoint.name}-N{spec.breadth}-b{spec.depth}-T{spec.temperature}{suffix}"
        drawn = spec.breadth * getattr(variant, "oversampling", 1)
        tokens = search_tokens(len(prompts), drawn, spec.depth, spec.expansion, spec.per_state)
        work = sampling(model_of(checkpoint.name), tokens)
        return self.make(name, inputs, make, [search_module], work)

    @property
    def vllm(self) -> VllmSettings:
        """How vLLM computes, where it samples."""
        return self.profile.vllm or VllmSettings()

    @contextmanager
    def sampling(
        self,
        checkpoint: Artifact,
        variant: SamplingVariant | PublishedSampling | None,
        with_vllm: bool,
    ) -> Iterator[tuple]:
        """The sampler of a checkpoint, with its tokenizer."""
        if with_vllm:
            tokenizer = self.tokenizer(checkpoint)
            settings = (*tokenizer.stop_ids, self.max_new_tokens(tokenizer), self.vllm)
            yield shared_sampler(checkpoint.path, *settings), tokenizer
            return
        model, tokenizer = self.load_fast(checkpoint)
        limit = self.max_new_tokens(tokenizer)
        rows = rows_of_chunk(self.profile.search.chunk)
        sampler = make_sampler(model, tokenizer, limit, rows)
        with applied(variant, model, tokenizer.backtrack_id, sampler) as varied:
            yield varied, tokenizer

    def read_trees(self, search: Artifact) -> TreeFile:
        """The trees of a `search(...)`, in the order of its problems."""
        return TreeFile(search.path / "trees.jsonl")

    def decoding(self, checkpoint: Artifact, problems: pd.DataFrame, beams: int = 1) -> Artifact:
        """Greedy (one beam) or beam-search responses, as an artifact."""
        prompts = self.task.prompts(problems)
        inputs = {"checkpoint": checkpoint.key, "prompts": files.digest(prompts), "beams": beams}
        inputs |= self.precision_inputs

        def make(folder: Path) -> None:
            model, tokenizer = self.load_fast(checkpoint)
            limit = self.max_new_tokens(tokenizer)
            if beams == 1:
                found = decoding.greedy(model, tokenizer, prompts, limit)
            else:
                found = decoding.beam_search(model, tokenizer, prompts, limit, beams)
            rows = [{"text": d.text, "tokens": len(d.tokens), "logprob": d.logprob} for d in found]
            files.write_atomic(folder / "decoded.json", json.dumps(rows))

        name = f"decode/{checkpoint.name}-beams{beams}"
        tokens = decoded_tokens(len(prompts), beams)
        work = sampling(model_of(checkpoint.name), tokens)
        return self.make(name, inputs, make, [decoding], work)

    def decode(self, checkpoint: Artifact, problems: pd.DataFrame, beams: int = 1) -> pd.DataFrame:
        """The responses of `decoding`: columns text, tokens (a count), logprob."""
        made = self.decoding(checkpoint, problems, beams)
        return pd.DataFrame(files.read_json(made.path / "decoded.json"))


def progress_bar(label: str, unit: str, total: int | None = None) -> tqdm:
    """A plain text bar: a notebook's widget would not reach the terminal of a headless run."""
    return tqdm(desc=label, unit=unit, total=total, mininterval=5, ncols=100, ascii=True)


def commit() -> str:
    """The repository's commit, `-dirty` where files differ from it; empty outside a repository.

    A repository around this one, in which an archive of it was unpacked, is another's.
    """
    command = ["git", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", "describe", "--always"]
    command += ["--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
