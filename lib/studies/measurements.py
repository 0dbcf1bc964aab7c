"""Finished paths among a model's independent samples, for best-of-N and for preference pairs.

Takes search trees of depth 0 (N samples of each question), their problems and a task; gives tables
of finished paths with both verdicts, and the first n of the N samples with what they cost. Knows
nothing of reward models or training.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from lib.base import files
from lib.evaluation import scoring
from lib.experiment import artifacts
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.search.selection import SELECTION_RULES
from lib.search.tree import at_depth


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
    made = experiment.search(
        checkpoint, problems, experiment.spec(settings.samples, 0, temperature=settings.temperature)
    )
    return made, problems


def outcomes(
    experiment: Experiment,
    model: str,
    split: str,
    breadth: int,
    depth: int,
    temperature: float | None = None,
) -> pd.DataFrame:
    """The backtracking model's search over a split: one row a problem and selection rule."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    temperature = experiment.profile.search.temperature if temperature is None else temperature
    problems = experiment.test_problems(model, split)
    spec = experiment.spec(breadth, depth, temperature=temperature)
    made = experiment.search(checkpoint, problems, spec)
    return search_outcomes(experiment, made, problems)


def search_outcomes(
    experiment: Experiment, made: artifacts.Artifact, problems: pd.DataFrame
) -> pd.DataFrame:
    """The outcomes of a search over these problems: one row a problem and selection rule."""

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        rows = scoring.search_outcomes(trees, problems, experiment.task, SELECTION_RULES)
        files.write_parquet(folder / "outcomes.parquet", rows)

    artifact = experiment.run.make(f"outcomes/{made.name}", {"search": made.key}, make)
    return files.read_parquet(artifact.path / "outcomes.parquet")


def outcomes_at_depths(
    experiment: Experiment, made: artifacts.Artifact, problems: pd.DataFrame, depths: Sequence[int]
) -> pd.DataFrame:
    """The outcomes of a search at several depths, from its own trees (`at_depth`)."""
    inputs = {"search": made.key, "depths": list(depths)}

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)
        found = [
            scoring.search_outcomes(
                (at_depth(tree, depth) for tree in trees),
                problems,
                experiment.task,
                SELECTION_RULES,
            )
            for depth in depths
        ]
        files.write_parquet(folder / "outcomes.parquet", pd.concat(found, ignore_index=True))

    artifact = experiment.run.make(f"outcomes/{made.name}-depths", inputs, make)
    return files.read_parquet(artifact.path / "outcomes.parquet")


def search_rows(
    experiment: Experiment,
    model: str,
    breadths: tuple[int, ...],
    depths: tuple[int, ...],
    temperatures: tuple[float, ...] = (),
    artifact: str = "figure_4",
) -> pd.DataFrame:
    """Self-Backtracking over breadths, depths and temperatures, on both test splits."""
    temperatures = temperatures or (experiment.profile.search.temperature,)
    found = [
        outcomes(experiment, model, split, breadth, depth, temperature)
        for breadth in breadths
        for depth in depths
        for temperature in temperatures
        for split in TEST_SPLITS
    ]
    return scoring.search_rows(pd.concat(found), artifact=artifact, model=model)


def decoding_outcomes(experiment: Experiment, model: str, stage: str, beams: int) -> pd.DataFrame:
    """Greedy (one beam) or beam search on both test splits: one row a problem."""
    problems = experiment.test_problems(model)
    decoded = experiment.decode(experiment.checkpoint(model, stage), problems, beams)
    rows = scoring.response_outcomes(decoded["text"], problems, experiment.task)
    return rows.assign(tokens=decoded["tokens"].to_numpy() * beams)


def depth_rows(
    experiment: Experiment,
    checkpoint: Artifact,
    problems: pd.DataFrame,
    breadth: int,
    depths: Collection[int],
    **columns: object,
) -> pd.DataFrame:
    """Rows of a checkpoint's search at each of these depths."""
    search = experiment.profile.search
    # The deepest search serves b = 0 too, but for a rule that counts visits.
    begun = [0] if 0 in depths and search.selection != "vote" else []
    found = []
    for depth in sorted(set(depths) - set(begun)) or begun:
        made = experiment.search(checkpoint, problems, experiment.spec(breadth, depth))
        shown = sorted({*begun, depth}) if depth == max(depths) else [depth]
        found.append(outcomes_at_depths(experiment, made, problems, shown))
    outcomes = pd.concat(found, ignore_index=True)
    return scoring.search_rows(outcomes[outcomes["selection"] == search.selection], **columns)
