"""Tables 3 and 4: how much D_back for each D_op. One branch a ratio, all of the same size.

Takes an experiment; gives branches of S and tidy rows with a column `ratio` (artifacts `table_3`
on seen targets, `table_4` on new ones). Source: section 4.5 and Tables 3 and 4 of the paper. A
search with roll-backs begins with the one without, so that serves both. Knows nothing of figures.
"""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd

from lib.drawing.markdown import accuracy, markdown_table
from lib.evaluation.claims import headline
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.paper import ratio_value
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.recipe import PaddingLossRecipe
from lib.studies.measurements import depth_rows

ARTIFACTS = {"seen": "table_3", "new": "table_4"}


def ratio_branch(
    experiment: Experiment, model: str, ratio: float, examples: int, padding_loss: bool = False
) -> Artifact:
    """A branch of `examples` examples, `ratio` of D_back for each of D_op.

    `padding_loss` is the audit's switch of `lib.profiles.recipe.Recipe`.
    """
    sizes, recipe = experiment.profile.models[model], experiment.profile.training.branch
    parent = None if sizes.path else experiment.checkpoint(model, "trunk")
    inputs = {
        "data": experiment.data.key,
        "parent": parent.key if parent else (sizes.path, *sizes.size),
        "start": sizes.trunk_examples,
        "traces": asdict(experiment.profile.traces) | {"mix": ratio},
        "examples": examples,
        "seed": experiment.seed,
    }
    name = f"models/{model}-ratio{ratio:g}"
    if padding_loss:
        recipe = PaddingLossRecipe(**(asdict(recipe) | {"packing": False}))
        inputs |= {"padding_loss": True}
        name += "-padding_loss"
    return experiment.train(
        name,
        inputs,
        lambda: experiment.start(model, parent),
        lambda: experiment.mixture(sizes.trunk_examples, examples, ratio),
        recipe,
        sizes.max_tokens,
    )


def ratio_rows(experiment: Experiment, model: str = "S") -> pd.DataFrame:
    """Tables 3 and 4; an empty table where the profile has no section `[ratios]`."""
    settings = experiment.profile.ratios
    if settings is None:
        return table([])
    parts = []
    for ratio in settings.ratios:
        checkpoint = ratio_branch(experiment, model, ratio, settings.examples)
        for split in TEST_SPLITS:
            problems = experiment.problems(split, 0, settings.problems)
            for breadth in settings.breadths:
                columns = {"artifact": ARTIFACTS[split], "model": model}
                rows = depth_rows(
                    experiment, checkpoint, problems, breadth, settings.depths, **columns
                )
                parts.append(rows.assign(ratio=ratio))
    return table(pd.concat(parts, ignore_index=True))


def ratio_table(rows: pd.DataFrame) -> str:
    """Tables 3 and 4 in Markdown, ours beside the paper's; empty where there are no such rows."""
    found = headline(rows, ARTIFACTS.values())
    found = found[found["method"] == "self_backtracking"]
    if found.empty:
        return ""
    found = beside_paper(found.assign(ratio=found["ratio"].map(ratio_value)))
    ratios, lines = sorted(found["ratio"].unique()), []
    for (_, split, breadth, depth), cell in found.groupby(["artifact", "split", "N", "b"]):
        by_ratio = {row["ratio"]: row for row in cell.to_dict("records")}
        shown = [accuracy(by_ratio[ratio]) if ratio in by_ratio else "" for ratio in ratios]
        lines.append([split, f"b={depth} N={breadth}", *shown])
    return markdown_table(["targets", "", *(f"1:{ratio:g}" for ratio in ratios)], lines)
