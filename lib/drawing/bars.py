"""The paper's tables and shares as figures: accuracies as bars, error types, losses, operators.

Takes the rows of lib/evaluation/results.py (each function picks the artifact that it draws, and
says so when there is none); shows 95% intervals, and the paper's own numbers as hollow diamonds
where it has them. Curves are in lib/drawing/curves.py. Knows nothing of how a row was measured.
"""

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import (
    panels,
    styled,
)


@styled
def operator_shares(problems: pd.DataFrame) -> Figure:
    """How often each operator stands in the solutions (column solution), by split."""
    if "solution" not in problems or not problems["solution"].str.contains(r"[-+*/]").any():
        raise UserError("figure of operators: the problems have no solutions with operators")
    counts = {
        split: [cell.str.count(f"\\{operator}").sum() for operator in "+-*/"]
        for split, cell in problems.groupby("split")["solution"]
    }
    shares = pd.DataFrame(counts, index=list("+-*/"))
    shares = (
        (shares / shares.sum())
        .rename_axis("operator")
        .melt(ignore_index=False, var_name="split", value_name="share")
    )
    figure, [[axes]] = panels(1, 1, height=1.9)
    sns.barplot(shares.reset_index(), x="operator", y="share", hue="split", ax=axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("share of steps")
    return figure
