"""Processes that stay: results, errors, a killed process, an interrupt."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from lib.base.errors import UserError
from lib.base.processes import python_environment
from lib.search.parallel import SearchPool, end_shared, shared_pool


def doubled(number):
    if number < 0:
        raise UserError("negative")
    return 2 * number


def grown(megabytes, kept=[]):  # noqa: B006 (it is meant to keep)
    import torch

    kept.append(b"x" * (megabytes << 20))
    time.sleep(1.1)  # loky looks at a process's memory once a second
    return os.getpid(), torch.get_num_threads()


def ended(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module", autouse=True)
def none_left():
    yield
    end_shared()


def children():
    return [p for p in psutil.Process().children() if "popen_loky" in " ".join(p.cmdline())]


@pytest.mark.slow
def test_kept_processes():
    pool = shared_pool(2)
    assert shared_pool(2) is pool and pool.processes == 2
    assert sorted(pool.run(doubled, [(1,), (2,), (3,)])) == [2, 4, 6]
    assert list(pool.run(doubled, [])) == []
    with pytest.raises(UserError, match=r"^negative$"):
        list(pool.run(doubled, [(-1,), (1,)]))
    # A failure ended it; another takes its place.
    assert shared_pool(2) is not pool
    with pytest.raises(UserError, match="ended early"):
        list(shared_pool(2).run(ended, [(1,)]))
    assert list(shared_pool(2).run(doubled, [(5,)])) == [10]
    end_shared()
    assert psutil.wait_procs(children(), 10)[1] == []


@pytest.mark.slow
def test_an_interrupt_ends_them():
    pool = SearchPool(1)
    assert list(pool.run(doubled, [(1,)])) == [2]
    waiting = pool.run(time.sleep, [(0,), (600,)])
    assert next(waiting) is None
    with pytest.raises(KeyboardInterrupt):
        waiting.throw(KeyboardInterrupt())
    assert psutil.wait_procs(children(), 10)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("started", [["script.py"], ["-m", "script"]])
def test_a_plain_script_runs_once(tmp_path, started):
    """Without `if __name__ == "__main__"`, too."""
    (tmp_path / "script.py").write_text(
        "from lib.search.parallel import shared_pool\n"
        "with open('ran', 'a') as file: file.write('x')\n"
        "print(sorted(shared_pool(2).run(max, [(1, 2), (3, 4)])), __file__[-9:])\n"
    )
    done = subprocess.run(
        [sys.executable, *started],
        cwd=tmp_path,
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "[2, 4] script.py\n", done.stderr
    assert (tmp_path / "ran").read_text() == "x"


@pytest.mark.slow
def test_a_process_that_grows_is_kept_and_has_one_thread():
    """A second, larger model is no leak."""
    pool = SearchPool(1)
    found = [list(pool.run(grown, [(size,)])) for size in (1, 400, 1, 1)]
    assert found == [found[0]] * 4 and found[0][0][1] == 1
    assert len(children()) == 1
    pool.end()


def test_a_process_for_each_core(monkeypatch):
    made = []
    monkeypatch.setattr(
        "lib.search.parallel.SearchPool", lambda count: made.append(count) or "pool"
    )
    monkeypatch.setattr("lib.base.hardware.available_cores", lambda: 64)
    monkeypatch.setattr("lib.search.parallel._shared", {})
    monkeypatch.setattr("lib.search.parallel.end_shared", lambda: None)
    assert shared_pool(0) == "pool" and made == [16]
