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
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.parallel import end_shared, main, search_in_processes, work
from lib.search.sampler import CacheSampler, SamplerSource
from lib.search.search_file import search_to_file
from lib.search.tree import read_trees
from studies.catalogue import load_profile

TASK = load_profile("smoke").load_task()
LIMIT = 12
SPEC, MADE_OF = SearchSpec(breadth=4, depth=1, temperature=1.0, seed=3, chunk=2), "a model"


def dealt(path, checkpoint, processes, **how):
    source = SamplerSource(str(checkpoint), "\n", LIMIT)
    return search_in_processes(path, source, PROMPTS, SPEC, processes, MADE_OF, **how)


def launched(path, checkpoint, processes, **how):
    return dealt(path, checkpoint, processes, launched=True, **how)


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

    tokenizer, model = StepTokenizer(load_tokenizer(checkpoint), "\n"), load_model(checkpoint)
    sampler = CacheSampler(model, *tokenizer.stop_ids, LIMIT, tokenizer.pad_id)
    return search_to_file(path, sampler, tokenizer, PROMPTS, SPEC, MADE_OF)


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
    found = launched(path, checkpoint, processes, on_progress=done.append)
    assert found.read_bytes() == expected and sum(done) == 7
    assert launched_here == [min(processes, 4)]  # no more processes than chunks
    assert not (tmp_path / "trees.jsonl.parts").exists()
    launched(path, checkpoint, processes)
    assert len(launched_here) == 1  # it was there


def test_a_killed_search_goes_on(checkpoint, tmp_path, monkeypatch):
    expected = alone(checkpoint, tmp_path / "alone.jsonl").read_bytes()
    path, ranks = tmp_path / "trees.jsonl", [1]

    def half(folder, processes, tell):
        for rank in ranks:
            work(folder, rank, processes, "cpu")

    monkeypatch.setattr("lib.search.parallel._launch", half)
    with pytest.raises(UserError, match=r"chunks \[0, 2\] were not searched"):
        launched(path, checkpoint, 2)
    times = {p.name: p.stat().st_mtime_ns for p in path.with_name("trees.jsonl.parts").glob("c*")}
    assert sorted(times) == ["chunk-000001.jsonl", "chunk-000003.jsonl"]
    ranks[:] = [0, 1, 2]
    done = []
    launched(path, checkpoint, 3, on_progress=done.append)
    assert path.read_bytes() == expected and done == [3, 4]


def test_another_search_takes_nothing_over(checkpoint, tmp_path, launched_here):
    folder = tmp_path / "trees.jsonl.parts"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(dict(
        checkpoint="x", limit=1, prompts=[], settings={}, chunk_size=1, step_end="", first_line=""
    )))  # fmt: skip
    (folder / "chunk-000000.jsonl").write_text("of another search\n")
    path = launched(tmp_path / "trees.jsonl", checkpoint, 2)
    assert [tree.problem_id for tree in read_trees(path)] == list(range(7))


def test_a_failure_is_told(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(dict(
        source=dict(checkpoint=str(tmp_path / "none"), limit=1, step_end="\n"),
        prompts=["a"], spec=dict(breadth=1, depth=0, chunk=1), first_line="",
    )))  # fmt: skip
    with pytest.raises(SystemExit):
        main([str(folder)])
    assert "none" in (folder / "error-0.txt").read_text()
    with pytest.raises(UserError, match="at least 0 processes"):
        search_in_processes(
            tmp_path / "t", SamplerSource(str(tmp_path), "\n", 1), ["a"], SearchSpec(1, 0), -1
        )


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
        dealt(path, checkpoint, processes)
        assert list(read_trees(path)) == trees_of_one_thread
    end_shared()


@pytest.mark.slow
def test_launched_processes_tree_for_tree(checkpoint, tmp_path, trees_of_one_thread):
    processes = max(2, os.cpu_count() or 1)  # a thread each
    launched(tmp_path / "t", checkpoint, processes)
    assert list(read_trees(tmp_path / "t")) == trees_of_one_thread


@pytest.mark.slow
@pytest.mark.parametrize("by_launcher", [True, False])
def test_processes_end_with_the_one_that_started_them(checkpoint, tmp_path, by_launcher):
    """Killed, it cannot end them; gone on with at once, the search would have them as well.

    They are the launcher, or Python's own helper, and two.
    """
    script = (
        "import lib.search.parallel as d\n"
        f"source = d.SamplerSource('{checkpoint}', '\\n', 200)\n"
        "spec = d.SearchSpec(16, 0, chunk=1)\n"
        f"d.search_in_processes('{tmp_path}/t.jsonl', source, ['a'] * 900, spec, 2,"
        f" launched={by_launcher})"
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
@pytest.mark.parametrize("by_launcher", [True, False])
def test_a_process_that_fails_ends_the_search(tmp_path, by_launcher):
    told = "a search process failed" if by_launcher else "no tokenizer can be loaded"
    source = SamplerSource(str(tmp_path / "none"), "\n", 4)
    spec = SearchSpec(2, 0, 1.0, 0, chunk=1)
    with pytest.raises(UserError, match=told):
        search_in_processes(tmp_path / "t", source, ["a"] * 4, spec, 2, launched=by_launcher)
