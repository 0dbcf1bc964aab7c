"""Where the nodes of a tree stand: columns by depth, rows by igraph's Reingold-Tilford layout.

Takes nodes with a depth, a label, a step's text and a note; gives columns and rows, the root on the
left; all lengths are in pixels. Knows nothing of searches, models or drawing. There are two layouts
of the same rows: wide, where a step stands before its state, and narrow, where it stands above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BOX_HEIGHT, LINE_HEIGHT = 22, 14
CHARACTER_WIDTH = 7.3  # of a 12 px monospace font, rounded up
NOTE_WIDTH = 6.3  # of a character of an 11 px font, on average
BOX_PADDING = 24  # both sides together, with room for a mark
LONGEST_LABEL = 22
MARGIN = 24
LEAVES = {"backtrack": "<backtrack>", "goal": "stopped", "limit": "cut off"}


def lay_out(nodes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Both layouts; each node gets its `row`, and how many columns its note covers."""
    layouts = {name: _columns(nodes, name == "wide") for name in ("wide", "narrow")}
    for id_, row in layout_rows(nodes).items():
        nodes[id_]["row"] = round(row, 3)
    return layouts


def place(
    data: Mapping[str, Any], node: Mapping[str, Any], rows: Mapping[int, float] | None = None
) -> tuple[float, float, float]:
    """In the wide layout: where a step's text starts, where the box starts, the box's middle.

    rows: other rows than the whole tree's.
    """
    wide = data["layouts"]["wide"]
    edge_x, box_x = wide["columns"][node["depth"]]
    row = node["row"] if rows is None else rows[node["id"]]
    y = MARGIN + data["box"] / 2 + row * wide["row"]
    return edge_x, edge_x if node["kind"] in LEAVES else box_x, y


def box_height(nodes: Sequence[Mapping[str, Any]]) -> float:
    """The height of every state's box: that of the label with the most lines."""
    return BOX_HEIGHT + LINE_HEIGHT * (max(len(node["label"]) for node in nodes) - 1)


def note_width(note: str) -> float:
    """How far a note reaches beside its leaf."""
    return round(NOTE_WIDTH * len(note) + 6, 1) if note else 0.0


def box_width(lines: Sequence[str], each: float = CHARACTER_WIDTH) -> float:
    """The width of a box with these lines, of characters (or cells) so wide."""
    return round(max(map(len, lines)) * each + BOX_PADDING, 1)


def _columns(nodes: list[dict[str, Any]], wide: bool) -> dict[str, Any]:
    """Where columns stand, for each depth (a step's text, a state's box), and how far rows are.

    Wide, a step stands before its state; narrow, above it.
    """
    curve, margin = (34, MARGIN) if wide else (14, 8)
    edges = [0.0] * (max(node["depth"] for node in nodes) + 1)
    ends = edges.copy()
    for node in nodes:
        text = len(node["edge"]) * CHARACTER_WIDTH + 10
        if wide and node["edge"]:
            edges[node["depth"]] = max(edges[node["depth"]], text)
        elif node["edge"]:
            ends[node["depth"]] = max(ends[node["depth"]], text)
    for node in nodes:
        start = edges[node["depth"]] if node["kind"] not in LEAVES else 0.0
        ends[node["depth"]] = max(ends[node["depth"]], start + node["width"])
    columns, x = [], float(margin)
    for edge, end in zip(edges, ends, strict=True):
        columns.append([round(x, 1), round(x + edge, 1)])
        x += end + curve
    # A note stands beside its leaf, in as many columns as it needs.
    name, right = ("cover", 0.0) if wide else ("cover_narrow", 0.0)
    for node in nodes:
        start = columns[node["depth"]][node["kind"] not in LEAVES]
        note = node["note"] if wide else node["short_note"]
        end = start + node["width"]
        if note:
            end = max(end, (end if wide else start) + 5 + note_width(note))
        node[name] = sum(column[0] < end for column in columns[node["depth"] + 1 :])
        right = max(right, end)
    row = box_height(nodes) + (10 if wide else 24)
    return {"row": row, "columns": columns, "width": round(right + margin, 1)}


def layout_rows(
    nodes: Sequence[Mapping[str, Any]], shown: set[int] | None = None
) -> dict[int, float]:
    """The row of each node that is shown, from 0; a note takes up the columns that it covers."""
    import igraph  # imports matplotlib's pyplot: seconds, before the widget could be seen

    visible = [node for node in nodes if shown is None or node["id"] in shown]
    index = {node["id"]: position for position, node in enumerate(visible)}
    edges = [
        (index[node["parent"]], index[node["id"]]) for node in visible if node["parent"] is not None
    ]
    count = len(visible)
    for node in visible:
        at = index[node["id"]]
        for _ in range(max(node.get("cover", 0), node.get("cover_narrow", 0))):
            edges.append((at, count))
            at, count = count, count + 1
    graph = igraph.Graph(count, edges, directed=True)
    across = [place[0] for place in graph.layout_reingold_tilford(mode="out", root=[0])]
    across = across[: len(visible)]
    top = min(across)
    return {node["id"]: across[index[node["id"]]] - top for node in visible}


def shorten(text: str, length: int = LONGEST_LABEL) -> str:
    """`text` on one line, cut to `length` characters."""
    line = "".join(c if c.isprintable() else "·" for c in text)
    return line if len(line) <= length else line[: length - 1] + "…"
