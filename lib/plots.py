"""The paper's figures: one function a figure, tidy rows in, a matplotlib Figure out.

Takes the rows of lib/results.py (each function picks the artifact that it draws, and says so when
there is none); shows 95% intervals, and the paper's own numbers as hollow diamonds where it has
them.
Knows nothing of how a row was measured.
"""

import matplotlib
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from lib.analysis import beside_paper, headline
from lib.drawing import (
    MARKERS,
    METHODS,
    MODEL_COLOURS,
    PALETTE,
    PAPER_MARK,
    SPLITS,
    curve,
    errors,
    grid,
    handle,
    legend,
    look,
    panels,
    paper_handle,
    percent,
    pick,
    powers,
    present,
    save_figure,  # noqa: F401 (callers find it beside the figures)
    styled,
)
from lib.errors import UserError
from lib.paper import ratio_value
from lib.task import ERRORS


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
            for x, high, share in zip(at, bars["high"], bars["accuracy"], strict=True):
                panel.annotate(
                    f"{100 * share:.0f}",
                    (x, high),
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
def accuracy_against_breadth(rows: pd.DataFrame) -> Figure:
    """Figure 4: accuracy against N for each b, and the ceiling that no selection can pass."""
    found = beside_paper(pick(rows, "figure_4", need=["N", "b"]))
    found = found[found["method"].isin(["self_backtracking", "pass_at_n"])]
    figure, grid_panels = grid(found)
    depths = sorted(found["b"].unique())
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, depth in enumerate(depths):
            colour = look(number)["colour"]
            at = here[here["b"] == depth]
            # A little apart, so that intervals do not hide each other.
            apart = 2 ** (0.07 * (number - (len(depths) - 1) / 2))
            at = at.assign(x=at["N"].astype(float) * apart).sort_values("x")
            ceiling = at[at["method"] == "pass_at_n"]
            panel.plot(ceiling["x"], ceiling["accuracy"], "--", color=colour)
            chosen = at[at["method"] == "self_backtracking"]
            curve(panel, chosen, "x", **look(number))
            panel.plot(chosen["x"], chosen["paper"], **PAPER_MARK | {"markeredgecolor": colour})
        powers(panel, found["N"])
        panel.set_xlabel("breadth N")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(f"b={depth}", **look(number)) for number, depth in enumerate(depths)]
    if (found["method"] == "pass_at_n").any():
        handles.append(handle(METHODS["pass_at_n"], "#555555", linestyle="--", marker=""))
    legend(figure, handles + ([paper_handle("the paper")] if found["paper"].notna().any() else []))
    return figure


@styled
def self_improvement(rows: pd.DataFrame) -> Figure:
    """Figures 3 and 8: greedy accuracy after each round; search and the control for reference."""
    found = pick(rows, "figure_3", need=["round"])
    search = headline(rows, ["table_1", "figure_4"])
    search = search[(search["method"] == "self_backtracking") & (search["b"] == 1).fillna(False)]
    splits, models = present(found["split"], SPLITS), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(1, len(splits))
    others = sorted(set(found["method"]) - {"self_improved_greedy"})
    styles = dict(zip(others, ["--", "-.", (0, (1, 1))] * len(others), strict=False))
    referred = False
    for panel, split in zip(axes[0], splits, strict=True):
        for model in models:
            here = found[(found["split"] == split) & (found["model"] == model)]
            colour = MODEL_COLOURS[model]
            curve(panel, here[here["method"] == "self_improved_greedy"], "round", colour)
            for method in others:
                line = here[here["method"] == method]
                curve(panel, line, "round", colour, linestyle=styles[method], marker="s")
            slow = search[(search["split"] == split) & (search["model"] == model)]
            if len(slow):
                best = slow.sort_values("N").iloc[-1]["accuracy"]
                panel.axhline(best, color=colour, linestyle=":", linewidth=1.8)
                referred = True
        panel.set_title(SPLITS[split])
        panel.set_xticks(sorted(found["round"].unique()))
        panel.set_xlabel("round of self-improvement")
    axes[0][0].set_ylabel("accuracy")
    for panel in axes[0]:
        percent(panel)
    handles = [handle(f"{model}, greedy", MODEL_COLOURS[model]) for model in models]
    handles += [
        handle(METHODS.get(name, name.replace("_", " ")), "#555555", linestyle=style, marker="s")
        for name, style in styles.items()
    ]
    if referred:
        handles.append(handle("with search (b=1)", "#555555", linestyle=":", marker=""))
    legend(figure, handles)
    return figure


