"""A search tree as one HTML file to share: it needs no server and loads nothing.

Takes a TreeView and the reading guide; gives the page's text, or writes it. Knows nothing of
kernels: the page draws with the widget's own script, which is here too.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path

from lib.base.files import write_atomic
from lib.explorer.tree_view import TreeView

FOLDER = Path(__file__).parent
# In the order in which they need each other.
MODULES = ("dom.js", "folds.js", "viewport.js", "marks.js", "tree.js", "panels.js", "explorer.js")
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


def script() -> str:
    """The view's modules as one: a notebook's widget and a page take a single text.

    Names are shared, so that imports and `export` before a name can go.
    """
    text = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in MODULES)
    text = re.sub(r"^import .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^export (?!default)", "", text, flags=re.MULTILINE)


def style() -> str:
    """The view's style sheet."""
    return (FOLDER / "explorer.css").read_text(encoding="utf-8")


def tree_page(view: TreeView, guide: Sequence[tuple[str, str]] = ()) -> str:
    """The page's text; it opens where the search ends."""
    step = {"step": len(view.data["steps"]), "selected": None, "grown": False}
    return PAGE.format(
        policy=html.escape(POLICY),
        title=html.escape(view.data["title"] or "Search tree"),
        style=style(),
        tree=script_json({"tree": view.data | step, "guide": guide}),
        script=script(),
    )


def save_page(view: TreeView, path: str | Path, guide: Sequence[tuple[str, str]] = ()) -> Path:
    """Write the page; the file appears whole or not at all."""
    path = Path(path)
    write_atomic(path, tree_page(view, guide))
    return path


def script_json(data: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
