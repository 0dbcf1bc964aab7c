"""Symbolic depth-first search: trees by hand, against the exact solver, and the paper's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.tasks.countdown.rules import GOAL, Problem, check
from lib.tasks.countdown.solver import reachable, reachable_many
from lib.tasks.countdown.symbolic_dfs import symbolic_dfs


def test_two_numbers_by_hand():
    # 8 of 6 and 2: their results 8, 4, 3 and 12, the nearest first.
    assert symbolic_dfs(Problem((2, 6), 8)) == (["6+2=8"], 0)
    assert symbolic_dfs(Problem((2, 6), 3)) == (["6/2=3"], 0)
    # 5 is none of them: 4, 3, 8 are dead ends; 12 is more than 5 from 5 and left out.
    assert symbolic_dfs(Problem((2, 6), 5)) is None
    assert symbolic_dfs(Problem((2, 6), 2)) is None
    assert symbolic_dfs(Problem((7,), 7)) == ([], 0) and symbolic_dfs(Problem((7,), 8)) is None


def test_three_numbers_by_hand():
    # Of 2, 3, 7 and 13 the states nearest to 13 on average are {3, 14}, at 5.5, and {6, 7}, at 6.5.
    # The first has four ends within 13 of the target, none of them it: 17, 11, and no others
    # (14*3 is 29 away, 14/3 no number).
    steps, backtracks = symbolic_dfs(Problem((7, 2, 3), 13))
    assert (steps, backtracks) == (["3*2=6", "7+6=13"], 2)
    assert symbolic_dfs(Problem((7, 2, 3), 13), 2) == (steps, 2)
    assert symbolic_dfs(Problem((7, 2, 3), 13), 1) is None
    # With far children kept, 14*3 = 42 is a third dead end.
    assert symbolic_dfs(Problem((7, 2, 3), 13), prune=False) == (steps, 3)


def test_far_children_are_left_out():
    # 8*9 = 72 leaves 72 and 12, at 36 on average from 6; there is no other way.
    problem = Problem((8, 9, 12), 6)
    assert symbolic_dfs(problem) is None
    assert symbolic_dfs(problem, prune=False)[0] == ["9*8=72", "72/12=6"]


numbers = some.lists(some.integers(1, 30), min_size=2, max_size=4).map(tuple)


@given(numbers, some.integers(1, 60))
def test_without_budget_and_pruning_it_solves_what_can_be_solved(given_numbers, target):
    problem = Problem(given_numbers, target)
    found = symbolic_dfs(problem, prune=False)
    assert (found is not None) == reachable(given_numbers, target)
    if found is not None:
        assert check(problem, "\n".join([*found[0], GOAL])).correct
        backtracks = found[1]
        assert symbolic_dfs(problem, backtracks, prune=False) == found
        assert not backtracks or symbolic_dfs(problem, backtracks - 1, prune=False) is None
    pruned = symbolic_dfs(problem)
    assert pruned is None or check(problem, "\n".join([*pruned[0], GOAL])).correct


@pytest.mark.slow
def test_the_papers_numbers_on_problems_of_uniform_targets():
    """Targets and numbers drawn uniformly, kept where they can be solved: 49 and 60% there."""
    generator = np.random.default_rng(3)
    targets = generator.integers(10, 101, 42_000)
    drawn = generator.integers(1, 100, (42_000, 4))
    kept = np.flatnonzero(reachable_many(drawn, targets))[:5_000]
    found = [symbolic_dfs(Problem(tuple(map(int, drawn[i])), int(targets[i])), 64) for i in kept]
    backtracks = np.array([np.inf if each is None else each[1] for each in found])
    assert np.mean(backtracks <= 32) == pytest.approx(0.49, abs=0.02)
    assert np.mean(backtracks <= 64) == pytest.approx(0.60, abs=0.02)
