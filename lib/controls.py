"""The explorer's fields and buttons.

Takes the checkpoints to offer and the first problem; gives ipywidgets in rows that wrap, and their
values. Knows nothing of searching.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ipywidgets as ipw

from lib.countdown import Problem

MAX_BREADTH, MAX_DEPTH = 512, 8


class Controls(ipw.VBox):
    """`numbers`, `target`, `breadth`, `depth`, `temperature`, `seed`, `checkpoint`; the buttons."""

    def __init__(self, checkpoints: Mapping[str, str | None], problem: Problem, seed: int):
        # Sent whole, when the field is left: of what is sent while one types, all but the first is
        # held back as long as the kernel is busy, and Run would overtake it.
        typed = {"continuous_update": False}
        self.numbers = _field(ipw.Text, "Numbers", "12em", **typed)
        self.target = _field(ipw.Text, "Target", "4.5em", **typed)
        self.set_problem(problem)
        self.breadth = _field(
            ipw.BoundedIntText, "Breadth N", "4.5em", value=16, min=1, max=MAX_BREADTH
        )
        self.depth = _field(ipw.BoundedIntText, "Depth b", "4em", value=1, min=0, max=MAX_DEPTH)
        self.temperature = _field(
            ipw.BoundedFloatText, "Temperature", "5em", value=0.7, min=0.0, max=5.0, step=0.1
        )
        self.seed = _field(ipw.BoundedIntText, "Seed", "5.5em", value=seed, min=0, max=2**31 - 1)
        options = list(checkpoints.items()) or [("none yet", None)]
        self.checkpoint = _field(ipw.Dropdown, "Checkpoint", "22em", options=options)
        self.run = _button("Run", "Search this problem", "primary")
        self.stop = _button("Stop", "Stop the search", "")
        self.stop.disabled = True
        self.random = _button(
            "Random problem that greedy fails", "Draw problems until greedy decoding fails one", ""
        )
        fields = [self.numbers, self.target, self.breadth, self.depth, self.temperature, self.seed]
        wrap = {"flex_flow": "row wrap", "align_items": "center", "width": "100%"}
        super().__init__(
            [
                ipw.HBox([*fields, self.checkpoint], layout=ipw.Layout(**wrap)),
                ipw.HBox([self.run, self.stop, self.random], layout=ipw.Layout(**wrap)),
            ]
        )

    def set_problem(self, problem: Problem) -> None:
        self.numbers.value = ", ".join(map(str, problem.numbers))
        self.target.value = str(problem.target)

    def search_settings(self) -> dict[str, Any]:
        return {
            "breadth": self.breadth.value,
            "depth": self.depth.value,
            "temperature": self.temperature.value,
            "seed": self.seed.value,
        }

    def set_busy(self, busy: bool) -> None:
        """Stop works while something runs; Run then only says that something does."""
        self.stop.disabled = not busy


def _field(kind: type[ipw.Widget], label: str, width: str, **settings: Any) -> Any:
    """A field whose label stands before it, as wide as both need."""
    total = f"calc({width} + {0.62 * len(label) + 1:.1f}em)"
    layout = ipw.Layout(width=total, max_width="100%", margin="2px 10px 2px 2px")
    return kind(
        description=label, layout=layout, style={"description_width": "initial"}, **settings
    )


def _button(label: str, title: str, style: str) -> ipw.Button:
    layout = ipw.Layout(width="auto", max_width="100%")
    return ipw.Button(description=label, tooltip=title, button_style=style, layout=layout)


def checkpoint_choices(root: Path, run: str = "", extra: str | Path = "") -> dict[str, str]:
    """What the checkpoint menu offers: label -> folder, below `root`; the first is the default.

    `extra` comes first, even if it is missing (Run then says so); then what ships in models/, then
    the folder runs/`run`, then other runs. Within a run, models that learned to backtrack lead.
    """
    found = []
    for top in ("models", "runs"):
        for weights in (root / top).rglob("*.safetensors"):
            folder = weights.parent
            config = folder / "config.json"
            if not config.is_file() or ".partial" in str(folder):
                continue
            # A reward model, of Table 1's best-of-N, writes no text.
            if "ForSequenceClassification" not in config.read_text("utf-8", "replace"):
                found.append(str(folder.relative_to(root)))

    def rank(label: str) -> tuple[bool, bool, bool, str]:
        shipped, own = label.startswith("models"), label.startswith(f"runs/{run}/")
        return (not shipped, not own, "backtrack" not in label, label)

    choices = {label: str(root / label) for label in sorted(set(found), key=rank)}
    if not extra:
        return choices
    folder = Path(extra).expanduser()
    folder = folder if folder.is_absolute() or folder.exists() else root / folder
    return {str(extra): str(folder), **choices}
