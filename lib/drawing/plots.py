"""Plots that belong to no study.

Takes tables; gives figures. Knows nothing of how a row was measured.
"""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import panels, styled

OPERATORS = "+-*/"


@styled
def operator_shares(problems: pd.DataFrame) -> Figure:
    """How often each operator stands in the solutions (column solution): a panel a split."""
    if "solution" not in problems or not problems["solution"].str.contains(r"[-+*/]").any():
        raise UserError("figure of operators: the problems have no solutions with operators")
    splits = list(problems["split"].drop_duplicates())
    figure, axes = panels(1, len(splits), height=1.9)
    for panel, split in zip(axes[0], splits, strict=True):
        solutions = problems.loc[problems["split"] == split, "solution"]
        counts = [solutions.str.count(f"\\{operator}").sum() for operator in OPERATORS]
        shares = [count / sum(counts) for count in counts]
        panel.bar(list(OPERATORS), shares, color="#6f6f6f")
        panel.set_title(f"{split} (n={len(solutions)})")
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0][0].set_ylabel("share of steps")
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
