"""Profiles: everything a run can vary, one TOML file each, checked before anything starts.

Takes a profile's name (or a TOML file's path); gives a frozen `Profile`. Knows nothing of what the
settings do. Every mistake in a file is a `UserError` that names the file, the key, and what would
be right.
"""

from __future__ import annotations

import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from lib.errors import UserError
from lib.launch import DeepSpeedSettings, check
from lib.models import MAX_POSITIONS, heads_fit
from lib.selection import SELECTION_RULES
from lib.studysettings import (
    AuditSettings,
    ComputeSettings,
    ExpansionSettings,
    HypothesisSettings,
    InstrumentSettings,
    MiningSettings,
    RatioSettings,
    SweepSettings,
)
from lib.task import Task, load_task
from lib.traces import LOSSES
from lib.training import Recipe
from lib.vllm_sampler import VllmSettings

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ROOT / "profiles"
MODEL_NAMES = ("S", "L")
SAMPLERS = ("cache", "vllm")
MOST_BYTES = 32_768
LARGEST = 2**53  # an integer that is also exact as a float
#: The environment variable in which `make reproduce` hands MODEL to the notebooks.
MODEL_VARIABLE = "SELF_BACKTRACKING_MODEL"


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

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, layers and heads, as `lib.models.build_model` takes them."""
        return self.hidden_size, self.layers, self.heads


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
    processes: int = 1  # that searches of many problems are dealt to (lib/dealing.py)


@dataclass(frozen=True)
class ImprovementSettings:
    """Expert iteration: the paper's section 3.4."""

    rounds: int
    problems: int
    breadth: int
    depth: int
    temperature: float
    recipe: Recipe


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


@dataclass(frozen=True)
class Profile:
    """One run's settings. `name` is the file's stem."""

    name: str
    description: str
    task: TaskSettings
    data: DataSettings
    traces: TraceSettings
    models: dict[str, ModelSettings]
    training: TrainingSettings
    search: SearchSettings
    improvement: ImprovementSettings
    baselines: BaselineSettings | None = None
    instruments: InstrumentSettings | None = None
    compute: ComputeSettings | None = None
    hypotheses: HypothesisSettings | None = None
    sweep: SweepSettings | None = None
    stream: StreamSettings | None = None
    dfs: DfsSettings | None = None
    vllm: VllmSettings | None = None

    ratios: RatioSettings | None = None
    audit: AuditSettings | None = None
    expansions: ExpansionSettings | None = None
    mining: MiningSettings | None = None
    deepspeed: DeepSpeedSettings | None = None

    def studies(self) -> list[str]:
        """The optional sections asked for, but for those that say how to run."""
        optional = [field.name for field in fields(self) if field.default is None]
        return [n for n in optional if getattr(self, n) and n not in ("deepspeed", "vllm")]

    def load_task(self) -> Task:
        """The profile's task, made with its settings."""
        return load_task(self.task.module, self.task.settings)


def profile_names() -> list[str]:
    """The profiles that ship, by name."""
    return sorted(path.stem for path in PROFILES.glob("*.toml"))


def load_profile(name: str) -> Profile:
    """The profile called `name`, or the one in the TOML file at the path `name`."""
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not os.path.isfile(path):  # unlike Path's, it takes any name
        choices = ", ".join(profile_names())
        raise UserError(f"PROFILE={name}: no such profile; choose one of {choices}")
    try:
        # Its reader takes time that grows with the square of a key's length.
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: {size} bytes; a profile has at most {MOST_BYTES}")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from error
    try:
        if "name" in table:
            raise UserError("name: no such key; a profile is called after its file")
        _demand_small(table, "")
        profile = _build(Profile, {"name": path.stem, **table}, "")
        _check(profile)
        profile.load_task()
        for key in ("stream", "dfs"):
            if getattr(profile, key) is not None and profile.task.module != "lib.countdown":
                module = profile.task.module
                raise UserError(
                    f"task.module = {module!r}: must be lib.countdown where there is a [{key}]"
                )
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error
    return profile


def with_model(profile: Profile, path: str) -> Profile:
    """The profile with S's pretrained model replaced by the folder or hub name `path`, if given."""
    if not path:
        return profile
    small = profile.models["S"]
    if not small.path:
        raise UserError(f"MODEL={path}: {profile.name}.toml trains its models from scratch")
    if (folder := Path(path).expanduser()).is_dir():  # also when another folder is current
        path = str(folder.resolve())
    return replace(profile, models={**profile.models, "S": replace(small, path=path)})


