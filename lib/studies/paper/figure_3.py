"""Figures 3 and 8: self-improvement, expert iteration from slow thinking (search) to fast (greedy).

Takes an experiment and a model that backtracks; gives one checkpoint a round, and rows of greedy
accuracy after each (artifact `figure_3`), of search after each (`round_search`) and of how varied
its paths are (`round_diversity`). Source: section 3.4 of the paper. Each round searches training
problems that no round before it saw, keeps the paths that the task's checker finds correct, and
fine-tunes on them. The control fine-tunes on as many solutions from the problem generator, so that
search is not credited with what more data does. Search after each round is beyond the paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.base import files
from lib.drawing.style import (
    METHODS,
    MODEL_COLOURS,
    SPLITS,
    curve,
    handle,
    legend,
    panels,
    percent,
    pick,
    present,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.claims import headline
from lib.evaluation.results import table
from lib.evaluation.states import diversity_rows
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from lib.search.selection import paths
from lib.search.tree import SearchTree
from lib.studies.measurements import Searched, outcomes_at_depths
from lib.studies.study import Figure, Study
from lib.tasks.task import Task
from lib.tasks.trace import COLUMNS, right_trace

METHODS_OF = ((False, "self_improved_greedy"), (True, "control_greedy"))
SEARCH, DIVERSITY = "round_search", "round_diversity"


def correct_responses(
    trees: Sequence[SearchTree], problems: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """Each problem's most probable correct response, where there is one: columns problem, response.

    The checker filters training data here, as in the paper; it never chooses a measured answer.
    """
    rows = problems.itertuples(index=False)
    found = []
    for index, (tree, row) in enumerate(zip(trees, rows, strict=True)):
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


def round_problems(
    experiment: Experiment, model: str, number: int, evaluated: bool = False
) -> pd.DataFrame:
    """The training problems that round `number` (from 1) searches: after those trained on.

    `evaluated` is the audit's switch: as published, they are the validation problems, which the
    evaluation reads too.
    """
    sizes, settings = experiment.profile.models[model], experiment.profile.improvement
    if evaluated:
        count = min(settings.problems, experiment.profile.data.validation_problems)
        return experiment.problems("validation", 0, count)
    start = sizes.examples + (number - 1) * settings.problems
    return experiment.problems("train", start, settings.problems)


def round_spec(experiment: Experiment) -> SearchSpec:
    """The search of every round."""
    settings = experiment.profile.improvement
    return experiment.spec(settings.breadth, settings.depth, temperature=settings.temperature)


def experience(
    experiment: Experiment, checkpoint: Artifact, model: str, number: int, evaluated: bool = False
) -> pd.DataFrame:
    """The traces that round `number` learns from: its correct search paths."""
    task, problems = experiment.task, round_problems(experiment, model, number, evaluated)
    made = experiment.search(checkpoint, problems, round_spec(experiment))

    def make(folder: Path) -> None:
        found = correct_responses(experiment.read_trees(made), problems, task)
        files.write_parquet(folder / "experience.parquet", found)

    name = f"experience/{model}-round{number}"
    artifact = experiment.make(name, {"search": made.key}, make, [selection, task])
    found = experiment.known(
        lambda: files.read_parquet(artifact.path / "experience.parquet"),
        expected=pd.DataFrame({"problem": range(len(problems)), "response": task.goal}),
    )
    return response_traces(task.prompts(problems.iloc[found["problem"]]), found["response"], task)


def improve(
    experiment: Experiment,
    model: str,
    checkpoint: Artifact,
    number: int,
    control: bool = False,
    evaluated: bool = False,
) -> Artifact:
    """The checkpoint after round `number`, from the one before it.

    With `control`, the round learns the generator's solutions to its problems in place of its own
    paths: as many as the search solved. `evaluated` is a switch of `round_problems`.
    """
    recipe = experiment.profile.improvement.recipe
    # The control has no search of its own: its size is the searching model's in the same round.
    source = self_improved(experiment, model, number - 1) if control else checkpoint
    traces = experience(experiment, source, model, number, evaluated)
    if traces.empty:
        return checkpoint  # the search solved nothing: there is nothing to learn from
    if control:
        problems = round_problems(experiment, model, number).iloc[: len(traces)]
        traces = experiment.task.optimal_traces(problems)
    stage = f"{model}-{'control' if control else 'improved'}{number}"
    stage += "-evaluated" if evaluated else ""
    inputs = {
        "parent": checkpoint.key,
        "experience": files.digest(traces["text"].tolist()),
        "seed": experiment.seed,
    }
    return experiment.train(
        f"models/{stage}",
        inputs,
        lambda: experiment.load(checkpoint),
        lambda: traces,
        recipe,
        len(traces),
    )


def self_improved(
    experiment: Experiment, model: str, number: int, control: bool = False
) -> Artifact:
    """The checkpoint after `number` rounds; 0 is the backtracking model itself."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    for step in range(1, number + 1):
        checkpoint = improve(experiment, model, checkpoint, step, control)
    return checkpoint


