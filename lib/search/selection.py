"""Which finished path of a tree to answer with: takes a search tree, gives a leaf or None.

A path is scored whole, from the question to its terminal token, also where it was found after a
roll-back. No rule sees a checker or knows the task; equal scores go to the smaller leaf id.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lib.search.tree import SearchTree

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

LEAST_DOUBT = 1e-6  # P(<backtrack>) is known to six decimals: 1 - p is at least this


@dataclass(frozen=True)
class TreePath:
    """One path of a tree with everything it can be chosen by."""

    problem_id: int
    leaf: int
    kind: str  # "goal", "backtrack" or "limit"
    level: int
    text: str  # the response
    tokens: int
    visits: int
    sum_logprob: float
    mean_logprob: float  # over all tokens, the terminal one included
    min_step_logprob: float  # of the least probable step, the goal line being one
    sum_log_keep: float  # sum over states of log(1 - P(<backtrack>)): the whole path kept
    mean_log_keep: float


def paths(tree: SearchTree) -> list[TreePath]:
    """All paths of the tree, unfinished ones too; a DataFrame can be made of them."""
    return [_path(tree, leaf.id) for leaf in tree.leaves()]


def _path(tree: SearchTree, leaf_id: int) -> TreePath:
    nodes = tree.path(leaf_id)[1:]
    leaf = nodes[-1]
    logprobs = [x for node in nodes for x in node.logprobs]
    keep = [
        math.log(max(1 - node.p_backtrack, LEAST_DOUBT))
        for node in nodes
        if node.p_backtrack is not None
    ]
    return TreePath(
        problem_id=tree.problem_id,
        leaf=leaf_id,
        kind=leaf.kind,
        level=leaf.level,
        text=tree.response(leaf_id),
        tokens=len(logprobs),
        visits=leaf.visits,
        sum_logprob=math.fsum(logprobs),
        mean_logprob=math.fsum(logprobs) / max(1, len(logprobs)),
        min_step_logprob=min(math.fsum(node.logprobs) for node in nodes),
        sum_log_keep=math.fsum(keep),
        mean_log_keep=math.fsum(keep) / max(1, len(keep)),
    )


@dataclass(frozen=True)
class SelectionRule:
    """A selection rule: called with a tree, it gives the leaf to answer with, or None."""

    name: str
    meaning: str
    order: Callable[[TreePath], tuple[float, ...]]  # the score, then what decides between equals

    def score(self, path: TreePath) -> float:
        """How much the rule likes a path; higher is better, comparable between problems."""
        return float(self.order(path)[0])

    def __call__(self, tree: SearchTree) -> int | None:
        return self.choose(paths(tree))

    def choose(self, every: Sequence[TreePath]) -> int | None:
        """The leaf to answer with, of all paths of a tree."""
        finished = [path for path in every if path.kind == "goal"]
        if not finished:
            return None
        return min(finished, key=lambda path: (*(-x for x in self.order(path)), path.leaf)).leaf


def summed_mean_logprob(tree: SearchTree) -> int | None:
    """The audit's switch: the published code's rule, which no table here uses.

    The mean log-probabilities of equal texts are added: a path found k times scores k times as far
    below zero. Each mean is over the length of the longest sample of its level, padding included.
    """
    every = paths(tree)
    length: dict[int, int] = {}
    for path in every:
        length[path.level] = max(length.get(path.level, 1), path.tokens)
    score: dict[str, float] = {}
    finished = [path for path in every if path.kind == "goal"]
    for path in finished:
        mean = path.sum_logprob / length[path.level]
        score[path.text] = score.get(path.text, 0.0) + path.visits * mean
    return min(finished, key=lambda path: (-score[path.text], path.leaf)).leaf if finished else None


SELECTION_RULES: dict[str, SelectionRule] = {
    rule.name: rule
    for rule in (
        SelectionRule(
            "mean_logprob",
            "Highest mean log-probability over all tokens: the paper's.",
            lambda path: (path.mean_logprob,),
        ),
        SelectionRule(
            "min_logprob_step",
            "The path whose least probable step is most probable.",
            lambda path: (path.min_step_logprob, path.mean_logprob),
        ),
        SelectionRule(
            "vote",
            "The path that was sampled most often.",
            lambda path: (path.visits, path.mean_logprob),
        ),
        SelectionRule(
            "self_verification",
            "The path in which the model least wanted to say <backtrack>, over all its states.",
            lambda path: (path.sum_log_keep, path.mean_logprob),
        ),
        SelectionRule(
            "combined",
            "Mean log-probability plus mean log-probability of not saying <backtrack>.",
            lambda path: (path.mean_logprob + path.mean_log_keep, path.mean_logprob),
        ),
    )
}
