"""The search benchmark's own parts: the plain search, what is counted, the lines."""

import numpy as np
import pytest

from benchmarks import search as bench_search_module
from benchmarks.search import (
    PeakMemory,
    bench_search,
    products_per_s,
    search_plainly,
    tokens_read,
)
from lib.base.errors import UserError
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from studies.catalogue import load_profile

TASK = load_profile("smoke").load_task()
TOKENIZER = build_tokenizer(TASK.pieces)
STEPS = StepTokenizer(TOKENIZER, TASK.step_end)
PROMPTS = TASK.prompts(TASK.make_problems({"seen": 3}, 0))


def test_plain_search_expands_the_question_and_at_most_a_few_states():
    model = build_model(TOKENIZER, 16, 1, 1, 0)
    assert search_plainly(model, STEPS, PROMPTS[0], SearchSpec(4, 0), 6) == 1
    assert 1 <= search_plainly(model, STEPS, PROMPTS[0], SearchSpec(4, 1), 6) <= 3


def test_tokens_read_are_the_prompts_and_what_goes_on():
    model = build_model(TOKENIZER, 16, 1, 1, 0)
    read, trees = tokens_read(make_sampler(model, STEPS, 5), STEPS, PROMPTS, SearchSpec(6, 0))
    longest = max(len(ids) for ids in TOKENIZER(PROMPTS)["input_ids"])
    inner = set()
    for tree in trees:
        for leaf in tree.leaves():
            path = sum((node.tokens for node in tree.path(leaf.id)), ())
            inner |= {(tree.problem_id, path[:i]) for i in range(1, len(path))}
    assert read == 3 * longest + len(inner)
    again, _ = tokens_read(make_sampler(model, STEPS, 5), STEPS, PROMPTS, SearchSpec(6, 0))
    assert again == read  # the hook is gone


def test_peak_memory_sees_an_array():
    with PeakMemory() as memory:
        held = np.ones(8_000_000)
        held[::512] += 1
        memory._watch.join(0.1)
    assert 55 < memory.megabytes < 200 and held.sum() > 0


def test_lines(tmp_path, monkeypatch):
    model = build_model(TOKENIZER, 16, 1, 1, 0)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    settings = dict(
        PROCESSES=2, PROBLEMS=3, PLAIN_PROBLEMS=1, ROUNDS=1, BREADTHS=(4,), DEPTHS=(0, 1)
    )
    for name, value in (settings | dict(GROWTH=(4, 8), FLOOR_S=0.01)).items():
        monkeypatch.setattr(bench_search_module, name, value)
    monkeypatch.setattr(type(TASK), "max_response_tokens", 6, raising=False)
    lines = list(bench_search(TASK, tmp_path))
    assert len(lines) == 4 and all("problems/s" in line for line in lines)
    assert "one at a time" in lines[0] and "dealt to a process for each core" in lines[0]
    assert "MB" in lines[-1]
    assert products_per_s(model, 8) > 0
    with pytest.raises(UserError, match="no checkpoint"):
        list(bench_search(TASK, tmp_path / "none"))
