"""A search tree as it is shown: plain data with positions, colours and texts.

Takes a search tree, one annotation a node (`lib.tasks.countdown.interactive`), the finished paths'
scores and each selection rule's choice; gives a TreeView, whose `data` is JSON that the widget, the
figure and the shared page all draw. Knows nothing of widgets, models or tasks. Node rows come from
igraph's Reingold-Tilford layout, turned so that the root is on the left; all lengths are in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import igraph

from lib.search.selection import SELECTION_RULES, paths
from lib.search.tree import SearchTree

ROW_HEIGHT = 32
BOX_HEIGHT = 22
CHARACTER_WIDTH = 7.3  # of a 12 px monospace font, rounded up
BOX_PADDING = 16  # both sides together
CURVE_WIDTH = 34  # between one column and the next
MARGIN = 24
LONGEST_LABEL = 22
# Blue for "go on" to orange for "step back": told apart with any colour vision, and light enough
# for black text in light and dark themes.
COLOURS = ((107, 174, 214), (242, 242, 242), (253, 141, 60))
NO_COLOUR = "#d9d9d9"
LEAF_COLOURS = {"backtrack": "#fd8d3c", "goal": "#ffffff", "limit": NO_COLOUR}


@dataclass(frozen=True)
class Rule:
    """A selection rule: its title, each finished path's score by leaf id, and the chosen leaf."""

    name: str
    title: str
    scores: Mapping[int, float]
    chosen: int | None


@dataclass(frozen=True)
class TreeView:
    """What is drawn; `data` is plain JSON (see `describe`)."""

    data: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.data["nodes"]


def describe(
    tree: Any,
    annotations: Sequence[Any],
    rules: Iterable[Rule] = (),
    token_texts: Callable[[Sequence[int]], list[str]] | None = None,
    title: str = "",
) -> TreeView:
    """The view of `tree`: nodes with positions, reveal order, finished paths, selection rules."""
    order = reveal_order(tree)
    rows = layout_rows(tree)
    columns = _columns(tree, annotations)
    struck = struck_nodes(tree)
    depths = node_depths(tree)
    decode = token_texts or (lambda ids: [f"#{token}" for token in ids])
    nodes = []
    for node, note in zip(tree.nodes, annotations, strict=True):
        is_leaf = node.kind in ("goal", "backtrack", "limit")
        edge_x, box_x = columns[depths[node.id]]
        logprobs = [_finite(value) for value in node.logprobs]
        texts = decode(node.tokens)[: len(node.tokens)]
        nodes.append(
            {
                "id": node.id,
                "parent": node.parent,
                "kind": node.kind,
                "level": node.level,
                "depth": depths[node.id],
                "x": edge_x if is_leaf else box_x,
                "y": _y(rows[node.id]),
                "edge_x": edge_x,
                "width": _box_width(note.label),
                "text": node.text,
                "edge": shorten(node.text) if node.kind == "step" else "",
                "label": shorten(note.label),
                "p": _finite(node.p_backtrack),
                "colour": LEAF_COLOURS.get(node.kind) or colour(node.p_backtrack),
                "visits": node.visits,
                "logprob": _finite(sum(node.logprobs)) if node.logprobs else None,
                "tokens": [list(pair) for pair in zip(texts, logprobs, strict=False)],
                "struck": node.id in struck,
                "reachable": note.reachable,
                "wrong": note.wrong,
                "correct": note.correct,
                "error": note.error,
            }
        )
    rules = list(rules)
    data = {
        "title": title,
        "prompt": tree.prompt,
        "breadth": tree.breadth,
        "depth": tree.depth,
        "temperature": tree.temperature,
        "seed": tree.seed,
        "width": max(node["x"] + node["width"] for node in nodes) + MARGIN,
        "height": max(node["y"] for node in nodes) + BOX_HEIGHT / 2 + MARGIN,
        "box_height": BOX_HEIGHT,
        "nodes": nodes,
        "order": order,
        "rules": [
            {"name": rule.name, "title": rule.title, "chosen": rule.chosen} for rule in rules
        ],
        "paths": _paths(nodes, rules),
    }
    return TreeView(data)


def reveal_order(tree: Any) -> list[int]:
    """Node ids in the order of their expansion: level, then id; a parent before its children."""
    levels: list[int] = []
    for node in tree.nodes:
        levels.append(max(node.level, -1 if node.parent is None else levels[node.parent]))
    return sorted(range(len(levels)), key=lambda id_: (levels[id_], id_))


def node_depths(tree: Any) -> list[int]:
    """The number of edges from the root to each node."""
    depths: list[int] = []
    for node in tree.nodes:
        depths.append(0 if node.parent is None else depths[node.parent] + 1)
    return depths


