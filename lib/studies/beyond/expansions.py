"""Expansion without waste: independent samples against beams, by accuracy and pass@N at the tokens
that they generate.

Takes an experiment; gives rows (artifact `expansions`, with a column `expansion`) on the same
problems throughout. The beams' b = 0 is the first level of their search at the largest b. A
comparison that the paper does not make.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.base.checked import Count, Counts, Naturals, checked, one_of
from lib.drawing.style import PALETTE, curve, grid, handle, legend, percent, pick, styled
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.experiment import Experiment
from lib.profiles.search_spec import EXPANSIONS
from lib.studies.measurements import (
    Searched,
    in_tables,
    outcomes,
    outcomes_at_depths,
    searches,
)
from lib.studies.study import Figure, Study

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


def model_searches(experiment: Experiment, model: str) -> Iterator[tuple[Searched, list[int]]]:
    """Every search, and the depths that it gives. Where a table has it, it is the table's."""
    settings = experiment.profile.settings(ExpansionSettings)
    for expansion in settings.kinds:
        for breadth in settings.breadths:
            sampled = expansion == "sample"
            for depth in settings.depths if sampled else [max(settings.depths)]:
                spec = experiment.spec(breadth, depth, expansion=expansion)
                count = None if in_tables(experiment, spec) else settings.problems
                for found in searches(experiment, model, spec, count=count):
                    yield found, [depth] if sampled else list(settings.depths)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search of the models that the profile asks for."""
    for model in models(experiment):
        yield from model_searches(experiment, model)


def models(experiment: Experiment) -> list[str]:
    """The models that are compared."""
    settings = experiment.profile.settings(ExpansionSettings)
    return [model for model in settings.models if model in experiment.profile.models]


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each expansion, N, b and split, by the profile's selection rule."""
    settings = experiment.profile.settings(ExpansionSettings)
    rule, parts = experiment.profile.search.selection, []
    for model in models(experiment):
        for each, depths in model_searches(experiment, model):
            if each.spec.expansion == "sample":
                found = outcomes(experiment, each)
            else:
                found = outcomes_at_depths(experiment, each.made, each.problems, depths)
            found = found[(found["problem"] < settings.problems) & (found["selection"] == rule)]
            named = {"artifact": ARTIFACT, "model": model, "expansion": each.spec.expansion}
            parts.append(scoring.search_rows(found, **named))
    return table(pd.concat(parts, ignore_index=True))


LOOKS = {
    "sample": ("independent samples", {"colour": PALETTE[0], "marker": "o"}),
    "beam_sample": ("beam sampling (the paper's)", {"colour": PALETTE[3], "marker": "s"}),
    "stochastic_beam": ("without replacement", {"colour": PALETTE[2], "marker": "D"}),
}


TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@styled
def accuracy_against_generated(rows: pd.DataFrame) -> Drawn:
    """A point for each N: filled for the chosen path (largest b), hollow and dashed for pass@N."""
    found = pick(rows, "expansions", need=["expansion", "N", "b", "tokens_per_problem"])
    found = found[found["b"] == found["b"].max()]
    figure, grid_panels = grid(found)
    low, high = found["tokens_per_problem"].min(), found["tokens_per_problem"].max()
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for name, (_, style) in LOOKS.items():
            line = here[here["expansion"] == name]
            if line.empty:
                continue
            chosen = line[line["method"] != "pass_at_n"].sort_values("tokens_per_problem")
            curve(panel, chosen, "tokens_per_problem", **style)
            any_right = line[line["method"] == "pass_at_n"].sort_values("tokens_per_problem")
            panel.plot(
                any_right["tokens_per_problem"].astype(float),
                any_right["accuracy"],
                color=style["colour"],
                marker=style["marker"],
                markerfacecolor="white",
                linestyle="--",
                linewidth=1.2,
                markersize=5,
            )
        panel.set_xscale("log")
        panel.set_xticks([tick for tick in TICKS if 0.7 * low <= tick <= 1.4 * high])
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel(f"tokens generated for a problem (b={found['b'].max()})")
    for panel, *_ in grid_panels:
        percent(panel)
    shown = [name for name in LOOKS if (found["expansion"] == name).any()]
    handles = [handle(LOOKS[name][0], **LOOKS[name][1]) for name in shown]
    handles.append(handle("any path right (pass@N)", "#555555", linestyle="--", mfc="white"))
    legend(figure, handles, columns=2)
    return figure


STUDY = Study(
    name="expansions",
    section="expansions",
    settings=ExpansionSettings,
    rows=rows,
    requests=requests,
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
