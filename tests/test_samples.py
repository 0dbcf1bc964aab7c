"""Samples: the first n of N, what they cost, and which finished paths there are."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from sampled_trees import PROBLEMS, TASK, TREE, tree

from lib.base.errors import UserError
from lib.evaluation.states import finished_paths, sample_order
from lib.models.llama import build_model
from lib.models.tokenizer import build_tokenizer
from lib.profiles.settings import ModelSettings
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.tree import path_tokens, tokens_after
from lib.studies.measurements import unused_problems
from lib.studies.sections import load_profile


def test_finished_paths_have_verdicts_and_the_sampled_ids():
    found = finished_paths([TREE], PROBLEMS, TASK)
    assert found[["problem", "leaf", "visits", "tokens", "correct"]].values.tolist() == [
        [0, 2, 3, [5, 6, 7, 1], True],
        [0, 4, 1, [5, 8, 1], False],
    ]
    assert found.response.tolist() == ["3+4=7\nGoal Reached!", "3*4=12\nGoal Reached!"]
    none = finished_paths([tree(("4-3=1", (9,), 2, "limit"))], PROBLEMS, TASK)
    assert none.empty and none.correct.dtype == bool


def test_the_order_holds_every_sample_and_is_uniform():
    orders = [sample_order(TREE, seed) for seed in range(3000)]
    assert all(sorted(order) == [2, 2, 2, 4, 6, 6] for order in orders)
    assert sample_order(TREE, 5) == orders[5]
    # Any place, the first n too, has each leaf as often as its share of the samples.
    for place in range(6):
        at = [order[place] for order in orders]
        for leaf, share in ((2, 1 / 2), (4, 1 / 6), (6, 1 / 3)):
            assert np.mean(np.equal(at, leaf)) == pytest.approx(share, abs=0.04)
    other = tree(*[("3+4=7", (5,), 1, "goal")] * 9, problem_id=1)
    assert sample_order(other, 0) != sample_order(other, 1)


@pytest.mark.parametrize("wrong", [{"breadth": 7}, {"depth": 1}])
def test_trees_that_are_not_n_independent_samples_are_refused(wrong):
    made = tree(("3+4=7", (5,), 3, "goal"), **wrong)
    with pytest.raises(UserError, match="best-of-N needs"):
        sample_order(made, 0)


def test_shared_tokens_count_once():
    # 5 6 7 1; again; 5 8 1 shares 5; 9 1 shares nothing.
    assert tokens_after(TREE, [2, 2, 4, 6, 6]) == [4, 4, 6, 8, 8]


def test_tokens_of_all_samples_are_what_the_search_generated():
    tokenizer = build_tokenizer(TASK.pieces)
    model = build_model(tokenizer, 16, 1, 2, seed=1).eval()
    table = TASK.make_problems({"seen": 6}, 0)
    sampler = make_sampler(model, tokenizer, TASK.step_end, 12)
    for found in search(sampler, tokenizer, TASK.prompts(table), 16, 0, 0.7, 3):
        order = sample_order(found, 0)
        assert tokens_after(found, order)[-1] == found.tokens_generated
        assert sum(len(path_tokens(found, leaf)) for leaf in order) == found.tokens_sampled


def test_problems_that_nothing_trained_on():
    profile = load_profile("smoke")
    small = ModelSettings(5, 3, 1, hidden_size=16, layers=1, heads=1)
    models = {"S": small, "L": replace(small, rounds=1)}
    improvement = replace(profile.improvement, rounds=2, problems=4)
    experiment = SimpleNamespace(
        profile=replace(profile, models=models, improvement=improvement),
        problems=lambda split, start, count: (split, start, count),
    )
    assert unused_problems(experiment, "S", 9) == ("train", 16, 9)
    assert unused_problems(experiment, "L", 9) == ("train", 12, 9)  # fewer rounds of its own
