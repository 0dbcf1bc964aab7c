"""Is search worth its compute? Accuracy against tokens, N, temperature and b.

Takes an experiment and a model; gives tidy rows (artifact `compute`) on the same problems
throughout: Self-Backtracking at every b, independent samples of the SFT model with the same
selection (sft_sampled) or by vote (self_consistency), and beam search. One search of N samples
serves every smaller N: its first n samples are n independent ones. A comparison that the paper does
not make. Knows nothing of figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from lib.base import files
from lib.drawing.style import (
    MARKERS,
    PALETTE,
    curve,
    found_rows,
    grid,
    handle,
    legend,
    percent,
    powers,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.evaluation.states import sample_order
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.search.selection import SELECTION_RULES, TreePath, paths
from lib.search.tree import SearchTree, tokens_after
from lib.studies import measurements

#: method -> which stage is sampled, and the rule that chooses (None: the profile's).
SAMPLED = {
    "sft_sampled": ("sft", None),
    "self_consistency": ("sft", "vote"),
    "self_backtracking": ("backtracking", None),
}

#: What a search with b > 0 is compared with at equal tokens.
EQUAL = ("self_backtracking", "sft_sampled", "self_consistency")


def first_samples(
    trees: Iterable[SearchTree],
    problems: pd.DataFrame,
    task: object,
    breadths: Sequence[int],
    rules: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """What the first n of a tree's N independent samples give, for each n and rule.

    One row a problem, n and rule: correct, covered (some finished path is right) and tokens.
    """
    rows = list(problems.itertuples(index=False))
    records = []
    for tree in trees:
        problem = rows[tree.problem_id]
        order = sample_order(tree, seed)
        tokens = tokens_after(tree, order)
        found = {path.leaf: path for path in paths(tree) if path.kind == "goal"}
        right = {leaf: task.check(problem, path.text).correct for leaf, path in found.items()}
        for breadth in breadths:
            leaves, counts = np.unique(order[:breadth], return_counts=True)
            drawn = [
                (found[leaf], count)
                for leaf, count in zip(leaves.tolist(), counts.tolist(), strict=True)
                if leaf in found
            ]
            covered = any(right[path.leaf] for path, _ in drawn)
            for rule in rules:
                chosen = _choose(drawn, rule)
                records.append(
                    {
                        "problem": tree.problem_id,
                        "N": breadth,
                        "selection": rule,
                        "correct": chosen is not None and right[chosen],
                        "covered": covered,
                        "tokens": tokens[breadth - 1],
                    }
                )
    return pd.DataFrame(records)


def _choose(drawn: Sequence[tuple[TreePath, int]], rule: str) -> int | None:
    if not drawn:
        return None
    order = SELECTION_RULES[rule].order
    # A rule that counts samples must count those drawn, not the whole tree's.
    own = [TreePath(**(vars(path) | {"visits": count})) for path, count in drawn]
    return min(own, key=lambda path: (*(-part for part in order(path)), path.leaf)).leaf


def trees_of(
    experiment: Experiment,
    model: str,
    stage: str,
    split: str,
    setting: tuple[int, int, float],
) -> tuple[Artifact, pd.DataFrame]:
    """A search (N, b, temperature) of the compute problems, or of more where a table has it."""
    breadth, depth, temperature = setting
    search, count = experiment.profile.search, experiment.profile.compute.problems
    middle = search.breadths[(len(search.breadths) - 1) // 2]
    in_table = stage == "backtracking" and breadth in search.breadths and depth in search.depths
    in_table &= temperature == search.temperature or (
        model == "S" and breadth == middle and temperature in search.temperatures
    )
    problems = experiment.test_problems(model, split)
    problems = problems if in_table else problems.iloc[:count]
    made = experiment.search(
        experiment.checkpoint(model, stage),
        problems,
        experiment.spec(breadth, depth, temperature=temperature),
    )
    return made, problems


def sampled(experiment: Experiment, model: str, stage: str, setting: tuple) -> pd.DataFrame:
    """`first_samples` of one search at b = 0 on both test splits, made once."""
    compute = experiment.profile.compute
    breadth = setting[0]
    breadths = [n for n in compute.breadths if n <= breadth]
    rules = [*dict.fromkeys([experiment.profile.search.selection, "vote"])]
    parts = []
    for split in TEST_SPLITS:
        made, problems = trees_of(experiment, model, stage, split, setting)
        inputs = {"search": made.key, "breadths": breadths, "rules": rules}
        inputs["problems"] = compute.problems

        def make(folder: Path, made=made, problems=problems) -> None:
            trees = experiment.read_trees(made)[: compute.problems]
            found = first_samples(
                trees, problems, experiment.task, breadths, rules, experiment.seed
            )
            files.write_parquet(folder / "samples.parquet", found)

        artifact = experiment.run.make(f"samples/{made.name}", inputs, make)
        parts.append(files.read_parquet(artifact.path / "samples.parquet").assign(split=split))
    return pd.concat(parts, ignore_index=True)


def _rows(found: pd.DataFrame, **columns: object) -> list[dict]:
    """An accuracy row for each split and N of per-problem outcomes, and its pass@N."""
    rows = []
    for (split, breadth), cell in found.groupby(["split", "N"]):
        known = columns | {"artifact": "compute", "split": split, "N": int(breadth)}
        known |= {"checker": "strict", "tokens_per_problem": float(cell["tokens"].mean())}
        extra = {"ceiling": float(cell["covered"].mean())}
        rows.append(scoring.accuracy_row(cell["correct"], **known) | extra)
    return rows


def _sampled_rows(experiment: Experiment, model: str, setting: tuple, only=None) -> list[dict]:
    rows, search = [], experiment.profile.search
    known = {"model": model, "b": 0, "temperature": setting[2], "seed": experiment.seed}
    for method, (stage, rule) in SAMPLED.items():
        rule = rule or search.selection
        found = sampled(experiment, model, stage, setting)
        found = found[found["selection"] == rule]
        if only is not None:
            found = found[found["N"] == only]
        rows += _rows(found, method=method, selection=rule, **known)
    return rows


def _searched_rows(experiment: Experiment, model: str, setting: tuple) -> list[dict]:
    rule, parts = experiment.profile.search.selection, []
    for split in TEST_SPLITS:
        made, problems = trees_of(experiment, model, "backtracking", split, setting)
        found = measurements.search_outcomes(experiment, made, problems)
        found = found[found["problem"] < experiment.profile.compute.problems]
        parts.append(found[found["selection"] == rule].assign(split=split))
    known = {"model": model, "b": setting[1], "temperature": setting[2], "seed": experiment.seed}
    return _rows(pd.concat(parts), method="self_backtracking", selection=rule, **known)


def _beam_rows(experiment: Experiment, model: str, beams: int) -> list[dict]:
    count, search = experiment.profile.compute.problems, experiment.profile.search
    problems = experiment.test_problems(model)
    if beams not in (1, search.beams):  # those are in Table 1, on all the problems
        problems = problems.groupby("split", sort=False).head(count).reset_index(drop=True)
    checkpoint = experiment.checkpoint(model, "sft")
    decoded = experiment.decode(checkpoint, problems, beams)
    found = scoring.response_outcomes(decoded["text"], problems, experiment.task)
    found = found.assign(tokens=decoded["tokens"].to_numpy() * beams, N=beams)
    found = found.assign(covered=found["correct"]).groupby("split", sort=False).head(count)
    method = "sft_greedy" if beams == 1 else "sft_beam"
    return _rows(found, method=method, model=model, seed=experiment.seed)


def compute_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """Every row of artifact `compute` for one model; empty where the profile does not ask."""
    compute, search = experiment.profile.compute, experiment.profile.search
    if compute is None or model not in compute.models:
        return table([])
    most, usual = max(compute.breadths), search.temperature
    rows = _sampled_rows(experiment, model, (most, 0, usual))
    for breadth, depth in compute.searches:
        rows += _searched_rows(experiment, model, (breadth, depth, usual))
    for temperature in compute.temperatures:
        at = compute.temperature_breadth
        if temperature == usual:
            continue  # it is among the rows above
        rows += _sampled_rows(experiment, model, (at, 0, temperature), only=at)
        rows += _searched_rows(experiment, model, (at, 1, temperature))
    for beams in compute.beams:
        rows += _beam_rows(experiment, model, beams)
    return table(rows)


def equal_tokens(rows: pd.DataFrame) -> pd.DataFrame:
    """Self-Backtracking with b > 0 against what b = 0 and the SFT model's samples reach with as
    many tokens: their accuracy at that cost, linear in log tokens between two N that bracket it.

    NaN where no two N do. One row a model, split, N and b at the usual temperature.
    """
    known = table(rows)
    known = known[known["artifact"] == "compute"]
    columns = ["model", "split", "N", "b", "tokens", "accuracy", "low", "high"]
    columns += ["b0_at_equal_tokens", "sft_at_equal_tokens", "vote_at_equal_tokens"]
    if known.empty:
        return pd.DataFrame(columns=columns)
    usual = known.loc[known["method"] == "sft_sampled", "temperature"].mode()
    known = known[known["temperature"].isna() | known["temperature"].isin(usual)]
    records = []
    deep = known[(known["method"] == "self_backtracking") & (known["b"] > 0).fillna(False)]
    for cell in deep.to_dict("records"):
        here = known[(known["model"] == cell["model"]) & (known["split"] == cell["split"])]
        here = here[here["b"] == 0]
        record = {name: cell[name] for name in ("model", "split", "N", "b")}
        record |= {name: cell[name] for name in ("accuracy", "low", "high")}
        record["tokens"] = cell["tokens_per_problem"]
        for name, method in zip(columns[-3:], EQUAL, strict=True):
            line = here[here["method"] == method].sort_values("tokens_per_problem")
            at = np.log(cell["tokens_per_problem"])
            cost = np.log(line["tokens_per_problem"].to_numpy())
            known_there = len(line) and cost[0] <= at <= cost[-1]
            record[name] = np.interp(at, cost, line["accuracy"]) if known_there else np.nan
        records.append(record)
    return pd.DataFrame(records, columns=columns).sort_values(
        ["model", "split", "b", "N"], ignore_index=True
    )


NAMES = {
    "sft_greedy": "SFT, greedy",
    "sft_beam": "SFT, beam search",
    "sft_sampled": "SFT, most probable of N samples",
    "self_consistency": "SFT, most frequent of N samples",
}
TICKS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def _series(found: pd.DataFrame) -> pd.DataFrame:
    names = [
        f"Self-Backtracking, b={b}" if method == "self_backtracking" else NAMES[method]
        for method, b in found[["method", "b"]].itertuples(index=False)
    ]
    return found.assign(series=names)


def _usual(found: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of other temperatures: those that have the most N."""
    usual = found.groupby("temperature")["N"].nunique().idxmax()
    return found[found["temperature"].isna() | (found["temperature"] == usual)]


