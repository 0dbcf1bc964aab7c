"""Figure 6: the training loss of every stage.

Takes an experiment; gives points of the loss curves (artifact `figure_6`).
"""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.base.errors import UserError
from lib.drawing.style import (
    METHODS,
    MODEL_COLOURS,
    STAGE_COLOURS,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.studies.study import Figure, Study

CURVE_POINTS = 150


def checkpoints(experiment: Experiment) -> Iterator[tuple[str, str, Artifact]]:
    """Model, stage and checkpoint of all that the run trains first."""
    for model in experiment.profile.models:
        for stage in experiment.stages(model):
            yield model, stage, experiment.checkpoint(model, stage)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Some points of each curve."""
    rows = []
    for model, stage, checkpoint in checkpoints(experiment):
        losses = experiment.loss_curve(checkpoint)
        thinned = losses.iloc[:: max(1, len(losses) // CURVE_POINTS)]
        rows += [
            {"artifact": "figure_6", "model": model, "stage": stage, **point}
            for point in thinned.to_dict("records")
        ]
    return table(rows)


@styled
def loss_curves(rows: pd.DataFrame) -> Drawn:
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


STUDY = Study(
    name="figure_6",
    rows=rows,
    requests=checkpoints,
    figures=(
        Figure(
            "figure_6",
            loss_curves,
            "Training loss (figure 6).",
            ("figure_6",),
            columns=("loss", "stage"),
        ),
    ),
)