@styled
def error_types(rows: pd.DataFrame) -> Figure:
    """Figures 5 and 9 to 12: which of the paper's four errors the failures are, as stacked bars."""
    found = pick(rows, "figure_5", need=["error", "share"])
    found = found.assign(b=found["b"].astype(object), N=found["N"].astype(object))
    found["name"] = [
        METHODS.get(method, method.replace("_", " "))
        + "".join(f" {k}={v}" for k, v in (("b", b), ("N", n)) if not pd.isna(v))
        + f", {model}"
        for method, b, n, model in found[["method", "b", "N", "model"]].itertuples(index=False)
    ]
    place = found["method"].map({name: number for number, name in enumerate(METHODS)})
    names = found.assign(place=place.fillna(len(METHODS))).drop_duplicates("name")
    names = names.sort_values(["model", "place", "b", "N"])
    order = [name for model in ("L", "S") for name in names[names["model"] == model]["name"][::-1]]
    splits = present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.42 * len(order) + 0.7)
    colours = dict(zip(ERRORS, (PALETTE[7], PALETTE[4], PALETTE[1], PALETTE[9]), strict=True))
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        shares = here.pivot_table("share", "name", "error", aggfunc="mean").reindex(
            index=order, columns=list(ERRORS), fill_value=0.0
        )
        left = pd.Series(0.0, index=order)
        for error in ERRORS:
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
    handles = [matplotlib.patches.Patch(color=colours[name], label=name) for name in ERRORS]
    legend(figure, handles, columns=4 if len(splits) > 1 else 2)
    return figure


