"""Expansion without waste: independent samples against beams, by accuracy and pass@N at the tokens
that they generate.

Takes an experiment and a model; gives tidy rows (artifact `expansions`, with a column `expansion`)
on the same problems throughout. The beams' b = 0 is the first level of their search at the largest
b. A comparison that the paper does not make. Knows nothing of figures.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.drawing.style import PALETTE, curve, grid, handle, legend, percent, pick, styled
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.studies import measurements

ARTIFACT = "expansions"


def expansion_outcomes(
    experiment: Experiment, model: str, split: str, expansion: str, breadth: int, depths: tuple
) -> pd.DataFrame:
    """One row a problem, depth and selection rule."""
    settings, search = experiment.profile.expansions, experiment.profile.search
    problems = experiment.test_problems(model, split).iloc[: settings.problems]
    if expansion == "sample":
        parts = []
        for depth in depths:
            if breadth in search.breadths and depth in search.depths:  # a table's, cut
                found = measurements.outcomes(experiment, model, split, breadth, depth)
                parts.append(found[found["problem"] < settings.problems])
            else:
                checkpoint = experiment.checkpoint(model, "backtracking")
                made = experiment.search(checkpoint, problems, experiment.spec(breadth, depth))
                parts.append(measurements.search_outcomes(experiment, made, problems))
        return pd.concat(parts, ignore_index=True)
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(
        checkpoint, problems, experiment.spec(breadth, max(depths), expansion=expansion)
    )
    return measurements.outcomes_at_depths(experiment, made, problems, depths)


def expansion_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Every row of artifact `expansions` for one model; empty where the profile does not ask."""
    settings, search = experiment.profile.expansions, experiment.profile.search
    if settings is None or model not in settings.models:
        return table([])
    rows = []
    for expansion in settings.kinds:
        for breadth in settings.breadths:
            found = pd.concat(
                [
                    expansion_outcomes(
                        experiment, model, split, expansion, breadth, settings.depths
                    ).assign(split=split)
                    for split in TEST_SPLITS
                ],
                ignore_index=True,
            )
            found = found[found["selection"] == search.selection]
            rows.append(
                scoring.search_rows(found, artifact=ARTIFACT, model=model, expansion=expansion)
            )
    return table(pd.concat(rows, ignore_index=True))


LOOKS = {
    "sample": ("independent samples", {"colour": PALETTE[0], "marker": "o"}),
    "beam_sample": ("beam sampling (the paper's)", {"colour": PALETTE[3], "marker": "s"}),
    "stochastic_beam": ("without replacement", {"colour": PALETTE[2], "marker": "D"}),
}
TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@styled
def accuracy_against_generated(rows: pd.DataFrame) -> Figure:
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
