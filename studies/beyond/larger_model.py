"""Why does the larger model lose? Experiments that could refute each cause.

Takes an experiment with one model or two; gives rows of each model with and without each remedy
(artifact `remedy`), of whose log-probability chooses whose paths (`judge`), of losses on learned
and unseen traces (`memorisation`), and of S less L (`gap`). Hypotheses: (a) the samples repeat
themselves: a higher temperature, or samples without replacement, would help; (b) P(<backtrack>) is
miscalibrated: a constant added to its logit would help; (c) the model remembers its training data;
(d) it ranks its paths worse: the other model would choose better among them. What has a setting
chooses it on the validation split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import StrictFloat

from lib.base import files
from lib.base.checked import NOT_EMPTY, Count, Natural, Positives, at_least, checked
from lib.evaluation import scoring, statistics
from lib.evaluation.results import row, table
from lib.evaluation.states import path_table, ranking
from lib.evaluation.statistics import clustered_share
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.experiment.work import FORWARD, training
from lib.profiles.search_spec import SearchSpec
from lib.search import selection
from lib.search.variants import SamplingVariant
from lib.training import logprobs
from studies import measurements
from studies.beyond.larger_model_answer import draw_remedies, evidence
from studies.measurements import SAMPLE, Searched, in_tables, loss_traces
from studies.study import Figure, Study

BASE, TEMPERATURE, DISTINCT, SHIFT, JUDGE = (
    "as measured",
    "higher temperature",
    "without replacement",
    "shifted <backtrack>",
    "the other model chooses",
)
#: The hypothesis that each remedy could refute.
LETTERS = {TEMPERATURE: "a", DISTINCT: "a", SHIFT: "b", JUDGE: "d"}


@checked
class HypothesisSettings:
    """Experiments that could close the gap between S and L at one N and b."""

    problems: Count  # of each test split
    validation_problems: Count  # on which settings are chosen
    breadth: Count
    depth: Natural
    temperatures: Positives  # tried beside the profile's own (hypothesis a)
    oversampling: Count  # samples drawn for each distinct one (hypothesis a)
    #: Of the <backtrack> logit, tried beside 0 (hypothesis b).
    shifts: Annotated[tuple[Annotated[StrictFloat, at_least(-50, " each")], ...], NOT_EMPTY]
    loss_examples: Count  # traces on which train and test loss are measured (hypothesis c)


@dataclass(frozen=True)
class Choice:
    """One setting of a remedy: its value (None where there is one alone), and the search."""

    setting: float | None
    spec: SearchSpec
    variant: SamplingVariant | None = None


def usual(experiment: Experiment, **changes: float) -> SearchSpec:
    """The search that is measured, or one that differs from it."""
    settings = experiment.profile.settings(HypothesisSettings)
    return experiment.spec(settings.breadth, settings.depth, expansion=SAMPLE, **changes)


def choices(experiment: Experiment) -> dict[str, list[Choice]]:
    """Every remedy's settings. The usual one comes first, so that of equals it stays."""
    settings, spec = experiment.profile.settings(HypothesisSettings), usual(experiment)
    temperatures = dict.fromkeys([spec.temperature, *settings.temperatures])
    shifts = dict.fromkeys([0.0, *settings.shifts])
    distinct = SamplingVariant(oversampling=settings.oversampling)
    return {
        TEMPERATURE: [Choice(t, usual(experiment, temperature=t)) for t in temperatures],
        SHIFT: [Choice(s, spec, SamplingVariant(shift=s) if s else None) for s in shifts],
        DISTINCT: [Choice(None, spec, distinct)],
    }


def search_by(experiment: Experiment, model: str, split: str, choice: Choice) -> Searched:
    """A model's search of a split in this way: of this study's problems, or a table's search."""
    settings = experiment.profile.settings(HypothesisSettings)
    if split == "validation":
        problems = experiment.problems(split, 0, settings.validation_problems)
    else:
        tabled = choice.variant is None and in_tables(experiment, choice.spec)
        problems = experiment.test_problems(model, split)
        problems = problems if tabled else problems.iloc[: settings.problems]
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(checkpoint, problems, choice.spec, choice.variant)
    return Searched(made, problems, split, choice.spec)


def validated(experiment: Experiment, model: str, offered: list[Choice]) -> Choice:
    """The choice that is most often right on validation; of equals the first."""
    if len(offered) == 1:
        return offered[0]
    tried = [search_by(experiment, model, "validation", choice) for choice in offered]

    def best() -> Choice:
        right = [measurements.chosen(experiment, each)["correct"].mean() for each in tried]
        return offered[int(np.argmax(right))]

    return experiment.known(best, expected=offered[-1])  # one that no table has


