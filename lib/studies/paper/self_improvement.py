"""Self-improvement: expert iteration from slow thinking (search) to fast (greedy).

Takes an experiment and a model that backtracks; gives one checkpoint a round. Source: section 3.4
of the paper. Each round searches training problems that no round before it saw, keeps the paths
that the task's checker finds correct, and fine-tunes on them. The control fine-tunes on as many
solutions from the problem generator, so that search is not credited with what more data does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from lib.base import files
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.search_spec import SearchSpec
from lib.search.selection import paths
from lib.search.tree import SearchTree
from lib.studies import measurements
from lib.studies.beyond.step_coverage import diversity_rows
from lib.tasks.task import Task
from lib.tasks.trace import COLUMNS, right_trace


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
    experiment: Experiment,
    checkpoint: Artifact,
    model: str,
    number: int,
    evaluated: bool = False,
) -> pd.DataFrame:
    """The traces that round `number` learns from: its correct search paths."""
    problems = round_problems(experiment, model, number, evaluated)
    made = experiment.search(checkpoint, problems, round_spec(experiment))
    inputs = {"search": made.key}

    def make(folder: Path) -> None:
        found = correct_responses(experiment.read_trees(made), problems, experiment.task)
        files.write_parquet(folder / "experience.parquet", found)

    artifact = experiment.run.make(f"experience/{model}-round{number}", inputs, make)
    found = files.read_parquet(artifact.path / "experience.parquet")
    prompts = experiment.task.prompts(problems.iloc[found["problem"]])
    return response_traces(prompts, found["response"], experiment.task)


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
    )


def self_improved(
    experiment: Experiment, model: str, number: int, control: bool = False
) -> Artifact:
    """The checkpoint after `number` rounds; 0 is the backtracking model itself."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    for step in range(1, number + 1):
        checkpoint = improve(experiment, model, checkpoint, step, control)
    return checkpoint


SEARCH, DIVERSITY = "round_search", "round_diversity"


def searches(
    experiment: Experiment, model: str, number: int
) -> Iterator[tuple[str, pd.DataFrame, Artifact]]:
    """Each test split with its problems, and their search by the model after round `number`."""
    settings = experiment.profile.improvement
    if not settings.test_problems:
        return
    checkpoint = self_improved(experiment, model, number)
    for split in TEST_SPLITS:
        problems = experiment.problems(split, 0, settings.test_problems)
        yield split, problems, experiment.search(checkpoint, problems, round_spec(experiment))


def rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Accuracy, pass@N and the number of distinct paths of these searches, by round."""
    depth, rule = experiment.profile.improvement.depth, experiment.profile.search.selection
    found = []
    for number in range(experiment.profile.rounds(model) + 1):
        for split, problems, made in searches(experiment, model, number):
            outcomes = measurements.outcomes_at_depths(experiment, made, problems, [depth])
            outcomes = outcomes[outcomes["selection"] == rule]
            accuracy = scoring.search_rows(outcomes, artifact=SEARCH, model=model)
            named = {"model": model, "split": split, "seed": experiment.seed}
            varied = [
                row | {"artifact": DIVERSITY}
                for row in diversity_rows(experiment.read_trees(made), **named)
                if row["quantity"].startswith("distinct")
            ]
            parts = [accuracy, table(varied)]
            found += [part.assign(round=number) for part in parts]
    return table(pd.concat(found, ignore_index=True)) if found else table([])
