"""The paper's experiment as artifacts: problems, checkpoints, search trees, decoded responses.

Takes a profile and a seed; makes each artifact once in the run's folder and hands it out. The
notebooks call this; what is done inside an artifact lives in the modules beside it. Knows nothing
of figures.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from lib.base import files, hardware
from lib.base.files import ROOT
from lib.experiment.artifacts import Artifact, Run
from lib.models import pretrained as pretrained_module
from lib.models.llama import (
    build_model,
    load_model,
    load_tokenizer,
    resize_embeddings,
    with_fast_products,
)
from lib.models.pretrained import model_folder
from lib.models.tokenizer import (
    TokenizedTraces,
    add_backtrack,
    backtrack_id,
    build_tokenizer,
    encode_traces,
)
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.profiles.settings import CHUNK_SIZE, VllmSettings
from lib.search import decoding
from lib.search.compatibility import demand_searchable
from lib.search.parallel import search_in_processes
from lib.search.sampler import make_sampler, rows_of_chunk, stop_ids
from lib.search.search import search_to_file
from lib.search.tree import TreeFile
from lib.search.variants import PublishedSampling, Variant, applied
from lib.search.vllm import close_shared, shared_sampler
from lib.tasks.task import Task
from lib.training import deepspeed, trainer


def loss_traces(experiment: Experiment, model: str, count: int) -> dict[str, pd.DataFrame]:
    """As many traces that the backtracking stage learned from (train) as unseen ones (test).

    Half D_op, half D_back, made in the same way; the unseen ones are of the validation split, whose
    targets are those of training.
    """
    task, settings = experiment.task, experiment.profile.traces
    learned = experiment.traces(model, "backtracking")
    optimal = round(experiment.profile.models[model].branch_examples / (1 + settings.mix))
    right, wrong = learned.iloc[:optimal], learned.iloc[optimal:]
    problems = experiment.problems("validation")
    half = max(1, min(count // 2, len(problems) // 2, len(right), len(wrong)))
    unseen = (
        task.optimal_traces(problems.iloc[:half]),
        task.backtracking_traces(
            problems.iloc[half : 2 * half].reset_index(drop=True),
            experiment.seed,
            settings,
        ),
    )
    return {
        "train": pd.concat([right.iloc[:half], wrong.iloc[:half]], ignore_index=True),
        "test": pd.concat(unseen, ignore_index=True),
    }


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

        return self.run.make("data", inputs, make)

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

        The trunk sees D_op alone. Every branch sees as many examples as every other, of the
        problems that follow the trunk's: `sft` D_op alone, `backtracking` D_op and D_back.
        """
        sizes, traces = self.profile.models[model], self.profile.traces
        if stage == "trunk":
            return self.task.optimal_traces(self.problems("train", 0, sizes.trunk_examples))
        count, start = sizes.branch_examples, sizes.trunk_examples
        if stage == "sft":
            return self.task.optimal_traces(self.problems("train", start, count))
        return self.mixture(start, count, traces.mix)

    def mixture(self, start: int, count: int, mix: float) -> pd.DataFrame:
        """D_op and D_back, `mix` of the latter for each of the former, of `count` problems."""
        traces, optimal = self.profile.traces, round(count / (1 + mix))
        right = self.task.optimal_traces(self.problems("train", start, optimal))
        if self.profile.data.public:
            wrong = files.read_parquet(self.data.path / "wrong.parquet")
            wrong = wrong.iloc[np.arange(count - optimal) % len(wrong)]
            return pd.concat([right, wrong], ignore_index=True)
        rest = self.problems("train", start + optimal, count - optimal)
        tests = self.table[self.table.split != "train"]
        wrong = self.task.backtracking_traces(rest, self.seed, traces, tests)
        return pd.concat([right, wrong], ignore_index=True)

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
            "traces": asdict(self.profile.traces) if stage == "backtracking" else None,
            "examples": sizes.trunk_examples if stage == "trunk" else sizes.branch_examples,
            "seed": self.seed,
        }
        return self.train(
            f"models/{model}-{stage}",
            inputs,
            lambda: self.start(model, parent),
            lambda: self.traces(model, stage),
            recipe,
            sizes.max_tokens,
        )

    def start(self, model: str, parent: Artifact | None) -> tuple:
        """The model and tokenizer that a stage starts from."""
        sizes = self.profile.models[model]
        if parent is not None:
            return load_model(parent.path), load_tokenizer(parent.path)
        if sizes.path:
            pretrained_module.demand(sizes.path)
            folder = model_folder(sizes.path)
            pretrained, tokenizer = load_model(folder), load_tokenizer(folder)
            add_backtrack(tokenizer)
            resize_embeddings(pretrained, tokenizer)
            demand_searchable(pretrained, tokenizer, self.task.step_end, sizes.path)
            return pretrained, tokenizer
        tokenizer = build_tokenizer(self.task.pieces)
        return build_model(tokenizer, *sizes.size, self.seed), tokenizer

    def train(
        self,
        name: str,
        inputs: dict,
        start: Callable[[], tuple],
        traces: Callable[[], pd.DataFrame],
        recipe: Recipe,
        max_tokens: int = 0,
    ) -> Artifact:
        """A checkpoint: `start()` gives model and tokenizer, `traces()` what it learns.

        The recipe is an input of its own. A trace of more than `max_tokens` tokens is an error; 0
        is no limit.
        """
        inputs = inputs | {"recipe": recipe.inputs()}

        def encode(tokenizer: PreTrainedTokenizerBase) -> TokenizedTraces:
            return encode_traces(tokenizer, traces(), max_tokens or None, self.task.step_end)

        def make(folder: Path) -> None:
            close_shared()
            with progress_bar(name, "step") as bar:

                def progress(step: int, last: int, loss: float) -> None:
                    bar.total = last
                    bar.update(step - bar.n)
                    bar.set_postfix(loss=f"{loss:.3f}")

                if self.profile.deepspeed is not None:
                    how = (recipe, folder, self.seed, self.profile.deepspeed)
                    deepspeed.train(start, encode, *how, progress, bar.set_postfix_str)
                    return
                model, tokenizer = start()
                trainer.train(
                    model, tokenizer, encode(tokenizer), recipe, folder, self.seed, progress
                )

        return self.run.make(name, inputs, make)

    def loss_curve(self, checkpoint: Artifact) -> pd.DataFrame:
        """A checkpoint's training loss: columns step, examples, loss."""
        rows = files.read_json(checkpoint.path / "loss.json")
        return pd.DataFrame(rows, columns=["step", "examples", "loss"])

    # Inference -----------------------------------------------------------------------------------

    def load(self, checkpoint: Artifact) -> tuple:
        """A checkpoint's model and tokenizer, ready for inference."""
        model = load_model(checkpoint.path).to(hardware.device())
        return model, load_tokenizer(checkpoint.path)

    def load_fast(self, checkpoint: Artifact) -> tuple:
        """As `load`, with the products of the profile's `search.precision`."""
        model, tokenizer = self.load(checkpoint)
        return with_fast_products(model, self.profile.search.precision), tokenizer

    @property
    def precision_inputs(self) -> dict[str, str]:
        """What an artifact's inputs say of it: nothing where it is the usual one."""
        precision = self.profile.search.precision
        return {} if precision == "float32" else {"precision": precision}

    @property
    def chunk_inputs(self) -> dict[str, int]:
        """The same of a search's chunks, whose random streams its trees depend on."""
        chunk = self.profile.search.chunk
        return {} if chunk == CHUNK_SIZE else {"chunk": chunk}

    def max_new_tokens(self, tokenizer: object) -> int:
        """Enough for the longest response: from-scratch tokens, of which the goal line is one."""
        goal = len(tokenizer(self.task.goal, add_special_tokens=False)["input_ids"])
        return self.task.max_response_tokens + goal - 1

    def search(
        self,
        checkpoint: Artifact,
        problems: pd.DataFrame,
        breadth: int,
        depth: int,
        temperature: float,
        variant: Variant | PublishedSampling | None = None,
        expansion: str = "sample",
    ) -> Artifact:
        """Search trees of a checkpoint over problems, as JSON lines (`trees`)."""
        # Variants need the model's own modules, other expansions its distributions.
        plain = variant is None and expansion == "sample"
        with_vllm = self.profile.search.sampler == "vllm" and plain
        other = {} if expansion == "sample" else {"expansion": expansion}
        prompts, chunk = self.task.prompts(problems), self.profile.search.chunk
        inputs = (
            {
                "checkpoint": checkpoint.key,
                "prompts": files.digest(prompts),
                "breadth": breadth,
                "depth": depth,
                "temperature": temperature,
                "seed": self.seed,
            }
            | ({"variant": asdict(variant)} if variant else {})
            | ({"sampler": "vllm", "dtype": self.vllm.dtype} if with_vllm else {})
            | ({} if with_vllm else self.precision_inputs)
            | self.chunk_inputs
            | other
        )

        def make(folder: Path) -> None:
            path = folder / "trees.jsonl"
            label = f"search N={breadth} b={depth} T={temperature}"
            settings = (prompts, breadth, depth, temperature, self.seed)
            how = {"step_end": self.task.step_end, "made_of": checkpoint.key} | other
            how["chunk_size"] = chunk
            processes = self.profile.search.processes
            cached = not with_vllm and variant is None
            with progress_bar(label, "problem", len(prompts)) as bar:
                how["on_progress"] = bar.update
                if cached and processes != 1 and len(prompts) > chunk:
                    limit = self.max_new_tokens(load_tokenizer(checkpoint.path))
                    how["precision"] = self.profile.search.precision
                    search_in_processes(path, checkpoint.path, limit, processes, *settings, **how)
                    return
                with self.sampling(checkpoint, variant, with_vllm) as (sampler, tokenizer):
                    search_to_file(path, sampler, tokenizer, *settings, **how)

        suffix = "" if expansion == "sample" else f"-{expansion}"
        name = f"search/{checkpoint.name}-N{breadth}-b{depth}-T{temperature}{suffix}"
        return self.run.make(name, inputs, make)

    @property
    def vllm(self) -> VllmSettings:
        """How vLLM computes, where it samples."""
        return self.profile.vllm or VllmSettings()

    @contextmanager
    def sampling(
        self, checkpoint: Artifact, variant: Variant | PublishedSampling | None, with_vllm: bool
    ) -> Iterator[tuple]:
        """The sampler of a checkpoint, with its tokenizer."""
        if with_vllm:
            tokenizer = load_tokenizer(checkpoint.path)
            ids, limit = stop_ids(tokenizer, self.task.step_end), self.max_new_tokens(tokenizer)
            yield shared_sampler(checkpoint.path, *ids, limit, self.vllm), tokenizer
            return
        model, tokenizer = self.load_fast(checkpoint)
        limit = self.max_new_tokens(tokenizer)
        rows = rows_of_chunk(self.profile.search.chunk)
        sampler = make_sampler(model, tokenizer, self.task.step_end, limit, rows)
        with applied(variant, model, backtrack_id(tokenizer), sampler) as varied:
            yield varied, tokenizer

    def read_trees(self, search: Artifact) -> TreeFile:
        """The trees of a `search(...)`, in the order of its problems."""
        return TreeFile(search.path / "trees.jsonl")

    def decode(self, checkpoint: Artifact, problems: pd.DataFrame, beams: int = 1) -> pd.DataFrame:
        """Greedy (one beam) or beam-search responses: columns text, tokens (a count), logprob."""
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

        made = self.run.make(f"decode/{checkpoint.name}-beams{beams}", inputs, make)
        return pd.DataFrame(files.read_json(made.path / "decoded.json"))


def progress_bar(label: str, unit: str, total: int | None = None) -> tqdm:
    """A plain text bar: a notebook's widget would not reach the terminal of a headless run."""
    return tqdm(desc=label, unit=unit, total=total, mininterval=5, ncols=100, ascii=True)


def commit() -> str:
    """The repository's commit, `-dirty` where files differ from it; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
