"""What several studies measure: searches of test problems, their outcomes, decoded responses.

Takes an experiment and what is to be searched; gives artifacts with their problems, per-problem
outcomes (made once), and tidy rows. Knows nothing of any one table or figure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import ModuleType

import pandas as pd

from lib.base import files
from lib.evaluation import scoring, states
from lib.evaluation.scoring import SAMPLES, SEARCH
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.experiment.work import NO_WORK, Work
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from lib.search.selection import SELECTION_RULES
from lib.search.tree import at_depth
from lib.tasks.task import Task

SAMPLE = "sample"  # the expansion that draws independent samples


@dataclass(frozen=True)
class Searched:
    """A search, and the problems that it was of, in their order."""

    made: Artifact
    problems: pd.DataFrame
    split: str
    spec: SearchSpec

    def columns(self, model: str) -> dict[str, object]:
        """The columns that name it in a row of results."""
        spec = self.spec
        named = {"method": SEARCH, "model": model, "split": self.split}
        named |= {"N": spec.breadth, "b": spec.depth}
        return named | {"temperature": spec.temperature, "seed": spec.seed}


def asked_models(experiment: Experiment, settings: type) -> list[str]:
    """The models that the profile's section of this class asks for, of those that it has."""
    wanted = experiment.profile.settings(settings).models
    return [model for model in wanted if model in experiment.profile.models]


def table_breadths(experiment: Experiment) -> list[int]:
    """N of Table 1: 8, and the profile's largest."""
    breadths = experiment.profile.search.breadths
    return [breadth for breadth in breadths if breadth in (8, max(breadths))]


def search_kinds(experiment: Experiment) -> list[dict[str, str]]:
    """How the tables' searches expand a state: as the profile says, and by independent samples."""
    usual = experiment.profile.search.expansion == SAMPLE
    return [{}] if usual else [{}, {"expansion": SAMPLE}]


def method_of(experiment: Experiment, spec: SearchSpec) -> str:
    """What a search's rows are called: one that draws independent samples beside beams is apart."""
    beside = spec.expansion == SAMPLE != experiment.profile.search.expansion
    return SAMPLES if beside else SEARCH


