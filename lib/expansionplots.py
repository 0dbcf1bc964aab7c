"""The figure of expansions: accuracy and pass@N against the tokens that a problem costs.

Takes the rows of artifact `expansions` (lib/expansions.py); gives a matplotlib Figure with 95%
intervals. Knows nothing of how a row was measured.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.drawing import PALETTE, curve, grid, handle, legend, percent, pick, styled

LOOKS = {
    "sample": ("independent samples", {"colour": PALETTE[0], "marker": "o"}),
    "beam_sample": ("beam sampling (the paper's)", {"colour": PALETTE[3], "marker": "s"}),
    "stochastic_beam": ("without replacement", {"colour": PALETTE[2], "marker": "D"}),
}
TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@styled
def accuracy_against_generated(rows: pd.DataFrame) -> Figure:
    """A point for each N: filled for the chosen path (largest b), hollow and dashed for pass@N."""
    found = pick(rows, "expansions", need=["expansion", "N", "b", "tokens_per_problem"])
    found = found[found["b"] == found["b"].max()]
    figure, grid_panels = grid(found)
    low, high = found["tokens_per_problem"].min(), found["tokens_per_problem"].max()
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, (_, style) in LOOKS.items():
            line = here[here["expansion"] == name]
            if line.empty:
                continue
            chosen = line[line["method"] != "pass_at_n"].sort_values("tokens_per_problem")
            curve(panel, chosen, "tokens_per_problem", **style)
            any_right = line[line["method"] == "pass_at_n"].sort_values("tokens_per_problem")
            panel.plot(
                any_right["tokens_per_problem"].astype(float),
                any_right["accuracy"],
                color=style["colour"],
                marker=style["marker"],
                markerfacecolor="white",
                linestyle="--",
                linewidth=1.2,
                markersize=5,
            )
        panel.set_xscale("log")
        panel.set_xticks([tick for tick in TICKS if 0.7 * low <= tick <= 1.4 * high])
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel(f"tokens generated for a problem (b={found['b'].max()})")
    for panel, *_ in grid_panels:
        percent(panel)
    shown = [name for name in LOOKS if (found["expansion"] == name).any()]
    handles = [handle(LOOKS[name][0], **LOOKS[name][1]) for name in shown]
    handles.append(handle("any path right (pass@N)", "#555555", linestyle="--", mfc="white"))
    legend(figure, handles, columns=2)
    return figure
