"""The widget: what passes between the page and the kernel, and the fields of a search.

Takes and gives plain values; knows nothing of searches, trees or tasks.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anywidget
import traitlets

from lib.base.errors import UserError
from lib.explorer.page import script, style
from lib.explorer.words import TIPS


class TreeWidget(anywidget.AnyWidget):
    """`fields` and `values` make the form; `tree` is what `lib.explorer.tree_view` gives, with the
    step and the node to open at."""

    _esm = script()
    _css = style()
    fields = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    guide = traitlets.List().tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    tree = traitlets.Dict().tag(sync=True)
    message = traitlets.Dict().tag(sync=True)
    _said = 0

    def say(self, text: str, kind: str = "info") -> None:
        """Show one line above the tree; `kind` is info, busy or error."""
        self._said += 1  # the same words again are news too
        self.message = {"kind": kind, "text": text, "number": self._said}


@dataclass(frozen=True)
class Setting:
    """A number that a search takes."""

    name: str
    label: str
    width: str
    low: float
    high: float
    default: float
    whole: bool = True

    def read(self, text: str) -> float:
        """The number in the field's text; `UserError` says what would be right."""
        try:
            value = float(text) if len(text) <= 20 else None
        except ValueError:
            value = None
        if value is None or not self.low <= value <= self.high or (self.whole and value % 1):
            kind = "whole number" if self.whole else "number"
            raise UserError(
                f"{self.label}: {text[:20]!r} is not a {kind} from {self.low:g} to {self.high:g}."
            )
        return int(value) if self.whole else value


SETTINGS = (
    Setting("breadth", "Breadth N", "3.5em", 1, 512, 16),
    Setting("depth", "Depth b", "2.5em", 0, 8, 1),
    Setting("temperature", "Temperature", "3.5em", 0, 5, 0.7, whole=False),
    Setting("seed", "Seed", "5em", 0, 2**31 - 1, 0),
)
#: The continuations of a rolled-back state: what the menu says, and what a search calls it.
PER_STATE = {"√N each": "sqrt", "N each": "breadth"}


def setting_fields(checkpoints: Sequence[str]) -> list[dict[str, Any]]:
    """The form's fields beside the problem's: what is searched, and with which model."""
    fields = [
        {
            "name": each.name,
            "label": each.label,
            "width": each.width,
            "default": f"{each.default:g}",
        }
        for each in SETTINGS
    ]
    for name, label, width, options in (
        ("per_state", "Roll back with", "7.5em", list(PER_STATE)),
        ("checkpoint", "Checkpoint", "15em", list(checkpoints) or ["none yet"]),
    ):
        menu = {"name": name, "label": label, "width": width, "options": options}
        fields.append(menu | {"default": options[0]})
    return [{"inputmode": "decimal", "tip": TIPS[field["name"]]} | field for field in fields]


def read_settings(values: Mapping[str, str]) -> dict[str, Any]:
    """Breadth, depth, temperature, seed and `per_state` as the fields say them."""
    chosen = values["per_state"]
    if chosen not in PER_STATE:
        raise UserError(f"Roll back with: {chosen[:20]!r} is not one of {', '.join(PER_STATE)}.")
    numbers = {each.name: each.read(values[each.name]) for each in SETTINGS}
    return numbers | {"per_state": PER_STATE[chosen]}


def saved_picture(png: bytes, title: str) -> str:
    """HTML that a notebook keeps: a picture, seen where the widget no longer lives.

    Without a kernel JupyterLab puts one line of text in the widget's place; with the widget there,
    the picture would be one too many. The style sheet hides the one or the other.
    """
    return SAVED.format(picture=base64.b64encode(png).decode("ascii"), title=title)


SAVED = """<style>
.jp-OutputArea:has(.search-tree) .st-saved {{ display: none; }}
.jp-OutputArea-child:has(+ .jp-OutputArea-child .st-saved) .jp-OutputArea-output:not(:has(*)) {{
  display: none;
}}
</style>
<div class="st-saved">
<p>This is the picture of the last tree that was searched here. To step through it or to search
again, run this cell.</p>
<img src="data:image/png;base64,{picture}" alt="Search tree of {title}" style="max-width: 100%">
</div>"""