def rounds(experiment: Experiment, model: str) -> range:
    """The numbers of the rounds, 0 being the backtracking model itself."""
    return range(experiment.profile.rounds(model) + 1)


def round_searches(experiment: Experiment, model: str, number: int) -> Iterator[Searched]:
    """The search of both test splits by the model after round `number`."""
    settings, spec = experiment.profile.improvement, round_spec(experiment)
    if not settings.test_problems:
        return
    checkpoint = self_improved(experiment, model, number)
    for split in TEST_SPLITS:
        problems = experiment.problems(split, 0, settings.test_problems)
        yield Searched(experiment.search(checkpoint, problems, spec), problems, split, spec)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every round's search and training, its control's, and what is measured after it."""
    for model in experiment.profile.models:
        problems = experiment.test_problems(model)
        for number in rounds(experiment, model):
            for control, _ in METHODS_OF:
                checkpoint = self_improved(experiment, model, number, control)
                yield experiment.decoding(checkpoint, problems)
            yield from round_searches(experiment, model, number)


def greedy_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Greedy accuracy after each round of self-improvement, and of its control."""
    problems, found = experiment.test_problems(model), []
    for control, method in METHODS_OF:
        for number in rounds(experiment, model):
            checkpoint = self_improved(experiment, model, number, control)
            decoded = experiment.decode(checkpoint, problems)
            measured = scoring.evaluate_responses(
                decoded["text"],
                problems,
                experiment.task,
                artifact="figure_3",
                method=method,
                tokens=decoded["tokens"],
                model=model,
                seed=experiment.seed,
            )
            found.append(measured.assign(round=number))
    return pd.concat(found, ignore_index=True)


