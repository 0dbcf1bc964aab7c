"""Figures of what accuracy costs: against tokens, N, temperature and b, on the same problems.

Takes the rows of artifact `compute` (lib/compute.py); gives matplotlib Figures with 95% intervals.
Knows nothing of how a row was measured.
"""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.causeplots import found_rows
from lib.drawing import MARKERS, PALETTE, curve, grid, handle, legend, percent, powers, styled

NAMES = {
    "sft_greedy": "SFT, greedy",
    "sft_beam": "SFT, beam search",
    "sft_sampled": "SFT, most probable of N samples",
    "self_consistency": "SFT, most frequent of N samples",
}
TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def _series(found: pd.DataFrame) -> pd.DataFrame:
    names = [
        f"Self-Backtracking, b={b}" if method == "self_backtracking" else NAMES[method]
        for method, b in found[["method", "b"]].itertuples(index=False)
    ]
    return found.assign(series=names)


def _usual(found: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of other temperatures: those that have the most N."""
    usual = found.groupby("temperature")["N"].nunique().idxmax()
    return found[found["temperature"].isna() | (found["temperature"] == usual)]


def _draw(found: pd.DataFrame, x: str, finish: Callable[[Axes], None]) -> Figure:
    order = sorted(found["series"].unique(), key=lambda name: (name[:3] == "SFT", len(name), name))
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, name in enumerate(order):
            line = here[here["series"] == name]
            style = {"colour": PALETTE[number], "marker": MARKERS[number]}
            curve(panel, line, x, **style)
        finish(panel)
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(name, PALETTE[n], marker=MARKERS[n]) for n, name in enumerate(order)]
    legend(figure, handles, columns=3)
    return figure


@styled
def against_tokens(rows: pd.DataFrame) -> Figure:
    """Every method at the usual temperature: accuracy against the tokens of a problem."""
    found = _series(_usual(found_rows(rows, "compute")))
    low, high = found["tokens_per_problem"].min(), found["tokens_per_problem"].max()

    def finish(panel: Axes) -> None:
        panel.set_xscale("log")
        panel.set_xticks([tick for tick in TICKS if 0.7 * low <= tick <= 1.4 * high])
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("tokens generated for a problem")

    return _draw(found, "tokens_per_problem", finish)


@styled
def against_breadth(rows: pd.DataFrame) -> Figure:
    """Accuracy against N: samples, or beams."""
    found = _series(_usual(found_rows(rows, "compute")))

    def finish(panel: Axes) -> None:
        powers(panel, found["N"])
        panel.set_xlabel("N (samples, or beams)")

    return _draw(found, "N", finish)


@styled
def against_temperature(rows: pd.DataFrame) -> Figure:
    """Accuracy against the temperature, at the N that all temperatures have."""
    found = _series(found_rows(rows, "compute").dropna(subset=["temperature"]))
    temperatures = found.groupby("N")["temperature"].nunique()
    found = found[found["N"] == temperatures.idxmax()]
    varied = found.groupby("series")["temperature"].transform("nunique") > 1
    found = found[varied] if varied.any() else found

    def finish(panel: Axes) -> None:
        panel.set_xlabel(f"temperature (N={temperatures.idxmax()})")

    return _draw(found, "temperature", finish)


@styled
def against_depth(rows: pd.DataFrame) -> Figure:
    """Self-Backtracking's accuracy against b, a line for each N that has more than one."""
    found = _usual(found_rows(rows, "compute"))
    found = found[found["method"] == "self_backtracking"]
    several = found.groupby("N")["b"].transform("nunique") > 1
    found = found[several] if several.any() else found
    found = found.assign(series=[f"N={n}" for n in found["N"]])

    def finish(panel: Axes) -> None:
        panel.set_xticks(sorted(found["b"].unique().astype(int)))
        panel.set_xlabel("b (roll-backs)")

    return _draw(found, "b", finish)
