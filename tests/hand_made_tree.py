"""A small search tree written by hand, for tests with exact expectations.

Problem 2, 3, 4 -> 10 at breadth 4, depth 1. Node by node: 0 the question; 1 `2*3=6` and 2 `6+4=10`
and 3 its goal; 4 `4-3=1` and 5 its <backtrack>; 6 `3+2=5`, 7 a goal that misses the target; then,
after a roll-back to the question, 8 `2*3=7`, a wrong step, and 9 its end at the token limit.
"""

from __future__ import annotations

from lib.search.tree import Node, SearchTree
from lib.tasks.countdown import problems
from lib.tasks.countdown.rules import Problem
from lib.tasks.countdown.task import CountdownTask

PROBLEM = Problem((2, 3, 4), 10)
TASK = CountdownTask(problems.Settings(4, 25, 10, 75, 99, 0.1))


def make_tree() -> SearchTree:
    def node(id_, parent, kind, level, text, p=None, visits=1):
        tokens = () if kind == "root" else tuple(range(10 * id_, 10 * id_ + len(text)))
        tokens = (1,) if kind == "backtrack" else tokens
        logprobs = (-0.125 * (id_ or 1),) * len(tokens)
        return Node(id_, parent, kind, level, text, tokens, logprobs, p, visits)

    nodes = (
        node(0, None, "root", 0, "", 0.0, 4),
        node(1, 0, "step", 0, "2*3=6", 0.25, 2),
        node(2, 1, "step", 0, "6+4=10", 0.75, 2),
        node(3, 2, "goal", 0, "Goal Reached!", visits=2),
        node(4, 0, "step", 0, "4-3=1", 1.0),
        node(5, 4, "backtrack", 0, "<backtrack>"),
        node(6, 0, "step", 0, "3+2=5", 0.5),
        node(7, 6, "goal", 0, "Goal Reached!"),
        node(8, 0, "step", 1, "2*3=7", 0.5),
        node(9, 8, "limit", 1, "4+"),
    )
    prompt = PROBLEM.prompt()
    return SearchTree(7, prompt, 4, 1, 0.7, 0, nodes, ((0, 0), (0, 1)), 40, 60, "\n")
