"""Does a verdict learn more from the model's own errors? Mined D_back against more of the usual.

Takes an experiment and a model; gives two branches of the backtracking checkpoint, of as many
examples each, and tidy rows (artifact `mining`): one branch learns mined traces (lib/mining.py)
among others, its control D_op and D_back of fresh problems alone. A step that the paper does not
take. Knows nothing of figures.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lib import evaluation, measurements, store
from lib.experiment import TEST_SPLITS, Experiment
from lib.headline import headline
from lib.markdown import accuracy, markdown_table
from lib.masks import COLUMNS
from lib.mining import mined_traces
from lib.results import table
from lib.steps import can_judge
from lib.store import Artifact

ARTIFACT = "mining"
BRANCHES = {
    "self_backtracking": "as it was",
    "longer_backtracking": "trained on, as before",
    "mined_backtracking": "trained on, own errors among it",
}


def mined(experiment: Experiment, model: str) -> pd.DataFrame:
    """The traces mined from the backtracking checkpoint's searches of fresh training problems."""
    settings, sizes = experiment.profile.mining, experiment.profile.models[model]
    start = sizes.trunk_examples + sizes.branch_examples
    problems = experiment.problems("train", start, settings.problems)
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(checkpoint, problems, settings.breadth, 0, settings.temperature)
    loss = experiment.profile.traces.loss

    def make(folder: Path) -> None:
        found = mined_traces(experiment.read_trees(made), problems, experiment.task, loss)
        store.write_parquet(folder / "traces.parquet", found)

    artifact = experiment.run.make(f"mined/{model}", {"search": made.key, "loss": loss}, make)
    return store.read_parquet(artifact.path / "traces.parquet")


def mined_mixture(experiment: Experiment, model: str) -> pd.DataFrame:
    """A branch's traces: the mined ones, as many as their share asks, and the usual mixture."""
    settings, sizes = experiment.profile.mining, experiment.profile.models[model]
    traces = mined(experiment, model)
    count = round(settings.share * settings.examples)
    # Fewer mined ones than asked stand several times.
    chosen = traces.sample(count, replace=count > len(traces), random_state=experiment.seed)
    start = sizes.trunk_examples + sizes.branch_examples + settings.problems
    rest = experiment.mixture(start, settings.examples - count, experiment.profile.traces.mix)
    return pd.concat([chosen[COLUMNS], rest[COLUMNS]], ignore_index=True)


def branch(experiment: Experiment, model: str, method: str) -> Artifact:
    """The checkpoint of one of BRANCHES."""
    settings, sizes = experiment.profile.mining, experiment.profile.models[model]
    parent = experiment.checkpoint(model, "backtracking")
    if method == "self_backtracking":
        return parent
    start = sizes.trunk_examples + sizes.branch_examples + settings.problems
    inputs = {
        "parent": parent.key,
        "traces": asdict(experiment.profile.traces),
        "examples": settings.examples,
        "seed": experiment.seed,
    }
    if method == "mined_backtracking":
        kept = ("problems", "breadth", "temperature", "share")
        inputs |= {"mined": [getattr(settings, name) for name in kept]}

    def traces() -> pd.DataFrame:
        if method == "mined_backtracking":
            return mined_mixture(experiment, model)
        return experiment.mixture(start, settings.examples, experiment.profile.traces.mix)

    name = f"models/{model}-{method.removesuffix('_backtracking')}"
    begin = lambda: experiment.start(model, parent)  # noqa: E731
    return experiment.train(name, inputs, begin, traces, settings.recipe, sizes.max_tokens)


def mining_rows(experiment: Experiment, model: str = "S") -> pd.DataFrame:
    """Rows of the three branches, at the largest N of the tables.

    Empty where the profile has no section `[mining]` or the task no exact solver.
    """
    settings, search = experiment.profile.mining, experiment.profile.search
    if settings is None or not (
        can_judge(experiment.task) and hasattr(experiment.task, "complete")
    ):
        return table([])
    breadth, depth, parts = max(search.breadths), max(search.depths), []
    for method in BRANCHES:
        checkpoint = branch(experiment, model, method)
        for split in TEST_SPLITS:
            problems = experiment.problems(split, 0, settings.test_problems)
            made = experiment.search(checkpoint, problems, breadth, depth, search.temperature)
            found = measurements.outcomes_at_depths(experiment, made, problems, sorted({0, depth}))
            found = found[found["selection"] == search.selection]
            columns = {"artifact": ARTIFACT, "model": model, "method": method}
            rows = evaluation.search_rows(found, **columns)
            parts.append(rows.assign(branch=method))
    return table(pd.concat(parts, ignore_index=True))


def mining_table(rows: pd.DataFrame) -> str:
    """The rows in Markdown: accuracy and ceiling of each branch; empty where there are none."""
    found = headline(rows, [ARTIFACT]).assign(paper=float("nan"))  # the paper has none
    if found.empty:
        return ""
    lines = []
    for branch_name, label in BRANCHES.items():
        of_branch = found[found["branch"] == branch_name]
        for depth, cell in of_branch.groupby("b"):
            shown = []
            for split in TEST_SPLITS:
                here = cell[cell["split"] == split]
                right = here[here["method"] == branch_name]
                ceiling = here[here["method"] != branch_name]
                shown.append(accuracy(right.iloc[0]) if len(right) else "")
                shown.append(f"{100 * ceiling.iloc[0]['accuracy']:.1f}" if len(ceiling) else "")
            tokens = cell.loc[cell["method"] == branch_name, "tokens_per_problem"].mean()
            lines.append([label, f"b={depth:.0f}", *shown, f"{tokens:.0f}"])
    head = ["", "", "seen", "ceiling", "new", "ceiling", "tokens a problem"]
    return markdown_table(head, lines)
