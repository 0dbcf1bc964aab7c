"""A search tree as a figure for papers and headless runs.

Takes a TreeView; gives a matplotlib Figure, or writes an SVG, PNG or PDF file. Knows nothing of
widgets or models. One pixel of the view's wide layout is one point of the figure.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.text import Text

from lib.base.errors import UserError
from lib.base.files import write_atomic
from lib.explorer.layout import LEAVES, LINE_HEIGHT, MARGIN, layout_rows, place
from lib.explorer.tree_view import TreeView
from lib.explorer.words import FOUND_AGAIN

POINTS_PER_INCH = 72
HEADER, FOOTER = 26, 24  # points above the tree for the title, below it for the legend
LONGEST_SIDE = 300  # inches; beyond it a big tree is scaled down
CHOSEN, AGAIN, STRUCK, PLAIN = "#000000", "#6a3fb5", "#a34700", "#8c8c8c"
VERDICTS = {"right": "#1a7f37", "wrong": "#b00020", "": "#595959"}
MONO = {"family": "DejaVu Sans Mono", "parse_math": False}
ADVANCE = 0.602  # of a character of this font, in sizes of the font
FORMATS = ("svg", "png", "pdf")


class TreeFigure(Figure):
    """A figure that a notebook shows as it is, whichever matplotlib backend is active."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=POINTS_PER_INCH)
        return buffer.getvalue()


def draw_tree(
    view: TreeView, rule: str | None = None, truth: bool = False, most: int | None = None
) -> Figure:
    """The tree; the path that `rule` chose (default: the first rule) stands out.

    `truth` adds the solver's words. A tree of more than `most` nodes is drawn without the branches
    that no finished path takes or, where that is still too much, as the chosen path alone.
    """
    return _Drawing(view.data, chosen_nodes(view, rule), truth, _kept(view, rule, most)).figure


def draw_message(text: str) -> Figure:
    """A figure that only says something."""
    figure = TreeFigure(figsize=(7, 0.8))
    figure.text(0.01, 0.5, text, va="center", wrap=True, parse_math=False)
    return figure


def _kept(view: TreeView, rule: str | None, most: int | None) -> set[int]:
    everything = {node["id"] for node in view.nodes}
    if most is None or len(everything) <= most:
        return everything
    finished: set[int] = {0}
    for path in view.data["paths"]:
        finished |= _way_to(view, path["leaf"])
    return finished if len(finished) <= most else {0} | chosen_nodes(view, rule)


