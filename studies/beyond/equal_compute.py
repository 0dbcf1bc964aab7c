"""Is search worth its compute? Accuracy against tokens, N, temperature and b.

Takes an experiment; gives rows (artifact `compute`) of several methods on the same problems:
Self-Backtracking at every b, independent samples of the SFT model of which the most probable
(`sft_sampled`) or the most frequent one (`self_consistency`) answers, and beam search. One search
of N samples serves every smaller N: its first n samples are n independent ones. A comparison that
the paper does not make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from pydantic import StrictInt

from lib.base.checked import Count, Counts, Positives, checked, rule
from lib.drawing.style import (
    MARKERS,
    METHOD_COLOURS,
    METHODS,
    SPLITS,
    curve,
    found_rows,
    grid,
    handle,
    legend,
    look,
    percent,
    powers,
    styled,
    token_counts,
)
from lib.evaluation import scoring, states
from lib.evaluation.results import table
from lib.evaluation.states import first_samples
from lib.experiment.experiment import Experiment
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from studies import measurements
from studies.measurements import (
    SAMPLE,
    Searched,
    asked_models,
    in_tables,
    middle_breadth,
    searches,
)
from studies.paper import figure_13
from studies.study import Figure, Study

ARTIFACT = "compute"
#: method -> which stage is sampled, and the rule that chooses (None: the profile's).
SAMPLED = {
    "sft_sampled": ("sft", None),
    "self_consistency": ("sft", "vote"),
    "self_backtracking": ("backtracking", None),
}
#: What a search with b > 0 is compared with at equal tokens, and the column of each.
EQUAL = {
    "self_backtracking": "b0_at_equal_tokens",
    "sft_sampled": "sft_at_equal_tokens",
    "self_consistency": "vote_at_equal_tokens",
}


Pair = Annotated[
    tuple[StrictInt, ...],
    rule(
        lambda pair: len(pair) == 2 and pair[0] >= 1 and pair[1] >= 0,
        "must be pairs of N >= 1 and b >= 0",
    ),
]


@checked
class ComputeSettings:
    """Accuracy against what it costs. Searches that a table has already are taken from there."""

    models: tuple[str, ...]
    problems: Count  # of each test split
    breadths: Counts  # of independent samples: N of the SFT model, and of b = 0
    searches: tuple[Pair, ...]  # further (N, b) of Self-Backtracking
    temperatures: Positives
    temperature_breadth: Count
    beams: Counts


# What is asked for ---------------------------------------------------------------------------


def specs(experiment: Experiment) -> tuple[list[SearchSpec], list[SearchSpec]]:
    """Searches at b = 0, of samples, and further ones of Self-Backtracking."""
    settings = experiment.profile.settings(ComputeSettings)
    spec = partial(experiment.spec, expansion=SAMPLE)
    usual, breadth = experiment.profile.search.temperature, settings.temperature_breadth
    others = [value for value in settings.temperatures if value != usual]
    samples = [spec(max(settings.breadths), 0)]
    samples += [spec(breadth, 0, temperature=value) for value in others]
    deeper = [spec(*pair) for pair in settings.searches]
    return samples, deeper + [spec(breadth, 1, temperature=value) for value in others]


def searches_of(
    experiment: Experiment, model: str, stage: str, spec: SearchSpec
) -> Iterator[Searched]:
    """A search of both test splits: of this study's problems, or the one that a table has."""
    search = experiment.profile.search
    tabled = in_tables(experiment, spec) or (
        model == figure_13.MODEL
        and (spec.breadth, spec.depth in search.depths) == (middle_breadth(experiment), True)
        and spec.temperature in search.temperatures
    )
    count = experiment.profile.settings(ComputeSettings).problems
    tabled = tabled and stage == "backtracking"
    return searches(experiment, model, spec, stage, None if tabled else count)


