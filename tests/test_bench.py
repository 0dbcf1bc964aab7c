"""The benchmark's own parts: its clock, and the plain search that ours is measured against."""

from lib.bench import BATCH_SIZE, StepTimes, search_plainly, train_plainly
from lib.models import build_model
from lib.profiles import load_profile
from lib.tokenization import build_tokenizer, encode_traces

TASK = load_profile("smoke").load_task()


def test_step_times_skip_the_first_steps():
    times = StepTimes(skip=2)
    times.times = [(1, 0.0), (2, 100.0), (3, 101.0), (4, 102.0)]
    assert times.examples_per_s() == BATCH_SIZE


def test_plain_search_expands_the_question_and_at_most_a_few_states():
    tokenizer = build_tokenizer(TASK.pieces)
    model = build_model(tokenizer, 16, 1, 1, 0)
    prompt = TASK.prompts(TASK.make_problems({"seen": 1}, 0))[0]
    assert search_plainly(model, tokenizer, prompt, 4, 0, 6) == 1
    assert 1 <= search_plainly(model, tokenizer, prompt, 4, 1, 6) <= 3


def test_plain_training_gives_a_rate(monkeypatch):
    monkeypatch.setattr("lib.bench.TRAINING_STEPS", 1)
    tokenizer = build_tokenizer(TASK.pieces)
    traces = TASK.optimal_traces(TASK.make_problems({"train": BATCH_SIZE}, 0))
    model = build_model(tokenizer, 16, 1, 1, 0)
    assert train_plainly(model, tokenizer, encode_traces(tokenizer, traces)) > 0
