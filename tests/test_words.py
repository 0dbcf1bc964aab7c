import json
from pathlib import Path

import pytest

from lib.explorer.words import guide, percent, times
from lib.tasks.countdown.interactive import CountdownForm

ROOT = Path(__file__).resolve().parents[1]


def folded(about):
    """The reading guide as a notebook has it."""
    shown = [
        [part.replace("<", "\\<").replace("*", "\\*") for part in each] for each in guide(about)
    ]
    lines = [f"**{term}.** {text}" for term, text in shown]
    return "\n\n".join(["<details>", "<summary>How to read this</summary>", *lines, "</details>"])


def test_notebook_06_has_the_widgets_own_guide():
    notebook = json.loads((ROOT / "notebooks" / "06_explorer.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert folded(CountdownForm.about) in cells


def test_the_guide_defines_what_the_view_names():
    text = " ".join(f"{term} {meaning}" for term, meaning in guide(CountdownForm.about))
    for word in ("Breadth N", "depth b", "level 0", "level 1 to b", "amples", "Log-probability"):
        assert word in text
    assert text.startswith("The task Combine all the numbers")


@pytest.mark.parametrize(
    ("p", "text"), [(0, "under 1%"), (0.004, "under 1%"), (0.394, "39%"), (0.997, "over 99%")]
)
def test_percent(p, text):
    assert percent(p) == text


def test_times():
    assert (times(1, "state"), times(2, "state")) == ("1 state", "2 states")
