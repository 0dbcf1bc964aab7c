"""What an update changes in bfloat16: the same short training with weights of either kind.

Takes an experiment; fine-tunes S for a few AdamW steps with weights kept in float32, and kept in
bfloat16 with no float32 copy; gives the two loss curves and, of each update of the second, the
share of weights that it changes in float32 and after rounding (artifact `bfloat16`). The paper
trains its 1B in float32 and its 3B in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.base.checked import Count, Positive, checked
from lib.drawing.style import artifact_rows, found_rows, handle, legend, panels, styled
from lib.evaluation.results import row, table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.profiles.recipe import WEIGHTS, Recipe
from lib.training.rounding import CHANGED
from studies.branches import small_branch
from studies.paper.paper_recipe import with_paper_recipe
from studies.study import Figure, Study

MODEL = "S"
ARTIFACT = "bfloat16"
COLOURS = dict(zip(WEIGHTS, ("#1b7f79", "#c2385a"), strict=True))


@checked
class BFloat16Settings:
    """A short fine-tuning by the paper's recipe, at one learning rate throughout."""

    examples: Count
    learning_rate: Positive
    batch_size: Count


def branches(experiment: Experiment) -> Iterator[tuple[str, Artifact]]:
    """How the weights are kept, and the model trained so."""
    settings = experiment.profile.settings(BFloat16Settings)
    for weights in WEIGHTS:
        recipe = Recipe(
            learning_rate=settings.learning_rate,
            schedule="constant_with_warmup",
            batch_size=settings.batch_size,
            epochs=1.0,
            weights=weights,
        )
        part, name = with_paper_recipe(experiment), f"{weights}-weights"
        yield weights, small_branch(part, MODEL, name, settings.examples, recipe)


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row for each loss that was logged."""
    rate = experiment.profile.settings(BFloat16Settings).learning_rate
    known = {"model": MODEL, "seed": experiment.seed, "learning_rate": rate}
    return table(
        row(ARTIFACT, weights=weights, **known, **point)
        for weights, checkpoint in branches(experiment)
        for point in experiment.loss_curve(checkpoint).to_dict("records")
    )


def remark(rows: pd.DataFrame) -> str:
    """What an update changes, and where the losses end; empty without rows."""
    found = artifact_rows(rows, ARTIFACT)
    if found.empty:
        return ""
    exact, rounded = (f"{100 * found[name].mean():.1f}%" for name in CHANGED)
    lines = [found[found["weights"] == weights].sort_values("step") for weights in WEIGHTS]
    first, last = (f"{lines[0]['loss'].iloc[at]:.3f}" for at in (0, -1))
    return (
        f"An AdamW update at a learning rate of {found['learning_rate'].iloc[0]:g} changes {exact} "
        f"of the weights in float32; rounded to bfloat16, {rounded} (means over "
        f"{lines[1]['step'].max()} steps). In these the loss goes from {first} to {last} with "
        f"float32 weights, and to {lines[1]['loss'].iloc[-1]:.3f} with bfloat16 weights."
    )


@styled
def losses_and_changes(rows: pd.DataFrame) -> Drawn:
    """The two loss curves; the share of weights that the same updates change, of either kind."""
    found = found_rows(rows, ARTIFACT)
    figure, axes = panels(1, 2, sharey=False)
    loss_panel, changed_panel = axes[0]
    for (weights, colour), marker, changed in zip(COLOURS.items(), "os", CHANGED, strict=True):
        line = found[found["weights"] == weights].sort_values("step")
        style = {"color": colour, "marker": marker, "markersize": 4.5}
        loss_panel.plot(line["step"].astype(float), line["loss"], **style)
        line = found.dropna(subset=changed).sort_values("step")
        changed_panel.plot(line["step"].astype(float), line[changed], **style)
    loss_panel.set_ylabel("training loss")
    changed_panel.set_ylabel("weights that an update changes")
    changed_panel.set_ylim(0, 1.04)
    changed_panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for panel in axes[0]:
        panel.set_xlabel("step")
    looks = zip(COLOURS.items(), "os", strict=True)
    legend(figure, [handle(name, colour, marker=marker) for (name, colour), marker in looks])
    return figure


STUDY = Study(
    name="bfloat16",
    section="bfloat16",
    settings=BFloat16Settings,
    rows=rows,
    requests=branches,
    title="What an update changes in bfloat16",
    remark=remark,
    figures=(
        Figure(
            "bfloat16",
            losses_and_changes,
            "The same training with weights kept in float32 and in bfloat16: the loss, and the "
            "share of weights that the same update changes in each.",
            (ARTIFACT,),
            columns=("weights", "loss"),
        ),
    ),
)
