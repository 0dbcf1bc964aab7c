"""Figures 3 and 8 taken apart: what self-improvement learns, and what it learns by heart.

Takes an experiment; improves S, trained by the paper's recipe, in three ways: as published, on the
very test problems that it is measured on; on fresh training problems, with as many D_back traces
of the same questions; and, as a control, on as many of the generator's solutions. Gives accuracy
after each round (artifacts GREEDY and SEARCH of self_improvement_report.py, which says what they
mean), paired gains (GAIN), and one sweep of a round's size (SWEEP).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from lib.base.checked import Count, Counts, Naturals, Positives, checked, demand
from lib.evaluation import scoring
from lib.evaluation.results import row, table
from lib.evaluation.statistics import paired_difference, with_interval
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.recipe import Recipe
from studies.measurements import decoded_outcomes, outcomes_at_depths
from studies.paper.figure_3 import learned, response_traces, solved
from studies.paper.paper_recipe import with_paper_recipe
from studies.paper.self_improvement_report import (
    CONTROL,
    FRESH,
    GAIN,
    GREEDY,
    OTHERS,
    PUBLISHED,
    SEARCH,
    SWEEP,
    curves_by_round,
    remark,
    text,
)
from studies.study import Figure, Study

MODEL = "S"


@checked
class SelfImprovementSettings:
    """Rounds of self-improvement of S by the paper's recipe."""

    rounds: Count
    breadth: Count  # of every search
    depths: Naturals  # b of a round's search: the rounds are made once for each
    evaluated: Count  # test problems of each split; as many more after them are never trained on
    fresh: Count  # training problems that a round searches which learns no test problems
    sweep_epochs: Positives  # of a first round on fresh problems, measured on validation ones
    sweep_problems: Counts
    recipe: Recipe

    def check(self, profile: object) -> None:
        """See `load_profile`."""
        most = profile.data.test_problems // 2
        right = f"at most {most}, half of data.test_problems"
        demand("self_improvement.evaluated", self.evaluated, self.evaluated <= most, right)


@dataclass(frozen=True)
class Way:
    """A way to improve: the method, b of its searches, and the split of published training."""

    method: str
    depth: int
    split: str | None = None

    def name(self, number: int) -> str:
        """What its artifacts of a round are called."""
        on = f"-{self.split}" if self.split else ""
        return f"{MODEL}-{self.method}{on}-b{self.depth}-round{number}"


def ways(experiment: Experiment) -> Iterator[Way]:
    """Every way: published training has one for each test split."""
    for depth in experiment.profile.settings(SelfImprovementSettings).depths:
        yield from (Way(PUBLISHED, depth, split) for split in TEST_SPLITS)
        yield from (Way(FRESH, depth), Way(CONTROL, depth))


def lessons(
    part: Experiment, way: Way, source: Artifact, number: int, most: int | None = None
) -> pd.DataFrame:
    """The traces that a round learns, of problems that `source` searches.

    Where it searches fresh ones, the first `most` of them count, and D_back asks what D_op asks.
    """
    settings, task = part.profile.settings(SelfImprovementSettings), part.task
    if way.method == PUBLISHED:
        problems = part.problems(way.split, 0, settings.evaluated)
    else:
        start = part.profile.models[MODEL].examples + (number - 1) * settings.fresh
        problems = part.problems("train", start, settings.fresh)
    made = part.search(source, problems, part.spec(settings.breadth, way.depth))
    # The control asks for the very search of the way that it is a control of.
    searching = way if way.method == PUBLISHED else replace(way, method=FRESH)
    found = solved(part, searching.name(number), made, problems)
    found = found if most is None else found[found["problem"] < most]
    asked = problems.iloc[found["problem"]].reset_index(drop=True)
    if way.method == CONTROL:
        asked = problems.iloc[: len(found)]
        right = task.optimal_traces(asked)
    else:
        right = response_traces(task.prompts(asked), found["response"], task)
    if way.method == PUBLISHED or right.empty:
        return right
    wrong = task.backtracking_traces(asked, part.seed, part.profile.traces, part.tests)
    return pd.concat([right, wrong], ignore_index=True)


def rounds(part: Experiment, way: Way) -> Iterator[Artifact]:
    """The checkpoint before the first round, and after each."""
    settings = part.profile.settings(SelfImprovementSettings)
    checkpoint = part.checkpoint(MODEL, "backtracking")
    # A control learns as much as the searching model of the same round.
    sources = rounds(part, replace(way, method=FRESH)) if way.method == CONTROL else None
    yield checkpoint
    for number in range(1, settings.rounds + 1):
        source = next(sources) if sources else checkpoint
        traces = lessons(part, way, source, number)
        checkpoint = learned(part, way.name(number), checkpoint, traces, settings.recipe)
        yield checkpoint


def measured(part: Experiment, way: Way) -> Iterator[tuple[int, str, Artifact, pd.DataFrame]]:
    """Round, method, checkpoint and the problems that it is measured on."""
    count = part.profile.settings(SelfImprovementSettings).evaluated
    for number, checkpoint in enumerate(rounds(part, way)):
        for split in [way.split] if way.split else TEST_SPLITS:
            yield number, way.method, checkpoint, part.problems(split, 0, count)
            if way.split:
                yield number, OTHERS, checkpoint, part.problems(split, count, count)


