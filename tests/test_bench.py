"""The benchmark's own part: the plain search that ours is measured against."""

from lib.bench import search_plainly
from lib.models import build_model
from lib.profiles import load_profile
from lib.tokenization import build_tokenizer

TASK = load_profile("smoke").load_task()


def test_plain_search_expands_the_question_and_at_most_a_few_states():
    tokenizer = build_tokenizer(TASK.pieces)
    model = build_model(tokenizer, 16, 1, 1, 0)
    prompt = TASK.prompts(TASK.make_problems({"seen": 1}, 0))[0]
    assert search_plainly(model, tokenizer, prompt, 4, 0, 6) == 1
    assert 1 <= search_plainly(model, tokenizer, prompt, 4, 1, 6) <= 3
