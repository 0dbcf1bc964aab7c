"""What is asked of a tree: its tokens against a search's own counts."""

from sampled_trees import TASK, TREE

from lib.evaluation.states import sample_order
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.tree import path_tokens, tokens_after


def test_shared_tokens_count_once():
    # 5 6 7 1; again; 5 8 1 shares 5; 9 1 shares nothing.
    assert tokens_after(TREE, [2, 2, 4, 6, 6]) == [4, 4, 6, 8, 8]


def test_tokens_of_all_samples_are_what_the_search_generated():
    tokenizer = StepTokenizer(build_tokenizer(TASK.pieces), TASK.step_end)
    model = build_model(tokenizer.base, 16, 1, 2, seed=1).eval()
    table = TASK.make_problems({"seen": 6}, 0)
    sampler = make_sampler(model, tokenizer, 12)
    for found in search(sampler, tokenizer, TASK.prompts(table), SearchSpec(16, 0, 0.7, 3)):
        order = sample_order(found, 0)
        assert tokens_after(found, order)[-1] == found.tokens_generated
        assert sum(len(path_tokens(found, leaf)) for leaf in order) == found.tokens_sampled
