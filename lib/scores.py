"""Scores of a tree's finished paths under each selection rule.

Takes a search tree; gives one Rule per selection rule of `lib.selection`: every finished path's
score, higher is better, and the leaf that the rule itself chooses. Knows nothing of checkers.
"""

from __future__ import annotations

from lib.selection import SELECTION_RULES, paths
from lib.tree import SearchTree
from lib.treeview import Rule

TITLES = {
    "mean_logprob": "Mean log-prob. (paper)",
    "min_logprob_step": "Least probable step",
    "vote": "Vote of samples",
    "self_verification": "Log P(keep)",
    "combined": "Mean log-prob. + P(keep)",
}


def score_rules(tree: SearchTree) -> list[Rule]:
    """One Rule per selection rule, with the scores that it gives and the leaf that it chooses."""
    finished = [path for path in paths(tree) if path.kind == "goal"]
    rules = []
    for name, rule in SELECTION_RULES.items():
        scores = {path.leaf: rule.score(path) for path in finished}
        rules.append(Rule(name, TITLES.get(name, name), scores, rule(tree)))
    return rules
