"""Table 1: every method's accuracy, plain decoding and Self-Backtracking, beside the paper's.

Takes an experiment; gives rows (artifact `table_1`) of SFT and of backtracking data, greedy and
with beams, and of Self-Backtracking at N = 8 and the largest N; draws them, and all methods of
Tables 1 and 2. Best-of-N, DPO and KTO add their rows in files of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.markdown import in_words
from lib.drawing.style import (
    CEILING_MARK,
    CEILING_METHODS,
    METHOD_COLOURS,
    METHODS,
    MODEL_COLOURS,
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
    present,
    problems_of,
    setting,
    styled,
    token_counts,
    whole,
)
from lib.evaluation import scoring
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import headline
from lib.experiment.experiment import Experiment
from studies.measurements import (
    Searched,
    by_profiles_rule,
    decoding_outcomes,
    method_outcomes,
    table_breadths,
    tabled_searches,
)
from studies.study import Figure, Study

LABEL_HEIGHT = 0.06  # of a number over a bar, in units of the accuracy axis
STAGES = (("sft", "sft"), ("backtracking", "backtracking_data"))


def decodings(experiment: Experiment, model: str) -> Iterator[tuple[str, str, int]]:
    """Stage, method and beams of each of the rows without search."""
    for stage, name in STAGES:
        for beams, decoding in ((1, "greedy"), (experiment.profile.search.beams, "beam")):
            yield stage, f"{name}_{decoding}", beams


def table_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Self-Backtracking at N = 8 and the largest N, at every b."""
    yield from tabled_searches(experiment, model, table_breadths(experiment))


def requests(experiment: Experiment) -> Iterator[object]:
    """Every decoding and search of the table."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for stage, _, beams in decodings(experiment, model):
            yield experiment.decoding(experiment.checkpoint(model, stage), problems, beams)
        yield from table_searches(experiment, model)


def model_outcomes(experiment: Experiment, model: str) -> pd.DataFrame:
    """The table's outcomes of one model, problem by problem."""
    parts = [
        decoding_outcomes(experiment, model, stage, beams).assign(artifact="table_1", method=method)
        for stage, method, beams in decodings(experiment, model)
    ]
    found = method_outcomes(experiment, model, table_searches(experiment, model), "table_1")
    return pd.concat([*parts, by_profiles_rule(experiment, found)], ignore_index=True)


def model_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """The table's rows of one model."""
    return scoring.outcome_rows(model_outcomes(experiment, model))


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Every model's outcomes."""
    return pd.concat([model_outcomes(experiment, model) for model in experiment.profile.models])


def rows(experiment: Experiment) -> pd.DataFrame:
    """The table's rows of every model."""
    return scoring.outcome_rows(outcomes(experiment))


def remark(rows: pd.DataFrame) -> str:
    """What Self-Backtracking solves beside SFT; empty where the run has no such rows."""
    found = headline(rows, ["table_1"])
    plain = found[found["method"] == "sft_greedy"]
    search = found[(found["method"] == "self_backtracking") & (found["b"] == 1).fillna(False)]
    search = search[search["N"] == search["N"].max()]
    if plain.empty or search.empty:
        return ""
    return (
        f"Accuracy of greedy decoding after SFT: {in_words(plain)}. Of Self-Backtracking"
        f"{setting(search.iloc[0])}: {in_words(search)}."
    )


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
        names.get(row["method"], f"Self-Backtr.\n{setting(row).strip()}")
        for row in found.to_dict("records")
    ]
    order = [*names.values(), *(f"Self-Backtr.\nb={b} N={largest}" for b in (0, 1))]
    order = present(found["bar"], order)
    if not order:
        raise UserError("figure of table_1: no rows of SFT or Self-Backtracking in the results")
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=3.4)
    width = 0.8 / len(models) if len(models) > 1 else 0.55
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        for number, model in enumerate(models):
            bars = here[here["model"] == model]
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
            style = {"textcoords": "offset points", "ha": "center", "fontsize": 9}
            for place, share in zip(zip(at, above, strict=True), bars["accuracy"], strict=True):
                panel.annotate(whole(share), place, (0, 3), **style)
        panel.set_title(SPLITS[split] + problems_of(here))
        panel.set_xticks(range(len(order)), order)
        panel.set_xlim(-0.6, len(order) - 0.4)
        panel.set_ylim(0, 1.08)
        panel.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.tick_params(axis="x", grid_alpha=0)
    axes[0][0].set_ylabel("accuracy")
    handles = [Patch(color=MODEL_COLOURS[model], label=model) for model in models]
    papers = [paper_handle()] if found["paper"].notna().any() else []
    legend(figure, handles + papers)
    return figure


#: Whose choice has which ceiling.
CEILINGS = (
    {"self_backtracking": "pass_at_n"}
    | dict(scoring.CEILINGS)
    | dict.fromkeys(
        ("best_of_n", "best_of_n_own", "sft_sampled_mean_logprob", "sft_sampled_vote"),
        "sft_pass_at_n",
    )
)


