"""Selection rules compared: accuracy, share of the pass@N ceiling, and how each ranks paths.

Takes an experiment and a model; gives tidy rows (artifact `selection`). The rule that is called the
default here is the one that is most often right on the validation split; no test split has a say.
Section 3.3 of the paper chooses by mean log-probability. Knows nothing of how paths are scored
(lib/search/selection.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from lib.base import files
from lib.evaluation import scoring, statistics
from lib.evaluation.results import table
from lib.evaluation.statistics import clustered_auc, within_auc
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.search.selection import SELECTION_RULES, paths
from lib.search.tree import SearchTree
from lib.studies import measurements


def path_table(trees: Iterable[SearchTree], problems: pd.DataFrame, task: object) -> pd.DataFrame:
    """One row a finished path: problem, leaf, correct, and its score under every rule."""
    rows = list(problems.itertuples(index=False))
    records = [
        {
            "problem": tree.problem_id,
            "leaf": path.leaf,
            "text": path.text,
            "correct": task.check(rows[tree.problem_id], path.text).correct,
        }
        | {name: rule.score(path) for name, rule in SELECTION_RULES.items()}
        for tree in trees
        for path in paths(tree)
        if path.kind == "goal"
    ]
    columns = ["problem", "leaf", "text", "correct", *SELECTION_RULES]
    return pd.DataFrame(records, columns=columns).astype({"correct": bool})


def ranking(found: pd.DataFrame, score: str) -> dict:
    """ROC-AUC of a score, right against wrong paths: over all paths, and within problems."""
    columns = {}
    for name, area in (("auc", clustered_auc), ("auc_within", within_auc)):
        value, low, high = area(found[score], found["correct"], found["problem"])
        columns |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return columns


def rule_rows(outcomes: pd.DataFrame, found: pd.DataFrame, **columns: object) -> list[dict]:
    """A row for every rule, from `evaluation.search_outcomes` and the `path_table`."""
    rows = []
    for name, cell in outcomes.groupby("selection"):
        right, covered = int(cell["correct"].sum()), int(cell["covered"].sum())
        low, high = statistics.wilson_interval(right, covered)
        extra = {"ceiling": covered / len(cell)}
        if covered:
            extra |= {"of_ceiling": right / covered}
            extra |= {"of_ceiling_low": low, "of_ceiling_high": high}
        known = columns | {"selection": name, "checker": "strict", "artifact": "selection"}
        known |= {"tokens_per_problem": float(cell["tokens"].mean())}
        rows.append(scoring.accuracy_row(cell["correct"], **known) | extra)
        rows[-1] |= ranking(found, name)
    return rows


def validation_outcomes(experiment: Experiment, model: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The search of the validation split at the largest N and b: outcomes and path table."""
    search = experiment.profile.search
    problems = experiment.problems(
        "validation", 0, experiment.profile.instruments.validation_problems
    )
    return _measured(
        experiment,
        experiment.checkpoint(model, "backtracking"),
        problems,
        experiment.spec(max(search.breadths), max(search.depths)),
    )


def _measured(experiment, checkpoint, problems, spec) -> tuple[pd.DataFrame, pd.DataFrame]:
    made = experiment.search(checkpoint, problems, spec)

    def make(folder: Path) -> None:
        found = path_table(experiment.read_trees(made), problems, experiment.task)
        files.write_parquet(folder / "paths.parquet", found)

    artifact = experiment.run.make(f"paths/{made.name}", {"search": made.key}, make)
    outcomes = measurements.search_outcomes(experiment, made, problems)
    return outcomes, files.read_parquet(artifact.path / "paths.parquet")


def default_rule(experiment: Experiment, model: str) -> str:
    """The rule that is most often right on validation; among equals the first by name order of
    `SELECTION_RULES`, the paper's first."""
    outcomes, _ = validation_outcomes(experiment, model)
    accuracy = outcomes.groupby("selection")["correct"].mean()
    return max(SELECTION_RULES, key=lambda name: accuracy[name])


def selection_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Every rule on validation, seen and new, at the largest N; `default` marks the chosen one."""
    if experiment.profile.instruments is None:
        return table([])
    search = experiment.profile.search
    breadth, default = max(search.breadths), default_rule(experiment, model)
    checkpoint = experiment.checkpoint(model, "backtracking")
    rows = []
    for depth in search.depths:
        for split in TEST_SPLITS:
            problems = experiment.test_problems(model, split)
            spec = experiment.spec(breadth, depth)
            found = _measured(experiment, checkpoint, problems, spec)
            rows += rule_rows(*found, split=split, b=depth)
    rows += rule_rows(
        *validation_outcomes(experiment, model), split="validation", b=max(search.depths)
    )
    shared = {"method": "self_backtracking", "model": model, "N": breadth}
    shared |= {"temperature": search.temperature, "seed": experiment.seed}
    rows = [each | shared | {"default": each["selection"] == default} for each in rows]
    return table(rows)
