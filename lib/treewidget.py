"""The notebook's view of a search tree, as a widget.

Takes a TreeView's data through its traits; gives the user's position and wishes back (traits and
messages). Knows nothing of searching: `lib.explorer` answers. The drawing is lib/explorer.js.
"""

from __future__ import annotations

from pathlib import Path

import anywidget
import traitlets


class TreeWidget(anywidget.AnyWidget):
    """`step` is the number of nodes shown; `places` the rows while branches are collapsed."""

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")
    tree = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)
    places = traitlets.Dict().tag(sync=True)
    message = traitlets.Dict().tag(sync=True)

    def say(self, text: str, kind: str = "info") -> None:
        """Show one line above the tree; `kind` is info, busy or error."""
        self.message = {"kind": kind, "text": text}