def with_ceilings(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of methods; of those that choose among samples `any_right` is their ceiling."""
    keys = ["ceiling_of", "model", "split", "N", "b"]
    known = rows[rows["method"].isin(CEILINGS.values())].rename(columns={"method": "ceiling_of"})
    known = known[[*keys, "accuracy"]].rename(columns={"accuracy": "any_right"})
    rows = rows[~rows["method"].isin(CEILINGS.values())]
    rows = rows.assign(ceiling_of=rows["method"].map(CEILINGS))
    return rows.merge(known.drop_duplicates(keys), "left", on=keys)


@styled
def accuracy_by_method(rows: pd.DataFrame) -> Drawn:
    """Tables 1 and 2 whole: every method, with its interval, its ceiling, and the paper's number.

    In a method's line stand S, the paper's 1B, L and the paper's 3B, from above.
    """
    found = pick(rows, "table_1", "table_2", "best_of_n")
    found = found[(found["artifact"] != "best_of_n") | (found["method"] == "sft_pass_at_n")]
    found = found.drop_duplicates(["method", "model", "split", "N", "b"])
    found = beside_paper(with_ceilings(found[found["method"].isin(METHODS)]))
    found["name"] = [METHODS[row["method"]] + setting(row) for row in found.to_dict("records")]
    found["place"] = found["method"].map(list(METHODS).index)
    names = found.sort_values(["place", "b", "N"], na_position="first")["name"].drop_duplicates()
    names = names.tolist()[::-1]
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    figure, axes = panels(1, len(splits), height=0.37 * len(names) + 0.9)
    for panel, split in zip(axes[0], splits, strict=True):
        here = found[found["split"] == split]
        for number, model in enumerate(models):
            dots, colour = here[here["model"] == model], MODEL_COLOURS[model]
            at = dots["name"].map(names.index).to_numpy() + (len(models) - 1) / 4 + 0.1
            at = at - 0.5 * number
            style = {"fmt": "o", "markersize": 4.5, "capsize": 2, "color": colour}
            panel.errorbar(dots["accuracy"], at, xerr=errors(dots), **style)
            panel.plot(dots["any_right"], at, color=colour, **TICK_MARK)
            mark = PAPER_MARK | {"markersize": 4, "markeredgecolor": colour}
            panel.plot(dots["paper"], at - 0.2, **mark)
        panel.set_title(SPLITS[split] + problems_of(here))
        panel.set_yticks(range(len(names)), names)
        panel.tick_params(axis="y", grid_alpha=0)
        for place in range(1, len(names)):  # between methods, in place of a line through each
            panel.axhline(place - 0.5, color="#e4e4e4", linewidth=0.8, zorder=0)
        panel.set_ylim(-0.5, len(names) - 0.5)
        panel.set_xlim(0, 1.02)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("accuracy")
    handles = [handle(model, MODEL_COLOURS[model], linestyle="none") for model in models]
    if found["any_right"].notna().any():
        handles.append(handle("ceiling: any of its paths right (pass@N)", "#222222", **TICK_MARK))
    papers = [paper_handle()] if found["paper"].notna().any() else []
    legend(figure, handles + papers)
    return figure


TICK_MARK = CEILING_MARK | {"marker": "|", "markersize": 9}
#: What a method costs, without DPO, KTO and other choices among the same samples: they would lie
#: on each other.
COSTS = {
    "SFT, greedy and beam": (("sft_greedy", "sft_beam"), METHOD_COLOURS["sft"], "^"),
    "backtracking data, greedy and beam": (
        ("backtracking_data_greedy", "backtracking_data_beam"),
        METHOD_COLOURS["backtracking"],
        "v",
    ),
    METHODS["best_of_n"]: (("best_of_n",), METHOD_COLOURS["reward"], "P"),
    METHODS["dfs"]: (("dfs",), METHOD_COLOURS["dfs"], "X"),
    METHODS["stream_of_search"]: (("stream_of_search",), METHOD_COLOURS["stream"], "*"),
}


@styled
def accuracy_against_tokens(rows: pd.DataFrame) -> Drawn:
    """What accuracy costs: each method's accuracy against the tokens that a problem took."""
    found = pick(rows, "table_1", "table_2", "figure_4", need=["tokens_per_problem"])
    found = found.drop_duplicates(["method", "model", "split", "N", "b"])
    looks, parts = {}, []
    search = found[found["method"] == "self_backtracking"]
    for depth, part in search.groupby("b"):
        name = f"Self-Backtracking, b={depth}"
        looks[name] = look(depth)
        parts.append(part.assign(series=name))
    for name, (methods, colour, marker) in COSTS.items():
        part = found[found["method"].isin(methods)]
        if len(part):
            looks[name] = {"colour": colour, "marker": marker}
            parts.append(part.assign(series=name))
    if not parts:
        raise UserError("figure of tokens: the results have no rows for it")
    found = pd.concat(parts)
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, each in looks.items():
            curve(panel, here[here["series"] == name], "tokens_per_problem", **each)
        token_counts(panel, found["tokens_per_problem"])
        panel.set_xlabel("tokens generated for a problem")
    for panel, *_ in grid_panels:
        percent(panel, from_zero=True)
    legend(figure, [handle(name, **each) for name, each in looks.items()], columns=3)
    return figure


SEARCH = ("self_backtracking",)
STUDY = Study(
    name="table_1",
    rows=rows,
    requests=requests,
    outcomes=outcomes,
    figures=(
        Figure(
            "table_1",
            accuracy_bars,
            "Accuracy on the two test splits (Table 1).",
            ("table_1",),
            ("sft_greedy", "sft_beam", *SEARCH),
        ),
        Figure(
            "methods",
            accuracy_by_method,
            "Every method (Tables 1 and 2). Where one chooses among several paths, a tick marks "
            "its ceiling: the problems for which any of them is right.",
            ("table_1", "table_2"),
            tuple(METHODS),
        ),
        Figure(
            "tokens",
            accuracy_against_tokens,
            "Accuracy against the tokens that a problem costs: a point for each N or number of "
            "beams. DPO and KTO cost what SFT does.",
            ("table_1", "table_2", "figure_4"),
            tuple(method for method in METHODS if method not in CEILING_METHODS),
            ("tokens_per_problem",),
        ),
    ),
    remark=remark,
    title="Table 1: accuracy, and what it costs",
)
