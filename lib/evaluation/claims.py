"""The paper's claims judged: each a set of differences of accuracy, by one stated rule (RULE).

Takes the tidy rows of lib/evaluation/results.py; gives claims_table, and the same as rows for
results.json. Nothing is typed by hand but the margins, which are named below. Knows nothing of how
the rows were measured.
"""

from collections.abc import Iterable

import pandas as pd

from lib.evaluation.paper import CLAIMS
from lib.evaluation.results import row, table
from lib.evaluation.statistics import Difference, difference, wilson_interval
from lib.tasks.task import BAD_RESULT

GAIN = 0.40  # claim 1 states it
CONSIDERABLE = 0.10  # claim 2 says "considerable": ten points are asked
SAME = 0.05  # claim 5 says "about what": within five points
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
REVERSED, NOT_TESTED = "reversed", "not tested"
RULE = (
    "A claim is a set of differences of accuracy, each claimed to lie above a margin (0 if none is "
    "named). It is *reproduced* when every difference's 95% interval (Newcombe's, the two methods "
    "taken as independent) lies above its margin, *reversed* when every interval lies below 0, "
    "*not reproduced* otherwise, *not tested* when the run has no rows for it. Self-Backtracking "
    "stands with the run's largest N, and b=1 where no other b is named. Claim 5 is reproduced "
    f"when every interval lies within {100 * SAME:.0f} points of 0, and reversed when new targets "
    "score lower by more than that. No verdict corrects for the number of claims."
)


def verdict(differences: list[Difference]) -> str:
    """The stated rule (RULE) on one claim's differences."""
    if not differences:
        return NOT_TESTED
    if all(each.low > each.margin for each in differences):
        return REPRODUCED
    if all(each.high < 0 for each in differences):
        return REVERSED
    return NOT_REPRODUCED


def claims_table(rows: pd.DataFrame) -> pd.DataFrame:
    """-> claim (its number), text, evidence (numbers for and against), verdict."""
    known = headline(rows) if len(rows) else table([])
    records = []
    for number, text in CLAIMS.items():
        evidence, judged = JUDGES[number](known)
        records.append({"claim": number, "text": text, "evidence": evidence, "verdict": judged})
    return pd.DataFrame(records)


def claims_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """`claims_table` as tidy rows of results.json (artifact `claims`)."""
    return table(
        row("claims", **{key: claim[key] for key in ("claim", "evidence", "verdict")})
        for claim in claims_table(rows).to_dict("records")
    )


def _gain(rows: pd.DataFrame) -> tuple[str, str]:
    found = []
    for model, split, cell in _cells(rows):
        best, plain = _search(cell, depth=1), _one(cell, "sft_greedy")
        if best is not None and plain is not None:
            found.append(difference(f"{model} {split}, {_setting(best)}", best, plain, GAIN))
    return _report(found), verdict(found)


def _no_backtracking(rows: pd.DataFrame) -> tuple[str, str]:
    found = []
    for model, split, cell in _cells(rows):
        free = _search(cell, depth=0)
        if free is None:
            continue
        if (plain := _one(cell, "sft_greedy")) is not None:
            label = f"{model} {split}, {_setting(free)} against SFT greedy"
            found.append(difference(label, free, plain, CONSIDERABLE))
        if (reward := _one(cell, "best_of_n", free["N"])) is not None:
            label = f"{model} {split}, {_setting(free)} against best-of-N with a reward model"
            found.append(difference(label, free, reward))
    return _report(found), verdict(found)


def _breadth(rows: pd.DataFrame) -> tuple[str, str]:
    falls, rises = [], []
    for model, split, cell in _cells(rows):
        cell = _ordered(cell)
        reward = cell[cell["method"] == "best_of_n"].sort_values("N")
        if reward["N"].nunique() < 2:
            continue
        few, many = reward.iloc[0], reward.iloc[-1]
        label = f"{model} {split}, best-of-N at N={few['N']} against N={many['N']}"
        falls.append(difference(label, few, many))
        search = cell[(cell["method"] == "self_backtracking") & (cell["b"] == 1).fillna(False)]
        # At the same N as best-of-N: from a smaller one on, any method would rise further.
        search = search[search["N"].isin(reward["N"])].sort_values("N", kind="stable")
        if search["N"].nunique() > 1:
            few, many = search.iloc[0], search.iloc[-1]
            label = f"{model} {split}, Self-Backtracking at N={many['N']} against N={few['N']}"
            rises.append(difference(label, many, few))
    # Half of the claim alone is no test of it.
    return _report(falls + rises), verdict(falls + rises if falls and rises else [])