@styled
def loss_curves(rows: pd.DataFrame) -> Figure:
    """Figure 6: training loss against examples (or steps), each stage as logged and smoothed."""
    needed = {"loss", "stage"} <= set(rows.columns)
    found = (
        rows[rows["artifact"] == "figure_6"].dropna(subset=["loss", "stage"]) if needed else None
    )
    if found is None or found.empty:
        raise UserError("figure of figure_6: the results have no rows for it")
    x = "examples" if "examples" in found and found["examples"].notna().all() else "step"
    models = present(found["model"], MODEL_COLOURS) or [None]
    stages = list(dict.fromkeys(found["stage"]))
    colours = dict(zip(stages, sns.color_palette("colorblind", len(stages)), strict=True))
    figure, axes = panels(1, len(models))
    for panel, model in zip(axes[0], models, strict=True):
        here = found if model is None else found[found["model"] == model]
        for stage, line in here.groupby("stage", sort=False):
            line = line.sort_values(x)
            at, loss = line[x].astype(float), line["loss"].astype(float)
            smooth = loss.rolling(max(1, len(loss) // 25), min_periods=1, center=True).mean()
            panel.plot(at, loss, color=colours[stage], alpha=0.25, linewidth=1)
            panel.plot(at, smooth, color=colours[stage], linewidth=1.8)
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
    legend(figure, [handle(names[each], colours[each], marker="") for each in stages])
    return figure


@styled
def accuracy_against_temperature(rows: pd.DataFrame) -> Figure:
    """Figure 13: accuracy against the sampling temperature, for each b."""
    found = pick(rows, "figure_13", need=["temperature", "b"])
    found = found[found["method"] == "self_backtracking"]
    figure, grid_panels = grid(found)
    keys = sorted(found[["b", "N"]].drop_duplicates().itertuples(index=False, name=None))
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(keys):
            line = here[(here["b"] == depth) & (here["N"] == breadth)]
            curve(panel, line, "temperature", **look(number))
        panel.set_xlabel("temperature")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [
        handle(f"b={depth} N={breadth}", **look(number))
        for number, (depth, breadth) in enumerate(keys)
    ]
    legend(figure, handles)
    return figure


@styled
def accuracy_against_tokens(rows: pd.DataFrame) -> Figure:
    """What accuracy costs: each method's accuracy against the tokens that a problem took."""
    found = pick(rows, "table_1", "table_2", "figure_4", need=["tokens_per_problem"])
    found = found[found["method"].isin(METHODS) & (found["method"] != "pass_at_n")]
    found = found.drop_duplicates(["method", "model", "split", "N", "b"])
    found["series"] = [
        METHODS[method] + (f", b={b}" if not pd.isna(b) else "")
        for method, b in found[["method", "b"]].itertuples(index=False)
    ]
    place = found["method"].map(list(METHODS).index)
    # Self-Backtracking first: its colours must not be repeated when the palette runs out.
    place = place.where(found["method"] != "self_backtracking", -1)
    order = found.assign(place=place).sort_values(["place", "b"])["series"].drop_duplicates()
    looks = {
        name: {"colour": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
        for number, name in enumerate(order)
    }
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, each in looks.items():
            line = here[here["series"] == name]
            curve(panel, line, "tokens_per_problem", **each)
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        low, high = found["tokens_per_problem"].min(), found["tokens_per_problem"].max()
        ticks = [tick for tick in (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000)]
        panel.set_xticks([tick for tick in ticks if 0.7 * low <= tick <= 1.4 * high])
        panel.set_xlabel("tokens generated for a problem")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(name, each["colour"], marker=each["marker"]) for name, each in looks.items()]
    legend(figure, handles)
    return figure


@styled
def accuracy_against_ratio(rows: pd.DataFrame) -> Figure:
    """Tables 3 and 4: accuracy against D_op : D_back, for each N and b."""
    found = pick(rows, "table_3", "table_4", need=["ratio", "N", "b"])
    found = found[found["method"] == "self_backtracking"]
    found = found.assign(ratio=found["ratio"].map(ratio_value))
    found = beside_paper(found)
    ratios = sorted(found["ratio"].unique())
    figure, grid_panels = grid(found)
    keys = sorted(found[["b", "N"]].drop_duplicates().itertuples(index=False, name=None))
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(keys):
            colour = look(number)["colour"]
            line = here[(here["b"] == depth) & (here["N"] == breadth)].sort_values("ratio")
            # The ratios' places, not their values: intervals of neighbours would overlap.
            shift = 0.08 * (number - (len(keys) - 1) / 2)
            line = line.assign(place=line["ratio"].map(ratios.index) + shift)
            curve(panel, line, "place", **look(number))
            mark = PAPER_MARK | {"markeredgecolor": colour, "linestyle": ":", "color": colour}
            panel.plot(line["place"], line["paper"], **mark)
        panel.set_xticks(range(len(ratios)), [f"1:{ratio:g}" for ratio in ratios])
        panel.set_xlabel("D_op : D_back")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [
        handle(f"b={depth} N={breadth}", **look(number))
        for number, (depth, breadth) in enumerate(keys)
    ]
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=5)
    return figure


@styled
def operator_shares(problems: pd.DataFrame) -> Figure:
    """How often each operator stands in the solutions (column solution), by split."""
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
    figure = Figure(figsize=(5, 2.6), layout="constrained")
    axes = figure.subplots()
    sns.barplot(shares.reset_index(), x="operator", y="share", hue="split", ax=axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylabel("share of steps")
    return figure