class _Drawing:
    """One figure while it is drawn."""

    def __init__(self, data: dict[str, Any], chosen: set[int], truth: bool, kept: set[int]):
        self.data, self.chosen, self.truth = data, chosen, truth
        nodes = [node for node in data["nodes"] if node["id"] in kept]
        rows = layout_rows(data["nodes"], kept)
        places = {node["id"]: place(data, node, rows) for node in nodes}
        self.at = {id_: (edge_x, x, y + HEADER) for id_, (edge_x, x, y) in places.items()}
        lowest = max(y for _, _, y in self.at.values())
        width = max(data["layouts"]["wide"]["width"], 420)
        height = lowest + data["box"] / 2 + MARGIN + FOOTER
        self.scale = min(1.0, LONGEST_SIDE * POINTS_PER_INCH / max(width, height))
        inches = (width * self.scale / POINTS_PER_INCH, height * self.scale / POINTS_PER_INCH)
        self.figure = TreeFigure(figsize=inches)
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")
        title = "   ".join(filter(None, [data["title"], data["made"]]))
        self._line_of_text(16, title, 11)
        self._line_of_text(height - 12, self._legend(len(nodes)), 8.5)
        for node in nodes:
            if node["parent"] is not None:
                self._draw_edge(node)
        for arrow in data["returns"]:
            if arrow["main"] and arrow["from"] in kept and arrow["to"] in kept:
                self._draw_return(arrow)
        for node in nodes:
            self._draw_box(node)

    def _legend(self, drawn: int) -> str:
        words = ["blue: the model would go on, orange: step back", "thick: the chosen path"]
        if any(node["again"] for node in self.data["nodes"]):
            later = any(phase.get("part") for phase in self.data["phases"])
            words.append(f"purple: {FOUND_AGAIN}" + (", or added later" if later else ""))
        if self.truth:
            words.append(self.data["tips"]["truth"])
        if drawn < len(self.data["nodes"]):
            words.append(f"{len(self.data['nodes']) - drawn} other nodes not drawn")
        return "   |   ".join(words)

    def _line_of_text(self, y: float, text: str, size: float) -> None:
        """A line across the figure, in a smaller font where it would be wider."""
        line = self._text(12, y, text, family="DejaVu Sans", size=size)
        room = self.figure.bbox.width - 2 * line.get_window_extent().x0
        while line.get_window_extent().width > room and line.get_fontsize() > 3:
            # Step by step: hinted glyphs do not shrink as their font does.
            line.set_fontsize(0.96 * line.get_fontsize())

    def _text(self, x: float, y: float, text: str, **how: Any) -> Text:
        size = how.pop("size", 11) * self.scale
        font = {**MONO, "fontsize": size, "va": "center", "color": "black", **how}
        return self.axes.text(x, y, text, **font)

    def _line(self, points: list[tuple[float, float]], codes: list[int], **how: Any) -> None:
        how["linewidth"] = how["linewidth"] * self.scale
        self.axes.add_patch(PathPatch(Outline(points, codes), fill=False, **how))

    def _draw_edge(self, node: dict[str, Any]) -> None:
        parent = self.data["nodes"][node["parent"]]
        edge_x, x, y = self.at[node["id"]]
        _, parent_x, parent_y = self.at[node["parent"]]
        start = parent_x + parent["width"]
        middle = (start + edge_x) / 2
        points = [(start, parent_y), (middle, parent_y), (middle, y), (edge_x, y), (x, y)]
        codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4, Outline.LINETO]
        chosen = node["id"] in self.chosen
        plain = AGAIN if node["again"] else STRUCK if node["struck"] else PLAIN
        style = "--" if node["struck"] else "-"
        width = 2.6 if chosen else 1.4 if node["again"] else 1
        self._line(
            points, codes, edgecolor=CHOSEN if chosen else plain, linewidth=width, linestyle=style
        )
        if not node["edge"]:
            return
        self._text(edge_x + 2, y - 8, node["edge"], color=AGAIN if node["again"] else "black")
        if node["struck"]:
            end = edge_x + 2 + 6.8 * len(node["edge"])
            line = {"color": STRUCK, "linewidth": 1.4 * self.scale}
            self.axes.plot([edge_x + 1, end], [y - 8, y - 8], **line)

    def _draw_return(self, arrow: dict[str, Any]) -> None:
        _, x1, y1 = self.at[arrow["from"]]
        _, x2, y2 = self.at[arrow["to"]]
        half = self.data["box"] / 2
        side = -half if y1 <= y2 else half
        x2, y2 = x2 + self.data["nodes"][arrow["to"]]["width"] - 10, y2 + side
        bow = math.copysign(min(44, 14 + abs(y1 - half - y2) / 4), side)
        x1, y1 = x1 + 8, y1 - half
        points = [(x1, y1), (x1 - 20, y1 - 14), (x2 + 10, y2 + bow), (x2, y2)]
        codes = [Outline.MOVETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
        self._line(points, codes, edgecolor=AGAIN, linewidth=1.3, linestyle=":")
        up = math.copysign(6, side)
        head = [(x2 - 4, y2 + up), (x2, y2), (x2 + 5, y2 + up * 0.8)]
        codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO]
        self._line(head, codes, edgecolor=AGAIN, linewidth=1.3)

    def _draw_box(self, node: dict[str, Any]) -> None:
        _, x, y = self.at[node["id"]]
        height, chosen = self.data["box"], node["id"] in self.chosen
        rounding = min(height / 2, 11) if node["kind"] in LEAVES else 3
        self.axes.add_patch(
            FancyBboxPatch(
                (x, y - height / 2),
                node["width"],
                height,
                boxstyle=f"round,pad=0,rounding_size={rounding}",
                facecolor=node["colour"],
                edgecolor=CHOSEN if chosen else AGAIN if node["again"] else "#595959",
                linewidth=(2.6 if chosen else 1.6 if node["again"] else 0.8) * self.scale,
            )
        )
        middle, first = x + node["width"] / 2, y - (len(node["label"]) - 1) * LINE_HEIGHT / 2
        if "written" in node:
            self._draw_grid(node, middle, first)
        else:
            for index, line in enumerate(node["label"]):
                self._text(middle, first + index * LINE_HEIGHT, line, ha="center")
        if self.truth and node["mark"]:
            mark = VERDICTS["wrong"] if node["verdict"] == "wrong" else "black"
            self._text(x + node["width"] - 3, y, node["mark"], ha="right", color=mark)
        if node["note"] and (self.truth or node["kind"] == "goal"):
            how = {"family": "DejaVu Sans", "size": 9, "color": VERDICTS[node["verdict"]]}
            self._text(x + node["width"] + 5, y, node["note"], **how)

    def _draw_grid(self, node: dict[str, Any], middle: float, first: float) -> None:
        """A state's lines as the rows of a grid: given digits bold, the written one framed."""
        side, grid = LINE_HEIGHT, self.data["grid"]
        sides = len(node["label"]), len(node["label"][0])
        left, top = middle - sides[1] * side / 2, first - side / 2
        for axis, count in enumerate(sides):
            for at in range(count + 1):
                place, whole = (left, top)[1 - axis] + at * side, sides[1 - axis] * side
                ends = [(left, place), (left + whole, place)]
                if axis:
                    ends = [(place, top), (place, top + whole)]
                width = 0.25 if at % grid["box"][axis] else 1
                codes = [Outline.MOVETO, Outline.LINETO]
                self._line(ends, codes, edgecolor="#000000", linewidth=width)
        if node["written"]:
            row, column = node["written"]
            x, y = left + column * side, top + row * side
            corners = [(x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)]
            codes = [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
            self._line(corners, codes, edgecolor="#000000", linewidth=1.8)
        # A row is one text: a digit and a space are as wide as a cell. (Plain spaces are not kept.)
        for row, (line, given) in enumerate(zip(node["label"], grid["given"], strict=True)):
            for weight in ("bold", "normal"):
                kept = [
                    digit if (there != grid["empty"]) == (weight == "bold") else grid["empty"]
                    for digit, there in zip(line, given, strict=True)
                ]
                text = "\u00a0".join(kept).replace(grid["empty"], "\u00a0")
                how = {"size": side / (2 * ADVANCE), "fontweight": weight}
                self._text(left + side / 4, first + row * side, text, **how)


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
    leaf = rules.get(rule) if rule is not None else next(iter(rules.values()), None)
    return set() if leaf is None else _way_to(view, leaf)


def _way_to(view: TreeView, node: int) -> set[int]:
    found = {node}
    while (node := view.nodes[node]["parent"]) is not None:
        found.add(node)
    return found