def _improvement(rows: pd.DataFrame) -> tuple[str, str]:
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
        found.append(difference(label, end, start))
        if (search := _search(cell, depth=1)) is not None:
            notes.append(f"{model} {split}, slow thinking: {100 * search['accuracy']:.1f}")
    return "; ".join(filter(None, [_report(found), *notes])), verdict(found)


def _new_targets(rows: pd.DataFrame) -> tuple[str, str]:
    found = []
    for model in _models(rows):
        seen, new = (
            _search(rows[(rows["model"] == model) & (rows["split"] == split)], depth=1)
            for split in ("seen", "new")
        )
        if seen is not None and new is not None:
            found.append(difference(f"{model}, {_setting(new)}, new against seen", new, seen))
    if not found:
        return "", NOT_TESTED
    if all(each.low > -SAME and each.high < SAME for each in found):
        return _report(found), REPRODUCED
    if all(each.high < -SAME for each in found):
        return _report(found), REVERSED
    return _report(found), NOT_REPRODUCED


def _sizes(rows: pd.DataFrame) -> tuple[str, str]:
    # Two halves: L computes better, and still loses. An L that computes worse is no test of it.
    loses, computes = [], []
    for split in ("seen", "new"):
        small, large = (
            _search(rows[(rows["model"] == model) & (rows["split"] == split)], depth=1)
            for model in ("S", "L")
        )
        if small is not None and large is not None:
            loses.append(difference(f"{split}, {_setting(small)}, S against L", small, large))
        right = [_right_results(rows, model, split) for model in ("L", "S")]
        if None not in right:
            label = f"{split}, SFT greedy without a wrong result in a step, L against S"
            computes.append(difference(label, *right))
    return _report(loses + computes), verdict(loses + computes if loses and computes else [])


def _right_results(rows: pd.DataFrame, model: str, split: str) -> dict[str, float] | None:
    """The share of all problems that SFT greedy does not fail by a wrong result in a step."""
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
    return {"accuracy": share, "low": low, "high": high}


def _limitation(rows: pd.DataFrame) -> tuple[str, str]:
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


PAPER_SELECTION = "mean_logprob"  # section 3.3: the highest mean log-probability
# What a cell's rows may differ in and still be one cell; any other column (round ...) parts it.
MEASURED = {"selection", "checker", "seed", "accuracy", "low", "high", "problems"}
MEASURED |= {"tokens_per_problem", "seconds", "failures", "share", "loss"}
MEASURED |= {"only_strict", "only_published", "share_low", "share_high"}


def headline(rows: pd.DataFrame, artifacts: Iterable[str] | None = None) -> pd.DataFrame:
    """The strict checker's accuracies, one row a cell, with the paper's selection rule where there
    is a choice (a cell without it keeps its first rule by name). Seeds are pooled."""
    rows = table(rows)
    kept = rows[rows["accuracy"].notna() & (rows["checker"].fillna("strict") == "strict")]
    if artifacts is not None:
        kept = kept[kept["artifact"].isin(list(artifacts))]
    if kept.empty:
        return kept
    keys = [name for name in kept if name not in MEASURED]
    rank = kept["selection"].fillna(PAPER_SELECTION) != PAPER_SELECTION
    kept = kept.assign(rank=rank).sort_values(["rank", "selection"], kind="stable")
    first = kept.groupby(keys, dropna=False, sort=False)["selection"].transform("first")
    kept = kept[(kept["selection"] == first) | kept["selection"].isna()].drop(columns="rank")
    return pd.DataFrame(
        [_pooled(cell) for _, cell in kept.groupby(keys, dropna=False, sort=True)],
        columns=kept.columns,
    ).reset_index(drop=True)


def _pooled(cell: pd.DataFrame) -> pd.Series:
    first = cell.iloc[0].copy()
    if len(cell) > 1 and cell["problems"].notna().all():
        problems = int(cell["problems"].sum())
        right = float((cell["accuracy"] * cell["problems"].astype(float)).sum())
        first["accuracy"], first["problems"] = right / problems, problems
        first["low"], first["high"] = wilson_interval(right, problems)
        first["tokens_per_problem"] = cell["tokens_per_problem"].mean()
        for name in {"only_strict", "only_published"} & set(cell):
            first[name] = cell[name].sum(skipna=False)
    return first