def sweep(part: Experiment) -> Iterator[tuple[float, int, Artifact]]:
    """A first round on fresh problems of other epochs, or of fewer problems, and its checkpoint."""
    settings = part.profile.settings(SelfImprovementSettings)
    way, recipe = Way(FRESH, max(settings.depths)), settings.recipe
    tried = [(epochs, settings.fresh) for epochs in settings.sweep_epochs]
    tried += [(recipe.epochs, count) for count in settings.sweep_problems]
    before = part.checkpoint(MODEL, "backtracking")
    for epochs, count in dict.fromkeys(tried):
        traces = lessons(part, way, before, 1, count)
        changed = replace(recipe, epochs=epochs)
        yield epochs, count, learned(part, way.name(1), before, traces, changed)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every round's search and training, what is measured after it, and the sweep."""
    part = with_paper_recipe(experiment)
    breadth = part.profile.settings(SelfImprovementSettings).breadth
    for way in ways(part):
        for _, method, checkpoint, problems in measured(part, way):
            yield part.decoding(checkpoint, problems)
            if method != OTHERS:
                yield part.search(checkpoint, problems, part.spec(breadth, way.depth))
    for *_, checkpoint in sweep(part):
        yield part.decoding(checkpoint, part.problems("validation"))


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Greedy decoding and search after each round, problem by problem."""
    part, found = with_paper_recipe(experiment), []
    settings = part.profile.settings(SelfImprovementSettings)
    for way in ways(part):
        for number, method, checkpoint, problems in measured(part, way):
            named = {"method": method, "model": MODEL, "round": number}
            at = {"N": settings.breadth, "b": way.depth, "seed": part.seed}
            answers = decoded_outcomes(part, MODEL, checkpoint, 1, problems)
            if method == OTHERS:  # which come after those in their split
                answers = answers.assign(problem=answers["problem"] + settings.evaluated)
            found.append(answers.assign(artifact=GREEDY, **named, **at))
            if method == OTHERS:
                continue
            made = part.search(checkpoint, problems, part.spec(settings.breadth, way.depth))
            each = outcomes_at_depths(part, made, problems, [way.depth])
            each = each[each["selection"] == part.profile.search.selection]
            each = scoring.method_outcomes(each, method).query("method == @method")
            found.append(each.assign(artifact=SEARCH, **named))
    return pd.concat(found, ignore_index=True)


def rows(experiment: Experiment) -> pd.DataFrame:
    """All four artifacts."""
    found = outcomes(experiment)
    parts = [scoring.outcome_rows(found), table(gain_rows(found[found["artifact"] == GREEDY]))]
    part = with_paper_recipe(experiment)
    for epochs, count, checkpoint in sweep(part):
        answers = decoded_outcomes(part, MODEL, checkpoint, 1, part.problems("validation"))
        answers = answers.assign(artifact=SWEEP, method=FRESH)
        more = {"epochs": epochs, "round_problems": count}
        parts.append(scoring.outcome_rows(answers).assign(**more))
    return table(pd.concat(parts, ignore_index=True))


def gain_rows(greedy: pd.DataFrame) -> Iterator[dict]:
    """What each round gained over none, by split and over both (split None); `lead` is what was
    gained beyond fresh problems, on the same test problems."""
    keys = ["method", "b", "round", "split", "problem"]
    right = greedy.set_index(keys)["correct"].sort_index()
    for method, depth, number in dict.fromkeys(key[:3] for key in right.index):
        for split in (*TEST_SPLITS, None):
            of = partial(_of_cell, right, depth=depth, split=split)
            now, before = of(method, number=number), of(method, number=0)
            columns = {"method": method, "model": MODEL, "b": depth, "round": number}
            columns |= {"split": split, "problems": len(now)}
            each = row(GAIN, **columns) | with_interval("gain", paired_difference(now, before))
            if method in (PUBLISHED, CONTROL):
                lead = paired_difference(now, of(FRESH, number=number))
                each |= with_interval("lead", lead)
            yield each


def _of_cell(
    right: pd.Series, method: str, depth: int, number: int, split: str | None
) -> pd.Series:
    found = right.loc[method, depth, number]
    return found if split is None else found.loc[split]


STUDY = Study(
    name="self_improvement",
    section="self_improvement",
    settings=SelfImprovementSettings,
    rows=rows,
    requests=requests,
    outcomes=outcomes,
    title="Self-improvement: learned, or learned by heart?",
    remark=remark,
    text=text,
    figures=(
        Figure(
            "self_improvement",
            curves_by_round,
            "Self-improvement of the paper's recipe (figures 3 and 8). As published, each round "
            "searches and learns THE TEST PROBLEMS THEMSELVES, and is measured on them. Beside it: "
            "the same model on test problems that it never saw, rounds on fresh training problems, "
            "and a control. Greedy decoding solid, search dashed.",
            (GREEDY,),
            columns=("round",),
            varied="round",
        ),
    ),
)
