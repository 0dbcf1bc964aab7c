"""Settings of the main experiment: task, data, models, recipes, search, and how it is computed.

Takes a profile's sections; a value that cannot be is a `UserError`. What involves more than one
section is checked in lib/profiles/load.py. Knows nothing of what the settings do, nor of studies.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, StrictBool, StrictFloat, StrictInt, model_validator

from lib.base import files
from lib.base.checked import (
    Count,
    Counts,
    Natural,
    Naturals,
    NotNegative,
    Positive,
    Positives,
    between,
    checked,
    demand,
    one_of,
)
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import CHUNK_SIZE, EXPANSIONS, PER_STATE
from lib.tasks.trace import LOSSES

MAX_POSITIONS = 1024  # of a from-scratch model
TRUNKS = ("optimal", "play")
ENDINGS = ("backtrack", "end_of_sequence")
SAMPLERS = ("cache", "vllm")
#: The rules that choose a search's answer: the names of lib/search/selection.py, in its order.
SELECTION_NAMES = ("mean_logprob", "min_logprob_step", "vote", "self_verification", "combined")
#: Of matrix products. `auto` is bfloat16 where it runs in hardware (lib/models/llama.py).
PRECISIONS = ("float32", "auto")
#: Task modules under earlier names, as profiles and results.json of before have them.
MOVED = {"lib.countdown": "lib.tasks.countdown"}
DTYPES = ("float32", "bfloat16", "float16")
EXECUTORS = ("", "ray")


def heads_fit(hidden_size: int, heads: int) -> bool:
    """Whether the heads divide a model into even sizes, as rotary positions need."""
    return hidden_size % heads == 0 and (hidden_size // heads) % 2 == 0


@checked
class TaskSettings:
    """Which task module, and its own settings (checked by the task itself)."""

    module: Annotated[str, AfterValidator(lambda name: MOVED.get(name, name))]
    settings: dict[str, Any]


@checked
class DataSettings:
    """Problems of each split; the test counts are for each of the two test splits."""

    train_problems: Count
    validation_problems: Count
    test_problems: Count
    public: str = ""  # a folder or hub name of the public data set, in place of the generator


@checked
class TraceSettings:
    """How D_op and D_back are made (the paper's section 3.2; `Task.backtracking_traces`)."""

    loss: Annotated[str, one_of(LOSSES, f"must be {' or '.join(LOSSES)}")]
    mix: Positive  # D_back examples for each D_op example: 1.0 is the paper's 1:1
    #: The share of near misses among D_back, where the task has any.
    near_miss: Annotated[StrictFloat, between(0, 1)] = 0.0
    kinds: Positives = (1.0, 1.0, 1.0)  # parts of the kinds of error: the paper's are 1 : 2 : 2
    same_questions: StrictBool = False  # whether D_back asks what D_op asks, as in the paper
    #: What the trunk sees: solutions (D_op), or random play that knows nothing of choosing steps.
    trunk: Annotated[str, one_of(TRUNKS, f"must be {' or '.join(TRUNKS)}")] = "optimal"
    #: What ends an erroneous path: `<backtrack>`, or (a control) only the end of the sequence.
    ending: Annotated[str, one_of(ENDINGS, f"must be {' or '.join(ENDINGS)}")] = "backtrack"


@checked
class ModelSettings:
    """A from-scratch size, or the path (folder or hub name) of a pretrained model."""

    trunk_examples: Natural
    branch_examples: Count
    test_problems: Count  # of each test split: the first so many of the data's
    path: str = ""
    hidden_size: StrictInt = 0
    layers: StrictInt = 0
    heads: StrictInt = 0
    max_tokens: Natural = 0  # a longer training example is an error; 0 is no limit
    rounds: Natural | None = None  # of self-improvement, where not as many as [improvement] says
    #: What training computes in: "float32", or (None) bfloat16 where the hardware is fast at it.
    precision: Annotated[str, one_of(("float32",))] | None = None

    @model_validator(mode="after")
    def _together(self) -> ModelSettings:
        sized = min(self.size) > 0
        right = f"a path or a size, not both (hidden_size, layers, heads = {self.size})"
        demand("path", self.path, sized != bool(self.path), right)
        fits = not sized or heads_fit(self.hidden_size, self.heads)
        right = f"what its {self.heads} heads divide into even sizes"
        demand("hidden_size", self.hidden_size, fits, right)
        return self

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, layers and heads, as `lib.models.llama.build_model` takes them."""
        return self.hidden_size, self.layers, self.heads

    @property
    def examples(self) -> int:
        """What a method trains on, trunk and branch; training problems from there on are fresh."""
        return self.trunk_examples + self.branch_examples


@checked
class TrainingSettings:
    """Recipes for the trunk (from random weights) and for every branch fine-tuned from it."""

    trunk: Recipe
    branch: Recipe


@checked
class SearchSettings:
    """The search that is measured: the paper's section 4.1."""

    breadths: Counts
    depths: Naturals
    temperature: Positive
    temperatures: Positives
    beams: Count
    selection: Annotated[str, one_of(SELECTION_NAMES)]
    #: How a state's continuations are made; the paper's is beam_sample (lib/search/expansion.py).
    expansion: Annotated[str, one_of(EXPANSIONS)] = "sample"
    #: Continuations of a rolled-back state: the paper's N ("breadth"), or the cheaper sqrt(N).
    per_state: Annotated[str, one_of(PER_STATE)] = "sqrt"
    #: "vllm": [vllm] says more about it.
    sampler: Annotated[str, one_of(SAMPLERS, f"must be {' or '.join(SAMPLERS)}")] = "cache"
    #: That searches of many problems are dealt to (lib/search/parallel.py); 0: one for each core or
    #: GPU.
    processes: Natural = 1
    #: Problems that advance together, on one random stream. A GPU has room for more.
    chunk: Count = CHUNK_SIZE
    precision: Annotated[str, one_of(PRECISIONS, f"must be {' or '.join(PRECISIONS)}")] = "float32"


@checked
class ImprovementSettings:
    """Expert iteration: the paper's section 3.4."""

    rounds: Natural
    problems: Count
    breadth: Count
    depth: Natural
    temperature: Positive
    recipe: Recipe


@checked
class VllmSettings:
    """A profile's `[vllm]` section: how vLLM computes. None of it changes what is computed."""

    dtype: Annotated[str, one_of(DTYPES)] = "float32"
    replicas: Count = 1  # copies of the model, each in its own process, that share the prefixes
    tensor_parallel: Count = 1  # GPUs (or processes) that share each layer of a replica
    #: "ray": the processes may be on several machines, those of a Ray cluster.
    executor: Annotated[str, one_of(EXECUTORS, 'must be "ray", or empty')] = ""
    sequences: Count = 256  # samples that a replica advances together
    context: Count = 2048  # tokens of a prefix and its sample, at most
    cache_gb: NotNegative = 0.0  # a replica's keys and values; 0: what a GPU has left, 1 on the CPU


HOST = re.compile(r"(\S+)\s+slots=(\d+)")


@checked
class DeepSpeedSettings:
    """A profile's `[deepspeed]` section: one setting for one machine or many."""

    devices: Count  # processes on each machine: its GPUs, or CPU processes where it has none
    hostfile: str = ""  # DeepSpeed's list of machines, `name slots=4` a line; "" is this machine
    config: str = "zero2.json"  # DeepSpeed's own configuration: in profiles/, or a path

    def processes(self) -> int:
        """Training processes over all machines; `UserError` names a bad hostfile."""
        if not self.hostfile:
            return self.devices
        try:
            text = Path(self.hostfile).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"deepspeed.hostfile = {self.hostfile!r}: {error}") from error
        lines = [line.strip() for line in text.splitlines()]
        hosts = [line for line in lines if line and not line.startswith("#")]
        slots = [HOST.fullmatch(line) for line in hosts]
        if not hosts or None in slots or any(int(found[2]) < self.devices for found in slots):
            raise UserError(
                f"deepspeed.hostfile = {self.hostfile!r}: each line must name a machine and its"
                f" devices, at least {self.devices}, such as `worker-1 slots={self.devices}`"
            )
        return self.devices * len(hosts)

    def configuration(self) -> dict[str, Any]:
        """DeepSpeed's configuration; `UserError` where there is none."""
        path = Path(self.config)
        return files.read_json(path if path.is_absolute() else ROOT / "profiles" / path)


def check(settings: DeepSpeedSettings, recipe: Recipe) -> None:
    """Raise `UserError` where the recipe cannot be trained with these settings."""
    settings.configuration()
    processes = settings.processes()
    if recipe.optimizer != "adamw":
        raise UserError(
            f"optimizer = {recipe.optimizer!r}: ZeRO deals each matrix out in pieces, and Muon"
            ' needs it whole; with [deepspeed] use optimizer = "adamw"'
        )
    if recipe.padding_loss:
        raise UserError(
            "[audit]: loss on padding is not trained in several processes; leave it out"
        )
    if recipe.weights != "float32":
        raise UserError(
            f"weights = {recipe.weights!r}: not in several processes; leave it out, or [deepspeed]"
        )
    if recipe.batch_size % processes:
        raise UserError(
            f"batch_size = {recipe.batch_size}: must be a multiple of the {processes} processes"
            " of [deepspeed]"
        )
