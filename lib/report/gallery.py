"""The figures of a run: every study's, drawn from its rows.

Takes the rows of lib/evaluation/results.py; draws every figure that has rows. Knows nothing of how
a row was measured, nor of any one figure.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib.drawing.style import save_figure
from lib.studies import catalogue


def draw_all(rows: pd.DataFrame, manifest: Mapping, folder: Path) -> list[Path]:
    """Draw every figure that has rows into `folder`, as PNG and SVG -> their paths."""
    paths: list[Path] = []
    for figure in catalogue.figures():
        if figure.has_rows(rows):
            paths += save_figure(figure.draw(rows), Path(folder), figure.name, manifest)
    return paths
