"""Does a verdict learn more from the model's own errors? D_back made of them, against the usual.

Takes an experiment; gives two branches of S's backtracking checkpoint, of as many examples each,
and rows of both and of the checkpoint itself (artifact `mining`). One branch learns, among others,
traces made of its own searches (`own_error_traces`); its control learns D_op and D_back of fresh
problems alone. A step that the paper does not take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from lib.base import files
from lib.base.checked import Count, Positive, Share, checked
from lib.drawing.markdown import accuracy, markdown_table
from lib.evaluation.claims import headline
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.recipe import Recipe
from lib.search.tree import SearchTree
from lib.studies.measurements import depth_rows, depth_searches
from lib.studies.study import Study
from lib.tasks.task import EXPLORATION, FORMAT, Task
from lib.tasks.trace import COLUMNS, right_trace, wrong_trace

#: Raised whenever the same trees give other traces: what was made before is then made again.
VERSION = 1
MODEL, ARTIFACT = "S", "mining"
BRANCHES = {
    "self_backtracking": "as it was",
    "longer_backtracking": "trained on, as before",
    "mined_backtracking": "trained on, own errors among it",
}


@checked
class MiningSettings:
    """D_back from the model's own wrong paths, against as many examples of the usual kind."""

    problems: Count  # training problems searched
    breadth: Count
    temperature: Positive
    examples: Count  # of each of the two branches, from the backtracking checkpoint on
    share: Share  # of these from own errors; the rest are D_op and D_back of fresh problems
    test_problems: Count  # of each test split: the first so many
    recipe: Recipe


def traces_artifact(experiment: Experiment) -> Artifact:
    """Traces made of the backtracking checkpoint's searches of fresh training problems."""
    settings, loss = experiment.profile.settings(MiningSettings), experiment.profile.traces.loss
    start = experiment.profile.models[MODEL].examples
    problems = experiment.problems("train", start, settings.problems)
    spec = experiment.spec(settings.breadth, 0, temperature=settings.temperature)
    made = experiment.search(experiment.checkpoint(MODEL, "backtracking"), problems, spec)

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        found = own_error_traces(trees, problems, experiment.task, loss)
        files.write_parquet(folder / "traces.parquet", found)

    made_by = [own_error_traces, experiment.task]
    return experiment.make(f"own_errors/{MODEL}", {"search": made.key, "loss": loss}, make, made_by)


def branch_traces(experiment: Experiment, made: Artifact | None) -> pd.DataFrame:
    """A branch's traces: of its own errors, where there are any, and of fresh problems."""
    settings = experiment.profile.settings(MiningSettings)
    count = round(settings.share * settings.examples) if made else 0
    start = experiment.profile.models[MODEL].examples + settings.problems
    rest = experiment.mixture(start, settings.examples - count, experiment.profile.traces.mix)
    if not made:
        return rest
    traces = files.read_parquet(made.path / "traces.parquet")
    # Fewer of them than asked stand several times.
    chosen = traces.sample(count, replace=count > len(traces), random_state=experiment.seed)
    return pd.concat([chosen, rest], ignore_index=True)


def branch(experiment: Experiment, method: str) -> Artifact:
    """The checkpoint of one of BRANCHES."""
    settings = experiment.profile.settings(MiningSettings)
    parent = experiment.checkpoint(MODEL, "backtracking")
    if method == "self_backtracking":
        return parent
    inputs = {
        "parent": parent.key,
        "traces": asdict(experiment.profile.traces),
        "examples": settings.examples,
        "seed": experiment.seed,
    }
    made = None
    if method == "mined_backtracking":
        made = traces_artifact(experiment)
        inputs |= {"own_errors": made.key, "share": settings.share}
    return experiment.train(
        f"models/{MODEL}-{'own-errors' if made else 'longer'}",
        inputs,
        lambda: experiment.start(MODEL, parent),
        lambda: branch_traces(experiment, made),
        settings.recipe,
        settings.examples,
        experiment.profile.models[MODEL].max_tokens,
    )


Found = Iterator[tuple[Artifact, list[int]]]


def branch_searches(experiment: Experiment) -> Iterator[tuple[str, pd.DataFrame, Found]]:
    """Each branch's searches of each test split, at the largest N of the tables.

    None where the task has no exact solver: nothing then says which step was an error.
    """
    settings, search = experiment.profile.settings(MiningSettings), experiment.profile.search
    breadth, depths = max(search.breadths), {0, max(search.depths)}
    for method in BRANCHES if experiment.task.solver is not None else ():
        checkpoint = branch(experiment, method)
        for split in TEST_SPLITS:
            problems = experiment.problems(split, 0, settings.test_problems)
            found = depth_searches(experiment, checkpoint, problems, breadth, depths)
            yield method, problems, found


def requests(experiment: Experiment) -> Iterator[object]:
    """The search whose errors are learned, two branches, and the searches of three."""
    for _, _, found in branch_searches(experiment):
        yield from found


def rows(experiment: Experiment) -> pd.DataFrame:
    """Accuracy and ceiling of the three branches."""
    parts = []
    for method, problems, found in branch_searches(experiment):
        columns = {"artifact": ARTIFACT, "model": MODEL, "method": method}
        parts.append(depth_rows(experiment, found, problems, **columns).assign(branch=method))
    return table(pd.concat(parts, ignore_index=True)) if parts else table([])


FALSE_ALARM, SELF = "false_alarm", "self"


def joined(steps: Sequence[str], task: Task) -> str:
    """Steps as text, each with its end."""
    return "".join(step + task.step_end for step in steps)


def wrong_step(
    prompt: str, steps: Sequence[str], task: Task, kind: str, loss: str
) -> dict[str, str]:
    """A trace whose last step loses the target."""
    choice, outcome = task.split_step(steps[-1])
    parts = (prompt, joined(steps[:-1], task), choice, outcome + task.step_end)
    # Of other errors that are found first the result may be wrong as well.
    return wrong_trace(*parts, kind, loss, imitate=True, exact=kind == EXPLORATION)


def own_error_traces(
    trees: Sequence[SearchTree], problems: pd.DataFrame, task: Task, loss: str
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


def accuracy_table(rows: pd.DataFrame) -> str:
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


def remark(rows: pd.DataFrame) -> str:
    """Own errors among the examples against as many usual ones; empty where there are no rows."""
    found = headline(rows, [ARTIFACT])
    if found.empty:
        return ""
    found = found[(found["method"] == found["branch"]) & (found["b"] == found["b"].max())]

    def shares(branch_name: str) -> str:
        cells = found[found["branch"] == branch_name].to_dict("records")
        return " and ".join(f"{100 * each['accuracy']:.1f}% ({each['split']})" for each in cells)

    own, usual, before = (shares(name) for name in reversed(BRANCHES))
    return (
        f"Trained on with its own errors among the examples, S solves {own} of the problems; with "
        f"as many of the usual examples, {usual}; before either, {before}."
    )


STUDY = Study(
    name="own_errors",
    section="mining",
    settings=MiningSettings,
    rows=rows,
    requests=requests,
    title="D_back from the model's own errors",
    remark=remark,
    text=accuracy_table,
)
