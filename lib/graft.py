"""Branches added to a finished search tree: a search from one of its states, or a single step.

Takes search trees; gives new ones, the old nodes with their ids first. Knows nothing of models,
tasks or drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lib.tree import Node, SearchTree


def graft(tree: SearchTree, at: int, branch: SearchTree) -> SearchTree:
    """`tree` with `branch`, a search from the state of node `at`, added below that node.

    Where both have the same step at the same place it is one node, with the visits of both. New
    nodes get the levels after the last one of `tree`: they were expanded after all of it.
    """
    nodes = list(tree.nodes)
    known = {(node.parent, node.kind, node.tokens): node.id for node in nodes}
    level = 1 + max(node.level for node in nodes)
    place = {0: at}
    nodes[at] = _merged(nodes[at], branch.nodes[0], visits=0)
    for node in branch.nodes[1:]:
        key = (place[node.parent], node.kind, node.tokens)
        if key in known:
            old = known[key]
            nodes[old] = _merged(nodes[old], node, node.visits)
        else:
            old = known[key] = len(nodes)
            nodes.append(replace(node, id=old, parent=key[0], level=level + node.level))
        place[node.id] = old
    return replace(
        tree,
        nodes=tuple(nodes),
        expanded=(*tree.expanded, *((place[s], level + depth) for s, depth in branch.expanded)),
        tokens_generated=tree.tokens_generated + branch.tokens_generated,
        tokens_sampled=tree.tokens_sampled + branch.tokens_sampled,
    )


def add_step(
    tree: SearchTree, at: int, text: str, tokens: Sequence[int], p_backtrack: float | None
) -> tuple[SearchTree, int]:
    """`tree` with the step `text` below node `at`, and that step's node; no sample visited it."""
    for node in tree.children(at):
        if node.kind == "step" and node.text == text:
            return tree, node.id
    level = 1 + max(node.level for node in tree.nodes)
    added = Node(
        id=len(tree.nodes),
        parent=at,
        kind="step",
        level=level,
        text=text,
        tokens=tuple(tokens),
        logprobs=(),
        p_backtrack=p_backtrack,
        visits=0,
    )
    return replace(tree, nodes=(*tree.nodes, added)), added.id


def state_steps(tree: SearchTree, node_id: int) -> list[str]:
    """The texts of the steps from the question to the node."""
    return [node.text for node in tree.path(node_id) if node.kind == "step"]


def _merged(node: Node, again: Node, visits: int) -> Node:
    known = again.p_backtrack if node.p_backtrack is None else node.p_backtrack
    return replace(node, p_backtrack=known, visits=node.visits + visits)
