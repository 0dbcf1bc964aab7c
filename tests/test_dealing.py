"""A search over several processes gives one process's trees; it goes on where it was killed."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest
import torch

from lib.base.errors import UserError
from lib.base.processes import python_environment
from lib.models.llama import build_model
from lib.models.tokenizer import backtrack_id, build_tokenizer
from lib.search.parallel import end_shared, main, search_in_processes, work
from lib.search.sampler import CacheSampler, step_end_ids
from lib.search.search import search_to_file
from lib.search.tree import read_trees
from lib.studies.catalogue import load_profile

TASK = load_profile("smoke").load_task()
LIMIT = 12
SETTINGS = dict(breadth=4, depth=1, temperature=1.0, seed=3, chunk_size=2, made_of="a model")
LAUNCHED = SETTINGS | {"launched": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tokenizer = build_tokenizer(TASK.pieces)
    build_model(tokenizer, 16, 1, 1, 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


PROMPTS = TASK.prompts(TASK.make_problems({"seen": 7}, 0))


def alone(checkpoint, path):
    from lib.models.llama import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(checkpoint), load_model(checkpoint)
    ids = (tokenizer.eos_token_id, backtrack_id(tokenizer), step_end_ids(tokenizer))
    sampler = CacheSampler(model, *ids, LIMIT, tokenizer.pad_token_id)
    return search_to_file(path, sampler, tokenizer, PROMPTS, **SETTINGS)


@pytest.fixture
def launched_here(monkeypatch):
    """The launcher replaced: the processes run here, one after another; notes what it was asked."""
    calls = []

    def launch(folder, processes, tell):
        calls.append(processes)
        for rank in range(processes):
            work(folder, rank, processes, "cpu")
            tell()

    monkeypatch.setattr("lib.search.parallel._launch", launch)
    return calls


@pytest.mark.parametrize("processes", [1, 2, 3, 50])
def test_the_file_of_one_process(checkpoint, tmp_path, launched_here, processes):
    expected = alone(checkpoint, tmp_path / "alone.jsonl").read_bytes()
    done = []
    path = tmp_path / "trees.jsonl"
    found = search_in_processes(
        path, checkpoint, LIMIT, processes, PROMPTS, **LAUNCHED, on_progress=done.append
    )
    assert found.read_bytes() == expected and sum(done) == 7
    assert launched_here == [min(processes, 4)]  # no more processes than chunks
    assert not (tmp_path / "trees.jsonl.parts").exists()
    search_in_processes(path, checkpoint, LIMIT, processes, PROMPTS, **LAUNCHED)
    assert len(launched_here) == 1  # it was there


def test_a_killed_search_goes_on(checkpoint, tmp_path, monkeypatch):
    expected = alone(checkpoint, tmp_path / "alone.jsonl").read_bytes()
    path, ranks = tmp_path / "trees.jsonl", [1]

    def half(folder, processes, tell):
        for rank in ranks:
            work(folder, rank, processes, "cpu")

    monkeypatch.setattr("lib.search.parallel._launch", half)
    with pytest.raises(UserError, match=r"chunks \[0, 2\] were not searched"):
        search_in_processes(path, checkpoint, LIMIT, 2, PROMPTS, **LAUNCHED)
    times = {p.name: p.stat().st_mtime_ns for p in path.with_name("trees.jsonl.parts").glob("c*")}
    assert sorted(times) == ["chunk-000001.jsonl", "chunk-000003.jsonl"]
    ranks[:] = [0, 1, 2]
    done = []
    search_in_processes(path, checkpoint, LIMIT, 3, PROMPTS, **LAUNCHED, on_progress=done.append)
    assert path.read_bytes() == expected and done == [3, 4]


def test_another_search_takes_nothing_over(checkpoint, tmp_path, launched_here):
    folder = tmp_path / "trees.jsonl.parts"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(dict(
        checkpoint="x", limit=1, prompts=[], settings={}, chunk_size=1, step_end="", first_line=""
    )))  # fmt: skip
    (folder / "chunk-000000.jsonl").write_text("of another search\n")
    path = search_in_processes(tmp_path / "trees.jsonl", checkpoint, LIMIT, 2, PROMPTS, **LAUNCHED)
    assert [tree.problem_id for tree in read_trees(path)] == list(range(7))


def test_a_failure_is_told(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(dict(
        checkpoint=str(tmp_path / "none"), limit=1, prompts=["a"], settings={}, chunk_size=1,
        step_end="\n", first_line="",
    )))  # fmt: skip
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "none" in (folder / "error-0.txt").read_text()
    with pytest.raises(UserError, match="at least 0 processes"):
        search_in_processes(tmp_path / "t", tmp_path, 1, -1, ["a"], 1, 0)


@pytest.fixture(scope="module")
def trees_of_one_thread(checkpoint, tmp_path_factory):
    """With another number of threads the last digits differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(read_trees(alone(checkpoint, tmp_path_factory.mktemp("x") / "alone.jsonl")))
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_kept_processes_tree_for_tree(checkpoint, tmp_path, trees_of_one_thread, processes):
    for name in "ab":  # the second search finds them started
        path = tmp_path / name
        search_in_processes(path, checkpoint, LIMIT, processes, PROMPTS, **SETTINGS)
        assert list(read_trees(path)) == trees_of_one_thread
    end_shared()


@pytest.mark.slow
def test_launched_processes_tree_for_tree(checkpoint, tmp_path, trees_of_one_thread):
    processes = max(2, os.cpu_count() or 1)  # a thread each
    how = SETTINGS | {"launched": True}
    search_in_processes(tmp_path / "t", checkpoint, LIMIT, processes, PROMPTS, **how)
    assert list(read_trees(tmp_path / "t")) == trees_of_one_thread


@pytest.mark.slow
@pytest.mark.parametrize("launched", [True, False])
def test_processes_end_with_the_one_that_started_them(checkpoint, tmp_path, launched):
    """Killed, it cannot end them; gone on with at once, the search would have them as well.

    They are the launcher, or Python's own helper, and two.
    """
    script = (
        "import lib.search.parallel as d\n"
        f"d.search_in_processes('{tmp_path}/t.jsonl', '{checkpoint}', 200, 2, ['a'] * 900, 16, 0,"
        f" chunk_size=1, launched={launched})"
    )
    launcher = subprocess.Popen([sys.executable, "-c", script], env=python_environment())
    parts = tmp_path / "t.jsonl.parts"
    while not list(parts.glob("chunk-*")):
        assert launcher.poll() is None
        time.sleep(0.05)
    children = psutil.Process(launcher.pid).children(recursive=True)
    launcher.kill()
    launcher.wait()
    assert len(children) >= 3 and psutil.wait_procs(children, 20)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("launched", [True, False])
def test_a_process_that_fails_ends_the_search(tmp_path, launched):
    told = "a search process failed" if launched else "no tokenizer can be loaded"
    with pytest.raises(UserError, match=told):
        search_in_processes(
            tmp_path / "t", tmp_path / "none", 4, 2, ["a"] * 4, 2, 0, 1.0, 0, 1, launched=launched
        )
