"""Accuracy, ceilings and error types of responses and search trees, with 95% intervals.

Takes search trees or response texts, the problems that they answer and a task's checkers; gives
per-problem outcomes and tidy result rows (lib/evaluation/results.py). Verdicts are `strict` (ours,
the one that counts) and, where the task has it, `published` (the published code's rules). Knows
nothing of models, of how a tree was grown, or of what a problem looks like.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from lib.base.errors import UserError
from lib.evaluation.results import row, table
from lib.evaluation.statistics import wilson_interval
from lib.search.selection import SelectionRule, paths

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1

CHECKERS = ("strict", "published")
Rule = Callable[[object], int | None]


def accuracy_row(correct: Sequence[bool], **columns: object) -> dict:
    """A tidy row with the accuracy of these outcomes and its 95% interval."""
    outcomes = np.asarray(correct, dtype=bool)
    successes, trials = int(outcomes.sum()), len(outcomes)
    if trials == 0:
        raise UserError(f"accuracy of {columns.get('method')}: no problems to measure it on")
    low, high = wilson_interval(successes, trials)
    return row(**columns, accuracy=successes / trials, low=low, high=high, problems=trials)


def checker_rows(
    strict: Sequence[bool], published: Sequence[bool] | None, **columns: object
) -> list[dict]:
    """Tidy rows of the checkers' verdicts on the same answers; `published` is None without one.

    The published one's has how many answers only one of the two accepts, in columns of its own: a
    paired interval needs no more.
    """
    if published is None:
        return [accuracy_row(strict, checker=CHECKERS[0], **columns)]
    a, b = np.asarray(strict, dtype=bool), np.asarray(published, dtype=bool)
    apart = {"only_strict": int((a & ~b).sum()), "only_published": int((b & ~a).sum())}
    first, second = (
        accuracy_row(found, checker=name, **columns)
        for name, found in zip(CHECKERS, (a, b), strict=True)
    )
    return [first, second | apart]


def score_paths(tree: object, problem: object, task: object) -> pd.DataFrame:
    """One row a leaf: the verdicts, and the scores that a selection rule could use."""
    verdicts = {name: bool for name in ("finished", *verdict_columns(task))}
    columns = ["leaf", "kind", "level", "visits", *verdicts]
    columns += ["error", "step", "mean_logprob", "min_logprob", "tokens", "response"]
    frame = pd.DataFrame(_path_records(tree, problem, task), columns=columns)
    return frame.astype(verdicts)


def verdict_columns(task: object) -> list[str]:
    """The columns that hold a task's verdicts, the strict one's first."""
    return ["correct"] if task.check_published is None else ["correct", "correct_published"]


def _verdicts(problem: object, response: str, task: object) -> dict:
    """What the checkers say: the columns of `verdict_columns`, and `error` and `step`."""
    strict = task.check(problem, response)
    found = {"correct": strict.correct, "error": error_name(response, strict, task)}
    if task.check_published is not None:
        found["correct_published"] = task.check_published(problem, response).correct
    return found | {"step": strict.step}


def _path_records(tree: object, problem: object, task: object) -> list[dict]:
    records = []
    for leaf in tree.leaves():
        leaf_id = getattr(leaf, "id", leaf)
        node, response = tree.nodes[leaf_id], tree.response(leaf_id)
        path = tree.path(leaf_id)
        logprobs = [value for part in path for value in part.logprobs]
        records.append(
            {
                "leaf": leaf_id,
                "kind": node.kind,
                "level": node.level,
                "visits": node.visits,
                "finished": node.kind == "goal",
                **_verdicts(problem, response, task),
                "mean_logprob": float(np.mean(logprobs)) if logprobs else np.nan,
                "min_logprob": min(logprobs, default=np.nan),
                "tokens": len(logprobs),
                "response": response,
            }
        )
    return records


def search_outcomes(
    trees: Iterable[object], problems: pd.DataFrame, task: object, rules: dict[str, Rule]
) -> pd.DataFrame:
    """One row a problem and rule: was the chosen path right (`correct`), was any (`covered`)?

    A tree's problem_id is its problem's position in `problems`. A rule that chooses no path
    (none is finished) is wrong.
    """
    rows = list(problems.itertuples(index=False))
    verdicts = verdict_columns(task)
    shared = {name for name, rule in rules.items() if isinstance(rule, SelectionRule)}
    seen: set[int] = set()
    # By column: a dict for each row takes ten times the memory of its values.
    columns: dict[str, list] = {}
    for tree in trees:
        if not 0 <= tree.problem_id < len(rows):
            raise UserError(f"search tree of problem {tree.problem_id}: only {len(rows)} problems")
        if tree.problem_id in seen:
            raise UserError(f"search tree of problem {tree.problem_id}: there are two of them")
        seen.add(tree.problem_id)
        problem = rows[tree.problem_id]
        # Once a tree, and no table of it: that takes as long as all else together.
        every = paths(tree) if shared else []
        scored = _path_records(tree, problem, task)
        by_leaf = {record["leaf"]: record for record in scored}
        for name, rule in rules.items():
            chosen = rule.choose(every) if name in shared else rule(tree)
            chosen = getattr(chosen, "id", chosen)
            found = by_leaf[chosen] if chosen is not None else None
            record = {
                "problem": tree.problem_id,
                "split": getattr(problem, "split", None),
                "N": tree.breadth,
                "b": tree.depth,
                "temperature": tree.temperature,
                "seed": tree.seed,
                "selection": name,
                "leaf": chosen,
                "response": None if found is None else found["response"],
                **{name: found is not None and bool(found[name]) for name in verdicts},
                **{
                    name.replace("correct", "covered"): any(record[name] for record in scored)
                    for name in verdicts
                },
                "error": task.errors[0] if found is None else found["error"],
                "finished_paths": sum(record["finished"] for record in scored),
                "tokens": tree.tokens_generated,
            }
            for column, value in record.items():
                columns.setdefault(column, []).append(value)
    return pd.DataFrame(columns).sort_values(["problem", "selection"], ignore_index=True)


def evaluate_search(
    trees: Iterable[object],
    problems: pd.DataFrame,
    task: object,
    rules: dict[str, Rule],
    artifact: str = "figure_4",
    method: str = "self_backtracking",
    **columns: object,
) -> pd.DataFrame:
    """Tidy rows: a split, selection rule and checker each, and the pass@N ceiling (`pass_at_n`)."""
    found = search_outcomes(trees, problems, task, rules)
    return search_rows(found, artifact, method, **columns)


#: Methods that search: ours by the profile's expansion, ours by independent samples beside it, the
#: paper's recipe, and its control.
SEARCH, SAMPLES = "self_backtracking", "self_backtracking_samples"
RECIPE, CONTROL = "paper_recipe", "end_of_sequence"
#: What the ceiling of a method's searches is called.
CEILINGS = defaultdict(lambda: "pass_at_n")
CEILINGS |= {
    SAMPLES: "samples_pass_at_n",
    RECIPE: "paper_recipe_pass_at_n",
    CONTROL: "end_of_sequence_pass_at_n",
}


def search_rows(
    outcomes: pd.DataFrame,
    artifact: str = "figure_4",
    method: str = "self_backtracking",
    **columns: object,
) -> pd.DataFrame:
    """The tidy rows of `search_outcomes`; `columns` (model, seconds ...) go into every row."""
    found = method_outcomes(outcomes, method).assign(artifact=artifact, **columns)
    return outcome_rows(found, *columns)


def method_outcomes(outcomes: pd.DataFrame, method: str = "self_backtracking") -> pd.DataFrame:
    """`search_outcomes` as outcomes of methods: each rule's choice, and (once) the ceiling."""
    keys = ["split", "N", "b", "temperature", "seed", "problem"]
    verdicts = [name for name in ("correct", "correct_published") if name in outcomes]
    chosen = outcomes[[*keys, "selection", *verdicts, "error", "tokens"]].assign(method=method)
    covered = {name.replace("correct", "covered"): name for name in verdicts}
    once = outcomes.drop_duplicates(keys)[[*keys, *covered, "tokens"]].rename(columns=covered)
    return pd.concat([chosen, once.assign(method=CEILINGS[method])], ignore_index=True)


