"""The paper's experiment: what its models search and decode, beside how they are trained.

Takes a profile and a seed; makes each artifact once in the run's folder and hands it out: problems
and checkpoints (stages.py), search trees, decoded responses. The notebooks and studies call this;
what is done inside an artifact lives in lib/search. Knows nothing of figures.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PreTrainedModel

from lib.base import files, hardware
from lib.base.files import ROOT
from lib.experiment.artifacts import Artifact
from lib.experiment.stages import Stages, progress_bar
from lib.experiment.work import decoded_tokens, model_of, sampling, search_tokens
from lib.models.llama import load_model, load_tokenizer, with_fast_products
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.profiles.settings import VllmSettings
from lib.search import decoding
from lib.search import search as search_module
from lib.search.parallel import search_in_processes
from lib.search.sampler import SamplerSource, make_sampler, rows_of_chunk
from lib.search.search_file import search_to_file
from lib.search.tree import TreeFile
from lib.search.variants import PublishedSampling, published_sampler
from lib.search.vllm import shared_sampler

TEST_SPLITS = ("seen", "new")
#: A stage is what a checkpoint has been trained on.
STAGES = ("trunk", "sft", "backtracking")
#: The environment variable in which `make reproduce` hands RUNS to the notebooks.
RUNS_VARIABLE = "SELF_BACKTRACKING_RUNS"


@dataclass
class Experiment(Stages):
    """A profile, a seed, and all the artifacts that they make."""

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

    def stages(self, model: str) -> tuple[str, ...]:
        """The stages of a model: a pretrained one has no trunk."""
        return STAGES[1:] if self.profile.models[model].path else STAGES

    def test_problems(self, model: str, *splits: str) -> pd.DataFrame:
        """The problems of test splits (both, if none is named) that a model is measured on."""
        count = self.profile.models[model].test_problems
        parts = [self.problems(split, 0, count) for split in splits or TEST_SPLITS]
        return pd.concat(parts, ignore_index=True)

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
        variant: PublishedSampling | None = None,
    ) -> Artifact:
        """Search trees of a checkpoint over problems, as JSON lines (`trees`)."""
        # Variants and other expansions need the model's own distributions.
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
        how = (spec.breadth, spec.depth, spec.expansion, spec.per_state)
        tokens = search_tokens(len(prompts), *how)
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
        variant: PublishedSampling | None,
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
        yield published_sampler(variant, sampler) if variant else sampler, tokenizer

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
