"""The studies of a run: for each, the training and sampling that it will ask for.

Takes an experiment that only looks ahead (lib/experiment/planner.py); asks it for what the study
will ask for. Where a study goes on from results that are not there yet, the most that it can ask
for is counted. Checks of answers and figures are no part of it. Knows nothing of how long anything
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import pandas as pd

from lib.base.errors import UserError
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.experiment.planner import (
    FORWARD,
    LONG_RESPONSE_COST,
    Ahead,
    Work,
    decoded_tokens,
    search_tokens,
)
from lib.search.search import roll_backs
from lib.studies import measurements
from lib.studies.beyond import audit, expansions, larger_model, mined_errors, selection_rules, sweep
from lib.studies.beyond import equal_compute as equal_compute_module
from lib.studies.paper import best_of_n, dpo_kto, ratios, self_improvement, table_2

#: Streams of search are two to four times as long as other examples.
STREAM_LENGTH = 3
#: Of the states that a guided search may visit, so many are visited; a proposal is one step of
#: three, and half of the proposals in a state are the same.
VISITED, STEP = 1 / 2, 1 / 6
#: DPO's pair has a reference, KTO's two paths have strangers too; all without gradients.
PREFERENCES = {"dpo": 2 + 2 * FORWARD, "kto": 2 + 6 * FORWARD}
MODEL = "S"  # of the studies that have one model


def asked_for(ahead: Ahead, models: Iterable[str]) -> list[str]:
    """Of these models, those that the run has."""
    return [model for model in models if model in ahead.profile.models]


def baselines(ahead: Ahead) -> None:
    """Samples of the SFT model, its reward model with what that scores, DPO and KTO."""
    settings = ahead.profile.baselines
    for model in settings.models:
        measurements.training_samples(ahead, model)
        if ahead.lacks(lambda model=model: best_of_n.reward_model(ahead, model)):
            paths = min(settings.reward_paths, settings.problems * settings.samples)
            ahead.add_examples(model, paths * settings.reward.epochs)
        for split in TEST_SPLITS:
            name = f"outcomes/{model}-best_of_n"
            if ahead.lacks(lambda m=model, s=split: best_of_n.best_of_n(ahead, m, s), name):
                scored = settings.test_problems * max(settings.breadths)
                ahead.add_examples(model, scored * FORWARD)
        for method, passes in PREFERENCES.items():
            if ahead.lacks(lambda m=model, how=method: dpo_kto.preferred(ahead, m, how)):
                epochs = getattr(settings, method).epochs
                ahead.add_examples(model, settings.pairs * passes * epochs)
            with suppress(UserError):
                tuned = dpo_kto.preferred(ahead, model, method)
                ahead.decode(tuned, ahead.test_problems(model))


def stream(ahead: Ahead) -> None:
    """The branch that learns streams, and a stream for each test problem."""
    settings, problems = ahead.profile.stream, ahead.test_problems(MODEL)
    before = ahead.work.examples[MODEL]
    table_2.stream_checkpoint(ahead, MODEL)
    ahead.add_examples(MODEL, (STREAM_LENGTH - 1) * (ahead.work.examples[MODEL] - before))
    if ahead.lacks(lambda: table_2.streamed(ahead, MODEL, problems)):
        read = len(problems) * settings.max_tokens / 2
        ahead.add_tokens(MODEL, LONG_RESPONSE_COST * read)


def dfs(ahead: Ahead) -> None:
    """Guided search of every test problem, with the largest budget."""
    settings, problems = ahead.profile.dfs, ahead.test_problems(MODEL)
    if ahead.lacks(lambda: table_2.guided(ahead, MODEL, problems), "dfs"):
        states = VISITED * max(settings.budgets)
        drawn = round(states * settings.samples * STEP)
        ahead.add_tokens(MODEL, search_tokens(len(problems), drawn, 0))


def ratio_branches(ahead: Ahead) -> None:
    """Tables 3 and 4: a branch a ratio, and its searches."""
    settings, search = ahead.profile.ratios, ahead.profile.search
    for ratio in settings.ratios:
        checkpoint = ratios.ratio_branch(ahead, MODEL, ratio, settings.examples)
        for split in TEST_SPLITS:
            problems = ahead.problems(split, 0, settings.problems)
            for breadth in settings.breadths:
                setting = (breadth, max(settings.depths), search.temperature)
                ahead.search(checkpoint, problems, *setting)


def audited(ahead: Ahead) -> None:
    """Two small branches, a search for each switch, and a round on the validation problems."""
    settings, recipe = ahead.profile.audit, ahead.profile.improvement.recipe
    cuts = (1, 2)  # stand-ins: they are lengths in the tokens of a checkpoint
    checkpoint = ahead.checkpoint(audit.MODEL, "backtracking")
    if checkpoint.path.exists():
        longest = audit.our_longest(ahead, checkpoint)
        share = min(1.0, audit.PUBLISHED_TOKENS / audit.paper_longest())
        cuts = round(share * longest), round(settings.hard_cut * longest)
    published = ahead.task.check_published is not None
    for reference, switches in audit.variants(*cuts, published).values():
        for each in (switches, audit.Switches()):
            branch = audit.checkpoint_of(ahead, reference, each.padding_loss)
            depth = roll_backs(settings.depth, each.depth_from_one)
            for split in TEST_SPLITS:
                problems = ahead.problems(split, 0, settings.problems)
                setting = (settings.breadth, depth, ahead.profile.search.temperature)
                ahead.search(branch, problems, *setting, each.sampling)
    start = (audit.MODEL, checkpoint, 1)
    if ahead.lacks(lambda: self_improvement.improve(ahead, *start, evaluated=True), "experience"):
        count = len(self_improvement.round_problems(ahead, audit.MODEL, 1, evaluated=True))
        ahead.add_examples(audit.MODEL, count * recipe.epochs)


def expansion_searches(ahead: Ahead) -> None:
    """A search for each way to expand, N and, for independent samples, b."""
    settings = ahead.profile.expansions
    for model in asked_for(ahead, settings.models):
        for kind in settings.kinds:
            depths = [(b,) for b in settings.depths] if kind == "sample" else [settings.depths]
            for split in TEST_SPLITS:
                for breadth in settings.breadths:
                    for among in depths:
                        with suppress(UserError):
                            expansions.expansion_outcomes(ahead, model, split, kind, breadth, among)


def validation_search(ahead: Ahead) -> None:
    """The one search that takes apart what no table has: of the validation problems."""
    for model in ahead.profile.models:
        with suppress(UserError):
            selection_rules.validation_outcomes(ahead, model)


def remedies(ahead: Ahead) -> None:
    """Each remedy's settings on validation, the chosen one on test, judges and losses."""
    settings, models = ahead.profile.hypotheses, list(ahead.profile.models)
    for model in models:
        for split in TEST_SPLITS:
            larger_model.search_for(ahead, model, split)
        for remedy, offered in larger_model.choices(ahead).items():
            for _, arguments in offered if len(offered) > 1 else ():
                larger_model.search_for(ahead, model, "validation", **arguments)
            try:
                arguments = larger_model.chosen(ahead, model, remedy)[1]
            except UserError:  # one that is not the usual search will have to be made
                arguments = offered[-1][1]
            for split in TEST_SPLITS:
                larger_model.search_for(ahead, model, split, **arguments)
        if ahead.lacks(lambda m=model: larger_model.memorisation_rows(ahead, m), "losses"):
            ahead.add_examples(model, 2 * settings.loss_examples * FORWARD)
    for model in models:
        for judge in models:
            for split in TEST_SPLITS:
                ask = (ahead, model, judge, split)
                if ahead.lacks(lambda ask=ask: larger_model.judged_paths(*ask), "judged"):
                    paths = settings.problems * settings.breadth
                    ahead.add_examples(judge, paths * FORWARD)


