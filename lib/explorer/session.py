"""One problem's tree and how it came about: a search, searches further on, steps of one's own.

Takes search trees; gives one tree whose nodes know which of these parts found them. Knows nothing
of models, tasks or drawing. `Node.level` counts the roll-backs of the node's own part, and
`Node.visits` the samples of the first search alone: further searches sample a part of the tree
more, so that their samples cannot be added to its votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lib.search.tree import Node, SearchTree

SEARCH, FURTHER, PLAYED = "search", "further", "played"


@dataclass(frozen=True)
class Part:
    """What found some of the nodes: where it started, how deep, and its samples by node."""

    kind: str  # SEARCH, FURTHER or PLAYED
    start: int  # the node whose state was searched or continued
    depth: int  # roll-backs
    expanded: tuple[tuple[int, int], ...]  # (state, level at which this part expanded it)
    samples: Mapping[int, int]  # node -> samples of this part that generated it


@dataclass(frozen=True)
class Reading:
    """How a model reads a text that is there already."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]  # of each token
    p_backtrack: float  # after all of it


@dataclass(frozen=True)
class Session:
    """A tree, its parts in the order in which they came, and each node's part."""

    tree: SearchTree
    parts: tuple[Part, ...]
    part_of: tuple[int, ...]

    def continuations(self, state: int, part: int) -> int:
        """How many samples of a state itself the part took: those below it that came from it."""
        samples = self.parts[part].samples
        below = sum(samples.get(node.id, 0) for node in self.tree.children(state))
        return below - (samples.get(state, 0) if state != self.parts[part].start else 0)

    def further_samples(self, node: int) -> int:
        """The samples of further searches that generated the node."""
        return sum(part.samples.get(node, 0) for part in self.parts if part.kind == FURTHER)


def first_search(tree: SearchTree) -> Session:
    """The session of a search of the question."""
    samples = {node.id: node.visits for node in tree.nodes}
    part = Part(SEARCH, 0, tree.depth, tree.expanded, samples)
    return Session(tree, (part,), (0,) * len(tree.nodes))


def search_further(session: Session, start: int, branch: SearchTree) -> Session:
    """`branch`, a search from the state of node `start`, added below that node.

    Where both have the same step at the same place it is one node, which stays the earlier part's.
    """
    tree = session.tree
    nodes = list(tree.nodes)
    known = {(node.parent, node.kind, node.tokens): node.id for node in nodes}
    place, samples = {0: start}, Counter()
    nodes[start] = _known(nodes[start], branch.nodes[0])
    for node in branch.nodes[1:]:
        key = (place[node.parent], node.kind, node.tokens)
        if key in known:
            nodes[known[key]] = _known(nodes[known[key]], node)
        else:
            known[key] = len(nodes)
            nodes.append(replace(node, id=len(nodes), parent=key[0], visits=0))
        place[node.id] = known[key]
        samples[known[key]] += node.visits
    tree = replace(
        tree,
        nodes=tuple(nodes),
        tokens_generated=tree.tokens_generated + branch.tokens_generated,
        tokens_sampled=tree.tokens_sampled + branch.tokens_sampled,
    )
    expanded = tuple((place[state], level) for state, level in branch.expanded)
    return _grown(session, tree, Part(FURTHER, start, branch.depth, expanded, samples))


def play_step(session: Session, at: int, text: str, reading: Reading) -> tuple[Session, int]:
    """The session with the step `text`, as the model reads it, below node `at`; and its node."""
    tree = session.tree
    for node in tree.children(at):
        if node.kind == "step" and node.text == text:
            return session, node.id
    read = (reading.tokens, reading.logprobs, reading.p_backtrack)
    tree = replace(tree, nodes=(*tree.nodes, Node(len(tree.nodes), at, "step", 0, text, *read, 0)))
    return _grown(session, tree, Part(PLAYED, at, 0, (), {})), len(tree.nodes) - 1


def one_step_back(session: Session, leaf: Node) -> int:
    """The state that a `<backtrack>` leads back to: one step before the one that it takes back.

    In the middle of a step it takes back that unfinished step.
    """
    parent = leaf.parent
    start = session.parts[session.part_of[leaf.id]].start
    if len(leaf.tokens) > 1 or parent in (0, start):
        return parent
    return session.tree.nodes[parent].parent


def state_steps(tree: SearchTree, node_id: int) -> list[str]:
    """The texts of the steps from the question to the node."""
    return [node.text for node in tree.path(node_id) if node.kind == "step"]


def _grown(session: Session, tree: SearchTree, part: Part) -> Session:
    added = len(tree.nodes) - len(session.tree.nodes)
    part_of = (*session.part_of, *[len(session.parts)] * added)
    return Session(tree, (*session.parts, part), part_of)


def _known(node: Node, again: Node) -> Node:
    """`node` with the verdict that another search read there, where its own lacks one."""
    return replace(node, p_backtrack=again.p_backtrack) if node.p_backtrack is None else node
