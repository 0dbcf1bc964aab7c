"""Is search worth its compute? Accuracy against tokens.

Takes an experiment; gives rows (artifact `compute`) on the same problems: of Self-Backtracking at
every b, and of independent samples of the SFT model, by the profile's rule. One search of N samples
serves every smaller N: its first n samples are n independent ones. A comparison that the paper does
not make.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from pydantic import StrictInt

from lib.base.checked import Count, Counts, checked, rule
from lib.drawing.markdown import points_of
from lib.drawing.style import (
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
    styled,
    token_counts,
)
from lib.evaluation import scoring, states
from lib.evaluation.results import table
from lib.evaluation.states import first_samples
from lib.evaluation.statistics import at_cost, mean_interval, with_interval
from lib.experiment.experiment import Experiment
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from studies import measurements
from studies.measurements import (
    SAMPLE,
    Searched,
    asked_models,
    in_tables,
    searches,
)
from studies.study import Figure, Study

ARTIFACT = "compute"
#: Method -> which stage is sampled.
SAMPLED = {"sft_sampled": "sft", "self_backtracking": "backtracking"}
#: What a search with b > 0 is compared with at equal tokens, and the column of each.
EQUAL = {"self_backtracking": "b0_at_equal_tokens", "sft_sampled": "sft_at_equal_tokens"}
#: The column of what it gains over them.
OVER = {"self_backtracking": "over_b0", "sft_sampled": "over_sft"}

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


def specs(experiment: Experiment) -> tuple[list[SearchSpec], list[SearchSpec]]:
    """Searches at b = 0, of samples, and further ones of Self-Backtracking."""
    settings = experiment.profile.settings(ComputeSettings)
    spec = partial(experiment.spec, expansion=SAMPLE)
    return [spec(max(settings.breadths), 0)], [spec(*pair) for pair in settings.searches]


def searches_of(
    experiment: Experiment, model: str, stage: str, spec: SearchSpec
) -> Iterator[Searched]:
    """A search of both test splits: of this study's problems, or the one that a table has."""
    count = experiment.profile.settings(ComputeSettings).problems
    tabled = in_tables(experiment, spec) and stage == "backtracking"
    return searches(experiment, model, spec, stage, None if tabled else count)


def every_search(
    experiment: Experiment, model: str
) -> Iterator[tuple[str, SearchSpec, list[Searched], Callable]]:
    """Method, spec, its searches of both test splits, and what gives a search's outcomes."""
    samples, deeper = specs(experiment)
    for method, stage in SAMPLED.items():
        for spec in samples:
            yield method, spec, list(searches_of(experiment, model, stage, spec)), sample_outcomes
    for spec in deeper:
        made = list(searches_of(experiment, model, "backtracking", spec))
        yield "self_backtracking", spec, made, measurements.outcomes


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search."""
    for model in asked_models(experiment, ComputeSettings):
        for _, _, made, _ in every_search(experiment, model):
            yield from made


def sample_outcomes(experiment: Experiment, searched: Searched) -> pd.DataFrame:
    """`first_samples` of a search at b = 0, made once, of every N."""
    settings, search = experiment.profile.settings(ComputeSettings), experiment.profile.search
    breadths, rules = list(settings.breadths), [search.selection]
    inputs = {"search": searched.made.key, "breadths": breadths, "rules": rules}
    inputs |= {"problems": settings.problems}

    def measure() -> pd.DataFrame:
        trees = experiment.read_trees(searched.made)[: settings.problems]
        how = (experiment.task, breadths, rules, experiment.seed)
        return first_samples(trees, searched.problems, *how)

    name, made_by = f"samples/{searched.made.name}", [states, selection, experiment.task]
    found = measurements.kept_table(experiment, name, inputs, measure, made_by)
    return found.assign(split=searched.split)


def gain_at_equal_tokens(deep: pd.DataFrame, samples: pd.DataFrame) -> tuple | None:
    """What a search solves beyond samples of as many tokens -> (gain, low, high), paired.

    deep: a row a problem; samples: one a problem and N. Their answers are interpolated, problem by
    problem, linear in log tokens between two N. None where no two N cost less and more.
    """
    cost, right = deep["tokens"].mean(), deep.set_index("problem")["correct"].astype(float)
    costs = samples.groupby("N")["tokens"].mean()
    known = samples.pivot(index="N", columns="problem", values="correct").astype(float)
    base = at_cost(cost, costs.to_numpy(), known[right.index].to_numpy())
    return None if base is None else mean_interval(right.to_numpy() - base)


def method_rows(
    outcomes: pd.DataFrame, samples: Mapping[str, pd.DataFrame], **columns: object
) -> list[dict]:
    """A row for each split and N of per-problem outcomes: accuracy, `ceiling` (pass@N), tokens.

    With b > 0 also what is gained over these samples (method -> outcomes) at equal tokens.
    """
    found = []
    for (split, breadth), cell in outcomes.groupby(["split", "N"]):
        known = columns | {"artifact": ARTIFACT, "split": split, "N": int(breadth)}
        known |= {"checker": "strict", "tokens_per_problem": float(cell["tokens"].mean())}
        more = {"ceiling": float(cell["covered"].mean())}
        for method, name in OVER.items() if columns["b"] else ():
            known_samples = samples[method][samples[method]["split"] == split]
            if (gain := gain_at_equal_tokens(cell, known_samples)) is not None:
                more |= with_interval(name, gain)
        found.append(scoring.accuracy_row(cell["correct"], **known) | more)
    return found


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each model, method, setting and split, all on the same problems."""
    count = experiment.profile.settings(ComputeSettings).problems
    rule, found = experiment.profile.search.selection, []
    for model in asked_models(experiment, ComputeSettings):
        samples: dict[str, pd.DataFrame] = {}
        for method, spec, made, outcomes_of in every_search(experiment, model):
            outcomes = pd.concat([outcomes_of(experiment, each) for each in made])
            shown = (outcomes["selection"] == rule) & (outcomes["problem"] < count)
            columns = {"model": model, "seed": experiment.seed, "method": method, "b": spec.depth}
            columns |= {"selection": rule, "temperature": spec.temperature}
            if not spec.depth:
                samples[method] = outcomes[shown]
            found += method_rows(outcomes[shown], samples, **columns)
    return table(found)


