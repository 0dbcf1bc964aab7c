"""Scores of a tree's finished paths under each selection rule.

Takes a search tree; gives one Rule per selection rule of `lib.selection`: every finished path's
score, higher is better, and the leaf that the rule itself chooses. Knows nothing of checkers.
"""

from __future__ import annotations

from collections.abc import Callable

from lib.selection import SELECTION_RULES, Path, paths
from lib.tree import SearchTree
from lib.treeview import Rule

SCORES: dict[str, tuple[str, Callable[[Path], float]]] = {
    "mean_logprob": ("Mean log-prob. (paper)", lambda path: path.mean_logprob),
    "min_logprob_step": ("Least probable step", lambda path: path.min_step_logprob),
    "vote": ("Vote of samples", lambda path: float(path.visits)),
    "self_verification": ("Log P(keep)", lambda path: path.sum_log_keep),
    "combined": ("Mean log-prob. + P(keep)", lambda path: path.mean_logprob + path.mean_log_keep),
}


def score_rules(tree: SearchTree) -> list[Rule]:
    """One Rule per selection rule; a rule without a score here still shows its choice."""
    finished = [path for path in paths(tree) if path.kind == "goal"]
    rules = []
    for name, choose in SELECTION_RULES.items():
        title, score = SCORES.get(name, (name, None))
        scores = {} if score is None else {path.leaf: score(path) for path in finished}
        rules.append(Rule(name, title, scores, choose(tree)))
    return rules
