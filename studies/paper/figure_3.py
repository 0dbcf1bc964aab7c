"""Figures 3 and 8: self-improvement, expert iteration from slow thinking (search) to fast (greedy).

Takes an experiment and a model that backtracks; gives one checkpoint a round, and rows of greedy
accuracy after each (artifact `figure_3`). Source: section 3.4. Each round searches training
problems that no round before it saw, keeps the paths that the task's checker finds correct, and
fine-tunes on them. The control fine-tunes on as many solutions from the problem generator, so that
search is not credited with what more data does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base import files
from lib.drawing.markdown import in_words
from lib.drawing.style import (
    METHOD_COLOURS,
    METHODS,
    MODEL_COLOURS,
    curve,
    grid,
    handle,
    legend,
    percent,
    pick,
    present,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.results import headline
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.experiment.work import model_of
from lib.profiles.recipe import Recipe
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from lib.search.selection import paths
from lib.search.tree import SearchTree
from lib.tasks.task import Task
from lib.tasks.trace import COLUMNS, right_trace
from studies.measurements import decoded_outcomes
from studies.study import Figure, Study


def correct_responses(
    trees: Sequence[SearchTree], problems: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """Each problem's most probable correct response, where there is one: columns problem, response.

    The checker filters training data here, as in the paper; it never chooses a measured answer.
    """
    found = []
    for index, (tree, row) in enumerate(zip(trees, problems.itertuples(index=False), strict=True)):
        for path in sorted(paths(tree), key=lambda path: (-path.mean_logprob, path.leaf)):
            response = tree.response(path.leaf)
            if task.check(row, response).correct:
                found.append({"problem": index, "response": response})
                break
    return pd.DataFrame(found, columns=["problem", "response"])


def response_traces(prompts: Sequence[str], responses: Sequence[str], task: Task) -> pd.DataFrame:
    """Traces (text, mask, kind) that teach these responses: D_op, written by the model itself."""
    rows = []
    for prompt, response in zip(prompts, responses, strict=True):
        body = response.removesuffix(task.goal)
        rows.append(right_trace(prompt, body, response[len(body) :], "self"))
    return pd.DataFrame(rows, columns=COLUMNS)


def solved(
    experiment: Experiment, name: str, made: Artifact, problems: pd.DataFrame
) -> pd.DataFrame:
    """The `correct_responses` of a search of these problems, made once."""
    task = experiment.task

    def make(folder: Path) -> None:
        found = correct_responses(experiment.read_trees(made), problems, task)
        files.write_parquet(folder / "experience.parquet", found)

    how = (f"experience/{name}", {"search": made.key}, make, [selection, task])
    artifact = experiment.make(*how)
    return experiment.known(
        lambda: files.read_parquet(artifact.path / "experience.parquet"),
        expected=pd.DataFrame({"problem": range(len(problems)), "response": task.goal}),
    )


def learned(
    experiment: Experiment, name: str, parent: Artifact, traces: pd.DataFrame, recipe: Recipe
) -> Artifact:
    """The checkpoint `name` that learns these traces, from `parent` on."""
    if traces.empty:
        return parent  # the search solved nothing: there is nothing to learn from
    return experiment.train(
        f"models/{name}",
        {
            "parent": parent.key,
            "experience": files.digest(traces["text"].tolist()),
            "seed": experiment.seed,
        },
        lambda: experiment.start(model_of(name), parent),
        lambda: traces,
        recipe,
        len(traces),
    )


def round_problems(experiment: Experiment, model: str, number: int) -> pd.DataFrame:
    """The training problems that round `number` (from 1) searches: after those trained on."""
    sizes, settings = experiment.profile.models[model], experiment.profile.improvement
    start = sizes.examples + (number - 1) * settings.problems
    return experiment.problems("train", start, settings.problems)


def round_spec(experiment: Experiment) -> SearchSpec:
    """The search of every round."""
    settings = experiment.profile.improvement
    return experiment.spec(settings.breadth, settings.depth, temperature=settings.temperature)


def experience(
    experiment: Experiment, checkpoint: Artifact, model: str, number: int
) -> pd.DataFrame:
    """The traces that round `number` learns from: its correct search paths."""
    problems = round_problems(experiment, model, number)
    made = experiment.search(checkpoint, problems, round_spec(experiment))
    found = solved(experiment, f"{model}-round{number}", made, problems)
    prompts = experiment.task.prompts(problems.iloc[found["problem"]])
    return response_traces(prompts, found["response"], experiment.task)


def improve(
    experiment: Experiment, model: str, checkpoint: Artifact, number: int, control: bool = False
) -> Artifact:
    """The checkpoint after round `number`, from the one before it.

    With `control`, the round learns the generator's solutions to its problems in place of its own
    paths: as many as the search solved.
    """
    # The control has no search of its own: its size is the searching model's in the same round.
    source = self_improved(experiment, model, number - 1) if control else checkpoint
    traces = experience(experiment, source, model, number)
    if control and len(traces):
        problems = round_problems(experiment, model, number).iloc[: len(traces)]
        traces = experiment.task.optimal_traces(problems)
    name = f"{model}-{'control' if control else 'improved'}{number}"
    return learned(experiment, name, checkpoint, traces, experiment.profile.improvement.recipe)


def self_improved(
    experiment: Experiment, model: str, number: int, control: bool = False
) -> Artifact:
    """The checkpoint after `number` rounds; 0 is the backtracking model itself."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    for step in range(1, number + 1):
        checkpoint = improve(experiment, model, checkpoint, step, control)
    return checkpoint


