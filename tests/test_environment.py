"""What surrounds a process is honoured knowingly or shut out, once, before any library loads."""

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lib.base import hardware
from lib.base.files import ROOT
from lib.base.processes import FIXED, SPINS, settle
from lib.experiment import experiment

#: What an outer launcher, a user's other work and a shell's start-up file may hold.
HOSTILE = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "192.0.2.1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "ACCELERATE_MIXED_PRECISION": "fp16",
    "TORCHELASTIC_RUN_ID": "none",
    "GIT_DIR": "/elsewhere/.git",
    "GIT_WORK_TREE": "/elsewhere",
    "JUPYTER_PATH": "/elsewhere/share",
    "MPLBACKEND": "TkAgg",
    "PIP_TARGET": "/elsewhere",
    "PIP_USER": "1",
    "MATPLOTLIBRC": "/elsewhere/matplotlibrc",
}
HONOURED = {
    "CUDA_VISIBLE_DEVICES": "2,3",
    "OMP_NUM_THREADS": "3",
    "TMPDIR": "/elsewhere/tmp",
    "HF_HOME": "/elsewhere/hub",
    "LOCAL_PROXY": "a",
    "PIP_CACHE_DIR": "/elsewhere/pip",
}


def settled(variables, command=()):
    found = dict(variables)
    settle(found, ROOT, command)
    return found


def test_what_belongs_to_others_is_shut_out_and_the_rest_honoured():
    found = settled(HOSTILE | HONOURED)
    fixed = {"GOMP_SPINCOUNT": SPINS, "PYTHONPATH": str(ROOT)}
    assert found == HONOURED | FIXED | fixed
    assert settled(found) == found  # a child changes nothing


def test_a_worker_is_told_its_rank_by_our_launcher():
    command = ("python", "-u", "-m", "lib.training.deepspeed_worker", "job")
    assert settled(HOSTILE, command)["RANK"] == "3"
    assert "GIT_DIR" not in settled(HOSTILE, command)


def test_a_notebook_s_own_backend_stays():
    inline = "module://matplotlib_inline.backend_inline"
    assert settled({"MPLBACKEND": inline})["MPLBACKEND"] == inline


@pytest.mark.parametrize("given", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_a_user_s_own_spin_holds(given):
    found = settled(given)
    assert {name: found.get(name) for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} == {
        "GOMP_SPINCOUNT": None,
        "OMP_WAIT_POLICY": None,
    } | given


def python(code, variables, cwd=ROOT):
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | variables, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


CHILD = """
import sys, lib, os, subprocess
assert not {"torch", "numpy", "pandas"} & set(sys.modules)
print(os.environ["GOMP_SPINCOUNT"])
subprocess.run(["/bin/sh", "-c", "echo $GOMP_SPINCOUNT"])
"""


def test_the_spin_is_bounded_before_torch_loads_and_in_every_child():
    assert python(CHILD, {"PYTHONUNBUFFERED": "1"}) == [SPINS, SPINS]


def test_what_runs_alone_imports_lib_before_torch():
    """pytest loads conftest.py before any test; a script of its own must do so by itself."""
    assert "import lib" in (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    for path in (ROOT / "tests").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "__main__" in text and (found := re.search("^(import|from) lib", text, re.M)):
            assert not re.search("^(import|from) (torch|trans)", text[: found.start()], re.M)


def test_another_lib_on_the_path_is_not_ours(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("raise SystemExit('another lib')")
    inner = "import lib.base.errors as e; print(e.__file__)"
    code = f"import lib, subprocess, sys; subprocess.run([sys.executable, '-P', '-c', {inner!r}])"
    assert python(code, {"PYTHONPATH": str(tmp_path)}) == [str(ROOT / "lib/base/errors.py")]


def test_the_commit_is_this_repository_s_own(tmp_path, monkeypatch):
    """An archive has none, even where it was unpacked within another repository."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}

    def git(folder, *arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", *who, *arguments]
        subprocess.run(command, cwd=folder, env=os.environ | own, check=True, capture_output=True)

    git(tmp_path, "init")
    git(tmp_path, "commit", "--allow-empty", "-m", "another")
    inner = tmp_path / "un packed (1)"
    inner.mkdir()
    monkeypatch.setattr(experiment, "ROOT", inner)
    assert experiment.commit() == ""
    git(inner, "init")
    git(inner, "commit", "--allow-empty", "-m", "ours")
    found = experiment.commit()
    assert re.fullmatch("[0-9a-f]{12}", found)
    (inner / "a").touch()
    git(inner, "add", "a")
    assert experiment.commit() == f"{found}-dirty"
    git(inner, "commit", "-m", "more")
    git(inner, "worktree", "add", "../tree")
    monkeypatch.setattr(experiment, "ROOT", tmp_path / "tree")
    assert re.fullmatch("[0-9a-f]{12}", experiment.commit())


# Cores


def groups(folder: Path, lines: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": lines, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


V1 = "11:memory:/docker/a\n4:cpu,cpuacct:/docker/a\n1:name=systemd:/docker/a\n"
QUOTAS = [
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
    ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
    ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "350000 100000\n"}, 3),
    (V1, {f"sys/fs/cgroup/cpu,cpuacct/{n}": v for n, v in
          {"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}.items()}, 4),
    (V1, {f"sys/fs/cgroup/cpu/docker/a/{n}": v for n, v in
          {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "50000\n"}.items()}, 3),
    (V1, {f"sys/fs/cgroup/cpu/{n}": v for n, v in
          {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}.items()}, 64),
    ("", {}, 64),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "files", "cores"), QUOTAS)
def test_cores_are_those_that_a_container_grants(tmp_path, monkeypatch, lines, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert hardware.available_cores(groups(tmp_path, lines, files)) == cores


LIMITS = [
    ("0::/a/b\n", {"sys/fs/cgroup/a/memory.max": "1048576\n"}, 2**20),
    ("0::/\n", {"sys/fs/cgroup/memory.max": "max\n"}, 2**40),
    (V1, {"sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "2097152\n"}, 2**21),
    (V1, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 2**40),
]


@pytest.mark.parametrize(("lines", "files", "limit"), LIMITS)
def test_memory_is_what_a_container_grants(tmp_path, monkeypatch, lines, files, limit):
    machine = psutil.virtual_memory()._replace(total=2**40)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert hardware.memory_limit(groups(tmp_path, lines, files)) == limit


def test_fewer_cores_by_affinity_hold_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert hardware.available_cores(groups(tmp_path, *QUOTAS[0][:2])) == 1


def test_torch_has_a_thread_for_each_granted_core():
    code = (
        "import os; os.sched_getaffinity = lambda _: {0}\n"
        "import lib.base.hardware, torch; print(torch.get_num_threads())"
    )
    assert python(code, {}) == ["1"]
