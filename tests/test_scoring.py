"""Evaluation on hand-made trees and a toy task: every number known beforehand."""

from dataclasses import dataclass

import pandas as pd
import pytest

from lib.base.errors import UserError
from lib.evaluation.scoring import (
    accuracy_row,
    error_rows,
    error_types,
    evaluate_responses,
    evaluate_search,
    response_outcomes,
    score_paths,
    search_outcomes,
)
from lib.evaluation.statistics import paired_difference, roc_auc, wilson_interval
from lib.tasks.countdown.rules import ERRORS
from lib.tasks.task import BAD_RESULT, NOT_REACHED, Verdict


class EchoTask:
    """A response is right when it is the target and the goal; `~` pleases the published checker."""

    goal, errors = "Goal Reached!", ERRORS

    def check(self, problem, response):
        right = response == f"{problem.target}\n{self.goal}"
        return Verdict(right, None if right else BAD_RESULT, None if right else 0)

    def check_published(self, problem, response):
        return Verdict(response.replace("~", "") == f"{problem.target}\n{self.goal}")


@dataclass(frozen=True)
class FakeNode:
    id: int
    parent: int | None
    kind: str
    text: str
    logprobs: tuple[float, ...] = ()
    level: int = 0
    visits: int = 1


class FakeTree:
    """A root whose children are (step text, end kind, logprob) paths of one step."""

    breadth, depth, temperature, seed = 4, 1, 0.7, 9

    def __init__(self, problem_id, paths, tokens_generated=10):
        self.problem_id, self.tokens_generated = problem_id, tokens_generated
        nodes = [FakeNode(0, None, "root", "")]
        for text, kind, logprob in paths:
            nodes.append(FakeNode(len(nodes), 0, "step", text, (logprob,)))
            end = "Goal Reached!" if kind == "goal" else "<backtrack>"
            nodes.append(FakeNode(len(nodes), len(nodes) - 1, kind, end, (-0.5,)))
        self.nodes = tuple(nodes)

    def leaves(self):
        return [node for node in self.nodes if node.kind not in ("root", "step")]

    def path(self, leaf):
        return [self.nodes[0], self.nodes[leaf - 1], self.nodes[leaf]]

    def response(self, leaf):
        return "\n".join(node.text for node in self.path(leaf)[1:])


def first_goal(tree):
    return next((leaf.id for leaf in tree.leaves() if leaf.kind == "goal"), None)


def last_goal(tree):
    return max((leaf.id for leaf in tree.leaves() if leaf.kind == "goal"), default=None)


PROBLEMS = pd.DataFrame(
    {"numbers": [[1, 2]] * 4, "target": [7, 8, 9, 10], "split": ["seen", "seen", "seen", "new"]}
)
TREES = [
    FakeTree(0, [("7", "goal", -1.5), ("3", "goal", -0.1)], tokens_generated=20),
    FakeTree(1, [("8~", "goal", -1.0), ("8", "backtrack", -1.0)]),
    FakeTree(2, [("9", "backtrack", -1.0)], tokens_generated=30),
    FakeTree(3, [("10", "goal", -1.0)]),
]
RULES = {"first": first_goal, "last": last_goal}


def test_wilson_interval_known_values():
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe 1998
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=5e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1.0), abs=5e-5)
    assert wilson_interval(5, 10, confidence=0.9)[0] > wilson_interval(5, 10)[0]
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_paired_difference():
    a = [True] * 60 + [False] * 40
    b = [True] * 40 + [False] * 60
    difference, low, high = paired_difference(a, b)
    assert difference == 0.2
    # (20.5 - 0.5) / 102 -+ 1.96 * sqrt(21 - 400 / 102) / 102
    assert (low, high) == pytest.approx((0.11664, 0.27552), abs=5e-5)
    assert paired_difference(b, a) == pytest.approx((-difference, -high, -low))
    same = paired_difference(a, a)
    assert same[0] == 0 and same[1] < 0 < same[2]
    with pytest.raises(ValueError, match="pair them"):
        paired_difference([True], [])


def test_accuracy_row():
    made = accuracy_row([True, True, False, False], artifact="table_1", method="sft_greedy")
    assert made["accuracy"] == 0.5 and made["problems"] == 4
    assert (made["low"], made["high"]) == pytest.approx(wilson_interval(2, 4))
    with pytest.raises(UserError, match="no problems"):
        accuracy_row([], artifact="table_1", method="sft_greedy")


def test_score_paths():
    paths = score_paths(TREES[0], PROBLEMS.loc[0], EchoTask())
    assert paths["leaf"].tolist() == [2, 4]
    assert paths["correct"].tolist() == [True, False]
    assert paths["error"].fillna("").tolist() == ["", BAD_RESULT]
    assert paths["mean_logprob"].tolist() == pytest.approx([-1.0, -0.3])
    assert paths["min_logprob"].tolist() == [-1.5, -0.5]
    assert score_paths(TREES[2], PROBLEMS.loc[2], EchoTask())["error"].tolist() == [NOT_REACHED]


