"""Does a verdict learn more from the model's own errors? Mined D_back against more of the usual.

Takes an experiment and a model; gives two branches of the backtracking checkpoint, of as many
examples each, and tidy rows (artifact `mining`): one branch learns mined traces
(lib/studies/beyond/mined_errors.py) among others, its control D_op and D_back of fresh problems
alone. A step that the paper does not take. Knows nothing of figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from lib.base import files
from lib.drawing.markdown import accuracy, markdown_table
from lib.evaluation.claims import headline
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.search.tree import SearchTree
from lib.studies.measurements import depth_rows
from lib.tasks.task import EXPLORATION, FORMAT
from lib.tasks.trace import COLUMNS, right_trace, wrong_trace

ARTIFACT = "mining"
BRANCHES = {
    "self_backtracking": "as it was",
    "longer_backtracking": "trained on, as before",
    "mined_backtracking": "trained on, own errors among it",
}


def mined(experiment: Experiment, model: str) -> pd.DataFrame:
    """The traces mined from the backtracking checkpoint's searches of fresh training problems."""
    settings, loss = experiment.profile.mining, experiment.profile.traces.loss
    start = experiment.profile.models[model].examples
    problems = experiment.problems("train", start, settings.problems)
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(
        checkpoint, problems, experiment.spec(settings.breadth, 0, temperature=settings.temperature)
    )

    def make(folder: Path) -> None:
        found = mined_traces(experiment.read_trees(made), problems, experiment.task, loss)
        files.write_parquet(folder / "traces.parquet", found)

    artifact = experiment.run.make(f"mined/{model}", {"search": made.key, "loss": loss}, make)
    return files.read_parquet(artifact.path / "traces.parquet")


def branch_traces(experiment: Experiment, model: str, share: float) -> pd.DataFrame:
    """A branch's traces: this share of them mined, the rest the usual mixture of fresh problems."""
    settings = experiment.profile.mining
    count = round(share * settings.examples)
    start = experiment.profile.models[model].examples + settings.problems
    rest = experiment.mixture(start, settings.examples - count, experiment.profile.traces.mix)
    if not count:
        return rest
    traces = mined(experiment, model)
    # Fewer mined ones than asked stand several times.
    chosen = traces.sample(count, replace=count > len(traces), random_state=experiment.seed)
    return pd.concat([chosen, rest], ignore_index=True)


def branch(experiment: Experiment, model: str, method: str) -> Artifact:
    """The checkpoint of one of BRANCHES."""
    settings = experiment.profile.mining
    parent = experiment.checkpoint(model, "backtracking")
    if method == "self_backtracking":
        return parent
    inputs = {
        "parent": parent.key,
        "traces": asdict(experiment.profile.traces),
        "examples": settings.examples,
        "seed": experiment.seed,
    }
    share = 0.0
    if method == "mined_backtracking":
        share = settings.share
        kept = ("problems", "breadth", "temperature", "share")
        inputs |= {"mined": [getattr(settings, name) for name in kept]}
    return experiment.train(
        f"models/{model}-{method.removesuffix('_backtracking')}",
        inputs,
        lambda: experiment.start(model, parent),
        lambda: branch_traces(experiment, model, share),
        settings.recipe,
        experiment.profile.models[model].max_tokens,
    )


def mining_rows(experiment: Experiment, model: str = "S") -> pd.DataFrame:
    """Rows of the three branches, at the largest N of the tables.

    Empty where the profile has no section `[mining]` or the task no exact solver.
    """
    settings, search = experiment.profile.mining, experiment.profile.search
    if settings is None or experiment.task.solver is None:
        return table([])
    breadth, depths, parts = max(search.breadths), {0, max(search.depths)}, []
    for method in BRANCHES:
        checkpoint = branch(experiment, model, method)
        columns = {"artifact": ARTIFACT, "model": model, "method": method}
        for split in TEST_SPLITS:
            problems = experiment.problems(split, 0, settings.test_problems)
            rows = depth_rows(experiment, checkpoint, problems, breadth, depths, **columns)
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


FALSE_ALARM, SELF = "false_alarm", "self"


def joined(steps: Sequence[str], task: Any) -> str:
    """Steps as text, each with its end."""
    return "".join(step + task.step_end for step in steps)


def wrong_step(
    prompt: str, steps: Sequence[str], task: Any, kind: str, loss: str
) -> dict[str, str]:
    """A trace whose last step loses the target."""
    choice, outcome = task.split_step(steps[-1])
    parts = (prompt, joined(steps[:-1], task), choice, outcome + task.step_end)
    # Of other errors that are found first the result may be wrong as well.
    return wrong_trace(*parts, kind, loss, imitate=True, exact=kind == EXPLORATION)


def mined_traces(
    trees: Sequence[SearchTree], problems: pd.DataFrame, task: Any, loss: str
) -> pd.DataFrame:
    """The traces of these trees, each text once: columns text, mask, kind.

    A state that is lost gives one trace, at its first bad step; what follows it gives none. A line
    that is no step at all gives none: D_back has no such error.
    """
    found: dict[str, dict[str, str]] = {}
    rows = list(problems.itertuples(index=False))
    for tree in trees:
        problem = rows[tree.problem_id]
        steps: dict[int, tuple[str, ...]] = {0: ()}  # of the states that are not lost
        for node in tree.nodes:
            before = steps.get(node.parent) if node.parent is not None else None
            if before is None:
                continue
            trace = None
            if node.kind == "step":
                path = (*before, node.text)
                error = task.solver.judge_steps(problem, path)
                if error is None:
                    steps[node.id] = path
                elif error != FORMAT:
                    trace = wrong_step(tree.prompt, path, task, error, loss)
            elif node.kind == "backtrack":
                whole = joined((*before, *task.solver.complete(problem, before)), task)
                trace = right_trace(tree.prompt, whole, task.goal, FALSE_ALARM)
            elif node.kind == "goal" and task.check(problem, tree.response(node.id)).correct:
                trace = right_trace(tree.prompt, joined(before, task), task.goal, SELF)
            if trace:
                found.setdefault(trace["text"], trace)
    return pd.DataFrame(list(found.values()), columns=COLUMNS)