def _draw(found: pd.DataFrame, x: str, finish: Callable[[Axes], None]) -> Figure:
    order = sorted(found["series"].unique(), key=lambda name: (name[:3] == "SFT", len(name), name))
    figure, grid_panels = grid(found)
    for panel, model, split in grid_panels:
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, name in enumerate(order):
            line = here[here["series"] == name]
            style = {"colour": PALETTE[number], "marker": MARKERS[number]}
            curve(panel, line, x, **style)
        finish(panel)
    for panel, *_ in grid_panels:
        percent(panel)
    handles = [handle(name, PALETTE[n], marker=MARKERS[n]) for n, name in enumerate(order)]
    legend(figure, handles, columns=3)
    return figure


@styled
def against_tokens(rows: pd.DataFrame) -> Figure:
    """Every method at the usual temperature: accuracy against the tokens of a problem."""
    found = _series(_usual(found_rows(rows, "compute")))
    low, high = found["tokens_per_problem"].min(), found["tokens_per_problem"].max()

    def finish(panel: Axes) -> None:
        panel.set_xscale("log")
        panel.set_xticks([tick for tick in TICKS if 0.7 * low <= tick <= 1.4 * high])
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
        panel.set_xlabel("tokens generated for a problem")

    return _draw(found, "tokens_per_problem", finish)


