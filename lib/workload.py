"""The parts of a run: what each still has to do, and what it took.

Takes an experiment; asks one that only looks ahead (lib/ahead.py) for the artifacts of each part,
in the run's order, so that a search or branch that serves two is counted once. Checks of answers
and figures are no part of it. Knows nothing of how long anything will take.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from lib import improvement, rounds
from lib.ahead import Ahead, Work, search_tokens
from lib.errors import UserError
from lib.experiment import TEST_SPLITS, Experiment
from lib.studywork import MODEL, STUDIES


def searches(ahead: Ahead, model: str) -> None:
    """Tables 1 and figures 4 and 13: decoding, and search over N, b and temperature."""
    search = ahead.profile.search
    for stage in ("sft", "backtracking"):
        for beams in (1, search.beams):
            with suppress(UserError):
                ahead.decode(ahead.checkpoint(model, stage), ahead.test_problems(model), beams)
    settings = [(n, b, search.temperature) for n in search.breadths for b in search.depths]
    if model == MODEL:
        middle = search.breadths[(len(search.breadths) - 1) // 2]
        settings += [(middle, b, t) for b in search.depths for t in search.temperatures]
    for setting in settings:
        for split in TEST_SPLITS:
            checkpoint = ahead.checkpoint(model, "backtracking")
            ahead.search(checkpoint, ahead.test_problems(model, split), *setting)


def self_improvement(ahead: Ahead, model: str) -> None:
    """Every round's search, the training of it and of its control, and what is searched after."""
    settings, last = ahead.profile.improvement, ahead.profile.rounds(model)
    for number in range(last + 1):
        try:
            for control in (False, True):
                improvement.self_improved(ahead, model, number, control)
            for _ in rounds.searches(ahead, model, number):
                pass
        except UserError:  # what this round found is not there yet; its search is counted
            left = last - number
            how = settings.breadth, settings.depth
            tokens = left * search_tokens(settings.problems, *how)
            tokens += (left + 1) * 2 * search_tokens(settings.test_problems, *how)
            ahead.add_tokens(model, tokens)
            found = settings.problems * settings.recipe.epochs
            ahead.add_examples(model, 2 * (left + 1) * found)
            break


def main_parts(ahead: Ahead, model: str) -> dict[str, Callable[[], object]]:
    """The parts that every run has, of one model."""
    names = {"trunk": "trunk", "sft": "sft branch", "backtracking": "backtracking branch"}
    parts: dict[str, Callable[[], object]] = {
        names[stage]: lambda stage=stage: ahead.checkpoint(model, stage)
        for stage in ahead.stages(model)
    }
    parts["search"] = lambda: searches(ahead, model)
    parts["self-improvement"] = lambda: self_improvement(ahead, model)
    return parts


def work_of(ahead: Ahead, ask: Callable[[], object]) -> Work:
    """What `ask()` asks the experiment for and nothing before it did."""
    ahead.work, before = Work(), set(ahead.run.found)
    ask()
    found = ahead.run.found.items()
    ahead.work.spent = sum(seconds for place, seconds in found if place not in before)
    return ahead.work


def spent(experiment: Experiment) -> dict[str, float]:
    """Seconds that each part took, this time or before: what it asked for and none before it did.

    Where two share a search, the first has made it. What no part names, such as tables, is left
    out, and so is a part that is not done.
    """
    ahead = Ahead.of(experiment)
    parts: dict[str, Callable[[], object]] = {"problems": lambda: ahead.data}
    for model in experiment.profile.models:
        parts |= {f"{model}, {name}": ask for name, ask in main_parts(ahead, model).items()}
    wanted = experiment.profile.studies()
    parts |= {f"[{name}]": partial(ask, ahead) for name, ask in STUDIES.items() if name in wanted}
    took = {}
    for name, ask in parts.items():
        with suppress(UserError):  # its problems are not there
            took[name] = work_of(ahead, ask).spent
    return {name: seconds for name, seconds in took.items() if seconds}