def decodings(experiment: Experiment, model: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Numbers of beams of the SFT model, and the problems of each: all where Table 1 has them."""
    settings = experiment.profile.settings(ComputeSettings)
    for beams in settings.beams:
        problems = experiment.test_problems(model)
        if beams not in (1, experiment.profile.search.beams):
            problems = problems.groupby("split", sort=False).head(settings.problems)
        yield beams, problems.reset_index(drop=True)


def every_search(
    experiment: Experiment, model: str
) -> Iterator[tuple[str, SearchSpec, list[Searched], Callable]]:
    """Method, spec, its searches of both test splits, and what gives a search's outcomes."""
    samples, deeper = specs(experiment)
    for method, (stage, _) in SAMPLED.items():
        for spec in samples:
            yield method, spec, list(searches_of(experiment, model, stage, spec)), sample_outcomes
    for spec in deeper:
        made = list(searches_of(experiment, model, "backtracking", spec))
        yield "self_backtracking", spec, made, measurements.outcomes


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search and decoding."""
    for model in asked_models(experiment, ComputeSettings):
        for _, _, made, _ in every_search(experiment, model):
            yield from made
        for beams, problems in decodings(experiment, model):
            yield experiment.decoding(experiment.checkpoint(model, "sft"), problems, beams)


def sample_outcomes(experiment: Experiment, searched: Searched) -> pd.DataFrame:
    """`first_samples` of a search at b = 0, made once: of every N at the usual temperature."""
    settings, search = experiment.profile.settings(ComputeSettings), experiment.profile.search
    usual = searched.spec.temperature == search.temperature
    breadths = list(settings.breadths) if usual else [searched.spec.breadth]
    rules = list(dict.fromkeys([search.selection, "vote"]))
    inputs = {"search": searched.made.key, "breadths": breadths, "rules": rules}
    inputs |= {"problems": settings.problems}

    def measure() -> pd.DataFrame:
        trees = experiment.read_trees(searched.made)[: settings.problems]
        how = (experiment.task, breadths, rules, experiment.seed)
        return first_samples(trees, searched.problems, *how)

    name, made_by = f"samples/{searched.made.name}", [states, selection, experiment.task]
    found = measurements.kept_table(experiment, name, inputs, measure, made_by)
    return found.assign(split=searched.split)


def method_rows(outcomes: pd.DataFrame, **columns: object) -> list[dict]:
    """A row for each split and N of per-problem outcomes: accuracy, `ceiling` (pass@N), tokens."""
    found = []
    for (split, breadth), cell in outcomes.groupby(["split", "N"]):
        known = columns | {"artifact": ARTIFACT, "split": split, "N": int(breadth)}
        known |= {"checker": "strict", "tokens_per_problem": float(cell["tokens"].mean())}
        ceiling = {"ceiling": float(cell["covered"].mean())}
        found.append(scoring.accuracy_row(cell["correct"], **known) | ceiling)
    return found


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each model, method, setting and split, all on the same problems."""
    settings, search = experiment.profile.settings(ComputeSettings), experiment.profile.search
    found = []
    for model in asked_models(experiment, ComputeSettings):
        named = {"model": model, "seed": experiment.seed}
        for method, spec, made, outcomes_of in every_search(experiment, model):
            rule = SAMPLED[method][1] or search.selection
            outcomes = pd.concat([outcomes_of(experiment, each) for each in made])
            shown = (outcomes["selection"] == rule) & (outcomes["problem"] < settings.problems)
            columns = {"method": method, "selection": rule, "b": spec.depth}
            columns |= {"temperature": spec.temperature} | named
            found += method_rows(outcomes[shown], **columns)
        for beams, problems in decodings(experiment, model):
            decoded = experiment.decode(experiment.checkpoint(model, "sft"), problems, beams)
            outcomes = scoring.response_outcomes(decoded["text"], problems, experiment.task)
            outcomes = outcomes.assign(
                tokens=decoded["tokens"].to_numpy() * beams, N=beams, covered=outcomes["correct"]
            )
            outcomes = outcomes.groupby("split", sort=False).head(settings.problems)
            method = "sft_greedy" if beams == 1 else "sft_beam"
            found += method_rows(outcomes, method=method, **named)
    return table(found)


def equal_tokens(rows: pd.DataFrame) -> pd.DataFrame:
    """Self-Backtracking with b > 0 against what b = 0 and the SFT model's samples reach with as
    many tokens: their accuracy at that cost, linear in log tokens between two N that bracket it.

    NaN where no two N do. One row a model, split, N and b at the usual temperature.
    """
    columns = ["model", "split", "N", "b", "tokens", "accuracy", "low", "high"]
    columns += EQUAL.values()
    known = table(rows)
    known = known[known["artifact"] == ARTIFACT]
    if known.empty:
        return pd.DataFrame(columns=columns)
    usual = known.loc[known["method"] == "sft_sampled", "temperature"].mode()
    known = known[known["temperature"].isna() | known["temperature"].isin(usual)]
    records = []
    deep = known[(known["method"] == "self_backtracking") & (known["b"] > 0).fillna(False)]
    for cell in deep.to_dict("records"):
        here = known[(known["model"] == cell["model"]) & (known["split"] == cell["split"])]
        here = here[here["b"] == 0]
        record = {"tokens": cell["tokens_per_problem"]}
        for method, name in EQUAL.items():
            line = here[here["method"] == method].sort_values("tokens_per_problem")
            at = np.log(cell["tokens_per_problem"])
            cost = np.log(line["tokens_per_problem"].to_numpy())
            known_there = len(line) and cost[0] <= at <= cost[-1]
            record[name] = np.interp(at, cost, line["accuracy"]) if known_there else np.nan
        records.append({name: cell[name] for name in columns if name in cell} | record)
    return pd.DataFrame(records, columns=columns).sort_values(
        ["model", "split", "b", "N"], ignore_index=True
    )


def remark(rows: pd.DataFrame) -> str:
    """The widest search with roll-backs against what as many tokens reach without; or empty."""
    found = equal_tokens(rows).dropna(subset="b0_at_equal_tokens").sort_values(["N", "b"])
    said = [
        f"{each['model']}, {SPLITS[each['split']]}: N={each['N']} b={each['b']} solves "
        f"{100 * each['accuracy']:.1f}% for {each['tokens']:.0f} tokens a problem; as many tokens "
        f"without roll-backs reach {100 * each['b0_at_equal_tokens']:.1f}%."
        for each in found.groupby(["model", "split"]).tail(1).to_dict("records")
    ]
    return " ".join(said)


# Figures -------------------------------------------------------------------------------------

SFT_LOOKS = {
    "sft_beam": ("SFT, greedy and beam", METHOD_COLOURS["sft"], "X"),
    "sft_sampled": (METHODS["sft_sampled_mean_logprob"], METHOD_COLOURS["probable"], "^"),
    "self_consistency": (METHODS["sft_sampled_vote"], METHOD_COLOURS["vote"], "v"),
}


def by_series(rows: pd.DataFrame, usual: bool = True) -> pd.DataFrame:
    """The rows, with the curve that each is a point of: a method, or b.

    usual: those of the temperature that has the most N, and what has none.
    """
    found = found_rows(rows, ARTIFACT)
    if usual:
        known = found.groupby("temperature")["N"].nunique().idxmax()
        found = found[found["temperature"].isna() | (found["temperature"] == known)]
    names = [
        f"b={b:.0f}" if method == "self_backtracking" else method.replace("greedy", "beam")
        for method, b in found[["method", "b"]].itertuples(index=False)
    ]
    return found.assign(series=names)


def with_several(found: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """The curves (by `by`) that have more than one value of `column`; all where none has."""
    several = found.groupby(by)[column].transform("nunique") > 1
    return found[several] if several.any() else found


def looks(found: pd.DataFrame) -> dict[str, tuple[str, dict]]:
    """Each curve's name in the legend, and its colour and marker."""
    depths = sorted(int(name[2:]) for name in set(found["series"]) - set(SFT_LOOKS))
    named = {f"b={b}": (f"Self-Backtracking, b={b}", look(b)) for b in depths}
    for name, (label, colour, marker) in SFT_LOOKS.items():
        if (found["series"] == name).any():
            named[name] = label, {"colour": colour, "marker": marker}
    return named


def places(found: pd.DataFrame) -> pd.Series:
    """Each row's curve by its place among all, 0 in the middle: to draw curves a little apart."""
    order = list(looks(found))
    return found["series"].map(order.index) - (len(order) - 1) / 2


def curves(found: pd.DataFrame, label: str, ceilings: bool = True) -> tuple[Drawn, list[Axes]]:
    """A panel for each model and split: each curve over the column `x`; dashed, what any path of
    the same samples would give."""
    order, dashed = looks(found), ("b=0", "sft_sampled") if ceilings else ()
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, (_, each) in order.items():
            line = here[here["series"] == name].sort_values("x")
            curve(panel, line, "x", **each, markersize=4.5, elinewidth=1.1, capsize=2)
            if name in dashed:
                panel.plot(line["x"], line["ceiling"], "--", color=each["colour"], linewidth=1.4)
        panel.set_xlabel(label)
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(name, **each) for name, each in order.values()]
    if dashed:
        handles.append(handle(METHODS["pass_at_n"], "#555555", linestyle="--", marker=""))
    legend(figure, handles, columns=3)
    return figure, [panel for panel, *_ in grid_panels]


@styled
def against_tokens(rows: pd.DataFrame) -> Drawn:
    """Every method at the usual temperature: accuracy against the tokens of a problem."""
    found = by_series(rows)
    # The same samples cost the same, whoever chooses among them: a little apart.
    place = found["series"].map({"sft_sampled": -1, "self_consistency": 1}).fillna(0)
    found = found.assign(x=found["tokens_per_problem"] * 1.02**place)
    figure, drawn = curves(found, "tokens generated for a problem")
    for panel in drawn:
        token_counts(panel, found["tokens_per_problem"])
    return figure


@styled
def against_breadth(rows: pd.DataFrame) -> Drawn:
    """Accuracy against N (samples, or beams) of what was measured at several N."""
    found = with_several(by_series(rows), "series", "N")
    found = found.assign(x=found["N"].astype(float) * 1.07 ** places(found))
    figure, drawn = curves(found, "N: samples, or beams")
    for panel in drawn:
        powers(panel, found["N"])
    return figure


@styled
def against_temperature(rows: pd.DataFrame) -> Drawn:
    """Accuracy against the temperature, at the N that all temperatures have."""
    found = by_series(rows, usual=False).dropna(subset=["temperature"])
    breadth = found.groupby("N")["temperature"].nunique().idxmax()
    found = with_several(found[found["N"] == breadth], "series", "temperature")
    found = found.assign(x=found["temperature"] + 0.012 * places(found))
    return curves(found, f"temperature at N={breadth}", ceilings=False)[0]


@styled
def against_depth(rows: pd.DataFrame) -> Drawn:
    """Self-Backtracking's accuracy against b, a line for each N that has more than one."""
    found = by_series(rows)
    found = with_several(found[found["method"] == "self_backtracking"], "N", "b")
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (breadth, line) in enumerate(here.groupby("N")):
            curve(panel, line, "b", "#555555", marker=MARKERS[number])
            last = line.sort_values("b").iloc[-1]
            panel.annotate(f"N={breadth}", (float(last["b"]), last["accuracy"]), (7, 0),
                           textcoords="offset points", va="center", fontsize=9.5)  # fmt: skip
        panel.set_xticks(sorted(found["b"].unique().astype(int)))
        panel.margins(x=0.12)
        panel.set_xlabel("b: roll-backs")
    for panel, *_ in grid_panels:
        percent(panel)
    return figure


def figure(name: str, draw: Callable, caption: str, methods: tuple[str, ...] = ()) -> Figure:
    """One of this study's figures."""
    return Figure(f"compute_{name}", draw, caption, (ARTIFACT,), methods, ("temperature",))


STUDY = Study(
    name="equal_compute",
    section="compute",
    settings=ComputeSettings,
    rows=rows,
    requests=requests,
    title="Is search worth its compute?",
    remark=remark,
    figures=(
        figure(
            "tokens",
            against_tokens,
            "Accuracy against the tokens that a problem costs, all methods on the same problems.",
        ),
        figure("breadth", against_breadth, "Accuracy against N, on the same problems."),
        figure("temperature", against_temperature, "Accuracy against the sampling temperature."),
        figure(
            "depth",
            against_depth,
            "Self-Backtracking's accuracy against the number of roll-backs b, at several N.",
            ("self_backtracking",),
        ),
    ),
)
