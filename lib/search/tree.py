"""The record of one search: takes nodes, gives paths, responses and JSON lines.

Everything that the analysis and the explorer show is in a `SearchTree`; it knows nothing of how
its tokens were made, nor of what a right answer is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from lib.base.errors import UserError

SCHEMA = 1
HEAD = b'{"search":'  # a file's first line says what was searched
KINDS = ("root", "step", "goal", "backtrack", "limit")


@dataclass(frozen=True)
class Node:
    """A state (the prompt and the steps so far) or, as a leaf, how a path ended."""

    id: int
    parent: int | None
    kind: str  # "root", "step", "goal" (end of sequence), "backtrack" or "limit"
    level: int  # 0: found in the question's expansion; k: after the k-th roll-back
    text: str  # the step without its end; a leaf's terminal text; "" for the root
    tokens: tuple[int, ...]  # the step's, with its end; a leaf's, with its terminal token
    logprobs: tuple[float, ...]  # of these tokens, at temperature 1
    p_backtrack: float | None  # P(<backtrack>) as the next token of a state; None if not known
    visits: int  # samples that generated this node (root: samples of the question)


@dataclass(frozen=True)
class SearchTree:
    """One problem's search. `nodes[i].id == i`, and parents come before their children."""

    problem_id: int
    prompt: str
    breadth: int
    depth: int
    temperature: float
    seed: int
    nodes: tuple[Node, ...]
    expanded: tuple[tuple[int, int], ...]  # (state, level at which it was expanded)
    tokens_generated: int  # what samples of one expansion share counts once, lost beams count too
    tokens_sampled: int  # of all samples, as if each had been generated alone
    step_end: str
    expansion: str = "sample"  # how a state's samples were made (lib/search/expansion.py)
    per_state: str = "sqrt"  # continuations of a rolled-back state (lib/profiles/search_spec.py)
    tokens_by_level: tuple[int, ...] = ()  # of tokens_generated; not known of the usual search

    def leaves(self) -> list[Node]:
        return [node for node in self.nodes if node.kind not in ("root", "step")]

    def children(self, node_id: int) -> list[Node]:
        return [node for node in self.nodes if node.parent == node_id]

    def path(self, node_id: int) -> list[Node]:
        """Nodes from the root down to the node."""
        path = [self.nodes[node_id]]
        while path[-1].parent is not None:
            path.append(self.nodes[path[-1].parent])
        return path[::-1]

    def response(self, node_id: int) -> str:
        """What follows the prompt on the way to the node; no end-of-sequence token."""
        return "".join(
            node.text + self.step_end if node.kind == "step" else node.text
            for node in self.path(node_id)
        )

    def to_json(self) -> str:
        """One line. Nodes are stored by column: a third of the size."""
        record = {"schema": SCHEMA} | {
            name: value for name, value in vars(self).items() if name != "nodes"
        }
        for name in ("expansion", "per_state", "tokens_by_level"):
            if record[name] == getattr(SearchTree, name):  # what is usual is not told
                del record[name]
        columns = {name: [] for name in Node.__dataclass_fields__ if name != "id"}
        for node in self.nodes:
            for name, column in columns.items():
                column.append(getattr(node, name))
        record["nodes"] = columns
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> SearchTree:
        record = json.loads(line)
        if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA:
            raise UserError(f"not a search tree of schema {SCHEMA}: {line[:60]!r}")
        columns = record.pop("nodes")
        for name in ("tokens", "logprobs"):
            columns[name] = map(tuple, columns[name])
        nodes = tuple(
            Node(id=i, **dict(zip(columns, values, strict=True)))
            for i, values in enumerate(zip(*columns.values(), strict=True))
        )
        for node in nodes:
            # A walk to the root must end, and every text must be one.
            placed = node.parent is None if node.id == 0 else type(node.parent) is int
            if not placed or (node.id and not 0 <= node.parent < node.id):
                raise UserError(f"node {node.id}: its parent is {node.parent!r}")
            if not isinstance(node.text, str) or node.kind not in KINDS:
                raise UserError(f"node {node.id}: not one of {', '.join(KINDS)} with a text")
        for name in ("prompt", "step_end", "expansion", "per_state"):
            if not isinstance(record.get(name, ""), str):
                raise UserError(f"{name} is no text")
        expanded = tuple(map(tuple, record.pop("expanded")))
        if "tokens_by_level" in record:
            record["tokens_by_level"] = tuple(record["tokens_by_level"])
        return cls(nodes=nodes, expanded=expanded, **record)


