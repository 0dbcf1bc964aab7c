"""Settings of the main experiment and its baselines: task, data, models, recipes, search.

Takes a profile's sections; a value that cannot be is a `UserError` where one section tells, else
lib/profiles/load.py says so. Knows nothing of what the settings do. The studies' settings are in
lib/profiles/studies.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.base import files
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import CHUNK_SIZE


@dataclass(frozen=True)
class TaskSettings:
    """Which task module, and its own settings (checked by the task itself)."""

    module: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class DataSettings:
    """Problems of each split; the test counts are for each of the two test splits."""

    train_problems: int
    validation_problems: int
    test_problems: int
    public: str = ""  # a folder or hub name of the public data set, in place of the generator


@dataclass(frozen=True)
class TraceSettings:
    """How D_op and D_back are made (the paper's section 3.2; `Task.backtracking_traces`)."""

    loss: str
    mix: float  # D_back examples for each D_op example: 1.0 is the paper's 1:1
    near_miss: float = 0.0  # share of near misses among D_back, where the task has any


@dataclass(frozen=True)
class ModelSettings:
    """A from-scratch size, or the path (folder or hub name) of a pretrained model."""

    trunk_examples: int
    branch_examples: int
    test_problems: int  # of each test split: the first so many of the data's
    path: str = ""
    hidden_size: int = 0
    layers: int = 0
    heads: int = 0
    max_tokens: int = 0  # a longer training example is an error; 0 is no limit
    rounds: int | None = None  # of self-improvement, where not as many as [improvement] says

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, layers and heads, as `lib.models.llama.build_model` takes them."""
        return self.hidden_size, self.layers, self.heads

    @property
    def examples(self) -> int:
        """What a method trains on, trunk and branch; training problems from there on are fresh."""
        return self.trunk_examples + self.branch_examples


@dataclass(frozen=True)
class TrainingSettings:
    """Recipes for the trunk (from random weights) and for every branch fine-tuned from it."""

    trunk: Recipe
    branch: Recipe


@dataclass(frozen=True)
class SearchSettings:
    """The search that is measured: the paper's section 4.1."""

    breadths: tuple[int, ...]
    depths: tuple[int, ...]
    temperature: float
    temperatures: tuple[float, ...]
    beams: int
    selection: str
    sampler: str = "cache"  # or "vllm", which [vllm] says more about
    #: That searches of many problems are dealt to (lib/search/parallel.py); 0: one for each core or
    #: GPU.
    processes: int = 1
    #: Problems that advance together, on one random stream. A GPU has room for more.
    chunk: int = CHUNK_SIZE
    #: Of matrix products; `auto` is bfloat16 where it runs in hardware (lib/models/llama.py).
    precision: str = "float32"


@dataclass(frozen=True)
class ImprovementSettings:
    """Expert iteration: the paper's section 3.4."""

    rounds: int
    problems: int
    breadth: int
    depth: int
    temperature: float
    recipe: Recipe
    test_problems: int = 0  # of each test split, searched after each round


@dataclass(frozen=True)
class BaselineSettings:
    """Best-of-N with a reward model, DPO and KTO: Table 1's baselines that train further.

    All three learn from `samples` samples of the SFT model for each of `problems` problems.
    """

    models: tuple[str, ...]
    breadths: tuple[int, ...]  # the N of best-of-N
    test_problems: int  # of each test split, for best-of-N; DPO and KTO take all of the model's
    temperature: float
    problems: int
    samples: int
    reward_paths: int  # at most so many paths train the reward model
    pairs: int  # at most so many pairs train DPO, and twice as many paths KTO
    beta: float
    reward: Recipe
    dpo: Recipe
    kto: Recipe

    def __post_init__(self) -> None:
        for key, values in (("models", self.models), ("breadths", self.breadths)):
            if not values:
                raise UserError(f"{key} = []: must not be empty")
        if min(self.breadths) < 1:
            raise UserError(f"breadths = {list(self.breadths)}: must be at least 1 each")
        bounds = {"test_problems": 1, "problems": 10, "samples": 2, "reward_paths": 2, "pairs": 2}
        for key, least in bounds.items():
            if getattr(self, key) < least:
                raise UserError(f"{key} = {getattr(self, key)}: must be at least {least}")
        for key in ("temperature", "beta"):
            if not 0 < getattr(self, key) < math.inf:
                raise UserError(f"{key} = {getattr(self, key)}: must be more than 0")
        if self.kto.batch_size < 2:
            raise UserError("kto.batch_size = 1: must be at least 2: KTO compares within a batch")


@dataclass(frozen=True)
class StreamSettings:
    """Stream of Search (Table 2): a branch that learns the traces of real searches."""

    examples: int  # training problems; one that no search solves in `max_tokens` gives none
    max_tokens: int  # of prompt and stream, in a from-scratch tokenizer's tokens
    recipe: Recipe

    def __post_init__(self) -> None:
        if self.examples < 1:
            raise UserError(f"examples = {self.examples}: must be at least 1")
        if not 64 <= self.max_tokens <= MAX_POSITIONS:
            right = f"must be from 64 to {MAX_POSITIONS}"
            raise UserError(f"max_tokens = {self.max_tokens}: {right}")


@dataclass(frozen=True)
class DfsSettings:
    """DFS guided by the SFT model (Table 2)."""

    budgets: tuple[int, ...]  # states visited
    samples: int  # proposals drawn in a state
    temperature: float

    def __post_init__(self) -> None:
        if not self.budgets or min(self.budgets) < 1:
            raise UserError(f"budgets = {list(self.budgets)}: must be one or more, each at least 1")
        if self.samples < 1:
            raise UserError(f"samples = {self.samples}: must be at least 1")
        if not 0 < self.temperature < math.inf:
            raise UserError(f"temperature = {self.temperature}: must be more than 0")


MAX_POSITIONS = 1024


def heads_fit(hidden_size: int, heads: int) -> bool:
    """Whether the heads divide a model into even sizes, as rotary positions need."""
    return hidden_size % heads == 0 and (hidden_size // heads) % 2 == 0


#: `search.precision` in a profile. `auto` is bfloat16 where it runs in hardware.
PRECISIONS = ("float32", "auto")


DTYPES = ("float32", "bfloat16", "float16")
EXECUTORS = ("", "ray")


@dataclass(frozen=True)
class VllmSettings:
    """A profile's `[vllm]` section: how vLLM computes. None of it changes what is computed."""

    dtype: str = "float32"
    replicas: int = 1  # copies of the model, each in a process of its own, that share the prefixes
    tensor_parallel: int = 1  # GPUs (without one: processes) that share each layer of a replica
    executor: str = ""  # "ray": they may be on several machines, those of a Ray cluster
    sequences: int = 256  # samples that a replica advances together
    context: int = 2048  # tokens of a prefix and its sample, at most
    cache_gb: float = 0.0  # a replica's keys and values; 0: what a GPU has left, 1 on the CPU

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UserError(f"dtype = {self.dtype!r}: must be one of {', '.join(DTYPES)}")
        for key in ("replicas", "tensor_parallel", "sequences", "context"):
            if getattr(self, key) < 1:
                raise UserError(f"{key} = {getattr(self, key)}: must be at least 1")
        if self.executor not in EXECUTORS:
            raise UserError(f'executor = {self.executor!r}: must be "ray", or empty')
        if not 0 <= self.cache_gb < math.inf:
            raise UserError(f"cache_gb = {self.cache_gb}: must be 0 or more")


HOST = re.compile(r"(\S+)\s+slots=(\d+)")


@dataclass(frozen=True)
class DeepSpeedSettings:
    """A profile's `[deepspeed]` section: one setting for one machine or many."""

    devices: int  # processes on each machine: its GPUs, or CPU processes where it has none
    hostfile: str = ""  # DeepSpeed's list of machines, `name slots=4` a line; "" is this machine
    config: str = "zero2.json"  # DeepSpeed's own configuration: in profiles/, or a path

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise UserError(f"devices = {self.devices}: must be at least 1")

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
    if recipe.batch_size % processes:
        raise UserError(
            f"batch_size = {recipe.batch_size}: must be a multiple of the {processes} processes"
            " of [deepspeed]"
        )
