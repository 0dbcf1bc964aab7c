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
from typing import Any, TypeVar

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.profiles.settings import (
    PRECISIONS,
    BaselineSettings,
    DataSettings,
    DeepSpeedSettings,
    DfsSettings,
    ImprovementSettings,
    ModelSettings,
    SearchSettings,
    StreamSettings,
    TaskSettings,
    TraceSettings,
    TrainingSettings,
    VllmSettings,
    check,
    heads_fit,
)
from lib.profiles.studies import (
    AuditSettings,
    ComputeSettings,
    ExpansionSettings,
    HypothesisSettings,
    InstrumentSettings,
    MiningSettings,
    RatioSettings,
    SweepSettings,
)
from lib.search.selection import SELECTION_RULES
from lib.tasks.task import Task, load_task
from lib.tasks.trace import LOSSES

PROFILES = ROOT / "profiles"
MODEL_NAMES = ("S", "L")
SAMPLERS = ("cache", "vllm")
MOST_BYTES = 32_768
#: The environment variable in which `make reproduce` hands MODEL to the notebooks.
MODEL_VARIABLE = "SELF_BACKTRACKING_MODEL"


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

    @property
    def sections(self) -> dict[str, Any]:
        return {n: getattr(self, n) for n in self.studies()}

    def settings(self, cls: type) -> Any:
        return next((s for s in self.sections.values() if isinstance(s, cls)), None)

    def rounds(self, model: str) -> int:
        """The rounds of self-improvement of one of its models."""
        own = self.models[model].rounds
        return self.improvement.rounds if own is None else own

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
        demand_small(table)
        profile = build(Profile, {"name": path.stem, **table})
        _check(profile)
        _demand_offered(profile, profile.load_task())
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from error
    return profile


def _demand_offered(profile: Profile, task: Task) -> None:
    """Refuse what a profile asks of a task that does not give it."""
    asked = {
        "[stream]": (profile.stream is not None, task.streams is not None),
        "[dfs]": (profile.dfs is not None, task.goal_test is not None),
        "data.public": (bool(profile.data.public), task.read_public is not None),
        "traces.near_miss": (profile.traces.near_miss > 0, task.near_misses),
    }
    for key, (wanted, offered) in asked.items():
        if wanted and not offered:
            module = profile.task.module
            raise UserError(f"{key}: task.module = {module!r} has nothing for it; leave it out")


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
        if model.rounds is not None:
            demand(f"models.{name}.rounds", model.rounds, model.rounds >= 0, "at least 0")
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
    demand("search.processes", search.processes, search.processes >= 0, "at least 0")
    demand("search.chunk", search.chunk, search.chunk >= 1, "at least 1")
    precisions = " or ".join(PRECISIONS)
    demand("search.precision", search.precision, search.precision in PRECISIONS, precisions)
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
    least_of = {"rounds": 0, "problems": 1, "breadth": 1, "depth": 0, "test_problems": 0}
    for key, least in least_of.items():
        value = getattr(improvement, key)
        demand(f"improvement.{key}", value, value >= least, f"at least {least}")


LARGEST = 2**53  # an integer that is also exact as a float
Settings = TypeVar("Settings")


def demand_small(value: Any, key: str = "") -> None:
    """Refuse huge integers, before anything else: neither a float nor a message can hold one.

    `key` is where the value stands, for the error.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            demand_small(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            demand_small(item, f"{key}[{index}]")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{key}: must be from {-LARGEST} to {LARGEST}")


def build(cls: type[Settings], table: Any, where: str = "") -> Settings:
    """A dataclass from a table; `UserError` where a key is unknown, missing or mistyped.

    `where` is the table's own key, for the errors.
    """
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
        return build(hint, value, key)
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
