"""Once it is set up, a run needs no network: nothing here reaches out, even where it may not."""

import subprocess
import sys
from pathlib import Path

from closed_network import environment, without_network

ROOT = Path(__file__).parents[1]
#: A run in little: the profiles, the data, two checkpoints, a search, an answer, and a data set.
RUN = """
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1], "tests"))]
from lib.experiment.experiment import Experiment
from studies.catalogue import load_profile
from public_files import write_public
from lib.tasks.countdown.public_rows import read_public
from lib.experiment.artifacts import Run

folder = Path(sys.argv[2])
for name in ("smoke", "cpu", "gpu"):
    profile = load_profile(name)
    data = replace(profile.data, train_problems=24, validation_problems=2, test_problems=4)
    model = replace(profile.models["S"], trunk_examples=8, branch_examples=8, test_problems=4)
    model = replace(model, hidden_size=32, layers=1, heads=2)
    training = replace(
        profile.training,
        trunk=replace(profile.training.trunk, batch_size=4, compile=False),
        branch=replace(profile.training.branch, batch_size=4, compile=False),
    )
    profile = replace(profile, data=data, models={"S": model}, training=training)
    made = Experiment(profile, name, 0, Run(folder / name))
    assert len(made.table) == 34
    if name != "smoke":
        made.start("S", None)
        continue
    checkpoint = made.checkpoint("S", "backtracking")
    found = made.search(checkpoint, made.problems("new"), made.spec(4, 1, temperature=0.7))
    assert len(made.read_trees(found)) == 4
    assert len(made.decode(checkpoint, made.problems("seen"), 2)) == 4
    write_public(made.task.optimal_traces(made.table), folder / "public" / "train.parquet")
    assert len(read_public(folder / "public", "honest")[0]) == 34
print("made")
"""

REACH = """
import socket, urllib.request

for reach in (urllib.request.urlopen, socket.create_connection):
    try:
        reach("http://example.com" if reach is urllib.request.urlopen else ("203.0.113.1", 80))
    except OSError:
        print("refused")
"""


def run(folder: Path, code: str, *arguments: str, closed: bool = True):
    command = [*(without_network() if closed else []), sys.executable, "-c", code, *arguments]
    variables = environment(folder)
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder)


def test_the_closed_network_notices_what_reaches_out(tmp_path):
    done = run(tmp_path, REACH, closed=False)
    assert done.stdout == "refused\n" * 2, done.stderr
    log = (tmp_path / "network.log").read_text()
    assert "lookup example.com" in log and "203.0.113.1" in log


def test_a_run_in_little_reaches_out_for_nothing(tmp_path):
    done = run(tmp_path, RUN, str(ROOT), str(tmp_path / "runs"))
    assert done.stdout.endswith("made\n"), done.stderr[-3_000:]
    log = tmp_path / "network.log"
    assert not log.exists(), log.read_text()
