"""A search tree as it is shown: plain data with places, colours and words.

Takes a session (or a search tree), its nodes' notes and each selection rule's choice; gives a
TreeView, whose `data` is JSON that the widget, the figure and the shared page all draw. Knows
nothing of widgets, models or any one task; where a node stands is `lib.explorer.layout`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lib.explorer.annotation import Labels, Note
from lib.explorer.layout import (
    LEAVES,
    LINE_HEIGHT,
    LONGEST_LABEL,
    box_height,
    box_width,
    lay_out,
    note_width,
    shorten,
)
from lib.explorer.session import PLAYED, Session, first_search, state_steps
from lib.explorer.story import Rule, Story
from lib.explorer.words import SCORES, TIPS
from lib.search.selection import SELECTION_RULES, paths
from lib.search.tree import Node, SearchTree
from lib.tasks.task import Grid

# Blue for "go on" to orange for "step back": told apart with any colour vision, and light enough
# for black text in light and dark themes.
COLOURS = ((107, 174, 214), (242, 242, 242), (253, 141, 60))
NO_COLOUR = "#d9d9d9"
LEAF_COLOURS = {"backtrack": "#fd8d3c", "goal": "#ffffff", "limit": NO_COLOUR}


@dataclass(frozen=True)
class TreeView:
    """What is drawn; `data` is plain JSON (see `describe`)."""

    data: dict[str, Any]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        return self.data["nodes"]


def describe(
    tree: Session | SearchTree,
    notes: Sequence[Note],
    rules: Iterable[Rule] = (),
    token_texts: Callable[[Sequence[int]], list[str]] | None = None,
    labels: Labels | None = None,
) -> TreeView:
    """The view: nodes with rows and words, the story's phases and steps, finished paths, rules."""
    session = tree if isinstance(tree, Session) else first_search(tree)
    labels, rules = labels or Labels(), list(rules)
    story = Story(session, notes, labels.state_label, labels.title)
    decode = token_texts or (lambda ids: [f"#{token}" for token in ids])
    struck = struck_nodes(session.tree)
    nodes = [
        _node(node, story, node.id in struck, decode(node.tokens)[: len(node.tokens)])
        for node in session.tree.nodes
    ]
    grid = None if labels.grid is None else _as_grids(nodes, story, labels.grid)
    layouts = lay_out(nodes)
    greedy = {"name": "Greedy", "tip": TIPS["greedy"]}
    further = any(session.further_samples(node.id) for node in session.tree.nodes)
    data = {
        "title": labels.title,
        "made": labels.made,
        "warning": labels.warning,
        "values": dict(labels.values),
        "step_example": labels.step_example,
        "prompt": session.tree.prompt,
        "box": box_height(nodes),
        "grid": grid,
        "layouts": layouts,
        "nodes": nodes,
        "phases": story.phases,
        "steps": story.steps,
        "returns": story.returns,
        "rules": [_rule(rule, story) for rule in rules],
        "paths": _paths(rules, story),
        "comparison": [greedy | labels.greedy] if labels.greedy else [],
        "samples_note": SAMPLES_NOTE if further else "",
        "tips": TIPS | {"truth": TRUTH_KEY.format(goal=labels.goal)},
    }
    return TreeView(data)


TRUTH_KEY = "✓ {goal} can still be reached, ✕ it cannot; red: the model’s verdict is wrong"
SAMPLES_NOTE = (
    "Samples and votes count the first search alone; “+3” are samples of searches further on, "
    "which cannot be compared with them."
)


def _node(node: Node, story: Story, struck: bool, token_texts: list[str]) -> dict[str, Any]:
    note, session = story.notes[node.id], story.session
    part = session.parts[session.part_of[node.id]]
    label = LEAVES.get(node.kind) or note.state or "not legal"
    lines = [shorten(line) for line in label.split("\n")]
    logprobs = [_finite(value) for value in node.logprobs]
    text, short = _note_beside(node, note)
    verdict = "wrong" if note.wrong else "right" if note.truth or note.correct else ""
    return {
        "id": node.id,
        "parent": node.parent,
        "kind": node.kind,
        "depth": story.depths[node.id],
        "text": node.text,
        "name": _name(node),
        "edge": shorten(node.text) if node.kind == "step" else "",
        "label": lines,
        "width": box_width(lines),
        "colour": LEAF_COLOURS.get(node.kind) or colour(node.p_backtrack),
        "mark": _mark(node, note),
        "note": text,
        "short_note": short,
        "note_width": note_width(text),
        "verdict": verdict,
        "truth": note.truth,
        "struck": struck,
        "again": node.level > 0 or part.kind != "search",
        "own": part.kind == PLAYED,
        "p": _finite(node.p_backtrack),
        "logprob": _finite(sum(node.logprobs)) if node.logprobs else None,
        "tokens": [list(pair) for pair in zip(token_texts, logprobs, strict=False)],
        "facts": _facts(node, note, story),
    }


def _as_grids(nodes: list[dict[str, Any]], story: Story, grid: Grid) -> dict[str, Any]:
    """Make the states' boxes as wide as grids of square cells; gives what all grids share.

    `written`: the cell (row, column) that the step to a state filled, where it did.
    """
    for node in nodes:
        if node["kind"] in LEAVES or story.notes[node["id"]].state is None:
            continue
        node |= {"width": box_width(node["label"], LINE_HEIGHT), "written": None}
        before = [] if node["parent"] is None else nodes[node["parent"]]["label"]
        for row, lines in enumerate(zip(before, node["label"], strict=False)):
            for column, (old, new) in enumerate(zip(*lines, strict=False)):
                if old != new:
                    node["written"] = [row, column]
    box = [grid.box_rows, grid.box_columns]
    return {"box": box, "empty": grid.empty, "given": nodes[0]["label"]}


