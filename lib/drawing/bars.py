"""The paper's tables and shares as figures: accuracies as bars, error types, losses, operators.

Takes the rows of lib/evaluation/results.py (each function picks the artifact that it draws, and
says so when there is none); shows 95% intervals, and the paper's own numbers as hollow diamonds
where it has them. Curves are in lib/drawing/curves.py. Knows nothing of how a row was measured.
"""

import itertools

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from lib.base.errors import UserError
from lib.drawing.style import (
    METHODS,
    MODEL_COLOURS,
    PALETTE,
    PAPER_MARK,
    SPLITS,
    STAGE_COLOURS,
    errors,
    handle,
    legend,
    panels,
    paper_handle,
    pick,
    present,
    styled,
)
from lib.evaluation.decomposition import beside_paper
from lib.tasks.task import COMMON_ERRORS

ERROR_COLOURS = [PALETTE[number] for number in (7, 4, 1, 9, 5, 6, 8)]
LABEL_HEIGHT = 0.06  # of a number over a bar, in units of the accuracy axis


@styled
def accuracy_bars(rows: pd.DataFrame) -> Figure:
    """Table 1 at a glance: SFT greedy and beam, Self-Backtracking b=0 and b=1 at the largest N."""
    found = beside_paper(pick(rows, "table_1"))
    search = found[(found["method"] == "self_backtracking") & found["b"].isin([0, 1])]
    largest = search["N"].max()
    plain = found[found["method"].isin(["sft_greedy", "sft_beam"])]
    found = pd.concat([plain, search[search["N"] == largest]])
    names = {"sft_greedy": "SFT\ngreedy", "sft_beam": "SFT\nbeam"}
    found["bar"] = [
        names.get(method, f"Self-Backtr.\nb={b} N={n}")
        for method, b, n in found[["method", "b", "N"]].itertuples(index=False)
    ]
    order = [*names.values(), *(f"Self-Backtr.\nb={b} N={largest}" for b in (0, 1))]
    order = present(found["bar"], order)
    if not order:
        raise UserError("figure of table_1: no rows of SFT or Self-Backtracking in the results")
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=3.4)
    width = 0.8 / len(models) if len(models) > 1 else 0.55
    for panel, split in zip(axes[0], splits, strict=True):
        for number, model in enumerate(models):
            bars = found[(found["split"] == split) & (found["model"] == model)]
            shift = (number - (len(models) - 1) / 2) * width
            at = bars["bar"].map(order.index).to_numpy() + shift
            panel.bar(
                at,
                bars["accuracy"],
                width * 0.92,
                yerr=errors(bars),
                color=MODEL_COLOURS[model],
                error_kw={"elinewidth": 1.3, "capsize": 3, "ecolor": "#222222"},
            )
            panel.plot(at, bars["paper"], **PAPER_MARK)
            # Above the interval, and above the paper's mark where that would lie on the number.
            near = (bars["paper"] - bars["high"] - LABEL_HEIGHT / 2).abs() < LABEL_HEIGHT
            above = bars["high"].where(~near, bars["paper"] + LABEL_HEIGHT / 3)
            for x, y, share in zip(at, above, bars["accuracy"], strict=True):
                panel.annotate(
                    f"{100 * share:.0f}",
                    (x, y),
                    (0, 3),
                    textcoords="offset points",
                    ha="center",
                    fontsize=9,
                )
        panel.set_title(SPLITS[split])
        panel.set_xticks(range(len(order)), order)
        panel.set_xlim(-0.6, len(order) - 0.4)
        panel.set_ylim(0, 1.08)
        panel.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.tick_params(axis="x", grid_alpha=0)
    axes[0][0].set_ylabel("accuracy")
    handles = [matplotlib.patches.Patch(color=MODEL_COLOURS[m], label=m) for m in models]
    papers = [paper_handle()] if found["paper"].notna().any() else []
    legend(figure, handles + papers)
    return figure


@styled
def accuracy_by_method(rows: pd.DataFrame) -> Figure:
    """Tables 1 and 2 whole: every method, with its interval, beside the paper's number."""
    found = beside_paper(pick(rows, "table_1", "table_2"))
    found = found.drop_duplicates(["method", "model", "split", "N", "b"])
    found = found[found["method"].isin(METHODS)]
    found["name"] = [
        METHODS[method] + "".join(f" {k}={v}" for k, v in (("b", b), ("N", n)) if not pd.isna(v))
        for method, b, n in found[["method", "b", "N"]].itertuples(index=False)
    ]
    found["place"] = found["method"].map(list(METHODS).index)
    names = found.sort_values(["place", "b", "N"], na_position="first")["name"].drop_duplicates()
    names = names.tolist()[::-1]
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.32 * len(names) + 0.9)
    for panel, split in zip(axes[0], splits, strict=True):
        for number, model in enumerate(models):
            dots = found[(found["split"] == split) & (found["model"] == model)]
            at = dots["name"].map(names.index).to_numpy()
            at = at - (number - (len(models) - 1) / 2) * 0.3
            panel.errorbar(
                dots["accuracy"],
                at,
                xerr=errors(dots),
                fmt="o",
                markersize=5,
                capsize=2,
                color=MODEL_COLOURS[model],
            )
            mark = PAPER_MARK | {"markersize": 4.5, "markeredgecolor": MODEL_COLOURS[model]}
            panel.plot(dots["paper"], at, **mark)
        panel.set_title(SPLITS[split])
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(-0.6, len(names) - 0.4)
        panel.set_xlim(0, 1.02)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("accuracy")
    handles = [handle(model, MODEL_COLOURS[model], linestyle="none") for model in models]
    papers = [paper_handle()] if found["paper"].notna().any() else []
    legend(figure, handles + papers)
    return figure