def _check(profile: Profile) -> None:
    def demand(key: str, value: Any, holds: bool, right: str) -> None:
        if not holds:
            raise UserError(f"{key} = {value!r}: must be {right}")

    for key, value in asdict(profile.data).items():
        demand(f"data.{key}", value, key == "public" or value >= 1, "at least 1")
    if profile.data.public:
        module = profile.task.module
        demand("task.module", module, module == "lib.countdown", "lib.countdown with data.public")
    traces, search, improvement = profile.traces, profile.search, profile.improvement
    demand("traces.loss", traces.loss, traces.loss in LOSSES, " or ".join(LOSSES))
    demand("traces.mix", traces.mix, 0 < traces.mix < math.inf, "more than 0")
    demand("traces.near_miss", traces.near_miss, 0 <= traces.near_miss <= 1, "from 0 to 1")
    demand("models", list(profile.models), "S" in profile.models, "a table with S, and L if wanted")
    for name, model in profile.models.items():
        demand("models", name, name in MODEL_NAMES, " or ".join(MODEL_NAMES))
        sized = min(model.hidden_size, model.layers, model.heads) > 0
        demand(
            f"models.{name}",
            {key: getattr(model, key) for key in ("path", "hidden_size", "layers", "heads")},
            sized != bool(model.path),
            "a path or a size, not both",
        )
        demand(
            f"models.{name}.hidden_size",
            model.hidden_size,
            not sized or heads_fit(model.hidden_size, model.heads),
            f"what its {model.heads} heads divide into even sizes",
        )
        tested, most = model.test_problems, profile.data.test_problems
        demand(f"models.{name}.test_problems", tested, 1 <= tested <= most, f"from 1 to {most}")
        for key in ("trunk_examples", "branch_examples"):
            least = 0 if key == "trunk_examples" and model.path else 1
            value = getattr(model, key)
            demand(f"models.{name}.{key}", value, value >= least, f"at least {least}")
    for key in ("breadths", "depths", "temperatures"):
        demand(f"search.{key}", getattr(search, key), len(getattr(search, key)) > 0, "not empty")
    demand("search.breadths", search.breadths, min(search.breadths) >= 1, "at least 1 each")
    demand("search.depths", search.depths, min(search.depths) >= 0, "at least 0 each")
    for value in search.temperatures:
        demand("search.temperatures", value, 0 < value < math.inf, "more than 0 each")
    demand("search.beams", search.beams, search.beams >= 1, "at least 1")
    demand("search.processes", search.processes, search.processes >= 1, "at least 1")
    rules = ", ".join(SELECTION_RULES)
    demand("search.sampler", search.sampler, search.sampler in SAMPLERS, " or ".join(SAMPLERS))
    demand("search.selection", search.selection, search.selection in SELECTION_RULES, rules)
    for key, settings in (("search", search), ("improvement", improvement)):
        value = settings.temperature
        demand(f"{key}.temperature", value, 0 < value < math.inf, "more than 0")
    if (baselines := profile.baselines) is not None:
        known = ", ".join(profile.models)
        holds = set(baselines.models) <= set(profile.models)
        demand("baselines.models", list(baselines.models), holds, f"of {known}")
        tested, most = baselines.test_problems, profile.data.test_problems
        demand("baselines.test_problems", tested, tested <= most, f"at most {most}")
    if profile.deepspeed is not None:
        recipes = {"training.branch": profile.training.branch}
        recipes |= {"improvement.recipe": improvement.recipe}
        if any(not model.path for model in profile.models.values()):
            recipes["training.trunk"] = profile.training.trunk
        for key, recipe in recipes.items():
            try:
                check(profile.deepspeed, recipe)
            except UserError as error:
                where = "" if str(error).startswith(("deepspeed", "/")) else f"{key}."
                raise UserError(f"{where}{error}") from error
    for key, least in (("rounds", 0), ("problems", 1), ("breadth", 1), ("depth", 0)):
        value = getattr(improvement, key)
        demand(f"improvement.{key}", value, value >= least, f"at least {least}")


def _demand_small(value: Any, key: str) -> None:
    """Refuse huge integers first: neither a float nor a message can hold one."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _demand_small(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _demand_small(item, f"{key}[{index}]")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{key}: must be from {-LARGEST} to {LARGEST}")


def _build(cls: type, table: Any, where: str) -> Any:
    """A dataclass from a TOML table, strictly: no unknown, missing or mistyped key."""
    if not isinstance(table, Mapping):
        raise UserError(f"{where} = {table!r}: must be a table")
    known = typing.get_type_hints(cls)
    hints = {field.name: known[field.name] for field in fields(cls)}  # no class variable
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in hints:
            raise UserError(f"{prefix}{key}: no such key; choose from {', '.join(hints)}")
    values = {}
    for field in fields(cls):
        key = f"{prefix}{field.name}"
        if field.name in table:
            values[field.name] = _value(hints[field.name], table[field.name], key)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{key}: missing")
    try:
        return cls(**values)
    except UserError as error:
        raise UserError(f"{prefix}{error}") from error


def _value(hint: Any, value: Any, key: str) -> Any:
    if is_dataclass(hint):
        return _build(hint, value, key)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:  # `Table | None`: a section that a profile may leave out
        return _value(arguments[0], value, key)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {name: _value(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is hint:
        return value
    wanted = hint.__name__ if isinstance(hint, type) and origin is None else str(hint)
    if isinstance(hint, types.GenericAlias):
        wanted = "a list" if origin is tuple else "a table"
    raise UserError(f"{key} = {value!r}: must be {wanted}")