def struck_nodes(tree: Any) -> set[int]:
    """The `<backtrack>` leaves, and the steps that every sample took back.

    A `<backtrack>` in the middle of a step takes back that unfinished step, not the one before.
    """
    below: dict[int, list[bool]] = {}
    for node in tree.nodes:
        if node.parent is not None:
            takes_back = node.kind == "backtrack" and len(node.tokens) <= 1
            below.setdefault(node.parent, []).append(takes_back)
    return {
        node.id
        for node in tree.nodes
        if node.kind == "backtrack" or (node.kind == "step" and all(below.get(node.id, [False])))
    }


def layout_rows(tree: Any, collapsed: Collection[int] = ()) -> dict[int, float]:
    """The row of each visible node, from 0; the children of `collapsed` nodes are not visible."""
    hidden: set[int] = set()
    for node in tree.nodes:
        if node.parent is not None and (node.parent in hidden or node.parent in collapsed):
            hidden.add(node.id)
    visible = [node for node in tree.nodes if node.id not in hidden]
    index = {node.id: position for position, node in enumerate(visible)}
    edges = [(index[node.parent], index[node.id]) for node in visible if node.parent is not None]
    graph = igraph.Graph(len(visible), edges, directed=True)
    across = [place[0] for place in graph.layout_reingold_tilford(mode="out", root=[0])]
    top = min(across)
    return {node.id: across[index[node.id]] - top for node in visible}


def layout_y(tree: Any, collapsed: Collection[int] = ()) -> dict[str, float]:
    """The vertical position of each visible node, keyed by its id as JSON has it."""
    return {str(id_): _y(row) for id_, row in layout_rows(tree, collapsed).items()}


def colour(p_backtrack: float | None) -> str:
    """The colour of a probability of `<backtrack>`, as #rrggbb."""
    if p_backtrack is None or math.isnan(p_backtrack):
        return NO_COLOUR
    place = min(max(p_backtrack, 0.0), 1.0) * 2
    low, high = COLOURS[int(place >= 1)], COLOURS[1 + int(place >= 1)]
    share = place - int(place >= 1)
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def shorten(text: str, length: int = LONGEST_LABEL) -> str:
    """`text` on one line, cut to `length` characters."""
    line = "".join(c if c.isprintable() else "·" for c in text)
    return line if len(line) <= length else line[: length - 1] + "…"


def _y(row: float) -> float:
    return round(MARGIN + BOX_HEIGHT / 2 + row * ROW_HEIGHT, 1)


def _box_width(label: str) -> float:
    return round(len(shorten(label)) * CHARACTER_WIDTH + BOX_PADDING, 1)


def _columns(tree: Any, annotations: Sequence[Any]) -> list[tuple[float, float]]:
    """For each depth: where a step's text starts, and where a state's box starts."""
    depths = node_depths(tree)
    edge_widths = [0.0] * (max(depths) + 1)
    box_ends = edge_widths.copy()
    for node, depth in zip(tree.nodes, depths, strict=True):
        if node.kind == "step":
            width = len(shorten(node.text)) * CHARACTER_WIDTH + 10
            edge_widths[depth] = max(edge_widths[depth], width)
    for node, note, depth in zip(tree.nodes, annotations, depths, strict=True):
        start = edge_widths[depth] if node.kind in ("root", "step") else 0.0
        box_ends[depth] = max(box_ends[depth], start + _box_width(note.label))
    columns, x = [], float(MARGIN)
    for edge_width, end in zip(edge_widths, box_ends, strict=True):
        columns.append((round(x, 1), round(x + edge_width, 1)))
        x += end + CURVE_WIDTH
    return columns


def _paths(nodes: list[dict[str, Any]], rules: list[Rule]) -> list[dict[str, Any]]:
    """The finished paths, the most visited first."""
    paths = []
    for node in nodes:
        if node["kind"] != "goal":
            continue
        steps, parent = [], node["parent"]
        while parent is not None:
            steps.append(nodes[parent]["text"])
            parent = nodes[parent]["parent"]
        scores = {rule.name: _finite(rule.scores.get(node["id"])) for rule in rules}
        paths.append(
            {
                "leaf": node["id"],
                "steps": [step for step in reversed(steps) if step],
                "visits": node["visits"],
                "correct": node["correct"],
                "error": node["error"],
                "scores": scores,
            }
        )
    return sorted(paths, key=lambda path: (-path["visits"], path["leaf"]))


def _finite(value: float | None) -> float | None:
    """`value` with five significant digits, or None: JSON has no infinities."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


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
