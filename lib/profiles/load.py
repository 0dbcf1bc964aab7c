"""Profiles: everything a run can vary, one TOML file each, checked before anything starts.

Takes a profile's name (or a TOML file's path), and the settings of the sections that studies add;
gives a frozen `Profile`. Knows nothing of what the settings do. Every mistake in a file is a
`UserError` that names the file, the key, and what would be right.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from lib.base.checked import Mistake, build, checked, demand, one_of
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.profiles.recipe import Recipe
from lib.profiles.settings import (
    DataSettings,
    DeepSpeedSettings,
    ImprovementSettings,
    ModelSettings,
    SearchSettings,
    TaskSettings,
    TraceSettings,
    TrainingSettings,
    VllmSettings,
    check,
)
from lib.tasks.task import Task, load_task

PROFILES = ROOT / "profiles"
MODEL_NAMES = ("S", "L")
MOST_BYTES = 32_768
LARGEST = 2**53  # an integer that is also exact as a float
#: The environment variable in which `make reproduce` hands MODEL to the notebooks.
MODEL_VARIABLE = "SELF_BACKTRACKING_MODEL"
Settings = TypeVar("Settings")


@checked
class Profile:
    """One run's settings. `name` is the file's stem."""

    name: str
    description: str
    task: TaskSettings
    data: DataSettings
    traces: TraceSettings
    models: dict[Annotated[str, one_of(MODEL_NAMES, "must be S or L")], ModelSettings]
    training: TrainingSettings
    search: SearchSettings
    improvement: ImprovementSettings
    deepspeed: DeepSpeedSettings | None = None
    vllm: VllmSettings | None = None
    #: The profile that ships whose settings it has where it says nothing, and whose artifacts.
    extends: str | None = None
    #: The studies' settings by their section's name; None where the profile leaves a section out.
    sections: dict[str, Any] = field(default_factory=dict)

    def settings(self, cls: type[Settings]) -> Settings | None:
        """The study's section that is of this class; None where the profile has none."""
        return next((found for found in self.sections.values() if isinstance(found, cls)), None)

    def studies(self) -> list[str]:
        """The names of the studies' sections that it has."""
        return [name for name, settings in self.sections.items() if settings is not None]

    def with_sections(self, **settings: Any) -> Profile:
        """The profile with these studies' sections in place of its own."""
        return replace(self, sections=self.sections | settings)

    def table(self) -> dict[str, Any]:
        """All of it as one table, as in its file: for the manifest of results.json."""
        table = asdict(self)
        return table | table.pop("sections")

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


def load_profile(name: str, sections: Mapping[str, Any] | None = None) -> Profile:
    """The profile called `name`, or the one in the TOML file at the path `name`.

    `sections` are the further sections that it may have, by name, with the type of each; the
    optional method `check(profile)` of a section raises `Mistake` where it does not go with the
    rest. Without `sections` further tables are kept as they are, unchecked.
    """
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not os.path.isfile(path):  # unlike Path's, it takes any name
        choices = ", ".join(profile_names())
        raise UserError(f"PROFILE={name}: no such profile; choose one of {choices}")
    table = read_table(path)
    try:
        if "name" in table:
            raise UserError("name: no such key; a profile is called after its file")
        if "extends" in table:
            table = extended(table)
        profile = make_profile({"name": path.stem, **table}, sections)
        _check(profile)
        task = profile.load_task()
        offered(profile, "data.public", not profile.data.public or task.read_public)
        offered(profile, "traces.trunk", profile.traces.trunk != "play" or task.play_traces)
        offered(profile, "traces.near_miss", not profile.traces.near_miss or task.near_misses)
        for section in profile.sections.values():
            if hasattr(section, "check"):
                section.check(profile)
    except (UserError, Mistake) as error:
        raise UserError(f"{path.name}: {error}") from error
    return profile