def test_search_outcomes():
    outcomes = search_outcomes(TREES[::-1], PROBLEMS, EchoTask(), RULES)
    first = outcomes[outcomes["selection"] == "first"]
    assert first["problem"].tolist() == [0, 1, 2, 3]
    assert first["correct"].tolist() == [True, False, False, True]
    assert first["correct_published"].tolist() == [True, True, False, True]
    assert first["covered"].tolist() == [True, False, False, True]
    assert first["error"].fillna("").tolist() == ["", BAD_RESULT, NOT_REACHED, ""]
    last = outcomes[outcomes["selection"] == "last"]
    assert last["correct"].tolist() == [False, False, False, True]


def test_evaluate_search():
    rows = evaluate_search(TREES, PROBLEMS, EchoTask(), RULES, model="S")
    keys = ["method", "split", "selection", "checker"]
    keyed = rows.fillna({"selection": "-"}).set_index(keys)["accuracy"]
    assert keyed.index.is_unique
    assert keyed["self_backtracking", "seen", "first", "strict"] == pytest.approx(1 / 3)
    assert keyed["self_backtracking", "seen", "first", "published"] == pytest.approx(2 / 3)
    assert keyed["self_backtracking", "seen", "last", "strict"] == 0
    assert keyed["pass_at_n", "seen", "-", "strict"] == pytest.approx(1 / 3)
    assert keyed["pass_at_n", "new", "-", "published"] == 1
    assert len(keyed) == 2 * (2 * 2 + 2)
    assert set(rows["N"]) == {4} and set(rows["b"]) == {1} and set(rows["model"]) == {"S"}
    assert rows[rows["split"] == "seen"]["tokens_per_problem"].unique().tolist() == [20.0]
    named = evaluate_search(TREES, PROBLEMS, EchoTask(), RULES, model="S", expansion="beam_sample")
    assert set(named["expansion"]) == {"beam_sample"} and len(named) == len(rows)


@pytest.mark.parametrize(
    ("trees", "message"),
    [([FakeTree(4, [])], "only 4 problems"), ([TREES[0], TREES[0]], "two of them")],
)
def test_trees_that_do_not_belong(trees, message):
    with pytest.raises(UserError, match=message):
        search_outcomes(trees, PROBLEMS, EchoTask(), RULES)


RESPONSES = ["7\nGoal Reached!", "8~\nGoal Reached!", None, "10\n<backtrack>"]


def test_evaluate_responses():
    rows = evaluate_responses(RESPONSES, PROBLEMS, EchoTask(), tokens=[1, 2, 3, 4], model="S")
    keyed = rows.set_index(["split", "checker"])
    assert keyed.loc[("seen", "strict"), "accuracy"] == pytest.approx(1 / 3)
    assert keyed.loc[("seen", "published"), "accuracy"] == pytest.approx(2 / 3)
    assert keyed.loc[("new", "strict"), "accuracy"] == 0
    assert keyed.loc[("seen", "strict"), "tokens_per_problem"] == 2
    with pytest.raises(UserError, match="1 responses for 4 problems"):
        evaluate_responses(["7"], PROBLEMS, EchoTask())
    # What parquet gives back for None.
    missing = [float("nan") if text is None else text for text in RESPONSES]
    again = evaluate_responses(missing, PROBLEMS, EchoTask(), tokens=[1, 2, 3, 4], model="S")
    assert again.equals(rows)


def test_error_types():
    shares = error_types(RESPONSES, PROBLEMS, EchoTask()).set_index("error")
    assert tuple(shares.index) == ERRORS
    assert shares.loc[NOT_REACHED, "share"] == pytest.approx(2 / 3)
    assert shares.loc[BAD_RESULT, "count"] == 1
    assert shares["share"].sum() == pytest.approx(1)
    solved = error_types(["7\nGoal Reached!"], PROBLEMS[:1], EchoTask())
    assert solved["share"].tolist() == [0] * 4


def test_error_rows():
    outcomes = response_outcomes(RESPONSES, PROBLEMS, EchoTask())
    rows = pd.DataFrame(error_rows(outcomes, ERRORS, method="sft_greedy", model="S"))
    assert len(rows) == 2 * 4
    seen = rows[rows["split"] == "seen"]
    assert set(seen["failures"]) == {2} and set(seen["problems"]) == {3}
    assert seen["share"].sum() == pytest.approx(1)


def test_roc_auc():
    assert roc_auc([0.1, 0.4, 0.35, 0.8], [False, False, True, True]) == 0.75
    assert roc_auc([0.1, 0.4], [True, True]) is None