@styled
def against_breadth(rows: pd.DataFrame) -> Figure:
    """Accuracy against N: samples, or beams."""
    found = _series(_usual(found_rows(rows, "compute")))

    def finish(panel: Axes) -> None:
        powers(panel, found["N"])
        panel.set_xlabel("N (samples, or beams)")

    return _draw(found, "N", finish)


@styled
def against_temperature(rows: pd.DataFrame) -> Figure:
    """Accuracy against the temperature, at the N that all temperatures have."""
    found = _series(found_rows(rows, "compute").dropna(subset=["temperature"]))
    temperatures = found.groupby("N")["temperature"].nunique()
    found = found[found["N"] == temperatures.idxmax()]
    varied = found.groupby("series")["temperature"].transform("nunique") > 1
    found = found[varied] if varied.any() else found

    def finish(panel: Axes) -> None:
        panel.set_xlabel(f"temperature (N={temperatures.idxmax()})")

    return _draw(found, "temperature", finish)


@styled
def against_depth(rows: pd.DataFrame) -> Figure:
    """Self-Backtracking's accuracy against b, a line for each N that has more than one."""
    found = _usual(found_rows(rows, "compute"))
    found = found[found["method"] == "self_backtracking"]
    several = found.groupby("N")["b"].transform("nunique") > 1
    found = found[several] if several.any() else found
    found = found.assign(series=[f"N={n}" for n in found["N"]])

    def finish(panel: Axes) -> None:
        panel.set_xticks(sorted(found["b"].unique().astype(int)))
        panel.set_xlabel("b (roll-backs)")

    return _draw(found, "b", finish)
