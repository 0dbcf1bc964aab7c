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


def operator_remark(problems: pd.DataFrame) -> str:
    """Where the two test splits' solutions differ most in their operators, in a sentence."""
    shares = {
        split: pd.Series({op: cell.str.count(f"\\{op}").sum() for op in "+-*/"}).pipe(
            lambda counts: 100 * counts / max(1, counts.sum())
        )
        for split, cell in problems.groupby("split")["solution"]
        if split in ("seen", "new")
    }
    if len(shares) < 2:
        return "Only one of the two test splits has problems."
    apart = (shares["new"] - shares["seen"]).abs()
    operator = apart.idxmax()
    seen, new = (shares[split][operator] for split in ("seen", "new"))
    return (
        f"They differ most in `{operator}`: {seen:.0f}% of the steps for seen targets and "
        f"{new:.0f}% for new ones. A difference of accuracy between the two splits is read with "
        "that in mind (notebook 05 compares new targets with seen ones like them)."
    )
