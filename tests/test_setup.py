"""The set-up: pins, Makefile, the choice of Python, notebooks as committed, CI's check of smoke."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from check_smoke import accuracy, compare
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_house import HOUSE

from commands import env
from lib.base.errors import UserError
from lib.evaluation.results import row, table, write_results

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
TARGETS = {"help", "env", "reproduce", "plan", "ablations", "test", "lab", "figures", "bench"}
TARGETS |= {"lint", "clean", "env-vllm", "fuzz", "load", "chaos"}
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def pins() -> list[str]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# Pins


def test_every_requirement_is_one_exact_version():
    names = [canonicalize_name(Requirement(pin).name) for pin in pins()]
    assert len(names) == len(set(names))
    for pin in pins():
        assert re.fullmatch(r"==[0-9][^*+]*", str(Requirement(pin).specifier)), pin


@pytest.mark.parametrize(("name", "version"), [("fuzz", "==3.0.0"), ("judge", "==0.1.25")])
def test_fuzzer_and_judge_are_pinned_in_files_of_their_own(name, version):
    lines = (ROOT / f"requirements-{name}.txt").read_text().splitlines()
    asked = [Requirement(line) for line in lines if not line.startswith("#")]
    assert [str(pin.specifier) for pin in asked] == [version]
    assert asked[0].name not in {Requirement(pin).name for pin in pins()}


def test_conda_users_get_the_same_pins():
    assert environment()["dependencies"][-1] == {"pip": pins()}


def test_one_range_of_python_everywhere():
    assert project()["project"]["requires-python"] == ">=3.11,<3.14"
    assert environment()["dependencies"][0] == "python>=3.11,<3.14"


def test_deepspeed_is_asked_for_on_linux_only():
    marker = next(m for m in map(Requirement, pins()) if m.name == "deepspeed").marker
    assert marker.evaluate({"platform_system": "Linux"})
    assert not marker.evaluate({"platform_system": "Darwin"})


def imported(path: Path) -> set[str]:
    """Top-level names of every import of a module, also of those within functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def test_every_import_is_pinned():
    extras = project()["project"].get("optional-dependencies", {}).values()
    listed = [*pins(), *(requirement for extra in extras for requirement in extra)]
    known = {canonicalize_name(Requirement(pin).name) for pin in listed}
    known |= {"vllm", "atheris"}  # in an environment, and a file of pins, of their own
    distributions = packages_distributions()
    ours = {*HOUSE, *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    missing, folders = [], (*HOUSE, "tests")
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for name in imported(path) - set(sys.stdlib_module_names) - ours:
            owners = {canonicalize_name(owner) for owner in distributions.get(name, [name])}
            if not owners & known:
                missing.append(f"{path.name}: {name}")
    assert not missing


# Makefile and the choice of Python


def make(*arguments: str, cwd: Path = ROOT, variables: dict | None = None, **options) -> str:
    # A make that runs the tests hands its flags down; these calls are not part of it.
    dropped = ("MAKE", "MFLAGS", "CONDA", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | (variables or {})
    return subprocess.run(
        ["make", *arguments], cwd=cwd, env=kept, capture_output=True, text=True, **options
    ).stdout


def test_help_is_the_default_and_lists_every_target():
    text = make("help", check=True)
    assert make(check=True) == text
    assert set(re.findall(r"^  ([a-z-]+) ", text, re.M)) == TARGETS


def test_settings_reach_the_experiment():
    text = make("-n", "reproduce", "PROFILE=smoke", "SEED=3", check=True)
    assert '-m commands.reproduce --profile "smoke" --seed "3"' in text
    text = make("-n", "figures", "PROFILE=smoke", "SEED=3", check=True)
    assert '-m commands.figures --profile "smoke" --seed "3"' in text


@pytest.fixture
def commands(tmp_path):
    """A folder to stand alone on PATH, and a function that puts a Python of some version there."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name: str, version: str, with_venv: bool = True) -> None:
        imports = "exit 0" if with_venv else "exit 1"
        script = f'#!/bin/sh\ncase "$2" in *version_info*) echo {version} ;; *) {imports} ;; esac\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    add.folder = folder
    return add


def find_python(folder: Path, wanted: str = "python3") -> subprocess.CompletedProcess:
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts/find_python"), wanted],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("version", PYTHONS)
def test_python_in_range_is_taken(commands, version):
    commands("python3", version)
    assert find_python(commands.folder).stdout == "python3\n"


@pytest.mark.parametrize("version", ["2.7", "3.1", "3.10", "3.14", "3.110"])
def test_python_out_of_range_gets_one_line(commands, version):
    commands("python3", version)
    result = find_python(commands.folder)
    assert result.returncode != 0 and not result.stdout
    assert result.stderr.count("\n") == 1
    assert f"python3 is {version}." in result.stderr and "3.11" in result.stderr


def test_no_python_gets_one_line(commands):
    result = find_python(commands.folder)
    assert result.returncode != 0 and "python3 is missing" in result.stderr


def test_another_python_on_path_is_found(commands):
    commands("python3", "3.14")
    commands("python3.12", "3.12")
    assert find_python(commands.folder).stdout == "python3.12\n"


def test_a_python_that_was_named_is_not_replaced(commands):
    commands("python3.10", "3.10")
    commands("python3.12", "3.12")
    result = find_python(commands.folder, "python3.10")
    assert result.returncode != 0 and "python3.10 is 3.10." in result.stderr


def test_missing_venv_module_gets_one_line(commands):
    commands("python3", "3.11", with_venv=False)
    result = find_python(commands.folder)
    assert result.returncode != 0 and result.stderr.count("\n") == 1
    assert "python3.11-venv" in result.stderr


def test_make_env_stops_at_a_wrong_python(commands, tmp_path):
    commands("python3.10", "3.10")
    python = commands.folder / "python3.10"
    environment_folder = tmp_path / "venv"
    text = make("env", f"PYTHON={python}", f"VENV={environment_folder}")
    assert "Making" not in text and not environment_folder.exists()


# Environments that are there already


@pytest.fixture
def started(monkeypatch):
    """What is run, in place of running it: no package is installed."""
    commands = []
    monkeypatch.setattr(env, "run", lambda *command: commands.append(command))
    return commands


def a_venv(folder: Path, *arguments: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", *arguments, str(folder)], check=True)
    return folder


def refused(folder: Path, capsys, *arguments: str) -> str:
    """The one line with which an environment is refused; nothing of it has changed."""
    before = sorted(path for path in folder.rglob("*"))
    assert env.main([str(folder), *arguments]) == 1
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and sorted(folder.rglob("*")) == before
    assert f"rm -r {folder}" in error and "VENV=.venv-own" in error
    return error


def fake_python(folder: Path, version: str, pip: bool = True) -> Path:
    """An environment whose Python says that it is of some version."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    asked = "*pip*) exit 0 ;;" if pip else "*pip*) exit 1 ;;"
    python.write_text(f'#!/bin/sh\ncase "$3" in {asked} *) echo {version} ;; esac\n')
    python.chmod(0o755)
    return folder