def remedy_searches(
    experiment: Experiment, model: str
) -> Iterator[tuple[str, float | None, Searched]]:
    """The searches of both test splits, as measured and with each remedy's validated setting."""
    ways = [(BASE, Choice(None, usual(experiment)))]
    for remedy, offered in choices(experiment).items():
        ways.append((remedy, validated(experiment, model, offered)))
    for remedy, choice in ways:
        for split in TEST_SPLITS:
            yield remedy, choice.setting, search_by(experiment, model, split, choice)


def loss_artifact(experiment: Experiment, model: str) -> Artifact:
    """Mean losses of the backtracking model on traces that it learned from, and on unseen ones."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    count = experiment.profile.settings(HypothesisSettings).loss_examples

    def make(folder: Path) -> None:
        loaded = experiment.load(checkpoint)
        parts = loss_traces(experiment, model, count).items()
        found = {name: logprobs.mean_loss(*loaded, part) for name, part in parts}
        files.write_parquet(folder / "losses.parquet", pd.DataFrame([found]))

    inputs = {"checkpoint": checkpoint.key, "examples": count}
    made_by, work = [logprobs, experiment.task], training(model, 2 * count * FORWARD)
    return experiment.make(f"losses/{model}", inputs, make, made_by, work)


def judge_artifact(experiment: Experiment, model: str, judge: str, split: str) -> Artifact:
    """The finished paths of a model's search, with the judge's mean log-probability of each."""
    settings = experiment.profile.settings(HypothesisSettings)
    searched = search_by(experiment, model, split, Choice(None, usual(experiment)))
    checkpoint = experiment.checkpoint(judge, "backtracking")
    inputs = {"search": searched.made.key, "judge": checkpoint.key, "problems": settings.problems}
    inputs |= experiment.precision_inputs  # judging itself, a model ranks as its search does

    def make(folder: Path) -> None:
        trees = experiment.read_trees(searched.made)[: settings.problems]
        found = path_table(trees, searched.problems, experiment.task)
        prompts = experiment.task.prompts(searched.problems.iloc[found["problem"]])
        responses = found["text"].tolist()
        found["judged"] = logprobs.response_logprobs(
            *experiment.load_fast(checkpoint), prompts, responses
        )
        files.write_parquet(folder / "paths.parquet", found)

    name = f"judged/{searched.made.name}-by-{judge}"
    made_by = [logprobs, selection, experiment.task]
    work = training(judge, settings.problems * settings.breadth * FORWARD)
    return experiment.make(name, inputs, make, made_by, work)


def judgements(experiment: Experiment) -> Iterator[tuple[str, str, str, Artifact]]:
    """Whose paths, ranked by whom, of which split."""
    for model in experiment.profile.models:
        for judge in experiment.profile.models:
            for split in TEST_SPLITS:
                yield model, judge, split, judge_artifact(experiment, model, judge, split)


def requests(experiment: Experiment) -> Iterator[object]:
    """Each remedy's settings on validation, the chosen one on test, losses and judges."""
    for model in experiment.profile.models:
        yield from remedy_searches(experiment, model)
        yield loss_artifact(experiment, model)
    yield from judgements(experiment)


def remedied(experiment: Experiment, model: str) -> dict[tuple[str, str], pd.DataFrame]:
    """(remedy, split) -> a row a problem of this study (correct, covered, tokens, the setting), by
    the profile's rule; BASE is the model as it is."""
    count, found = experiment.profile.settings(HypothesisSettings).problems, {}
    for remedy, setting, each in remedy_searches(experiment, model):
        outcomes = measurements.chosen(experiment, each).reset_index(drop=True)
        outcomes = outcomes[outcomes["problem"] < count]
        found[remedy, each.split] = outcomes.assign(setting=setting)
    return found


def shared_columns(experiment: Experiment, artifact: str, **columns: object) -> dict:
    """What all rows of this study say."""
    settings = experiment.profile.settings(HypothesisSettings)
    known = {"artifact": artifact, "method": "self_backtracking", "seed": experiment.seed}
    return known | {"N": settings.breadth, "b": settings.depth} | columns


def remedy_rows(experiment: Experiment, model: str) -> list[dict]:
    """One model with and without each remedy: accuracy, pass@N, and the paired gain."""
    found, made = remedied(experiment, model), []
    for (remedy, split), outcomes in found.items():
        base = found[BASE, split]
        gain, low, high = statistics.paired_difference(outcomes["correct"], base["correct"])
        columns = {"selection": experiment.profile.search.selection, "checker": "strict"}
        columns |= {"tokens_per_problem": float(outcomes["tokens"].mean())}
        named = shared_columns(experiment, "remedy", model=model, split=split, **columns)
        made.append(
            scoring.accuracy_row(outcomes["correct"], **named)
            | {"remedy": remedy, "letter": LETTERS.get(remedy)}
            | {"gain": gain, "gain_low": low, "gain_high": high}
            | {"ceiling": float(outcomes["covered"].mean()), "setting": outcomes["setting"].iloc[0]}
        )
    return made