def equal_compute(ahead: Ahead) -> None:
    """Samples, searches and beams at equal compute."""
    settings, usual = ahead.profile.compute, ahead.profile.search.temperature
    at = settings.temperature_breadth
    sampled = [(max(settings.breadths), 0, usual)]
    sampled += [(at, 0, t) for t in settings.temperatures if t != usual]
    searched = [(n, b, usual) for n, b in settings.searches]
    searched += [(at, 1, t) for t in settings.temperatures if t != usual]
    asked = [(stage, each) for each in sampled for stage in ("sft", "backtracking")]
    asked += [("backtracking", each) for each in searched]
    for model in asked_for(ahead, settings.models):
        for stage, setting in asked:
            for split in TEST_SPLITS:
                equal_compute_module.trees_of(ahead, model, stage, split, setting)
        for beams in settings.beams:
            parts = [ahead.test_problems(model, split) for split in TEST_SPLITS]
            if beams not in (1, ahead.profile.search.beams):  # those are in Table 1
                parts = [problems.iloc[: settings.problems] for problems in parts]
            with suppress(UserError):
                problems = pd.concat(parts, ignore_index=True)
                ahead.decode(ahead.checkpoint(model, "sft"), problems, beams)


def swept(ahead: Ahead) -> None:
    """The sweep's trunks, and a branch and a search for each of its cells."""
    settings = ahead.profile.sweep
    setting = (settings.breadth, settings.depth, ahead.profile.search.temperature)
    smalls = {
        examples: ahead.within(sweep.small_experiment(ahead, examples), "sweep ")
        for examples in settings.examples
    }
    for model in settings.models:
        for cell in sweep.cells(ahead, model):
            small = smalls[cell[0]]
            checkpoint = sweep.trained(small, model, cell)
            if small.data.path.exists():
                problems = [small.problems(split) for split in TEST_SPLITS]
                problems = pd.concat(problems, ignore_index=True)
                small.search(checkpoint, problems, *setting)
                with suppress(UserError):
                    small.decode(checkpoint, problems)
            else:
                count = 2 * settings.test_problems
                small.add_tokens(model, search_tokens(count, *setting[:2]))
                small.add_tokens(model, decoded_tokens(count, 1))