def test_an_environment_of_another_python_is_refused(tmp_path, started, capsys):
    for version in ("3.10", "3.14"):
        folder = fake_python(tmp_path / version, version)
        assert f"is of Python {version}, not 3.11" in refused(folder, capsys)
    assert not started


def test_python_is_never_ignored(tmp_path, started, capsys):
    folder = fake_python(tmp_path / "a", "3.12")
    wanted = str(fake_python(tmp_path / "b", "3.13") / "bin" / "python")
    told = f"PYTHON={wanted} is Python 3.13, and {folder} is of Python 3.12"
    assert told in refused(folder, capsys, "--python", wanted)
    assert env.main([str(folder), "--python", str(tmp_path / "none")]) == 1
    assert "no Python that works" in capsys.readouterr().err
    assert not started
    assert env.main([str(folder), "--python", str(folder / "bin" / "python")]) == 0
    assert started[0][0] == str(folder / "bin" / "python")


def test_an_environment_of_another_tool_is_never_wiped(tmp_path, started, capsys):
    folder = a_venv(tmp_path / "of uv", "--without-pip")
    assert "has no pip; remove it" in refused(folder, capsys)
    with (folder / "pyvenv.cfg").open("a") as file:
        file.write("uv = 0.9.1\n")
    (folder / env.STAMP).touch()
    assert "made by uv, has no pip; remove it" in refused(folder, capsys)
    gone = a_venv(tmp_path / "gone", "--without-pip")
    for name in ("python", "python3"):
        (gone / "bin" / name).unlink()
    (gone / "bin" / "python").symlink_to("no-such-python")
    assert "has no Python that works; remove it" in refused(gone, capsys)
    assert not started


def test_what_was_begun_here_is_made_anew(tmp_path, started, capsys):
    folder = a_venv(tmp_path / "my own (1)", "--without-pip")
    (folder / env.BEGUN).touch()
    assert env.main([str(folder)]) == 0
    assert "made anew" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {env.BEGUN, env.STAMP}
    assert started[0][1:3] == ("-m", "venv") and started[1][-2:] == ("-r", env.PINS)


def test_a_stamp_of_another_checkout_is_renewed(tmp_path, started, monkeypatch):
    folder = fake_python(tmp_path / "venv", "3.12")
    assert env.main([str(folder)]) == 0
    assert [command[-1] for command in started] == [env.PINS, "."]
    started.clear()
    assert env.main([str(folder)]) == 0 and not started
    (folder / env.STAMP).write_text("/elsewhere\n")
    assert env.main([str(folder)]) == 0
    assert [command[-1] for command in started] == [env.PINS, "."]
    assert (folder / env.STAMP).read_text() == f"{Path.cwd()}\n"
    os.utime(folder / env.STAMP, (0, 0))  # the pins are newer
    started.clear()
    assert env.main([str(folder)]) == 0 and len(started) == 2