def _name(node: Node) -> str:
    if node.kind in LEAVES:
        return LEAVES[node.kind]
    return node.text if node.parent is not None else "the question"


def _mark(node: Node, note: Note) -> str:
    """The solver's word within a state's box."""
    if node.kind not in ("root", "step") or note.reachable is None:
        return ""
    return "✓" if note.reachable else "✕"


def _note_beside(node: Node, note: Note) -> tuple[str, str]:
    """What stands beside a leaf, and its short form."""
    if node.kind == "goal":
        text = "✓ right" if note.correct else f"✕ {_why(note)}"
        return text, text if len(text) <= LONGEST_LABEL else "✕ wrong"
    if node.kind != "backtrack" or not note.truth:
        return "", ""
    sign = "✕ " if note.wrong else "✓ " if len(node.tokens) <= 1 else ""
    return sign + note.truth, sign + note.truth.split(":")[0]


def _why(note: Note) -> str:
    return note.reason or note.error or "wrong"


def _facts(node: Node, note: Note, story: Story) -> list[list[str]]:
    """What is known of a node: (name, value, meaning)."""
    session, facts = story.session, []
    if node.kind in ("root", "step"):
        facts.append([story.state_label, note.state or f"not legal: {note.reason}", ""])
        p = "–" if node.p_backtrack is None else f"{node.p_backtrack:.3f}"
        facts.append(["P(<backtrack>)", p, TIPS["p_backtrack"]])
    if node.logprobs:
        facts.append(["Log-probability", f"{sum(node.logprobs):.3f}", TIPS["logprob"]])
    facts.append(["Samples", _samples(session, node.id), TIPS["samples"]])
    played = session.parts[session.part_of[node.id]].kind == PLAYED
    level = story.found(node) if played else f"{node.level} ({story.found(node)})"
    facts.append(["Level", level, TIPS["found"]])
    for index, part in enumerate(session.parts):
        for state, level in part.expanded:
            if state == node.id and (index or level):
                where = f"roll-back {level}" if level else "search on"
                count = session.continuations(state, index)
                facts.append(["Expanded again", f"{where}, {count} continuations", ""])
    if node.kind == "goal":
        right = "right" if note.correct else _named(note)
        facts.append(["Right?", right, TIPS["check"]])
    return facts


def _named(note: Note) -> str:
    """Why a path is wrong, with the paper's name for it."""
    return f"{note.reason} ({note.error})" if note.reason and note.error else _why(note)


def _samples(session: Session, node: int) -> str:
    """`3`, or `3 + 2` where searches further on met the node."""
    own, further = session.tree.nodes[node].visits, session.further_samples(node)
    return f"{own} + {further}" if further else f"{own}"


def struck_nodes(tree: Any) -> set[int]:
    """The `<backtrack>` leaves, and the steps after which every sample said it.

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


def colour(p_backtrack: float | None) -> str:
    """The colour of a probability of `<backtrack>`, as #rrggbb."""
    if p_backtrack is None or math.isnan(p_backtrack):
        return NO_COLOUR
    place = min(max(p_backtrack, 0.0), 1.0) * 2
    low, high = COLOURS[int(place >= 1)], COLOURS[1 + int(place >= 1)]
    share = place - int(place >= 1)
    mixed = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _rule(rule: Rule, story: Story) -> dict[str, Any]:
    line = {"steps": [], "correct": False, "note": "✕ no path was finished"}
    if rule.chosen is not None:
        note, leaf = story.notes[rule.chosen], story.session.tree.nodes[rule.chosen]
        said = "✓ right" if note.correct else f"✕ {_why(note)}"
        line["steps"] = state_steps(story.session.tree, leaf.id)
        line |= {"correct": bool(note.correct), "note": f"{said}, found in {story.found(leaf)}"}
    line |= {"name": "Search", "tip": TIPS["search"]}
    row = {"name": rule.name, "title": rule.title, "tip": rule.tip, "chosen": rule.chosen}
    return row | {"text": story.choice(rule), "line": line}


def _paths(rules: list[Rule], story: Story) -> list[dict[str, Any]]:
    """The finished paths, the most visited first."""
    notes, tree = story.notes, story.session.tree
    found = [
        {
            "leaf": node.id,
            "steps": state_steps(tree, node.id),
            "visits": node.visits,
            "samples": _samples(story.session, node.id),
            "found": story.found(node),
            "correct": bool(notes[node.id].correct),
            "note": "✓ right" if notes[node.id].correct else f"✕ {_named(notes[node.id])}",
            "scores": {rule.name: _finite(rule.scores.get(node.id)) for rule in rules},
        }
        for node in tree.nodes
        if node.kind == "goal"
    ]
    return sorted(found, key=lambda path: (-path["visits"], path["leaf"]))


def _finite(value: float | None) -> float | None:
    """`value` with five significant digits, or None: JSON has no infinities."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.5g}")


def score_rules(tree: SearchTree) -> list[Rule]:
    """One Rule per selection rule, with the scores that it gives and the leaf that it chooses."""
    finished = [path for path in paths(tree) if path.kind == "goal"]
    rules = []
    for name, rule in SELECTION_RULES.items():
        title, phrase, tip = SCORES.get(name, (name, name, rule.meaning))
        scores = {path.leaf: rule.score(path) for path in finished}
        rules.append(Rule(name, title, scores, rule(tree), phrase, tip))
    return rules
