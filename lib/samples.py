"""Finished paths among a model's independent samples, for best-of-N and for preference pairs.

Takes search trees of depth 0 (N samples of each question), their problems and a task; gives tables
of finished paths with both verdicts, and the first n of the N samples with what they cost. Knows
nothing of reward models or training.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.errors import UserError
from lib.evaluation import score_paths
from lib.experiment import Experiment
from lib.store import Artifact
from lib.task import Task
from lib.tree import SearchTree, path_tokens

PATH_COLUMNS = ["problem", "leaf", "visits", "response", "tokens", "mean_logprob"]
PATH_COLUMNS += ["correct", "correct_published"]


def finished_paths(trees: Sequence[SearchTree], problems: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Distinct paths that ended in the end of sequence; `tokens` are their ids, as sampled.

    `problem` is a position in `problems`.
    """
    records = []
    for tree, problem in zip(trees, problems.itertuples(index=False), strict=True):
        scored = score_paths(tree, problem, task)
        for path in scored[scored["finished"]].to_dict("records"):
            path |= {"problem": tree.problem_id, "tokens": path_tokens(tree, path["leaf"])}
            records.append({column: path[column] for column in PATH_COLUMNS})
    return pd.DataFrame(records, columns=PATH_COLUMNS).astype(
        {"correct": bool, "correct_published": bool}
    )


def sample_order(tree: SearchTree, seed: int) -> list[int]:
    """The leaves of the tree's N samples in random order: the first n are n independent samples.

    So one search at the largest N serves every smaller one, and N alone differs between them.
    """
    leaves = tree.leaves()
    samples = np.repeat([leaf.id for leaf in leaves], [leaf.visits for leaf in leaves])
    if tree.depth or len(samples) != tree.breadth:
        raise UserError(
            f"search tree of problem {tree.problem_id}: {len(samples)} samples at b={tree.depth};"
            f" best-of-N needs {tree.breadth} at b=0"
        )
    generator = np.random.default_rng([seed, tree.problem_id])
    return [int(leaf) for leaf in generator.permutation(samples)]


def unused_problems(experiment: Experiment, model: str, count: int) -> pd.DataFrame:
    """Training problems after those that branches and self-improvement use."""
    sizes, improvement = experiment.profile.models[model], experiment.profile.improvement
    start = sizes.examples + experiment.profile.rounds(model) * improvement.problems
    return experiment.problems("train", start, count)


def training_samples(experiment: Experiment, model: str) -> tuple[Artifact, pd.DataFrame]:
    """The SFT model's samples of unused training problems, and these problems."""
    settings = experiment.profile.baselines
    problems = unused_problems(experiment, model, settings.problems)
    checkpoint = experiment.checkpoint(model, "sft")
    made = experiment.search(checkpoint, problems, settings.samples, 0, settings.temperature)
    return made, problems