def mining(ahead: Ahead) -> None:
    """The search that is mined, two branches, and the searches of three."""
    settings, search = ahead.profile.mining, ahead.profile.search
    with suppress(UserError):
        mined_errors.mined(ahead, MODEL)
    for method in mined_errors.BRANCHES:
        checkpoint = mined_errors.branch(ahead, MODEL, method)
        for split in TEST_SPLITS:
            problems = ahead.problems(split, 0, settings.test_problems)
            setting = (max(search.breadths), max(search.depths), search.temperature)
            ahead.search(checkpoint, problems, *setting)


#: A profile's section -> what asks for its work, in an order in which none pays for another's.
STUDIES: dict[str, Callable[[Ahead], None]] = {
    "baselines": baselines,
    "stream": stream,
    "dfs": dfs,
    "ratios": ratio_branches,
    "audit": audited,
    "instruments": validation_search,
    "compute": equal_compute,
    "expansions": expansion_searches,
    "mining": mining,
    "hypotheses": remedies,
    "sweep": swept,
}


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


def self_improvement_work(ahead: Ahead, model: str) -> None:
    """Every round's search, the training of it and of its control, and what is searched after."""
    settings, last = ahead.profile.improvement, ahead.profile.rounds(model)
    for number in range(last + 1):
        try:
            for control in (False, True):
                self_improvement.self_improved(ahead, model, number, control)
            for _ in self_improvement.searches(ahead, model, number):
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
    parts["self-improvement"] = lambda: self_improvement_work(ahead, model)
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
