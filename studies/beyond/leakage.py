"""Leakage: do test problems fare better whose numbers were trained on, with another target?

Takes an experiment whose task says which questions differ in their target alone (of others there
are no rows); gives Table 1's accuracies on test problems whose numbers some training text asks, and
on those whose numbers none does (artifact `leakage`, column `numbers_seen`). The training texts
themselves decide, whatever the settings say.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lib.base import files
from lib.drawing.markdown import methods_table
from lib.drawing.style import CEILING_METHODS, METHODS, whole
from lib.evaluation.results import headline, table
from lib.evaluation.scoring import outcome_rows
from lib.experiment.experiment import Experiment
from studies.measurements import kept_table
from studies.paper import table_1
from studies.study import Study

ARTIFACT = "leakage"


def numbers_seen(experiment: Experiment, model: str) -> pd.DataFrame:
    """Of each test problem of a model, whether a text that it was trained on asks its numbers.

    Columns model, split, problem (its place in the split), numbers_seen.
    """
    problems, group = experiment.test_problems(model), experiment.task.question_group
    prompts, stages = experiment.task.prompts(problems), experiment.stages(model)

    def measure() -> pd.DataFrame:
        texts = (experiment.traces(model, stage)["text"] for stage in stages)
        trained = {group(text) for part in texts for text in part}
        found = problems[["split"]].assign(model=model)
        found["problem"] = found.groupby("split").cumcount()
        return found.assign(numbers_seen=[group(prompt) in trained for prompt in prompts])

    inputs = {"trained": [experiment.checkpoint(model, stage).key for stage in stages]}
    inputs |= {"prompts": files.digest(prompts)}
    return kept_table(experiment, f"numbers_seen/{model}", inputs, measure, [experiment.task])


def with_numbers_seen(experiment: Experiment, outcomes: pd.DataFrame) -> pd.DataFrame:
    """These outcomes with a column `numbers_seen`, where the task can tell."""
    if experiment.task.question_group is None:
        return outcomes
    known = pd.concat(numbers_seen(experiment, model) for model in experiment.profile.models)
    return outcomes.merge(known, "left", on=["model", "split", "problem"])


def rows(experiment: Experiment) -> pd.DataFrame:
    """Table 1's accuracies by `numbers_seen`, by the strict checker."""
    if experiment.task.question_group is None:
        return table([])
    found = with_numbers_seen(experiment, table_1.outcomes(experiment))
    found = found.drop(columns="correct_published", errors="ignore").assign(artifact=ARTIFACT)
    return outcome_rows(found, "numbers_seen")


def remark(rows: pd.DataFrame) -> str:
    """How many test problems have numbers that were trained on; empty where that is not known."""
    found = rows[rows["artifact"] == ARTIFACT]
    found = found[found["method"] == "sft_greedy"]
    if found.empty:
        return ""
    # One model is asked the first of the other's problems.
    most = found.groupby("model")["problems"].sum().idxmax()
    found = found[found["model"] == most]
    seen = found.groupby(found["numbers_seen"].astype(bool))["problems"].sum()
    known, never = (int(seen.get(name, 0)) for name in (True, False))
    told = f"{known} of {known + never} test problems ({whole(known / (known + never))}%) have "
    told += "numbers that were trained on, with another target"
    return f"{told}; accuracy on the others stands beside theirs." if never else f"{told}."


def text(rows: pd.DataFrame) -> str:
    """Accuracy on both, in Markdown; empty without rows, or where all numbers were trained on."""
    found = headline(rows, [ARTIFACT])
    found = found[found["method"].isin(set(METHODS) - set(CEILING_METHODS))]
    if found.empty or found["numbers_seen"].all():
        return ""
    numbers = found["numbers_seen"].map({True: "trained on", False: "never"})
    keys = ("model", "split", "numbers")
    return methods_table(found.assign(numbers=numbers), "accuracy, %, on numbers ...", _cell, keys)


def _cell(row: Mapping) -> str:
    low, high = 100 * row["low"], 100 * row["high"]
    return f"**{100 * row['accuracy']:.1f}** [{low:.1f}, {high:.1f}] (n={row['problems']})"


STUDY = Study(
    name="leakage",
    rows=rows,
    remark=remark,
    text=text,
    title="Numbers that were trained on",
)