def test_make_looks_at_a_copied_environment_and_at_python(tmp_path):
    """A checkout with its environment, in a folder of an odd name."""
    root = tmp_path / "my répro (1)"
    root.mkdir()
    for name in ("Makefile", "requirements.txt", "requirements-judge.txt", "pyproject.toml"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    for name in ("lib/__init__.py", "lib/base", "commands", "scripts"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    folder = fake_python(root / "a venv", "3.12")
    stamp = folder / env.STAMP
    stamp.write_text(f"{root}\n")
    named = f"VENV={folder}"
    # What it would do, without doing it.
    plain = make("-n", "test", named, cwd=root)
    assert "commands.env" not in plain and f'"{folder}/bin/python" -m pytest' in plain
    assert "commands.env" in make("-n", "test", named, "PYTHON=python3", cwd=root)
    stamp.write_text("/elsewhere\n")
    assert "commands.env" in make("-n", "test", named, cwd=root)
    assert f'--ServerApp.root_dir="{root}"' in make("-n", "lab", named, cwd=root)


def test_make_env_in_a_folder_of_an_odd_name(tmp_path):
    """The whole of it, with nothing to install."""
    root = tmp_path / "my répro (1)"
    (root / "lib").mkdir(parents=True)
    (root / "requirements.txt").touch()
    (root / "pyproject.toml").write_text('[project]\nname = "empty"\nversion = "1"\n')
    for name in ("Makefile", "lib/__init__.py", "lib/base", "commands", "scripts"):
        (root / name).symlink_to(ROOT / name)
    a_venv(root / ".venv")
    (root / ".venv" / "bin" / "python").rename(root / ".venv" / "bin" / "real")
    python = root / ".venv" / "bin" / "python"
    script = '#!/bin/sh\ncase "$*" in *" install "*) echo "$PIP_USER $PIP_TARGET $*" ;;'
    python.write_text(f'{script} *) exec "$(dirname "$0")/real" "$@" ;; esac\n')
    python.chmod(0o755)
    done = make("env", cwd=root, variables={"PIP_USER": "1", "PIP_TARGET": "/elsewhere"})
    lines = [line for line in done.splitlines() if " install " in line]
    assert len(lines) == 2 and all(line.startswith("0  -m pip install") for line in lines)
    assert (root / ".venv" / env.STAMP).read_text() == f"{root}\n"
    assert "install" not in make("env", cwd=root)


# What is committed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_committed_without_outputs_and_with_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    tagged = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1 and tagged[0].cell_type == "code"


def test_no_file_names_a_machine_or_a_package_host():
    # Put together here, so that this file does not find itself.
    words = ["/" + name + "/" for name in ("root", "home", "Users", "opt", "work")]
    words += ["index" + "-url", "find" + "-links", "pythonhosted" + ".org"]
    folders = (*HOUSE, "tests", "notebooks", "profiles", "scripts", ".ci", ".github")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    kinds = ("Makefile", "LICENSE", ".git[ia]*", "*.md", "*.txt", "*.yml", "*.toml", "*.cff")
    files += [path for kind in kinds for path in ROOT.glob(kind)]
    found = []
    for path in files:
        if "__pycache__" in path.parts or path.suffix in (".safetensors", ".parquet", ".png"):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in words if word in text]
    assert not found


# CI's check of the smoke run


def smoke_rows(searched: float, greedy: float) -> list[dict]:
    rows = []
    for split in ("seen", "new"):
        common = {"model": "S", "split": split, "checker": "strict", "problems": 100}
        rows.append(row("table_1", "sft_greedy", accuracy=greedy, **common))
        for breadth, depth, share in ((4, 1, 0.1), (8, 0, 0.2), (8, 1, searched)):
            rule = {"N": breadth, "b": depth, "selection": "mean_logprob"}
            rows.append(row("table_1", "self_backtracking", accuracy=share, **rule, **common))
    return rows


def test_smoke_check_reads_the_largest_search_of_both_splits():
    rows = table(smoke_rows(0.9, 0.4))
    assert accuracy(rows, "self_backtracking") == pytest.approx(0.9)
    assert accuracy(rows, "sft_greedy") == pytest.approx(0.4)


def test_smoke_check_fails_unless_self_backtracking_is_better(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(UserError, match="no such file"):
        compare(path)
    write_results(path, {}, smoke_rows(0.9, 0.4))
    assert "Self-Backtracking 90.0, SFT greedy 40.0" in compare(path)
    write_results(path, {}, smoke_rows(0.4, 0.4))
    with pytest.raises(UserError, match="must be the better"):
        compare(path)
    write_results(path, {}, smoke_rows(0.9, 0.4)[:4])
    with pytest.raises(UserError, match="both seen and new"):
        compare(path)
