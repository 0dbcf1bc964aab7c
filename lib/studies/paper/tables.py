"""What is measured: the rows of every table and figure, from an experiment's artifacts.

Takes an experiment; gives tidy rows (lib/evaluation/results.py). Each function stands for one table
or figure of the paper, makes what it needs, and can be called in any order: nothing is made twice.
"""

from __future__ import annotations

import pandas as pd

from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.studies.measurements import decoding_outcomes, outcomes, search_rows
from lib.studies.paper import best_of_n, case_study, dpo_kto, self_improvement
from lib.studies.paper import table_2 as table_2_module

CURVE_POINTS = 150


def decoding_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Table 1's rows without search: SFT and backtracking data, greedy and beam search."""
    rows = []
    for stage, name in (("sft", "sft"), ("backtracking", "backtracking_data")):
        for beams, decoding in ((1, "greedy"), (experiment.profile.search.beams, "beam")):
            for split, cell in decoding_outcomes(experiment, model, stage, beams).groupby("split"):
                rows += scoring.checker_rows(
                    cell["correct"],
                    cell.get("correct_published"),
                    artifact="table_1",
                    method=f"{name}_{decoding}",
                    model=model,
                    split=split,
                    seed=experiment.seed,
                    tokens_per_problem=float(cell["tokens"].mean()),
                )
    return table(rows)


def table_1(experiment: Experiment, model: str) -> pd.DataFrame:
    """Table 1 for one model: plain decoding, and Self-Backtracking at N = 8 and the largest N."""
    search = experiment.profile.search
    ends = tuple(breadth for breadth in search.breadths if breadth in (8, max(search.breadths)))
    found = search_rows(experiment, model, ends, search.depths, artifact="table_1")
    chosen = found["selection"].isna() | (found["selection"] == search.selection)
    return pd.concat([decoding_rows(experiment, model), found[chosen]], ignore_index=True)


def figure_4(experiment: Experiment, model: str) -> pd.DataFrame:
    """Accuracy against breadth for every depth, each selection rule, and the pass@N ceiling."""
    search = experiment.profile.search
    return search_rows(experiment, model, search.breadths, search.depths)


def figure_13(experiment: Experiment, model: str) -> pd.DataFrame:
    """Accuracy against temperature, at the middle one of the breadths."""
    search = experiment.profile.search
    breadth = search.breadths[(len(search.breadths) - 1) // 2]
    found = search_rows(
        experiment, model, (breadth,), search.depths, search.temperatures, "figure_13"
    )
    return found[found["selection"].isna() | (found["selection"] == search.selection)]


def figure_5(experiment: Experiment, model: str) -> pd.DataFrame:
    """Error types of SFT greedy, backtracking data greedy, and Self-Backtracking."""
    search = experiment.profile.search
    rows = []
    for stage, method in (("sft", "sft_greedy"), ("backtracking", "backtracking_data_greedy")):
        found = decoding_outcomes(experiment, model, stage, 1)
        columns = {"method": method, "model": model, "seed": experiment.seed}
        rows += scoring.error_rows(found, experiment.task.errors, **columns)
    breadth = max(search.breadths)
    for depth in search.depths:
        for split in TEST_SPLITS:
            found = outcomes(experiment, model, split, breadth, depth)
            found = found[found["selection"] == search.selection]
            columns = {"method": "self_backtracking", "N": breadth, "b": depth}
            columns |= {"selection": search.selection, "temperature": search.temperature}
            columns |= {"model": model, "seed": experiment.seed}
            rows += scoring.error_rows(found, experiment.task.errors, **columns)
    return table(rows)


def figure_6(experiment: Experiment, model: str) -> pd.DataFrame:
    """The training loss of every stage."""
    rows = []
    for stage in experiment.stages(model):
        curve = experiment.loss_curve(experiment.checkpoint(model, stage))
        thinned = curve.iloc[:: max(1, len(curve) // CURVE_POINTS)]
        rows += [
            {"artifact": "figure_6", "model": model, "stage": stage, **point}
            for point in thinned.to_dict("records")
        ]
    return table(rows)


def figure_3(experiment: Experiment, model: str) -> pd.DataFrame:
    """Greedy accuracy after each round of self-improvement, and of its control."""
    problems = experiment.test_problems(model)
    rows = []
    for control, method in ((False, "self_improved_greedy"), (True, "control_greedy")):
        for number in range(experiment.profile.rounds(model) + 1):
            checkpoint = self_improvement.self_improved(experiment, model, number, control)
            decoded = experiment.decode(checkpoint, problems)
            found = scoring.evaluate_responses(
                decoded["text"],
                problems,
                experiment.task,
                artifact="figure_3",
                method=method,
                tokens=decoded["tokens"],
                model=model,
                seed=experiment.seed,
            )
            rows.append(found.assign(round=number))
    return pd.concat(rows, ignore_index=True)


def table_2(experiment: Experiment, model: str) -> pd.DataFrame:
    """Table 2: guided DFS and Stream of Search, and Self-Backtracking at the largest N and b.

    Only where the profile has one of the sections `[dfs]` and `[stream]`.
    """
    others = table_2_module.rows(experiment, model, experiment.test_problems(model))
    if others.empty:
        return others
    search = experiment.profile.search
    ends = (max(search.breadths),), (max(search.depths),)
    found = search_rows(experiment, model, *ends, artifact="table_2")
    found = found[found["selection"] == search.selection]
    return table(pd.concat([others, found], ignore_index=True))


def figure_7(experiment: Experiment, model: str) -> pd.DataFrame:
    """The case study, at the middle one of the breadths; no row where no problem is one."""
    search = experiment.profile.search
    if experiment.profile.task.module != "lib.tasks.countdown" or 1 not in search.depths:
        return table([])
    breadth = search.breadths[(len(search.breadths) - 1) // 2]
    problems = experiment.test_problems(model, "seen")
    greedy = {
        name: decoding_outcomes(experiment, model, stage, 1).query("split == 'seen'")
        for stage, name in (("sft", "SFT greedy"), ("backtracking", "backtracking data greedy"))
    }
    found = outcomes(experiment, model, "seen", breadth, 1)
    found = found[found["selection"] == search.selection]
    checkpoint = experiment.checkpoint(model, "backtracking")
    made = experiment.search(checkpoint, problems, experiment.spec(breadth, 1))
    trees = experiment.read_trees(made)
    case = case_study.first_case(list(greedy.values()), found, trees)
    if case is None:
        return table([])
    answers = {
        name: decoded.set_index("problem")["response"][case] for name, decoded in greedy.items()
    }
    problem = problems.to_dict("records")[case]
    return case_study.case_rows(
        trees[case], problem, answers, search.selection, model=model, split="seen"
    )


def baselines(experiment: Experiment, model: str) -> pd.DataFrame:
    """Table 1's baselines that train further: best-of-N with a reward model, DPO and KTO."""
    parts = (best_of_n.best_of_n_rows, dpo_kto.preference_rows)
    return table(pd.concat([part(experiment, model) for part in parts], ignore_index=True))