def equal_tokens(rows: pd.DataFrame) -> pd.DataFrame:
    """Self-Backtracking with b > 0 against what b = 0 and the SFT model's samples reach with as
    many tokens: their accuracy at that cost, linear in log tokens between two N that bracket it.

    NaN where no two N do. One row a model, split, N and b at the usual temperature.
    """
    columns = ["model", "split", "N", "b", "tokens", "accuracy", "low", "high"]
    columns += EQUAL.values()
    columns += [f"{name}{end}" for name in OVER.values() for end in ("", "_low", "_high")]
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
            costs, values = (line[name].to_numpy() for name in ("tokens_per_problem", "accuracy"))
            reached = at_cost(cell["tokens_per_problem"], costs, values)
            record[name] = np.nan if reached is None else reached
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
        f"without roll-backs reach {100 * each['b0_at_equal_tokens']:.1f}%"
        + (f" (gain {known} points)." if (known := points_of(each, "over_b0")) else ".")
        for each in found.groupby(["model", "split"]).tail(1).to_dict("records")
    ]
    return " ".join(said)


def by_series(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the curve that each is a point of: SFT's samples, or b.

    Of earlier results, which have more methods and temperatures, these, and the temperature that
    has the most N.
    """
    found = found_rows(rows, ARTIFACT)
    found = found[found["method"].isin(SAMPLED)]
    found = found[found["temperature"] == found.groupby("temperature")["N"].nunique().idxmax()]
    names = [
        f"b={b:.0f}" if method == "self_backtracking" else method
        for method, b in found[["method", "b"]].itertuples(index=False)
    ]
    return found.assign(series=names)


def looks(found: pd.DataFrame) -> dict[str, tuple[str, dict]]:
    """Each curve's name in the legend, and its colour and marker."""
    depths = sorted(int(name[2:]) for name in set(found["series"]) - {"sft_sampled"})
    named = {f"b={b}": (f"Self-Backtracking, b={b}", look(b)) for b in depths}
    sft = {"colour": METHOD_COLOURS["probable"], "marker": "^"}
    return named | {"sft_sampled": (METHODS["sft_sampled_mean_logprob"], sft)}


@styled
def against_tokens(rows: pd.DataFrame) -> Drawn:
    """Every method: accuracy against the tokens of a problem; dashed, what any path of the same
    samples would give."""
    found = by_series(rows)
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, (_, each) in looks(found).items():
            line = here[here["series"] == name].sort_values("tokens_per_problem")
            style = {"markersize": 4.5, "elinewidth": 1.1, "capsize": 2}
            curve(panel, line, "tokens_per_problem", **each, **style)
            if name in ("b=0", "sft_sampled"):
                at = line["tokens_per_problem"]
                panel.plot(at, line["ceiling"], "--", color=each["colour"], linewidth=1.4)
        token_counts(panel, found["tokens_per_problem"])
        panel.set_xlabel("tokens generated for a problem")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(name, **each) for name, each in looks(found).values()]
    handles.append(handle(METHODS["pass_at_n"], "#555555", linestyle="--", marker=""))
    legend(figure, handles, columns=3)
    return figure


STUDY = Study(
    name="equal_compute",
    section="compute",
    settings=ComputeSettings,
    rows=rows,
    requests=requests,
    title="Is search worth its compute?",
    remark=remark,
    figures=(
        Figure(
            "compute_tokens",
            against_tokens,
            "Accuracy against the tokens that a problem costs, all methods on the same problems.",
            (ARTIFACT,),
            columns=("temperature",),
        ),
    ),
)