def at_depth(tree: SearchTree, depth: int) -> SearchTree:
    """The tree as a search of a smaller depth grows it, where each sample counts once.

    Levels draw from random streams of their own, so the first ones are the same whatever follows.
    What cannot be told apart are the visits of a node that later samples met again.
    """
    if depth == tree.depth:
        return tree
    known = bool(tree.tokens_by_level) or depth == 0  # the first level's nodes tell its tokens
    if not 0 <= depth <= tree.depth or not known:
        raise UserError(f"search tree of problem {tree.problem_id}: no depth {depth} in it")
    place = {}
    for node in tree.nodes:
        if node.level <= depth:
            place[node.id] = len(place)
    nodes = tuple(
        replace(tree.nodes[i], id=at, parent=place.get(tree.nodes[i].parent))
        for i, at in place.items()
    )
    by_level = tree.tokens_by_level[: depth + 1]
    found = replace(
        tree,
        depth=depth,
        nodes=nodes,
        expanded=tuple((place[i], level) for i, level in tree.expanded if level <= depth),
        tokens_generated=sum(by_level),
        tokens_by_level=by_level,
        tokens_sampled=sum(node.visits * len(node.tokens) for node in nodes),
    )
    leaves = [leaf.id for leaf in found.leaves()]
    return found if by_level else replace(found, tokens_generated=tokens_after(found, leaves)[-1])


def path_tokens(tree: SearchTree, leaf: int) -> list[int]:
    """The token ids that were sampled on the way to a leaf, its terminal token included."""
    return [token for node in tree.path(leaf) for token in node.tokens]


def tokens_after(tree: SearchTree, order: Sequence[int]) -> list[int]:
    """Tokens generated for the first 1, 2, ... samples; what samples share counts once."""
    known: dict[tuple[int, int], int] = {}
    counts = []
    for leaf in order:
        at = 0
        for token in path_tokens(tree, leaf):
            at = known.setdefault((at, token), len(known) + 1)
        counts.append(len(known))
    return counts


def read_trees(path: Path | str) -> Iterator[SearchTree]:
    """The trees of a JSON-lines file, one at a time; `UserError` names what is not one."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if number == 1 and line.startswith(HEAD):
                continue
            try:
                yield SearchTree.from_json(line.decode("utf-8"))
            except (ValueError, TypeError, KeyError, RecursionError, UserError) as error:
                raise UserError(f"{path}, line {number}: not a search tree ({error})") from error


@dataclass(frozen=True)
class TreeFile:
    """The first `count` trees of a JSON-lines file (all, if None), read anew at each pass.

    A hundred thousand trees do not fit into memory at once; one does.
    """

    path: Path
    count: int | None = None

    def __iter__(self) -> Iterator[SearchTree]:
        return islice(read_trees(self.path), self.count)

    def __len__(self) -> int:
        with open(self.path, "rb") as file:
            lines = sum(not line.startswith(HEAD) for line in file)
        return lines if self.count is None else min(lines, self.count)

    def __getitem__(self, place: int | slice) -> SearchTree | TreeFile:
        """Tree `place` (from 0), or with `[:count]` the first of them."""
        if isinstance(place, int):
            for tree in islice(self, place, None):
                return tree
            raise IndexError(f"{self.path}: no tree {place}")
        stop = place.stop
        if (place.start, place.step) != (None, None) or not isinstance(stop, int) or stop < 0:
            raise ValueError(f"trees are cut as [:count], not {place}")
        return replace(self, count=stop if self.count is None else min(stop, self.count))


def outline(tree: SearchTree) -> str:
    """The tree as indented text: each state's step, level, visits and P(<backtrack>)."""
    lines = []

    def add(node: Node, indent: int) -> None:
        verdict = "" if node.p_backtrack is None else f"  p_backtrack={node.p_backtrack:.2f}"
        text = "(question)" if node.kind == "root" else node.text or f"({node.kind})"
        lines.append(f"{'  ' * indent}{text}  level={node.level} visits={node.visits}{verdict}")
        for child in tree.children(node.id):
            add(child, indent + 1)

    add(tree.nodes[0], 0)
    return "\n".join(lines)
