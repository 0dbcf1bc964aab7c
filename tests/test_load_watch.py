"""What else the machine does is seen: other programs' cores, and the memory that a run holds."""

import subprocess
import sys
import time

import psutil
import pytest

from lib.base import hardware
from lib.base.hardware import Watch

BUSY = (
    "import time; data = bytearray(60_000_000)\nend = time.time() + 60\nwhile time.time() < end: 1"
)


@pytest.fixture
def counted(monkeypatch):
    """Seconds that the machine and this process have worked, as a test says."""
    seconds = {"busy": 0.0, "own": {1: 0.0}, "at": 0.0}
    monkeypatch.setattr(hardware, "_busy_s", lambda: seconds["busy"])
    monkeypatch.setattr(hardware, "_own_s", lambda: (dict(seconds["own"]), 7))
    monkeypatch.setattr(hardware.time, "monotonic", lambda: seconds["at"])
    return seconds


def test_what_others_did_is_what_we_did_not(counted):
    watch = Watch()
    watch.look()
    assert watch.others() == "" and watch.held == 7
    counted.update(busy=30.0, own={1: 5.0, 2: 10.0}, at=10.0)  # a child came
    watch.look()
    assert watch.other_cores == pytest.approx(1.5)
    counted.update(busy=35.0, own={1: 10.0}, at=20.0)  # and went
    watch.look()
    assert watch.other_cores == pytest.approx(0.75)
    cores = psutil.cpu_count()
    assert watch.others() == f"other programs kept 0.8 of {cores} cores busy"


def test_a_child_s_work_and_memory_are_ours():
    looks = []
    with Watch(0.05, looks.append) as watch:
        child = subprocess.Popen([sys.executable, "-c", BUSY])
        while not looks or watch.held < psutil.Process().memory_info().rss + 50_000_000:
            time.sleep(0.05)
        child.kill()
        child.wait()
    assert looks[0] is watch and watch.other_cores >= 0
