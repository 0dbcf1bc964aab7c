"""Figure 6: the training loss of every stage.

Takes an experiment; gives points of the loss curves (artifact `figure_6`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, ScalarFormatter

from lib.drawing.style import (
    MODEL_COLOURS,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from studies.study import Figure, Study

CURVE_POINTS = 150
TITLES = {
    "trunk": "trunk",
    "sft": "SFT: D_op",
    "backtracking": "backtracking: D_op, D_back",
}


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


def ends_of_epochs(curve: pd.DataFrame, epochs: int) -> list[dict[str, float]]:
    """Loss before the end of each epoch and after it, where a fall is what was learned by heart.

    Means over a tenth of an epoch; after the last there is nothing.
    """
    width, found = max(1, round(len(curve) / epochs / 10)), []
    for epoch in range(1, epochs + 1):
        end = (curve["examples"] <= curve["examples"].max() * epoch / epochs).sum()
        before = curve["loss"].iloc[max(0, end - width) : end].mean()
        after = curve["loss"].iloc[end : end + width].mean()
        known = {"epoch": epoch, "loss": before, "loss_after": after}
        found.append(known | {"fall": 1 - after / before})
    return found


@styled
def loss_curves(rows: pd.DataFrame) -> Drawn:
    """Figure 6: training loss against examples (or steps), as logged and smoothed.

    A panel and a scale for each stage: their losses are means over different tokens.
    """
    found = found_rows(rows, "figure_6")
    x = "examples" if "examples" in found and found["examples"].notna().all() else "step"
    models, stages = present(found["model"], MODEL_COLOURS), present(found["stage"], TITLES)
    figure, axes = panels(1, len(stages), sharey=False)
    for panel, stage in zip(axes[0], stages, strict=True):
        for model in models:
            line = found[(found["stage"] == stage) & (found["model"] == model)].sort_values(x)
            at, loss, colour = line[x].astype(float), line["loss"], MODEL_COLOURS[model]
            smooth = loss.rolling(max(1, len(loss) // 25), min_periods=1, center=True).mean()
            panel.plot(at, loss, color=colour, alpha=0.25, linewidth=1)
            panel.plot(at, smooth, color=colour, linewidth=1.8)
        if panel.dataLim.y1 > 3 * panel.dataLim.y0:  # from random weights, or a new token
            panel.set_yscale("log")
            panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_locator(NullLocator())
        panel.set_title(TITLES[stage])
        panel.set_xlabel("training examples" if x == "examples" else "step")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes[0][0].set_ylabel("training loss")
    legend(figure, [handle(model, MODEL_COLOURS[model], marker="") for model in models])
    return figure


STUDY = Study(
    name="figure_6",
    rows=rows,
    requests=checkpoints,
    figures=(
        Figure(
            "figure_6",
            loss_curves,
            "Training loss (figure 6). Each stage has a scale of its own: their losses are means "
            "over different tokens and cannot be compared.",
            ("figure_6",),
            columns=("loss", "stage"),
        ),
    ),
    title="Figure 6: training loss",
)
