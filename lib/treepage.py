"""A search tree as one HTML file to share: the widget's own view, with no server and no network.

Takes a TreeView; gives the page's text, or writes it. Knows nothing of widgets or models. The
page is the widget's script and style with the tree as JSON beside them.
"""

from __future__ import annotations

import html
import json
from pathlib import Path

from lib.store import write_atomic
from lib.treeview import TreeView

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
