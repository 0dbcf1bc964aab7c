"""A search tree as a figure for papers and headless runs.

Takes a TreeView; gives a matplotlib Figure, or writes an SVG, PNG or PDF file. Knows nothing of
widgets or models. One pixel of the view is one point of the figure.
"""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline

from lib.base.errors import UserError
from lib.base.files import write_atomic
from lib.explorer.tree_view import TreeView

POINTS_PER_INCH = 72
HEADER = 26  # points above the tree, for the title
LONGEST_SIDE = 300  # inches; beyond it a big tree is scaled down
CHOSEN = "#1a7f37"
STRUCK = "#a34700"
PLAIN = "#8c8c8c"
FORMATS = ("svg", "png", "pdf")


class TreeFigure(Figure):
    """A figure that a notebook shows as it is, whichever matplotlib backend is active."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=POINTS_PER_INCH)
        return buffer.getvalue()


def draw_tree(view: TreeView, rule: str | None = None, truth: bool = False) -> Figure:
    """The whole tree; the path that `rule` chose (default: the first rule) stands out.

    `truth` marks the nodes where the model's verdict is wrong.
    """
    data = view.data
    width, height = data["width"], data["height"] + HEADER
    scale = min(1.0, LONGEST_SIDE * POINTS_PER_INCH / max(width, height))
    inches = (width * scale / POINTS_PER_INCH, height * scale / POINTS_PER_INCH)
    figure = TreeFigure(figsize=inches)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    axes.text(12, 16, data["title"], fontsize=11 * scale, va="center", parse_math=False)
    chosen = chosen_nodes(view, rule)
    for node in view.nodes:
        if node["parent"] is not None:
            _draw_edge(axes, node, view.nodes[node["parent"]], node["id"] in chosen, scale)
    for node in view.nodes:
        _draw_box(axes, node, data["box_height"], node["id"] in chosen, truth, scale)
    return figure


def save_tree(view: TreeView, path: str | Path, **options: Any) -> Path:
    """Draw the tree into a file whose suffix names the format; the file appears whole or not."""
    path = Path(path)
    kind = path.suffix.lstrip(".")
    if kind not in FORMATS:
        raise UserError(f"{path.name}: cannot draw a tree as {kind!r}; choose one of svg, png, pdf")
    buffer = io.BytesIO()
    # Text stays text, so that an SVG can be searched and read aloud, and is the same every time.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tree"}):
        date = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
        metadata = {**date, "Title": view.data["title"]}
        draw_tree(view, **options).savefig(buffer, format=kind, dpi=144, metadata=metadata)
    write_atomic(path, buffer.getvalue())
    return path


def chosen_nodes(view: TreeView, rule: str | None = None) -> set[int]:
    """The nodes on the path that `rule` chose; the first rule where it is None."""
    rules = {each["name"]: each["chosen"] for each in view.data["rules"]}
    if rule is not None and rule not in rules:
        raise UserError(f"rule {rule!r}: no such selection rule; choose one of {', '.join(rules)}")
    at = rules.get(rule) if rule is not None else next(iter(rules.values()), None)
    nodes = set()
    while at is not None:
        nodes.add(at)
        at = view.nodes[at]["parent"]
    return nodes


def _draw_edge(axes: Any, node: dict, parent: dict, chosen: bool, scale: float) -> None:
    top = HEADER
    start = (parent["x"] + parent["width"], parent["y"] + top)
    turn = (node["edge_x"], node["y"] + top)
    middle = (start[0] + turn[0]) / 2
    points = [start, (middle, start[1]), (middle, turn[1]), turn, (node["x"], turn[1])]
    codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4, Outline.LINETO]
    colour = CHOSEN if chosen else STRUCK if node["struck"] else PLAIN
    axes.add_patch(
        PathPatch(
            Outline(points, codes),
            fill=False,
            edgecolor=colour,
            linewidth=(2.6 if chosen else 1) * scale,
            linestyle="--" if node["struck"] else "-",
        )
    )
    if not node["edge"]:
        return
    x, y = node["edge_x"] + 2, turn[1] - 8
    font = {"family": "DejaVu Sans Mono", "fontsize": 11 * scale, "parse_math": False}
    axes.text(x, y, node["edge"], va="center", color="black", **font)
    if node["struck"]:
        end = x + 6.8 * len(node["edge"])
        axes.plot([x - 1, end], [y, y], color=STRUCK, linewidth=1.4 * scale)


def _draw_box(
    axes: Any, node: dict, height: float, chosen: bool, truth: bool, scale: float
) -> None:
    y = node["y"] + HEADER
    rounding = height / 2 if node["kind"] in ("goal", "backtrack", "limit") else 3
    axes.add_patch(
        FancyBboxPatch(
            (node["x"], y - height / 2),
            node["width"],
            height,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor=node["colour"],
            edgecolor=CHOSEN if chosen else "#595959",
            linewidth=(2.6 if chosen else 0.8) * scale,
        )
    )
    font = {"family": "DejaVu Sans Mono", "fontsize": 11 * scale, "parse_math": False}
    centre = node["x"] + node["width"] / 2
    axes.text(centre, y, node["label"], ha="center", va="center", color="black", **font)
    if truth and node["wrong"]:
        mark = {"fontsize": 11 * scale, "color": "#b00020", "weight": "bold"}
        axes.text(node["x"] + node["width"] + 3, y, "✗", va="center", **mark)


SCRIPT = Path(__file__).with_name("explorer.js")
STYLE = Path(__file__).with_name("explorer.css")
# Nothing but the page itself may be loaded, whatever a model wrote into the tree.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body class="search-tree-page">
<h1>{title}</h1>
<div id="view"></div>
<noscript>This page needs JavaScript to draw the tree.</noscript>
<script type="application/json" id="tree">{tree}</script>
<script type="module">
{script}
mountPage(document.getElementById("view"), JSON.parse(document.getElementById("tree").textContent));
</script>
</body>
</html>
"""


def tree_page(view: TreeView) -> str:
    """The page's text."""
    return PAGE.format(
        policy=html.escape(POLICY),
        title=html.escape(view.data["title"] or "Search tree"),
        style=STYLE.read_text(encoding="utf-8"),
        tree=script_json(view.data),
        script=SCRIPT.read_text(encoding="utf-8"),
    )


def save_page(view: TreeView, path: str | Path) -> Path:
    """Write the page; the file appears whole or not at all."""
    path = Path(path)
    write_atomic(path, tree_page(view))
    return path


def script_json(data: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