@styled
def error_types(rows: pd.DataFrame) -> Figure:
    """Figures 5 and 9 to 12: which of the task's errors the failures are, as stacked bars."""
    found = pick(rows, "figure_5", need=["error", "share"])
    found = found.assign(b=found["b"].astype(object), N=found["N"].astype(object))
    found["name"] = [
        METHODS.get(method, method.replace("_", " "))
        + "".join(f" {k}={v}" for k, v in (("b", b), ("N", n)) if not pd.isna(v))
        + f", {model}"
        for method, b, n, model in found[["method", "b", "N", "model"]].itertuples(index=False)
    ]
    place = found["method"].map({name: number for number, name in enumerate(METHODS)})
    rows = found.assign(place=place.fillna(len(METHODS))).drop_duplicates("name")
    rows = rows.sort_values(["model", "place", "b", "N"])
    order = [name for model in ("L", "S") for name in rows[rows["model"] == model]["name"][::-1]]
    splits = present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.42 * len(order) + 0.7)
    # Errors that tasks share come first, in one order and colour whatever the task.
    own = sorted({*found["error"]} - {*COMMON_ERRORS})
    colours = dict(zip((*COMMON_ERRORS, *own), itertools.cycle(ERROR_COLOURS), strict=False))
    names = [*present(found["error"], COMMON_ERRORS), *own]
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        shares = here.pivot_table("share", "name", "error", aggfunc="mean").reindex(
            index=order, columns=names, fill_value=0.0
        )
        left = pd.Series(0.0, index=order)
        for error in names:
            share = shares[error].fillna(0.0)
            panel.barh(range(len(order)), share, 0.72, left=left, color=colours[error])
            for at, (value, start) in enumerate(zip(share, left, strict=True)):
                if value >= 0.09:
                    text = f"{100 * value:.0f}"
                    panel.text(start + value / 2, at, text, ha="center", va="center", fontsize=9)
            left += share
        panel.set_title(SPLITS[split])
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(-0.6, len(order) - 0.4)
        panel.set_xlim(0, 1)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("share of the failures")
        panel.tick_params(axis="y", grid_alpha=0)
    handles = [matplotlib.patches.Patch(color=colours[name], label=name) for name in names]
    legend(figure, handles, columns=4 if len(splits) > 1 else 2)
    return figure


@styled
def loss_curves(rows: pd.DataFrame) -> Figure:
    """Figure 6: training loss against examples (or steps), each stage as logged and smoothed."""
    needed = {"loss", "stage"} <= set(rows.columns)
    found = rows[(rows["artifact"] == "figure_6") & needed]
    if not found.empty:
        found = found[found["loss"].notna() & found["stage"].isin(STAGE_COLOURS)]
    if found.empty:
        raise UserError("figure of figure_6: the results have no rows for it")
    x = "examples" if "examples" in found and found["examples"].notna().all() else "step"
    models = present(found["model"], MODEL_COLOURS) or [None]
    stages = present(found["stage"], STAGE_COLOURS)
    figure, axes = panels(1, len(models))
    for panel, model in zip(axes[0], models, strict=True):
        here = found if model is None else found[found["model"] == model]
        for stage, line in here.groupby("stage", sort=False):
            line, colour = line.sort_values(x), STAGE_COLOURS[stage]
            at, loss = line[x].astype(float), line["loss"].astype(float)
            smooth = loss.rolling(max(1, len(loss) // 25), min_periods=1, center=True).mean()
            panel.plot(at, loss, color=colour, alpha=0.25, linewidth=1)
            panel.plot(at, smooth, color=colour, linewidth=1.8)
        panel.set_title("training loss" if model is None else f"{model}, training loss")
        panel.set_xlabel("training examples" if x == "examples" else "step")
        panel.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    # The trunk starts far above its branches: on a plain scale they would be one line.
    axes[0][0].set_yscale("log")
    axes[0][0].yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axes[0][0].yaxis.set_major_formatter(ScalarFormatter())
    axes[0][0].yaxis.set_minor_locator(NullLocator())
    axes[0][0].set_ylabel("loss (log scale)")
    names = {stage: METHODS.get(stage, str(stage).replace("_", " ")) for stage in stages}
    legend(figure, [handle(names[each], STAGE_COLOURS[each], marker="") for each in stages])
    return figure


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