#: What is of a problem, or said by the method's name; every other column is of a method's cell.
OF_A_PROBLEM = {"problem", "target", "numbers_seen", "correct", "correct_published", "error"}
OF_A_PROBLEM |= {"tokens", "response", "expansion", "per_state"}


def outcome_rows(outcomes: pd.DataFrame, *more: str) -> pd.DataFrame:
    """The tidy rows of outcomes: a row a checker and cell, which is what agrees in every column
    that is of a method (and in those of `more`)."""
    keys = [name for name in outcomes if name not in OF_A_PROBLEM or name in more]
    rows = []
    for key, cell in outcomes.groupby(keys, dropna=False, sort=False):
        named = dict(zip(keys, key, strict=True))
        named["tokens_per_problem"] = float(cell["tokens"].mean())
        published = cell.get("correct_published")
        published = None if published is None or published.isna().any() else published
        rows += checker_rows(cell["correct"], published, **named)
    return table(rows)


def response_outcomes(
    responses: Sequence[str | None], problems: pd.DataFrame, task: object
) -> pd.DataFrame:
    """One row a problem: the verdicts on its one response (missing: the method gave none)."""
    if len(responses) != len(problems):
        raise UserError(
            f"{len(responses)} responses for {len(problems)} problems: give one for each"
        )
    records = []
    for number, problem in enumerate(problems.itertuples(index=False)):
        response = responses[number]
        response = "" if pd.isna(response) else response  # parquet gives back NaN for None
        known = {"problem": number, "split": getattr(problem, "split", None), "response": response}
        records.append(known | _verdicts(problem, response, task))
    return pd.DataFrame(records).drop(columns="step", errors="ignore")