def judged_paths(experiment: Experiment, model: str, judge: str, split: str) -> pd.DataFrame:
    """The rows of `judge_artifact`: one a finished path, the column `judged` the judge's score."""
    made = judge_artifact(experiment, model, judge, split)
    return files.read_parquet(made.path / "paths.parquet")


def judged_outcomes(experiment: Experiment, model: str, judge: str, split: str) -> np.ndarray:
    """correct [problems] when the judge's mean log-probability chooses among a model's paths."""
    settings = experiment.profile.settings(HypothesisSettings)
    found = judged_paths(experiment, model, judge, split)
    best = found.sort_values(["judged", "leaf"], ascending=[False, True]).groupby("problem").first()
    correct = np.zeros(len(experiment.test_problems(model, split)[: settings.problems]), bool)
    correct[best.index.to_numpy()] = best["correct"]
    return correct


def judge_rows(experiment: Experiment) -> list[dict]:
    """Whose paths, ranked by whom: AUC over all paths and within problems, and accuracy."""
    made = []
    for model, judge, split, artifact in judgements(experiment):
        found = files.read_parquet(artifact.path / "paths.parquet")
        correct = judged_outcomes(experiment, model, judge, split)
        named = shared_columns(experiment, "judge", model=model, split=split, checker="strict")
        extra = {"judge": judge, "paths": len(found)} | ranking(found, "judged")
        made.append(scoring.accuracy_row(correct, **named) | extra)
    return made


def memorisation_row(experiment: Experiment, model: str) -> dict:
    """Mean loss of the backtracking model on traces that it learned from, and on unseen ones."""
    made = loss_artifact(experiment, model)
    losses = files.read_parquet(made.path / "losses.parquet").iloc[0]
    columns = {"method": "self_backtracking", "model": model, "seed": experiment.seed}
    found = {f"{name}_loss": float(losses[name]) for name in ("train", "test")}
    found["loss_gap"] = found["test_loss"] - found["train_loss"]
    return row("memorisation", **columns) | found


def gap_rows(experiment: Experiment) -> list[dict]:
    """The gap, S less L, as measured and with each remedy; `moved` is what the remedy took off it.

    applied: to L alone, or to both models, each with its own validated setting. Differences are
    paired: both models answer the same problems.
    """
    if set(experiment.profile.models) != {"S", "L"}:
        return []
    small, large = (remedied(experiment, model) for model in ("S", "L"))
    made = []
    for split in TEST_SPLITS:
        known = {
            remedy: tuple(each[remedy, split]["correct"].to_numpy(float) for each in (small, large))
            for remedy, where in small
            if where == split
        }
        known[JUDGE] = tuple(
            judged_outcomes(experiment, model, judge, split).astype(float)
            for model, judge in (("S", "L"), ("L", "S"))
        )
        # S may be measured on more problems than L: the first are the same.
        count = min(len(part) for pair in known.values() for part in pair)
        known = {name: tuple(part[:count] for part in pair) for name, pair in known.items()}
        base_small, base_large = known[BASE]
        for remedy, (changed_small, changed_large) in known.items():
            for applied in ("L",) if remedy == BASE else ("L", "both"):
                left = changed_small if applied == "both" else base_small
                gap = left - changed_large
                found = {"remedy": remedy, "letter": LETTERS.get(remedy), "applied": applied}
                found |= {"accuracy_S": left.mean(), "accuracy_L": changed_large.mean()}
                for name, values in (("gap", gap), ("moved", base_small - base_large - gap)):
                    value, low, high = mean_with_interval(values)
                    found |= {name: value, f"{name}_low": low, f"{name}_high": high}
                made.append(
                    row(**shared_columns(experiment, "gap", split=split, problems=count)) | found
                )
    return made


def mean_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    """A mean with its 95% interval, which is a point where all values are the same."""
    if not np.ptp(values):  # remedy and base agree on every problem, as they do when it is the base
        return float(values[0]), float(values[0]), float(values[0])
    return clustered_share(values, np.ones(len(values)), np.arange(len(values)))


def rows(experiment: Experiment) -> pd.DataFrame:
    """Artifacts remedy, judge, memorisation and gap."""
    found = []
    for model in experiment.profile.models:
        found += [*remedy_rows(experiment, model), memorisation_row(experiment, model)]
    return table(found + judge_rows(experiment) + gap_rows(experiment))


STUDY = Study(
    name="larger_model",
    section="hypotheses",
    settings=HypothesisSettings,
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "hypotheses",
            draw_remedies,
            "What each hypothesis' remedy does, with the setting that validation chose.",
            ("gap", "remedy"),
            columns=("remedy",),
        ),
    ),
    title="The evidence on the larger model",
    text=evidence,
)
