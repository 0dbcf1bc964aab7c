"""Profiles: those that ship load, and every mistake in one is named in one line."""

import re
import subprocess
import sys
import tomllib
from copy import deepcopy
from dataclasses import replace

import pytest

from lib.base.checked import Counts, checked, demand
from lib.base.errors import UserError, printable
from lib.base.files import ROOT
from lib.experiment.artifacts import Run
from lib.experiment.experiment import RUNS_VARIABLE
from lib.experiment.planner import Planner
from lib.profiles import load as load_module
from lib.profiles.load import PROFILES, profile_names
from lib.profiles.settings import SELECTION_NAMES
from lib.search.selection import SELECTION_RULES
from studies.beyond.expansions import ExpansionSettings
from studies.catalogue import load_profile, open_experiment
from studies.paper.dpo_kto import BaselineSettings
from studies.paper.table_2 import DfsSettings

SMOKE = tomllib.loads((PROFILES / "smoke.toml").read_text())


def toml(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value!r}" if isinstance(value, str) else str(value)


@pytest.fixture
def load(tmp_path):
    """Loads smoke with some keys changed (dotted name, value; None deletes)."""

    def load(changes):
        table = deepcopy(SMOKE)
        for name, value in changes.items():
            *path, key = name.split(".")
            place = table
            for part in path:
                place = place.setdefault(part, {})
            if value is None:
                del place[key]
            else:
                place[key] = value
        file = tmp_path / "mine.toml"
        file.write_text("\n".join(f"{key} = {toml(value)}" for key, value in table.items()))
        return load_profile(str(file))

    return load


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_every_shipped_profile_loads(name):
    profile = load_profile(name)
    assert profile.name == name and profile.description
    assert profile.load_task().step_end == "\n"
    assert name in profile_names()


@pytest.mark.parametrize("name", [each for each in profile_names() if each != "smoke"])
def test_training_has_problems_that_nothing_trained_on(name):
    """Of self-improvement, and of baselines of own samples; `smoke` has not as many."""
    profile = load_profile(name)
    for model, sizes in profile.models.items():
        used = sizes.examples + profile.rounds(model) * profile.improvement.problems
        baselines = profile.settings(BaselineSettings)
        if baselines and model in baselines.models:
            used += baselines.problems
        assert used <= profile.data.train_problems, model


def test_a_file_of_ones_own(load):
    profile = load({"search.temperature": 1, "search.breadths": [2]})
    assert profile.name == "mine"
    assert profile.search.temperature == 1.0 and profile.search.breadths == (2,)
    assert isinstance(profile.search.temperature, float)


def test_a_profile_that_extends_another_has_what_it_does_not_say(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('description = "x"\nextends = "smoke"\n[search]\nbreadths = [2, 4]\n')
    smoke, mine = load_profile("smoke"), load_profile(str(file))
    assert (mine.name, mine.description, mine.extends) == ("mine", "x", "smoke")
    assert mine.search == replace(smoke.search, breadths=(2, 4))
    same = {"name": "smoke", "description": smoke.description, "extends": None}
    assert replace(mine, search=smoke.search, **same) == smoke


def test_a_profile_leaves_out_what_it_extends_has(tmp_path):
    file = tmp_path / "mine.toml"
    start = 'extends = "cpu"\nwithout = '
    file.write_text(start + '["models.L", "ratios"]\n')
    base, mine = load_profile("cpu"), load_profile(str(file))
    assert list(base.models) == ["S", "L"] and list(mine.models) == ["S"]
    assert set(base.studies()) - set(mine.studies()) == {"ratios"}
    for wrong in ('["models.M"]', '["models.S.layers.x"]', '["cup"]', '[""]'):
        file.write_text(start + wrong)
        with pytest.raises(UserError, match=r"without = .*: must be keys of cpu, such as"):
            load_profile(str(file))
    file.write_text(start + "[1]")
    with pytest.raises(UserError, match=r"mine.toml: without\[0\] = 1: "):
        load_profile(str(file))


def test_it_goes_on_in_the_artifacts_of_what_it_extends(tmp_path, monkeypatch):
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path))
    own, base = open_experiment("studies", 3), open_experiment("cpu", 3)
    assert (own.run.folder, base.run.folder) == (tmp_path / "studies-3", tmp_path / "cpu-3")
    assert own.run.place("data", {}) == base.run.place("data", {})
    made = base.run.make("data", {}, lambda folder: None)
    never = Run(own.run.folder, makes=False, shared=own.run.shared)
    assert never.make("data", {}, lambda folder: None) == made
    assert Planner.of(own).run.place("data", {}) == base.run.place("data", {})


