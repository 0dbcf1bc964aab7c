"""Curves of accuracy: against N, tokens, temperature, rounds of self-improvement and D_op : D_back.

Takes the rows of lib/evaluation/results.py (each function picks the artifact that it draws, and
says so when there is none); shows 95% intervals, and the paper's own numbers as hollow diamonds
where it has them. Knows nothing of how a row was measured.
"""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.drawing.style import (
    MARKERS,
    METHODS,
    MODEL_COLOURS,
    PALETTE,
    PAPER_MARK,
    SPLITS,
    curve,
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
    styled,
)
from lib.evaluation.claims import headline
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.paper import ratio_value
from lib.evaluation.results import table


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
def search_by_round(rows: pd.DataFrame) -> Figure:
    """Search with the improved models: accuracy and its ceiling, and how many paths differ."""
    found = pick(rows, "round_search", need=["round"])
    varied = table(rows)
    varied = varied[
        (varied["artifact"] == "round_diversity") & (varied["quantity"] == "distinct_paths")
    ]
    # `curve` draws shares; counts have names of their own.
    varied = varied.assign(
        accuracy=varied["value"], low=varied["value_low"], high=varied["value_high"]
    )
    splits, models = present(found["split"], SPLITS), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(2, len(splits), height=2.4, sharey="row")
    for column, split in enumerate(splits):
        above, below = axes[0][column], axes[1][column]
        for model in models:
            colour = MODEL_COLOURS[model]
            here = found[(found["split"] == split) & (found["model"] == model)]
            curve(above, here[here["method"] == "self_backtracking"], "round", colour)
            ceiling = here[here["method"] == "pass_at_n"].sort_values("round")
            above.plot(
                ceiling["round"].astype(float), ceiling["accuracy"], color=colour, linestyle="--"
            )
            line = varied[(varied["split"] == split) & (varied["model"] == model)]
            curve(below, line, "round", colour)
        above.set_title(SPLITS[split])
        below.set_xlabel("round of self-improvement")
        for panel in (above, below):
            panel.set_xticks(sorted(found["round"].unique()))
    for panel in axes[0]:
        percent(panel)
    axes[0][0].set_ylabel("accuracy of search")
    axes[1][0].set_ylabel("distinct paths")
    handles = [handle(model, MODEL_COLOURS[model]) for model in models]
    handles.append(handle("ceiling: any path right", "#555555", linestyle="--", marker=""))
    legend(figure, handles)
    return figure


def searches(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """The searches that rows are of, as (b, N)."""
    return sorted(rows[["b", "N"]].drop_duplicates().itertuples(index=False, name=None))


def search_handles(keys: Sequence[tuple[int, int]]) -> list:
    """A legend's entry for each search, in the look of its place."""
    return [
        handle(f"b={depth} N={breadth}", **look(number))
        for number, (depth, breadth) in enumerate(keys)
    ]


@styled
def accuracy_against_temperature(rows: pd.DataFrame) -> Figure:
    """Figure 13: accuracy against the sampling temperature, for each b."""
    found = pick(rows, "figure_13", need=["temperature", "b"])
    found = found[found["method"] == "self_backtracking"]
    figure, grid_panels = grid(found)
    keys = searches(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (depth, breadth) in enumerate(keys):
            line = here[(here["b"] == depth) & (here["N"] == breadth)]
            curve(panel, line, "temperature", **look(number))
        panel.set_xlabel("temperature")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = search_handles(keys)
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
    keys = searches(found)
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
    handles = search_handles(keys)
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=5)
    return figure