def read_table(path: Path) -> dict[str, Any]:
    """A profile's file as it is; `UserError` where it is no TOML file or too large."""
    try:
        # Its reader takes time that grows with the square of a key's length.
        if (size := path.stat().st_size) > MOST_BYTES:
            raise UserError(f"{path}: {size} bytes; a profile has at most {MOST_BYTES}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from error


def whole_table(path: Path) -> dict[str, Any]:
    """A profile's file with what it has of the profile that it extends; raises as `load_profile`,
    and `Mistake`."""
    table = read_table(path)
    return extended(table) if "extends" in table else table


def extended_by(name: str) -> Any:
    """What the profile that ships under this name extends, as its file says it; None: nothing."""
    return read_table(PROFILES / f"{name}.toml").get("extends")


def extended(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table laid over that of the profile it extends, of which it leaves out what `without`
    names: what it says nothing of is that one's."""
    plain = [name for name in profile_names() if extended_by(name) is None]
    demand("extends", table["extends"], table["extends"] in plain, f"one of {', '.join(plain)}")
    below = read_table(PROFILES / f"{table['extends']}.toml")
    above = dict(table)
    for left_out in build(tuple[str, ...], above.pop("without", ()), "without"):
        *path, name = left_out.split(".")
        place: Any = below
        for part in path:
            place = place.get(part) if isinstance(place, Mapping) else None
        known = isinstance(place, Mapping) and name in place
        demand("without", left_out, known, f"keys of {table['extends']}, such as models.L")
        del place[name]
    return laid_over(below, above)


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both tables in one; where both have a key, `above` has it, and tables are joined again."""
    joined = {
        key: laid_over(below[key], value)
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        else value
        for key, value in above.items()
    }
    return {**below, **joined}


def make_profile(table: Any, sections: Mapping[str, Any] | None = None) -> Profile:
    """A profile from its whole table, each section checked on its own; see `load_profile`."""
    if not isinstance(table, Mapping):
        raise UserError(f"{table!r}: must be a table")
    demand_small(table)
    known = [field.name for field in fields(Profile) if field.name != "sections"]
    main = {key: value for key, value in table.items() if key in known}
    rest = {key: value for key, value in table.items() if key not in known}
    if sections is not None:
        for key in rest:
            if key not in sections:
                choices = ", ".join([*known[1:], *sections])  # no file has a name in it
                raise UserError(f"{key}: no such key; choose from {choices}")
        rest = {
            name: build(kind, rest[name], name) if name in rest else None
            for name, kind in sections.items()
        }
    return build(Profile, main | {"sections": rest})


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


def offered(profile: Profile, key: str, holds: object) -> None:
    """Raise the `Mistake` of a key that asks its task for what the task does not give."""
    if not holds:
        module = profile.task.module
        raise Mistake(f"{key}: task.module = {module!r} has nothing for it; leave it out")


def _check(profile: Profile) -> None:
    """Raise an error where two of the main sections do not go together."""
    models, most = profile.models, profile.data.test_problems
    demand("models", list(models), "S" in models, "a table with S, and L if wanted")
    for name, model in models.items():
        tested, trunk = model.test_problems, model.trunk_examples
        demand(f"models.{name}.test_problems", tested, tested <= most, f"from 1 to {most}")
        demand(f"models.{name}.trunk_examples", trunk, trunk or model.path, "at least 1")
    if profile.deepspeed is None:
        return
    recipes = {"training.branch": profile.training.branch}
    recipes |= {"improvement.recipe": profile.improvement.recipe}
    if any(not model.path for model in models.values()):
        recipes["training.trunk"] = profile.training.trunk
    for name, section in profile.sections.items():
        if name != "baselines":  # which train in this process
            found = vars(section) if hasattr(section, "__dict__") else {}
            recipes |= {f"{name}.{k}": v for k, v in found.items() if isinstance(v, Recipe)}
    for key, recipe in recipes.items():
        try:
            check(profile.deepspeed, recipe)
        except UserError as error:
            where = "" if str(error).startswith(("deepspeed", "/")) else f"{key}."
            raise UserError(f"{where}{error}") from error
