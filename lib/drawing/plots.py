"""Plots that belong to no study: what kinds of step the problems of each split need.

Takes counts, a row a kind of step and a column a split (`Task.step_kinds`); gives a figure, and a
sentence. Knows nothing of any task.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import panels, styled


@styled
def kind_shares(counts: pd.DataFrame) -> Figure:
    """How often each kind of step stands in the solutions: a panel a split."""
    if counts.empty:
        raise UserError("figure of the kinds of step: the task names none")
    figure, axes = panels(1, len(counts.columns), height=1.9)
    for panel, split in zip(axes[0], counts, strict=True):
        panel.bar(counts.index, counts[split] / counts[split].sum(), color="#6f6f6f")
        panel.set_title(f"{split} (n={counts[split].sum()} steps)")
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0][0].set_ylabel("share of steps")
    return figure


def kind_remark(counts: pd.DataFrame) -> str:
    """In which kind of step the two test splits differ most, in a sentence; "" without them."""
    if not {"seen", "new"} <= set(counts):
        return ""
    shares = 100 * counts / counts.sum()
    kind = (shares["new"] - shares["seen"]).abs().idxmax()
    return (
        f"The test splits differ most in `{kind}`: {shares.loc[kind, 'seen']:.0f}% of the steps of "
        f"`seen` and {shares.loc[kind, 'new']:.0f}% of `new`. A difference of accuracy between the "
        "two is read with that in mind."
    )
