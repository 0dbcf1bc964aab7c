"""Whole runs where people run them: two at once, beside a busy process, from a checkout of an odd
name that cannot be written."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.busy import busy_processes
from lib.base.files import ROOT
from lib.evaluation.results import read_results
from lib.profiles.load import PROFILES

#: Smoke without its studies, and hardly any of everything.
SMALL = {"trunk_examples": 1280, "branch_examples": 6400, "train_problems": 4_000, "rounds": 1,
         "problems": 32, "test_problems": 16, "validation_problems": 16}  # fmt: skip
NEEDED = ("task", "data", "traces", "models", "training", "search", "improvement")


def write_profile(path: Path) -> None:
    parts = re.split(r"(?m)^(?=\[)", (PROFILES / "smoke.toml").read_text(encoding="utf-8"))
    text = "".join(
        part for part in parts if not part.startswith("[") or part[1:].startswith(NEEDED)
    )
    for key, value in SMALL.items():
        text = re.sub(rf"^{key} = .*", f"{key} = {value}", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def checkout(tmp_path):
    """What git knows of this repository, in a folder of its own."""
    root = tmp_path / "my répro (1) {x}'s"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listed.stdout.decode().split("\0"):
        if name.startswith(("lib/", "studies/", "commands/", "notebooks/", "profiles/")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, root / name)
    return root


def read_only(root: Path) -> list[str]:
    """What to put before a command for which `root` cannot be written, also by an administrator."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, str(root)]
    if shutil.which("unshare") and subprocess.run([*command, "true"], **quiet).returncode == 0:
        return command
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    root.chmod(0o555)
    return []


def content(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.mark.slow
def test_two_runs_at_once_from_a_checkout_that_cannot_be_written(checkout, tmp_path):
    write_profile(tmp_path / "small.toml")
    before, runs = content(checkout), tmp_path / "my runs"
    command = [*read_only(checkout), sys.executable, "-m", "commands.reproduce"]
    command += ["--profile", str(tmp_path / "small.toml"), "--runs", str(runs)]
    # Another checkout's lib, an outer launcher, and a kernel's folder of somebody else.
    hostile = {"PYTHONPATH": str(ROOT), "RANK": "1", "WORLD_SIZE": "2", "JUPYTER_PATH": "/nowhere"}
    variables = os.environ | hostile | {"PYTHONDONTWRITEBYTECODE": "1"}

    def start(seed: int) -> subprocess.Popen:
        given = [*command, "--seed", str(seed)]
        out = subprocess.PIPE
        return subprocess.Popen(
            given, cwd=checkout, env=variables, stdout=out, stderr=subprocess.STDOUT, text=True
        )

    with busy_processes(1):
        started = [start(seed) for seed in (0, 1)]
        said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said[0][-2000:] + said[1][-2000:]
    assert content(checkout) == before
    for seed in (0, 1):
        made = runs / f"small-{seed}"
        manifest, rows = read_results(made / "figures" / "results.json")
        assert manifest["seed"] == seed and manifest["commit"] == "" and len(rows)
        assert not (made / ".kernel").exists()
        text = (made / "notebooks" / "01_data.ipynb").read_text(encoding="utf-8")
        assert str(ROOT) not in text.replace(str(made), "")