@pytest.mark.parametrize("value", ['"cup"', '"studies"', '["cpu"]', '"../profiles/cpu"', "1"])
def test_only_a_whole_profile_that_ships_is_extended(value, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(f"extends = {value}\n")
    with pytest.raises(UserError, match=r"mine.toml: extends = .*: must be one of cpu, gpu"):
        load_profile(str(file))


def test_an_earlier_name_of_the_task_still_loads(load):
    assert load({"task.module": "lib.countdown"}).task.module == "lib.tasks.countdown"


def test_sections_are_checked_where_their_kinds_are_given(tmp_path):
    file = tmp_path / "mine.toml"
    main = (PROFILES / "smoke.toml").read_text().partition("\n[instruments]")[0]
    file.write_text(main + "\n[toy]\nbreadths = [0]\n")
    raw = load_module.load_profile(str(file))
    assert raw.sections == {"toy": {"breadths": [0]}} and raw.settings(ExpansionSettings) is None
    with pytest.raises(UserError, match=r"mine\.toml: toy: no such key; choose from description, "):
        load_profile(str(file))
    with pytest.raises(UserError, match=r"mine\.toml: toy\.breadths\[0\] = 0: must be at least 1"):
        load_module.load_profile(str(file), {"toy": Toy, "other": DfsSettings})
    file.write_text(main + "\n[toy]\nbreadths = [3]\n")
    with pytest.raises(UserError, match=r"mine\.toml: toy\.breadths = 3: must be at most 2"):
        load_module.load_profile(str(file), {"toy": Toy, "other": DfsSettings})
    file.write_text(main + "\n[toy]\nbreadths = [2]\n")
    profile = load_module.load_profile(str(file), {"toy": Toy, "other": DfsSettings})
    assert profile.settings(Toy) == profile.sections["toy"] == Toy((2,)) and profile.studies() == [
        "toy"
    ]
    assert profile.settings(DfsSettings) is profile.sections["other"] is None
    assert profile.table()["toy"] == {"breadths": (2,)} and profile.table()["other"] is None
    assert profile.with_sections(toy=None).studies() == []
    with pytest.raises(AttributeError, match="toys"):
        _ = profile.toys


@checked
class Toy:
    """A study's section."""

    breadths: Counts

    def check(self, profile):
        demand("toy.breadths", self.breadths[0], self.breadths[0] <= 2, "at most 2")


def test_unknown_profiles_are_answered_with_the_known():
    for name in ("cup", "", "cup.toml", "../profiles/cup", "a" * 300, "nul\0", "a\nb"):
        with pytest.raises(UserError) as error:
            load_profile(name)
        shown = f"PROFILE={printable(name)}: no such profile; choose one of cpu"
        assert str(error.value).startswith(shown)
        assert "smoke" in str(error.value) and "\n" not in str(error.value)


MISTAKES = {
    # Keys
    "baselines.kto.batch_size": (1, "compares within a batch"),
    "baselines.models": (["L"], "must be of S"),
    "baselines.breadths": ([], "must not be empty"),
    "baselines.test_problems": (10**6, "at most"),
    "baselines.beta": (0, "must be more than 0"),
    "baselines.kto_beta": (0, "must be more than 0"),
    "baselines.rpo_alpha": (-1, "must be at least 0"),
    "baselines.sources": (["samples"], "choose one of paper, own"),
    "baselines.pairs": (1, "must be at least 2"),
    "search.bredths": ([1], "no such key; choose from breadths, depths"),
    "serach": ({}, "no such key"),
    "name": ("../../elsewhere", "no such key"),
    "models.S.size": (1, "no such key"),
    "training.branch.lr": (1.0, "no such key"),
    "task.settings.operators": ("+-", "no such key"),
    "data.test_problems": (None, "missing"),
    "improvement.recipe": (None, "missing"),
    "task.settings.held_out": (None, "missing"),
    "models": (None, "missing"),
    # Types
    "data": (3, "must be a table"),
    "models.S": ("small", "must be a table"),
    "data.train_problems": (1.5, "must be int"),
    "search.breadths": (16, "must be a list"),
    "search.depths": ([0, "one"], "must be int"),
    "search.temperatures": (["hot"], "must be float"),
    "traces.mix": ("1:1", "must be float"),
    "training.trunk.compile": (1, "must be bool"),
    "training.branch.batch_size": (True, "must be int"),
    "description": (4, "must be str"),
    "task.settings": ([], "must be a table"),
    "task.settings.numbers": ("four", "must be int"),
    # Values
    "data.validation_problems": (0, "at least 1"),
    "traces.loss": ("both", "paper or honest"),
    "traces.near_miss": (1.5, "from 0 to 1"),
    "models.M": (SMOKE["models"]["S"], "S or L"),
    "models.S.path": ("./folder", "a path or a size"),
    "models.S.heads": (0, "a path or a size"),
    "models.S.hidden_size": (90, "divide"),
    "models.S.trunk_examples": (0, "at least 1"),
    "models.S.branch_examples": (0, "at least 1"),
    "models.S.rounds": (-1, "at least 0"),
    "training.branch.optimizer": ("sgd", "choose one of adamw, muon"),
    "training.branch.schedule": ("step", "choose one of cosine"),
    "training.branch.learning_rate": (-1.0, "more than 0"),
    "training.trunk.batch_size": (0, "at least 1"),
    "training.trunk.epochs": (0.0, "more than 0"),
    "training.trunk.save_steps": (0, "at least 1"),
    "training.trunk.warmup_steps": (-1, "at least 0"),
    "training.branch.verdict_weight": (-1.0, "at least 0"),
    "improvement.recipe.weight_decay": (-0.1, "at least 0"),
    "search.selection": ("best", "mean_logprob"),
    "search.beams": (0, "at least 1"),
    "search.chunk": (0, "at least 1"),
    "search.temperature": (0.0, "more than 0"),
    "improvement.rounds": (-1, "at least 0"),
    "improvement.problems": (0, "at least 1"),
    "improvement.breadth": (0, "at least 1"),
    "improvement.depth": (-1, "at least 0"),
    "improvement.temperature": (0.0, "more than 0"),
    "task.module": ("lib.nosuch", "no task there"),
    # The task's own
    "task.settings.max_number": (0, "from 1 to 999"),
    "task.settings.target_high": (0, "at least target_low"),
    "task.settings.max_result": (10, "at least target_high"),
}


@pytest.mark.parametrize("key", MISTAKES)
def test_mistakes_are_named(load, key):
    value, right = MISTAKES[key]
    with pytest.raises(UserError) as error:
        load({key: value})
    message = str(error.value)
    assert "\n" not in message and message.startswith("mine.toml: ")
    assert key in message or key.rpartition(".")[2] in message
    assert "models.S.rounds" not in message or key == "models.S.rounds"
    assert right in message, message


@pytest.mark.parametrize(
    ("key", "value", "right"),
    [
        ("search.breadths", [], "must not be empty"),
        ("search.breadths", [0], "at least 1 each"),
        ("search.depths", [-1], "at least 0 each"),
        ("search.temperatures", [0.5, 0.0], "more than 0"),
        ("traces.mix", 0.0, "more than 0"),
        ("traces.mix", float("nan"), "more than 0"),
        ("search.temperature", float("inf"), "more than 0"),
        ("training.trunk.learning_rate", float("nan"), "more than 0"),
        ("models", {}, "a table with S"),
        ("task.module", "lib.experiment.artifacts", "no task there"),
        ("task.settings.held_out", 0.999, "leaves at least one target on either side"),
        ("task.settings.held_out", 1.5, "between 0 and 1"),
        ("task.settings.max_result", 10**12, "at most 1000000"),
        ("task.settings.target_high", 10**400, "from -9007199254740992 to 9007199254740992"),
        ("traces.mix", 10**400, "from -9007199254740992 to 9007199254740992"),
        ("search.breadths", [2, 10**30], "from -9007199254740992 to 9007199254740992"),
    ],
)
def test_more_mistakes(load, key, value, right):
    with pytest.raises(UserError, match=rf"^mine\.toml: .*{re.escape(right)}") as error:
        load({key: value})
    assert "\n" not in str(error.value) and key in str(error.value)


BROKEN = [b"[task", b"a = 1\na = 2", b"\xff\xfe", b"\0", b"", b"a = " + b"[" * 5_000]
BROKEN += [b"a = " + b"{b = " * 3_000, b"a." * 100_000 + b"b = 1", b"a = " + b"9" * 10_000]
BROKEN += [b'"a\\nb" = 1', b'"\\u001b[2J" = 1', b"seed = 0x" + b"f" * 20_000]


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_files_that_are_no_profile(tmp_path, data):
    file = tmp_path / "mine.toml"
    file.write_bytes(data)
    with pytest.raises(UserError, match=r"mine\.toml: ") as error:
        load_profile(str(file))
    assert "\n" not in str(error.value) and len(str(error.value)) < 2_500


def test_reading_a_profile_imports_no_library_of_models():
    script = (
        "import sys; from lib.profiles import load; load.load_profile('cpu');"
        "print(*[name for name in sys.modules if name in ('torch', 'transformers', 'datasets')]);"
        "print(*sorted({name.split('.')[1] for name in sys.modules if name.startswith('lib.')}))"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["", "base profiles tasks"], run.stderr


def test_the_selection_rules_are_those_of_the_search():
    assert tuple(SELECTION_RULES) == SELECTION_NAMES


def leaves(table, path=()):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, key))
        else:
            yield ".".join((*path, key)), value


@pytest.mark.parametrize(("key", "value"), list(leaves(SMOKE)))
def test_no_value_is_taken_for_another_kind(load, key, value):
    """Neither "3" for 3, nor true for 1, nor 2.5 for 2."""
    first = value[0] if isinstance(value, list) else value
    others = {int: ["1", True, 1.5], float: ["1", True], bool: ["true", 1], str: [1, True]}
    for other in [*others.get(type(first), [1]), {}]:
        if not (key.endswith("epochs") and other == 1.5):  # a recipe's epochs are a float
            with pytest.raises(UserError, match=rf"^mine\.toml: {re.escape(key)}"):
                load({key: [other] if isinstance(value, list) else other})