def search_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Accuracy, pass@N and the number of distinct paths of search, by round."""
    depth, rule = experiment.profile.improvement.depth, experiment.profile.search.selection
    found = []
    for number in rounds(experiment, model):
        for each in round_searches(experiment, model, number):
            outcomes = outcomes_at_depths(experiment, each.made, each.problems, [depth])
            outcomes = outcomes[outcomes["selection"] == rule]
            accuracy = scoring.search_rows(outcomes, artifact=SEARCH, model=model)
            named = {"model": model, "split": each.split, "seed": experiment.seed}
            varied = [
                row | {"artifact": DIVERSITY}
                for row in diversity_rows(experiment.read_trees(each.made), **named)
                if row["quantity"].startswith("distinct")
            ]
            parts = [accuracy, table(varied)]
            found += [part.assign(round=number) for part in parts]
    return table(pd.concat(found, ignore_index=True)) if found else table([])


def rows(experiment: Experiment) -> pd.DataFrame:
    """Greedy and search, after each round, of every model."""
    parts = [
        measure(experiment, model)
        for model in experiment.profile.models
        for measure in (greedy_rows, search_rows)
    ]
    return table(pd.concat(parts, ignore_index=True))


@styled
def greedy_by_round(rows: pd.DataFrame) -> Drawn:
    """Figures 3 and 8: greedy accuracy after each round; search and the control for reference."""
    found = pick(rows, "figure_3", need=["round"])
    search = headline(rows, ["table_1", "figure_4"])
    search = search[(search["method"] == "self_backtracking") & (search["b"] == 1).fillna(False)]
    splits, models = present(found["split"], SPLITS), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(1, len(splits))
    others = sorted(set(found["method"]) - {"self_improved_greedy"})
    styles = dict(zip(others, ["--", "-.", (0, (1, 1))] * len(others), strict=False))
    referred = False
    for panel, split in zip(axes[0], splits, strict=True):
        for model in models:
            here = found[(found["split"] == split) & (found["model"] == model)]
            colour = MODEL_COLOURS[model]
            curve(panel, here[here["method"] == "self_improved_greedy"], "round", colour)
            for method in others:
                line = here[here["method"] == method]
                curve(panel, line, "round", colour, linestyle=styles[method], marker="s")
            slow = search[(search["split"] == split) & (search["model"] == model)]
            if len(slow):
                best = slow.sort_values("N").iloc[-1]["accuracy"]
                panel.axhline(best, color=colour, linestyle=":", linewidth=1.8)
                referred = True
        panel.set_title(SPLITS[split])
        panel.set_xticks(sorted(found["round"].unique()))
        panel.set_xlabel("round of self-improvement")
    axes[0][0].set_ylabel("accuracy")
    for panel in axes[0]:
        percent(panel)
    handles = [handle(f"{model}, greedy", MODEL_COLOURS[model]) for model in models]
    handles += [
        handle(METHODS.get(name, name.replace("_", " ")), "#555555", linestyle=style, marker="s")
        for name, style in styles.items()
    ]
    if referred:
        handles.append(handle("with search (b=1)", "#555555", linestyle=":", marker=""))
    legend(figure, handles)
    return figure


@styled
def search_by_round(rows: pd.DataFrame) -> Drawn:
    """Search with the improved models: accuracy and its ceiling, and how many paths differ."""
    found = pick(rows, "round_search", need=["round"])
    varied = table(rows)
    varied = varied[
        (varied["artifact"] == "round_diversity") & (varied["quantity"] == "distinct_paths")
    ]
    # `curve` draws shares; counts have names of their own.
    varied = varied.assign(
        accuracy=varied["value"], low=varied["value_low"], high=varied["value_high"]
    )
    splits, models = present(found["split"], SPLITS), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(2, len(splits), height=2.4, sharey="row")
    for column, split in enumerate(splits):
        above, below = axes[0][column], axes[1][column]
        for model in models:
            colour = MODEL_COLOURS[model]
            here = found[(found["split"] == split) & (found["model"] == model)]
            curve(above, here[here["method"] == "self_backtracking"], "round", colour)
            ceiling = here[here["method"] == "pass_at_n"].sort_values("round")
            above.plot(
                ceiling["round"].astype(float), ceiling["accuracy"], color=colour, linestyle="--"
            )
            line = varied[(varied["split"] == split) & (varied["model"] == model)]
            curve(below, line, "round", colour)
        above.set_title(SPLITS[split])
        below.set_xlabel("round of self-improvement")
        for panel in (above, below):
            panel.set_xticks(sorted(found["round"].unique()))
    for panel in axes[0]:
        percent(panel)
    axes[0][0].set_ylabel("accuracy of search")
    axes[1][0].set_ylabel("distinct paths")
    handles = [handle(model, MODEL_COLOURS[model]) for model in models]
    handles.append(handle("ceiling: any path right", "#555555", linestyle="--", marker=""))
    legend(figure, handles)
    return figure


STUDY = Study(
    name="figure_3",
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "figure_3",
            greedy_by_round,
            "Self-improvement: accuracy without search after each round (figures 3 and 8).",
            ("figure_3",),
            columns=("round",),
        ),
        Figure(
            "rounds",
            search_by_round,
            "Search with the improved models, round by round, and how many of its paths differ.",
            (SEARCH,),
            ("self_backtracking",),
            ("round",),
        ),
    ),
)