def evaluate_responses(
    responses: Sequence[str | None],
    problems: pd.DataFrame,
    task: object,
    artifact: str = "table_1",
    method: str = "sft_greedy",
    tokens: Sequence[int] | None = None,
    **columns: object,
) -> pd.DataFrame:
    """Tidy rows of a method that gives one response a problem: a split and checker each.

    tokens: how many tokens the model generated for each problem.
    """
    outcomes = response_outcomes(responses, problems, task)
    outcomes["tokens"] = np.nan if tokens is None else np.asarray(tokens, dtype=float)
    return outcome_rows(outcomes.assign(artifact=artifact, method=method, **columns))


def error_name(response: str, verdict: object, task: object) -> str | None:
    """The task's name of a failure; a path without its goal line never reached the target."""
    if verdict.correct:
        return None
    if task.goal not in response:
        return task.errors[0]
    return verdict.error or task.errors[0]


def error_types(
    responses: Sequence[str | None], problems: pd.DataFrame, task: object
) -> pd.DataFrame:
    """Shares of the task's errors among the failures -> error, count, share, low, high."""
    return error_shares(response_outcomes(responses, problems, task)["error"], task.errors)


def error_shares(errors: Iterable[str | None], names: Sequence[str]) -> pd.DataFrame:
    """`error_types` of errors already known, one a problem (None where it was solved)."""
    column = pd.Series(list(errors), dtype=object)
    failures = int(column.notna().sum())
    records = []
    for name in names:
        count = int((column == name).sum())
        low, high = wilson_interval(count, failures)
        share = count / failures if failures else 0.0
        records.append(
            {"error": name, "count": count, "share": share, "low": low, "high": high}
            | {"failures": failures, "problems": len(column)}
        )
    return pd.DataFrame(records)


def error_rows(
    outcomes: pd.DataFrame, names: Sequence[str], artifact: str = "figure_5", **columns: object
) -> list[dict]:
    """Tidy rows of the shares of these errors, by split (strict checker), from any outcomes."""
    rows = []
    for split, cell in outcomes.groupby("split", dropna=False, sort=True):
        for shares in error_shares(cell["error"], names).to_dict("records"):
            kept = {key: shares[key] for key in ("error", "share", "failures")}
            # `low` and `high` would bound the accuracy.
            kept |= {f"share_{end}": shares[end] for end in ("low", "high")}
            known = {"checker": "strict", "problems": len(cell), "accuracy": cell["correct"].mean()}
            rows.append(row(artifact=artifact, split=split, **known, **kept, **columns))
    return rows
