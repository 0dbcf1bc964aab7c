"""Selection rules on a tree whose scores are known by hand."""

import math

import pandas as pd
import pytest

from lib.search.selection import SELECTION_RULES, paths
from lib.search.tree import Node, SearchTree


def tree(*nodes: tuple) -> SearchTree:
    """A tree from (parent, kind, logprobs, p_backtrack, visits) of the nodes after the root."""
    made = [Node(0, None, "root", 0, "", (), (), 0.9, 10)]
    for i, (parent, kind, logprobs, p_backtrack, visits) in enumerate(nodes, 1):
        tokens = tuple(range(len(logprobs)))
        made.append(Node(i, parent, kind, 0, f"n{i}", tokens, logprobs, p_backtrack, visits))
    return SearchTree(7, "Q\n", 10, 1, 0.7, 0, tuple(made), ((0, 0),), 0, 0, "\n")


TREE = tree(
    (0, "step", (-1.0, -1.0), 0.5, 6),  # 1
    (1, "goal", (-0.1, -0.1), None, 3),  # 2: mean -0.55, worst step -2.0, keep log .5
    (0, "step", (-0.2,), 0.1, 4),  # 3
    (3, "step", (-1.5, -0.3), 0.1, 2),  # 4
    (4, "goal", (-0.9,), None, 1),  # 5: mean -0.725, worst step -1.8, keep 2 log .9
    (3, "goal", (-1.9,), None, 2),  # 6: mean -1.05, worst step -1.9, keep log .9
    (0, "backtrack", (-0.001,), None, 9),  # 7: never chosen, whatever its scores
    (0, "limit", (-0.001,), None, 9),  # 8
)


def test_scores_of_every_path():
    found = {path.leaf: path for path in paths(TREE)}
    assert list(found) == [2, 5, 6, 7, 8]
    path = found[5]
    assert (path.problem_id, path.kind, path.tokens, path.visits) == (7, "goal", 4, 1)
    assert path.text == "n3\nn4\nn5"
    assert path.sum_logprob == pytest.approx(-2.9)
    assert path.mean_logprob == pytest.approx(-2.9 / 4)
    assert path.min_step_logprob == pytest.approx(-1.8)
    assert path.sum_log_keep == pytest.approx(2 * math.log(0.9))
    assert path.mean_log_keep == pytest.approx(math.log(0.9))
    assert found[7].sum_log_keep == 0  # the question itself is no step
    assert len(pd.DataFrame(paths(TREE))) == 5


@pytest.mark.parametrize(
    ("rule", "leaf"),
    [
        ("mean_logprob", 2),
        ("min_logprob_step", 5),
        ("vote", 2),
        ("self_verification", 6),
        ("combined", 5),  # -0.725 + log .9 beats -0.55 + log .5 and -1.05 + log .9
    ],
)
def test_each_rule_chooses_its_own(rule, leaf):
    assert SELECTION_RULES[rule](TREE) == leaf


@pytest.mark.parametrize("rule", SELECTION_RULES)
def test_no_finished_path_and_equal_paths(rule):
    unfinished = tree((0, "backtrack", (-0.1,), None, 1), (0, "limit", (), None, 1))
    assert SELECTION_RULES[rule](unfinished) is None
    equal = tree((0, "goal", (-0.1, -0.2), None, 2), (0, "goal", (-0.2, -0.1), None, 2))
    assert SELECTION_RULES[rule](equal) == 1


def test_votes_that_tie_go_to_the_more_probable():
    tied = tree((0, "goal", (-0.9,), None, 2), (0, "goal", (-0.3,), None, 2))
    assert SELECTION_RULES["vote"](tied) == 2


def test_a_certain_backtrack_is_no_error():
    certain = tree((0, "step", (-0.1,), 1.0, 1), (1, "goal", (-0.1,), None, 1))
    assert SELECTION_RULES["self_verification"](certain) == 2


def test_a_state_whose_doubt_is_not_known_does_not_count():
    unknown = tree((0, "step", (-0.1,), None, 1), (1, "goal", (-0.1,), None, 1))
    (path,) = paths(unknown)
    assert path.sum_log_keep == path.mean_log_keep == 0