def middle_breadth(experiment: Experiment) -> int:
    """The middle one of the profile's breadths: of figures that have one N."""
    breadths = experiment.profile.search.breadths
    return breadths[(len(breadths) - 1) // 2]


def in_tables(experiment: Experiment, spec: SearchSpec) -> bool:
    """Whether Table 1 and figure 4 have this search, of all of a model's test problems."""
    search = experiment.profile.search
    usual = [experiment.spec(spec.breadth, spec.depth, **kind) for kind in search_kinds(experiment)]
    return spec in usual and spec.breadth in search.breadths and spec.depth in search.depths


def searches(
    experiment: Experiment,
    model: str,
    spec: SearchSpec,
    stage: str = "backtracking",
    count: int | None = None,
) -> Iterator[Searched]:
    """A model's search of both test splits: of all its test problems, or the first `count`."""
    checkpoint = experiment.checkpoint(model, stage)
    for split in TEST_SPLITS:
        problems = experiment.test_problems(model, split).iloc[:count]
        yield Searched(experiment.search(checkpoint, problems, spec), problems, split, spec)


def tabled_searches(
    experiment: Experiment,
    model: str,
    breadths: Sequence[int],
    depths: Sequence[int] = (),
    kinds: Sequence[Mapping[str, str]] = (),
) -> Iterator[Searched]:
    """A model's searches of all its test problems at these N; at every b and of every kind, or at
    these and of these."""
    depths = depths or experiment.profile.search.depths
    for breadth, depth, kind in product(breadths, depths, kinds or search_kinds(experiment)):
        yield from searches(experiment, model, experiment.spec(breadth, depth, **kind))


def widest_searches(
    experiment: Experiment, model: str, depths: Collection[int] = (), **how: str
) -> Iterator[Searched]:
    """A model's searches of both test splits at the largest N: at these b, or all of the tables.

    `how`: as one of `search_kinds`.
    """
    search = experiment.profile.search
    for depth in depths or search.depths:
        yield from searches(experiment, model, experiment.spec(max(search.breadths), depth, **how))


def kept_table(
    experiment: Experiment,
    name: str,
    inputs: Mapping[str, object],
    measure: Callable[[], pd.DataFrame],
    made_by: Sequence[ModuleType | Task],
    work: Work = NO_WORK,
) -> pd.DataFrame:
    """What `measure()` gives, made once: the artifact `<kind>/...` holds `<kind>.parquet`."""
    file = f"{name.split('/')[0]}.parquet"

    def make(folder: Path) -> None:
        files.write_parquet(folder / file, measure())

    made = experiment.make(name, inputs, make, made_by, work)
    return files.read_parquet(made.path / file)


def outcomes(experiment: Experiment, searched: Searched) -> pd.DataFrame:
    """One row a problem and selection rule (lib/evaluation/scoring.py), made once."""
    return search_outcomes(experiment, searched.made, searched.problems)


def chosen(experiment: Experiment, searched: Searched) -> pd.DataFrame:
    """The outcomes by the profile's selection rule: one row a problem."""
    found = outcomes(experiment, searched)
    return found[found["selection"] == experiment.profile.search.selection]


def search_outcomes(experiment: Experiment, made: Artifact, problems: pd.DataFrame) -> pd.DataFrame:
    """The outcomes of a search over these problems: one row a problem and selection rule."""

    def measure() -> pd.DataFrame:
        trees = experiment.read_trees(made)
        return scoring.search_outcomes(trees, problems, experiment.task, SELECTION_RULES)

    made_by = [scoring, selection, experiment.task]
    inputs = {"search": made.key}
    return kept_table(experiment, f"outcomes/{made.name}", inputs, measure, made_by)


def outcomes_at_depths(
    experiment: Experiment, made: Artifact, problems: pd.DataFrame, depths: Sequence[int]
) -> pd.DataFrame:
    """The outcomes of a search at several depths, from its own trees (`at_depth`)."""

    def measure() -> pd.DataFrame:
        trees, found = experiment.read_trees(made), []
        for depth in depths:
            cut = (at_depth(tree, depth) for tree in trees)
            how = (problems, experiment.task, SELECTION_RULES)
            found.append(scoring.search_outcomes(cut, *how))
        return pd.concat(found, ignore_index=True)

    inputs = {"search": made.key, "depths": list(depths)}
    made_by = [scoring, selection, experiment.task]
    return kept_table(experiment, f"outcomes/{made.name}-depths", inputs, measure, made_by)


def search_rows(
    experiment: Experiment, model: str, found: Iterator[Searched], artifact: str
) -> pd.DataFrame:
    """Accuracy and pass@N of these searches, by every selection rule."""
    return scoring.outcome_rows(method_outcomes(experiment, model, found, artifact))


def method_outcomes(
    experiment: Experiment,
    model: str,
    found: Iterator[Searched],
    artifact: str,
    method: str = "",
    outcomes_of: Callable[[Experiment, Searched], pd.DataFrame] = outcomes,
) -> pd.DataFrame:
    """These searches problem by problem, by every selection rule, and whether any path is right.

    Called `method`, or as `method_of` calls each. outcomes_of: where `outcomes` do not serve.
    """
    parts = []
    for each in found:
        named = {"expansion": each.spec.expansion, "per_state": each.spec.per_state}
        called = method or method_of(experiment, each.spec)
        made = scoring.method_outcomes(outcomes_of(experiment, each), called)
        parts.append(made.assign(artifact=artifact, model=model, **named))
    return pd.concat(parts, ignore_index=True)


def by_profiles_rule(experiment: Experiment, found: pd.DataFrame) -> pd.DataFrame:
    """Of rows or outcomes: those of the profile's selection rule, and where there is no choice."""
    rule = experiment.profile.search.selection
    return found[found["selection"].isna() | (found["selection"] == rule)]


def decoding_outcomes(experiment: Experiment, model: str, stage: str, beams: int) -> pd.DataFrame:
    """Greedy (one beam) or beam search on both test splits: one row a problem."""
    return decoded_outcomes(experiment, model, experiment.checkpoint(model, stage), beams)


def decoded_outcomes(
    experiment: Experiment,
    model: str,
    checkpoint: Artifact,
    beams: int = 1,
    problems: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """`decoding_outcomes` of any checkpoint, on the model's test problems or on these.

    `problem` counts within the split.
    """
    problems = experiment.test_problems(model) if problems is None else problems
    decoded = experiment.decode(checkpoint, problems, beams)
    found = scoring.response_outcomes(decoded["text"], problems, experiment.task)
    found["problem"] = found.groupby("split").cumcount()
    tokens = decoded["tokens"].to_numpy() * beams
    return found.assign(tokens=tokens, model=model, seed=experiment.seed)


def with_targets(experiment: Experiment, found: pd.DataFrame) -> pd.DataFrame:
    """These outcomes with each problem's target, where the task's problems have a number as one."""
    asked = experiment.table
    if "target" not in asked or not pd.api.types.is_numeric_dtype(asked["target"]):
        return found
    asked = asked.assign(problem=asked.groupby("split").cumcount())
    return found.merge(asked[["split", "problem", "target"]], "left", on=["split", "problem"])


def depth_searches(
    experiment: Experiment,
    checkpoint: Artifact,
    problems: pd.DataFrame,
    breadth: int,
    depths: Collection[int],
) -> Iterator[tuple[Artifact, list[int]]]:
    """Searches that give each of these depths, and which: the deepest one begins with b = 0.

    Not so for a selection rule that counts visits.
    """
    begun = [0] if 0 in depths and experiment.profile.search.selection != "vote" else []
    for depth in sorted(set(depths) - set(begun)) or begun:
        made = experiment.search(checkpoint, problems, experiment.spec(breadth, depth))
        yield made, sorted({*begun, depth}) if depth == max(depths) else [depth]


def depth_rows(
    experiment: Experiment,
    found: Iterator[tuple[Artifact, list[int]]],
    problems: pd.DataFrame,
    **columns: object,
) -> pd.DataFrame:
    """Rows of `depth_searches`, by the profile's selection rule."""
    parts = [outcomes_at_depths(experiment, made, problems, shown) for made, shown in found]
    rows = pd.concat(parts, ignore_index=True)
    rule = experiment.profile.search.selection
    return scoring.search_rows(rows[rows["selection"] == rule], **columns)


def state_outcomes(
    experiment: Experiment, made: Artifact, problems: pd.DataFrame, count: int
) -> pd.DataFrame:
    """The `state_table` of a search's first `count` problems, made once."""

    def measure() -> pd.DataFrame:
        trees = experiment.read_trees(made)[:count]
        return states.state_table(trees, problems, experiment.task)

    inputs = {"search": made.key, "problems": count}
    made_by = [states, experiment.task]
    return kept_table(experiment, f"states/{made.name}", inputs, measure, made_by)


def unused_problems(experiment: Experiment, model: str, count: int) -> pd.DataFrame:
    """Training problems after those that branches and self-improvement use, where there are as many
    (not in `smoke`)."""
    sizes, improvement = experiment.profile.models[model], experiment.profile.improvement
    start = sizes.examples + experiment.profile.rounds(model) * improvement.problems
    return experiment.problems("train", start, count)
