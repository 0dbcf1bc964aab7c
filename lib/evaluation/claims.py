"""The paper's claims judged: each a set of differences of accuracy, by one stated rule (RULE).

Takes the tidy rows of lib/evaluation/results.py; gives claims_table, and the same as rows for
results.json. Nothing is typed by hand but the margins, which are named below. Knows nothing of how
the rows were measured.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import pandas as pd

from lib.evaluation.outcomes import difference as outcome_difference
from lib.evaluation.outcomes import of_cell
from lib.evaluation.paper import CLAIMS
from lib.evaluation.results import headline, row, table
from lib.evaluation.scoring import RECIPE, SEARCH
from lib.evaluation.statistics import Difference, difference, wilson_interval
from lib.tasks.task import BAD_RESULT

GAIN = 0.40  # claim 1 states it
CONSIDERABLE = 0.10  # claim 2 says "considerable": ten points are asked
SAME = 0.05  # claim 5 says "about what": within five points
REPRODUCED, DIRECTION = "reproduced", "direction reproduced, size not"
NOT_REPRODUCED, REVERSED, NOT_TESTED = "not reproduced", "reversed", "not tested"
RULE = (
    "A claim is a set of differences of accuracy, each claimed to lie above a margin: "
    f"{100 * GAIN:.0f} points in claim 1, {100 * CONSIDERABLE:.0f} in claim 2 over SFT greedy, 0 "
    f"elsewhere. It is *{REPRODUCED}* when every difference's 95% interval lies above its margin, "
    f"*{DIRECTION}* when every interval lies above 0 but not every one above its margin, "
    f"*{REVERSED}* when every interval lies below 0, *{NOT_REPRODUCED}* otherwise, *{NOT_TESTED}* "
    "when the run has no rows for it. Claim 5 has no direction: it is reproduced when every "
    f"interval lies within {100 * SAME:.0f} points of 0, and reversed when every one lies below "
    f"-{100 * SAME:.0f}. Where the run's outcomes are there problem by problem, differences are "
    "paired on the problems that both were asked (S and L too; new and seen targets cannot be), "
    "and intervals are a hierarchical bootstrap's, with the target, and the seed where there are "
    "several, as sources of variance (accuracies are then means over them, or over the one that is "
    "named); elsewhere they are Newcombe's, the two taken as independent. Self-Backtracking stands "
    "with the run's largest N, and b=1 where no other b is named. No verdict corrects for the "
    "number of claims."
)
#: The claims that can be judged of each recipe of Self-Backtracking, where a run has both.
OF_A_RECIPE = (1, 2, 3, 5)
#: Compares two rows: label, a, b, the margin that a less b is claimed to lie above.
Compare = Callable[..., Difference]


def verdict(differences: list[Difference]) -> str:
    """The stated rule (RULE) on one claim's differences."""
    if not differences:
        return NOT_TESTED
    if all(each.low > each.margin for each in differences):
        return REPRODUCED
    if all(each.low > 0 for each in differences):
        return DIRECTION
    if all(each.high < 0 for each in differences):
        return REVERSED
    return NOT_REPRODUCED


def compare(
    outcomes: pd.DataFrame | None,
    label: str,
    a: Mapping,
    b: Mapping,
    margin: float = 0.0,
    right: Callable[[pd.DataFrame], pd.Series] | None = None,
) -> Difference:
    """Accuracy of row a less that of b: from the outcomes of their cells where there are any.

    right: what of a cell's outcomes counts as solved, in place of the strict checker's verdict.
    """
    if outcomes is not None:
        cells = [of_cell(outcomes, row) for row in (a, b)]
        if right:
            cells = [cell.assign(correct=right(cell)) for cell in cells]
        if found := outcome_difference(*cells):
            seeds = {*cells[0]["seed"]} & {*cells[1]["seed"]}
            if seeds < {*outcomes["seed"]}:
                label += f" (seed {', '.join(map(str, sorted(seeds)))} alone)"
            return Difference(label, *found, margin)
    return difference(label, a, b, margin)


