"""Settings of the main experiment and its baselines: task, data, models, recipes, search.

Takes a profile's sections; a value that cannot be is a `UserError` where one section tells, else
lib/profiles.py says so. Knows nothing of what the settings do. The studies' settings are in
lib/studysettings.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lib.errors import UserError
from lib.models import MAX_POSITIONS
from lib.recipe import Recipe
from lib.search import CHUNK_SIZE


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
    """How D_op and D_back are made (the paper's section 3.2; `lib.traces`)."""

    loss: str
    mix: float  # D_back examples for each D_op example: 1.0 is the paper's 1:1
    near_miss: float  # share of near misses among D_back


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
        """Width, layers and heads, as `lib.models.build_model` takes them."""
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
    #: That searches of many problems are dealt to (lib/dealing.py); 0: one for each core or GPU.
    processes: int = 1
    #: Problems that advance together, on one random stream. A GPU has room for more.
    chunk: int = CHUNK_SIZE
    #: Of matrix products; `auto` is bfloat16 where it runs in hardware (lib/precision.py).
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