def checkpoints(experiment: Experiment, model: str) -> Iterator[tuple[int, str, Artifact]]:
    """Round (0: before the first), method and checkpoint: the model's and its control's."""
    for number in range(experiment.profile.rounds(model) + 1):
        for control, method in ((False, "self_improved_greedy"), (True, "control_greedy")):
            yield number, method, self_improved(experiment, model, number, control)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every round's search and training, its control's, and what is measured after it."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for *_, checkpoint in checkpoints(experiment, model):
            yield experiment.decoding(checkpoint, problems)


def greedy_outcomes(experiment: Experiment) -> pd.DataFrame:
    """Greedy responses after each round, of every model, problem by problem."""
    return pd.concat(
        decoded_outcomes(experiment, model, made).assign(
            artifact="figure_3", method=method, round=number
        )
        for model in experiment.profile.models
        for number, method, made in checkpoints(experiment, model)
    )


def rows(experiment: Experiment) -> pd.DataFrame:
    """Greedy accuracy after each round, of every model."""
    return scoring.outcome_rows(greedy_outcomes(experiment))


def remark(rows: pd.DataFrame) -> str:
    """Accuracy before the first round and after the last; empty without rows."""
    found, told = headline(rows, ["figure_3"]), []
    names = {"self_improved_greedy": "Greedy decoding", "control_greedy": "Its control"}
    for (method, name), model in product(names.items(), present(found["model"], MODEL_COLOURS)):
        line = found[(found["method"] == method) & (found["model"] == model)]
        if line["round"].nunique() < 2:  # no round was made
            continue
        ends = line["round"].min(), line["round"].max()
        first, last = (in_words(line[line["round"] == number]) for number in ends)
        told += [f"{name}: {first}, after round {ends[1]} {last}."] if first else []
    return " ".join(["Accuracy before the first round and after the last.", *told]) if told else ""


LOOKS = {
    "self_improved_greedy": {"colour": METHOD_COLOURS["improved"]},
    "control_greedy": {"colour": "#222222", "linestyle": "--", "marker": "^"},
}


@styled
def accuracy_by_round(rows: pd.DataFrame) -> Drawn:
    """Figures 3 and 8: greedy accuracy after each round, and the control's."""
    found = pick(rows, "figure_3", need=["round"])
    # A little apart, so that intervals do not hide each other.
    found["x"] = found["round"] + 0.06 * (found["method"] == "control_greedy")
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for method, style in LOOKS.items():
            curve(panel, here[here["method"] == method], "x", **style)
        panel.set_xticks(sorted(found["round"].unique()))
        panel.set_xlabel("round of self-improvement")
    for panel, *_ in grid_panels:
        percent(panel, from_zero=True)
    names = present(found["method"], LOOKS)
    legend(figure, [handle(METHODS[name], **LOOKS[name]) for name in names])
    return figure


STUDY = Study(
    name="figure_3",
    rows=rows,
    requests=requests,
    outcomes=greedy_outcomes,
    figures=(
        Figure(
            "figure_3",
            accuracy_by_round,
            "Self-improvement of our recipe (figures 3 and 8): accuracy without search after each "
            "round.",
            ("figure_3",),
            varied="round",
        ),
    ),
    remark=remark,
    title="Figures 3 and 8: self-improvement",
)