def claims_table(rows: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> pd.DataFrame:
    """-> claim (its number), text, evidence (numbers for and against), verdict.

    outcomes: of these rows, problem by problem, of one seed or more (lib/evaluation/outcomes.py).
    Where the rows have the paper's recipe too, what it claims of the method is judged by it first.
    """
    known = headline(rows) if len(rows) else table([])
    tasks = known["task"].dropna().unique() if "task" in known else []
    other = "".join(f"on the task {task}, not the paper's: " for task in tasks)
    records = []
    both = bool((known["method"] == RECIPE).any())
    for number, text in CLAIMS.items():
        recipes = {SEARCH: ""}
        if both and number in OF_A_RECIPE:
            recipes = {RECIPE: " (The paper's recipe.)", SEARCH: " (Our recipe.)"}
        for method, which in recipes.items():
            judge = partial(compare, _with_method(outcomes, method))
            evidence, judged = JUDGES[number](_with_method(known, method), judge)
            evidence = other + evidence if judged != NOT_TESTED else evidence
            found = {"claim": number, "text": text + which, "evidence": evidence}
            records.append(found | {"verdict": judged})
    return pd.DataFrame(records)


def _with_method(found: pd.DataFrame | None, method: str) -> pd.DataFrame | None:
    """Rows or outcomes in which `method` is what Self-Backtracking is."""
    if found is None or method == SEARCH:
        return found
    found = found[found["method"] != SEARCH]
    return found.assign(method=found["method"].replace(method, SEARCH))


def claims_rows(rows: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> pd.DataFrame:
    """`claims_table` as tidy rows of results.json (artifact `claims`)."""
    return table(
        row("claims", **{key: claim[key] for key in ("claim", "evidence", "verdict")})
        for claim in claims_table(rows, outcomes).to_dict("records")
    )


def _gain(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    found = []
    for model, split, cell in _cells(rows):
        best, plain = _search(cell, depth=1), _one(cell, "sft_greedy")
        if best is not None and plain is not None:
            found.append(compare(f"{model} {split}, {_setting(best)}", best, plain, GAIN))
    return _report(found), verdict(found)


def _no_backtracking(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    found = []
    for model, split, cell in _cells(rows):
        free = _search(cell, depth=0)
        if free is None:
            continue
        if (plain := _one(cell, "sft_greedy")) is not None:
            label = f"{model} {split}, {_setting(free)} against SFT greedy"
            found.append(compare(label, free, plain, CONSIDERABLE))
        if (reward := _one(cell, "best_of_n", free["N"])) is not None:
            label = f"{model} {split}, {_setting(free)} against best-of-N with a reward model"
            found.append(compare(label, free, reward))
    return _report(found), verdict(found)


def _breadth(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    falls, rises = [], []
    for model, split, cell in _cells(rows):
        cell = _ordered(cell)
        reward = cell[cell["method"] == "best_of_n"].sort_values("N")
        if reward["N"].nunique() < 2:
            continue
        few, many = reward.iloc[0], reward.iloc[-1]
        label = f"{model} {split}, best-of-N at N={few['N']} against N={many['N']}"
        falls.append(compare(label, few, many))
        search = cell[(cell["method"] == "self_backtracking") & (cell["b"] == 1).fillna(False)]
        # At the same N as best-of-N: from a smaller one on, any method would rise further.
        search = search[search["N"].isin(reward["N"])].sort_values("N", kind="stable")
        if search["N"].nunique() > 1:
            few, many = search.iloc[0], search.iloc[-1]
            label = f"{model} {split}, Self-Backtracking at N={many['N']} against N={few['N']}"
            rises.append(compare(label, many, few))
    # Half of the claim alone is no test of it.
    return _report(falls + rises), verdict(falls + rises if falls and rises else [])


def _improvement(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    if "round" not in rows:
        return "", NOT_TESTED
    found, notes = [], []
    for model, split, cell in _cells(rows):
        rounds = cell[cell["method"] == "self_improved_greedy"].dropna(subset=["round"])
        # The claim is of three rounds, whatever more there are.
        rounds = rounds[rounds["round"] <= PAPER_ROUNDS].sort_values("round")
        if rounds["round"].nunique() < 2:
            continue
        start, end = rounds.iloc[0], rounds.iloc[-1]
        label = f"{model} {split}, greedy after round {end['round']} against {start['round']}"
        found.append(compare(label, end, start))
        if (search := _search(cell, depth=1)) is not None:
            notes.append(f"{model} {split}, slow thinking: {100 * search['accuracy']:.1f}")
    return "; ".join(filter(None, [_report(found), *notes])), verdict(found)


def _new_targets(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    found = []
    for model in _models(rows):
        seen, new = (
            _search(rows[(rows["model"] == model) & (rows["split"] == split)], depth=1)
            for split in ("seen", "new")
        )
        if seen is not None and new is not None:
            found.append(compare(f"{model}, {_setting(new)}, new against seen", new, seen))
    if not found:
        return "", NOT_TESTED
    if all(each.low > -SAME and each.high < SAME for each in found):
        return _report(found), REPRODUCED
    if all(each.high < -SAME for each in found):
        return _report(found), REVERSED
    return _report(found), NOT_REPRODUCED


def _sizes(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    # Two halves: L computes better, and still loses. An L that computes worse is no test of it.
    loses, computes = [], []
    for split in ("seen", "new"):
        small, large = (
            _search(rows[(rows["model"] == model) & (rows["split"] == split)], depth=1)
            for model in ("S", "L")
        )
        if small is not None and large is not None:
            loses.append(compare(f"{split}, {_setting(small)}, S against L", small, large))
        right = [_right_results(rows, model, split) for model in ("L", "S")]
        if None not in right:
            label = f"{split}, SFT greedy without a wrong result in a step, L against S"
            computes.append(compare(label, *right, right=lambda cell: cell["error"] != BAD_RESULT))
    return _report(loses + computes), verdict(loses + computes if loses and computes else [])


def _right_results(rows: pd.DataFrame, model: str, split: str) -> dict | None:
    """A row of the share of problems that SFT greedy does not fail by a wrong result in a step."""
    if not {"error", "share"} <= set(rows.columns):
        return None
    found = rows[(rows["artifact"] == "figure_5") & (rows["method"] == "sft_greedy")]
    found = found[(found["model"] == model) & (found["split"] == split)]
    found = found[found["error"] == BAD_RESULT]
    if found.empty:
        return None
    cell = found.iloc[0]
    share = 1 - float((1 - cell["accuracy"]) * cell["share"])
    low, high = wilson_interval(share * cell["problems"], int(cell["problems"]))
    named = {"artifact": "table_1", "method": "sft_greedy", "model": model, "split": split}
    return named | {"accuracy": share, "low": low, "high": high}


def _limitation(rows: pd.DataFrame, compare: Compare) -> tuple[str, str]:
    return "every row of this run is of one task", NOT_TESTED


JUDGES = {
    1: _gain,
    2: _no_backtracking,
    3: _breadth,
    4: _improvement,
    5: _new_targets,
    6: _sizes,
    7: _limitation,
}


def _report(found: list[Difference]) -> str:
    return "; ".join(str(each) for each in found)


def _models(rows: pd.DataFrame) -> list[str]:
    return [model for model in ("S", "L") if (rows["model"] == model).any()]


def _cells(rows: pd.DataFrame) -> Iterable[tuple[str, str, pd.DataFrame]]:
    for model in _models(rows):
        for split in ("seen", "new"):
            cell = rows[(rows["model"] == model) & (rows["split"] == split)]
            if len(cell):
                yield model, split, cell


PAPER_ROUNDS = 3
TABLES = ("table_1", "figure_4", "table_2", "figure_3")  # where a method is looked for, in order


def _ordered(cell: pd.DataFrame) -> pd.DataFrame:
    place = cell["artifact"].map({name: number for number, name in enumerate(TABLES)})
    return cell.assign(place=place).dropna(subset=["place"]).sort_values("place", kind="stable")


def _one(cell: pd.DataFrame, method: str, breadth: int | None = None) -> pd.Series | None:
    found = _ordered(cell[cell["method"] == method])
    if breadth is not None:
        found = found[(found["N"] == breadth).fillna(False)]
    return None if found.empty else found.iloc[0]


def _search(cell: pd.DataFrame, depth: int) -> pd.Series | None:
    """Self-Backtracking at this b and the largest N that the first table has."""
    found = cell[(cell["method"] == "self_backtracking") & (cell["b"] == depth).fillna(False)]
    found = _ordered(found)
    if found.empty:
        return None
    found = found[found["place"] == found["place"].iloc[0]]
    return found.sort_values("N", kind="stable").iloc[-1]


def _setting(search: pd.Series) -> str:
    return f"b={search['b']} N={search['N']}"
