"""Processes that stay: results, errors, a killed process, an interrupt."""

import os
import signal
import time

import psutil
import pytest

from lib.errors import UserError
from lib.searchpool import SearchPool, end_shared, shared_pool


def doubled(number):
    if number < 0:
        raise UserError("negative")
    return 2 * number


def ended(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module", autouse=True)
def none_left():
    yield
    end_shared()


def children():
    return [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]


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


def test_a_process_for_each_core(monkeypatch):
    made = []
    monkeypatch.setattr("lib.searchpool.SearchPool", lambda count: made.append(count) or "pool")
    monkeypatch.setattr("lib.hardware.available_cores", lambda: 64)
    monkeypatch.setattr("lib.searchpool._shared", {})
    monkeypatch.setattr("lib.searchpool.end_shared", lambda: None)
    assert shared_pool(0) == "pool" and made == [16]
