"""Expansion without waste: independent samples against beams, and N continuations of a rolled-back
state (the paper's) against √N, by accuracy and pass@N at the tokens that they generate.

Takes an experiment; gives rows (artifact `expansions`, with columns `expansion` and `per_state`) on
the same problems throughout. The beams' b = 0 is the first level of their search at the largest b.
A comparison that the paper does not make.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Annotated

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base.checked import Count, Counts, Naturals, checked, one_of
from lib.drawing.style import (
    EXPANSION_COLOURS,
    METHODS,
    SPLITS,
    curve,
    grid,
    handle,
    legend,
    percent,
    pick,
    styled,
    token_counts,
)
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.profiles.search_spec import EXPANSIONS, PER_STATE
from studies.measurements import (
    Searched,
    asked_models,
    in_tables,
    outcomes,
    outcomes_at_depths,
    searches,
)
from studies.study import Figure, Study

ARTIFACT = "expansions"


@checked
class ExpansionSettings:
    """Independent samples against beams, at the tokens that they generate."""

    models: tuple[str, ...]
    #: Of lib/search/expansion.py.
    kinds: tuple[Annotated[str, one_of(EXPANSIONS, f"choose from {', '.join(EXPANSIONS)}")], ...]
    problems: Count  # of each test split: the first so many
    breadths: Counts
    depths: Naturals
    #: How many continuations a rolled-back state gets; none named: as `[search]` says.
    per_state: tuple[Annotated[str, one_of(PER_STATE)], ...] = ()


def model_searches(experiment: Experiment, model: str) -> Iterator[tuple[Searched, list[int]]]:
    """Every search, and the depths that it gives. Where a table has it, it is the table's."""
    settings = experiment.profile.settings(ExpansionSettings)
    ways = settings.per_state or (experiment.profile.search.per_state,)
    for expansion, per_state, breadth in product(settings.kinds, ways, settings.breadths):
        # At b = 0 no state is rolled back: once is enough.
        shown = [depth for depth in settings.depths if per_state == ways[0] or depth]
        sampled = expansion == "sample"
        for depth in shown if sampled else shown and [max(shown)]:
            spec = experiment.spec(breadth, depth, expansion=expansion, per_state=per_state)
            count = None if in_tables(experiment, spec) else settings.problems
            for found in searches(experiment, model, spec, count=count):
                yield found, [depth] if sampled else shown


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search of the models that the profile asks for."""
    for model in asked_models(experiment, ExpansionSettings):
        yield from model_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each expansion, N, b and split, by the profile's selection rule."""
    settings = experiment.profile.settings(ExpansionSettings)
    rule, parts = experiment.profile.search.selection, []
    for model in asked_models(experiment, ExpansionSettings):
        for each, depths in model_searches(experiment, model):
            if each.spec.expansion == "sample":
                found = outcomes(experiment, each)
            else:
                found = outcomes_at_depths(experiment, each.made, each.problems, depths)
            found = found[(found["problem"] < settings.problems) & (found["selection"] == rule)]
            named = {"artifact": ARTIFACT, "model": model}
            named |= {"expansion": each.spec.expansion, "per_state": each.spec.per_state}
            parts.append(scoring.search_rows(found, **named))
    return table(pd.concat(parts, ignore_index=True))


LOOKS = {
    "sample": ("independent samples", "o"),
    "beam_sample": ("beam sampling (the paper's)", "s"),
    "stochastic_beam": ("without replacement", "D"),
}

#: Continuations of a rolled-back state, as remarks and legends say them; nothing of one way alone.
AGAIN = {"breadth": ", N a state", "sqrt": ", √N a state", "": ""}
LINES = {"breadth": "-", "sqrt": ":", "": "-"}


def deepest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the largest b."""
    found = pick(rows, ARTIFACT, need=["expansion", "N", "b", "tokens_per_problem"])
    found = found[found["b"] == found["b"].max()]
    several = "per_state" in found and found["per_state"].nunique() > 1
    return found if several else found.assign(per_state="")


def remark(rows: pd.DataFrame) -> str:
    """Each expansion's accuracy and tokens at the largest N; empty where there are no rows."""
    if not (rows["artifact"] == ARTIFACT).any():
        return ""
    found = deepest(rows)
    found = found[(found["N"] == found["N"].max()) & (found["method"] != "pass_at_n")]
    said = []
    for (model, split), cells in found.groupby(["model", "split"], sort=False):
        each = "; ".join(
            f"{LOOKS[cell['expansion']][0]}{AGAIN[cell['per_state']]} "
            f"{100 * cell['accuracy']:.1f}% for "
            f"{cell['tokens_per_problem']:.0f} tokens a problem"
            for cell in cells.sort_values("tokens_per_problem").to_dict("records")
        )
        where = f"N={cells['N'].iloc[0]} b={cells['b'].iloc[0]}"
        said.append(f"{model}, {SPLITS[split]}, {where}: {each}.")
    return " ".join(said)


@styled
def accuracy_against_generated(rows: pd.DataFrame) -> Drawn:
    """A point for each N: filled for the chosen path (largest b), hollow and dashed for pass@N."""
    found = deepest(rows)
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for (name, per_state), line in here.groupby(["expansion", "per_state"]):
            line = line.sort_values("tokens_per_problem")
            look = {"color": EXPANSION_COLOURS[name], "marker": LOOKS[name][1]}
            chosen = line[line["method"] != "pass_at_n"]
            style = {"marker": look["marker"], "linestyle": LINES[per_state]}
            curve(panel, chosen, "tokens_per_problem", look["color"], **style)
            any_right = line[line["method"] == "pass_at_n"]
            panel.plot(
                any_right["tokens_per_problem"].astype(float),
                any_right["accuracy"],
                markerfacecolor="white",
                linestyle="--",
                linewidth=1.2,
                markersize=5,
                **look,
            )
        token_counts(panel, found["tokens_per_problem"])
        panel.set_xlabel(f"tokens generated for a problem (b={found['b'].max()})")
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(label, EXPANSION_COLOURS[name], marker=marker)
               for name, (label, marker) in LOOKS.items()
               if (found["expansion"] == name).any()]  # fmt: skip
    handles += [handle(f"b > 0{AGAIN[name]}", "#555555", linestyle=LINES[name])
                for name in filter(None, found["per_state"].unique())]  # fmt: skip
    handles.append(handle(METHODS["pass_at_n"], "#555555", linestyle="--", mfc="white"))
    legend(figure, handles, columns=2)
    return figure


STUDY = Study(
    name="expansions",
    section="expansions",
    settings=ExpansionSettings,
    rows=rows,
    requests=requests,
    title="Beams or independent samples",
    remark=remark,
    figures=(
        Figure(
            "expansions",
            accuracy_against_generated,
            "Independent samples against beams: accuracy (solid) and pass@N (dashed) at the tokens "
            "generated, lost beams' tokens included; a point for each N.",
            (ARTIFACT,),
            columns=("expansion",),
        ),
    ),
)
