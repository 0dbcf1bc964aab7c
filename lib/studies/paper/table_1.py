"""Table 1: every method's accuracy, plain decoding and Self-Backtracking, beside the paper's.

Takes an experiment; gives rows (artifact `table_1`) of SFT and of backtracking data, greedy and
with beams, and of Self-Backtracking at N = 8 and the largest N; draws them, and all methods of
Tables 1 and 2. Best-of-N, DPO and KTO add their rows in files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.patches
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from lib.base.errors import UserError
from lib.drawing.style import (
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
    panels,
    paper_handle,
    percent,
    pick,
    present,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.studies.measurements import Searched, decoding_outcomes, search_rows, searches
from lib.studies.study import Figure, Study

LABEL_HEIGHT = 0.06  # of a number over a bar, in units of the accuracy axis
STAGES = (("sft", "sft"), ("backtracking", "backtracking_data"))


def decodings(experiment: Experiment, model: str) -> Iterator[tuple[str, str, int]]:
    """Stage, method and beams of each of the rows without search."""
    for stage, name in STAGES:
        for beams, decoding in ((1, "greedy"), (experiment.profile.search.beams, "beam")):
            yield stage, f"{name}_{decoding}", beams


def table_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Self-Backtracking at N = 8 and the largest N, at every b."""
    search = experiment.profile.search
    for breadth in search.breadths:
        if breadth in (8, max(search.breadths)):
            for depth in search.depths:
                yield from searches(experiment, model, experiment.spec(breadth, depth))


def requests(experiment: Experiment) -> Iterator[object]:
    """Every decoding and search of the table."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for stage, _, beams in decodings(experiment, model):
            yield experiment.decoding(experiment.checkpoint(model, stage), problems, beams)
        yield from table_searches(experiment, model)


def decoding_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """The rows without search: SFT and backtracking data, greedy and beam search."""
    rows = []
    for stage, method, beams in decodings(experiment, model):
        for split, cell in decoding_outcomes(experiment, model, stage, beams).groupby("split"):
            rows += scoring.checker_rows(
                cell["correct"],
                cell["correct_published"],
                artifact="table_1",
                method=method,
                model=model,
                split=split,
                seed=experiment.seed,
                tokens_per_problem=float(cell["tokens"].mean()),
            )
    return table(rows)


def model_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """The table's rows of one model."""
    found = search_rows(experiment, model, table_searches(experiment, model), "table_1")
    rule = experiment.profile.search.selection
    shown = found["selection"].isna() | (found["selection"] == rule)
    return pd.concat([decoding_rows(experiment, model), found[shown]], ignore_index=True)


def rows(experiment: Experiment) -> pd.DataFrame:
    """The table's rows of every model."""
    return table(pd.concat([model_rows(experiment, model) for model in experiment.profile.models]))


@styled
def accuracy_bars(rows: pd.DataFrame) -> Drawn:
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
def accuracy_by_method(rows: pd.DataFrame) -> Drawn:
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
def accuracy_against_tokens(rows: pd.DataFrame) -> Drawn:
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


SEARCH = ("self_backtracking",)
STUDY = Study(
    name="table_1",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "table_1",
            accuracy_bars,
            "Accuracy on seen and new targets (Table 1).",
            ("table_1",),
            ("sft_greedy", "sft_beam", *SEARCH),
        ),
        Figure(
            "methods",
            accuracy_by_method,
            "Every method (Tables 1 and 2).",
            ("table_1", "table_2"),
            tuple(METHODS),
        ),
        Figure(
            "tokens",
            accuracy_against_tokens,
            "Accuracy against the tokens that a problem costs.",
            ("table_1", "table_2", "figure_4"),
            tuple(method for method in METHODS if method != "pass_at_n"),
            ("tokens_per_problem",),
        ),
    ),
)
