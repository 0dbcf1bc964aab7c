"""The figure of best-of-N: accuracy against N, by who chooses among the SFT model's samples.

Takes the rows of lib/results.py; gives a matplotlib Figure. Knows nothing of reward models.
"""

import pandas as pd
from matplotlib.figure import Figure

from lib.analysis import beside_paper
from lib.drawing import (
    METHODS,
    PALETTE,
    PAPER_MARK,
    curve,
    grid,
    handle,
    legend,
    paper_handle,
    percent,
    pick,
    powers,
    styled,
)

LOOKS = {
    "best_of_n": {"colour": PALETTE[3], "marker": "o"},
    "sft_sampled_mean_logprob": {"colour": PALETTE[2], "marker": "s"},
    "sft_sampled_vote": {"colour": PALETTE[1], "marker": "^"},
    "self_backtracking": {"colour": PALETTE[0], "marker": "D"},
}
CEILING = "sft_pass_at_n"
APART = 2**0.05  # so that intervals do not hide each other


@styled
def best_of_n(rows: pd.DataFrame) -> Figure:
    """Each choice among N samples, their ceiling, and Self-Backtracking (b=1) at the same N."""
    found = pick(rows, "best_of_n", "figure_4", need=["N"])
    search = found["artifact"] == "figure_4"
    measured = found.loc[~search, "N"]
    same = found["N"].isin(measured) if len(measured) else search  # a run without best-of-N
    search &= (found["method"] == "self_backtracking") & (found["b"] == 1).fillna(False) & same
    found = beside_paper(found[search | (found["artifact"] == "best_of_n")])
    figure, grid_panels = grid(found)
    shown = [name for name in LOOKS if (found["method"] == name).any()]
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, name in enumerate(shown):
            line = here[here["method"] == name]
            apart = APART ** (number - (len(shown) - 1) / 2)
            line = line.assign(x=line["N"].astype(float) * apart).sort_values("x")
            curve(panel, line, "x", **LOOKS[name])
            mark = PAPER_MARK | {"markeredgecolor": LOOKS[name]["colour"]}
            panel.plot(line["x"], line["paper"], **mark)
        ceiling = here[here["method"] == CEILING].sort_values("N")
        panel.plot(ceiling["N"].astype(float), ceiling["accuracy"], "--", color="#555555")
        powers(panel, found["N"])
        panel.set_xlabel("samples N")
    for panel, *_ in grid_panels:
        percent(panel)
    names = METHODS | {"self_backtracking": "Self-Backtracking, b=1"}
    handles = [handle(names[name], **LOOKS[name]) for name in shown]
    if (found["method"] == CEILING).any():
        label = "ceiling: any sample right"
        handles.append(handle(label, "#555555", linestyle="--", marker=""))
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=3)
    return figure
