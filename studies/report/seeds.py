"""Several seeds of one profile: what Table 1's methods solve in each, and in all together.

Takes the outcomes of runs of the same settings; gives tables of accuracies and of paired
differences, each seed's and their mean with an interval that counts the seed and the target as
sources of variance. Empty where there is one run. Knows nothing of how an outcome was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.drawing.markdown import methods_table, points
from lib.evaluation.outcomes import (
    FILE,
    accuracy,
    by_seed,
    difference,
    of_cell,
    outcome_table,
    read_outcomes,
)
from lib.evaluation.results import read_results
from lib.evaluation.scoring import CONTROL, RECIPE, SEARCH
from lib.evaluation.statistics import DRAWS
from lib.profiles.load import extended_by, profile_names

#: Sections of a profile that decide what its models are, and how they are measured.
DECISIVE = ("task", "data", "traces", "training", "search")
#: What of them decides only how much is measured, or how fast.
ASIDE = ("test_problems", "breadths", "depths", "temperatures", "processes", "chunk", "rounds")
KEYS = ["method", "b", "N", "model", "split"]
NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}
HOW = (
    "Table 1's methods, in % by the strict checker: the mean of the seeds, its 95% interval, and "
    "each seed's own. A seed draws its own problems, held-out targets and models. The interval is "
    f"a hierarchical bootstrap's of {DRAWS:,} draws: of seeds, and within a seed of targets with "
    "all their problems, so that both are sources of variance; with Student's t in place of its "
    "percentiles, which of few seeds are too narrow. Differences are paired on the same problems. "
    "A value that not every seed has stands with the seeds that have it."
)


def seed_folders(root: Path, profile: str) -> list[Path]:
    """The folders of a profile's runs that have outcomes, and of those of profiles that extend it;
    none where its own has none."""
    own = root / "figures" / profile
    names = {profile, *(name for name in profile_names() if extended_by(name) == profile)}
    parts = {path: path.name.rpartition("-") for path in own.parent.glob("*-*")}
    numbered = [path for path, (name, _, n) in parts.items() if name in names and n.isdigit()]
    numbered.sort(key=lambda path: (int(parts[path][2]), path.name))
    found = [folder for folder in (own, *numbered) if (folder / FILE).exists()]
    return found if own in found else []


def read_seeds(folders: Sequence[Path]) -> pd.DataFrame | None:
    """The outcomes of all of these runs; None without any.

    Raises `UserError` where two runs differ in their settings, or in nothing, not even the seed.
    """
    known: dict[Path, Mapping] = {}
    for folder in folders:
        manifest, _ = read_results(folder / "results.json")
        for other, others in known.items():
            differs = not _alike(manifest.get("settings") or {}, others.get("settings") or {})
            if differs or manifest.get("seed") == others.get("seed"):
                what = "other settings than" if differs else "the seed of"
                raise UserError(f"{folder}: made with {what} {other}; make it anew or remove it")
        known[folder] = manifest
    found = [read_outcomes(folder / FILE) for folder in folders]
    return outcome_table(found) if found else None


def _alike(settings: Mapping, others: Mapping) -> bool:
    """Whether two runs' settings give the same models and searches, as far as both have them."""

    def decisive(section: object) -> object:
        if not isinstance(section, Mapping):
            return section
        return {
            name: decisive(value)
            for name, value in section.items()
            if name not in ASIDE and value is not None  # None: a key that one of the two has not
        }

    models, more = (each.get("models") or {} for each in (settings, others))
    pairs = [(settings.get(name) or {}, others.get(name) or {}) for name in DECISIVE]
    pairs += [(models[name], more[name]) for name in models.keys() & more.keys()]
    return all(decisive(one) == decisive(other) for one, other in pairs)


def over_sft(cell: Mapping) -> dict | None:
    """What a method is compared with: the cell of SFT's greedy decoding."""
    return (
        None if cell["method"] == "sft_greedy" else {"method": "sft_greedy", "b": None, "N": None}
    )


def over_recipe(cell: Mapping) -> dict | None:
    """The paper's recipe in the same search: for ours, and for its control."""
    return {"method": RECIPE} if cell["method"] in (SEARCH, CONTROL) else None


def over_no_roll_back(cell: Mapping) -> dict | None:
    """The same search at b=0."""
    return {"b": 0} if not pd.isna(cell["b"]) and cell["b"] > 0 else None


def pooled(
    outcomes: pd.DataFrame, base: Callable[[Mapping], dict | None] | None = None
) -> pd.DataFrame:
    """A row a cell of Table 1 that several seeds have: `seeds` (each one's value), mean, low, high.

    The value is the accuracy; with `base`, which names the cell to compare with, what is gained.
    """
    outcomes = outcomes[outcomes["artifact"] == "table_1"]
    rows = []
    for key, cell in outcomes.groupby(KEYS, dropna=False, observed=True):
        named = dict(zip(KEYS, key, strict=True))
        if base is None:
            each, (mean, low, high) = by_seed(cell), accuracy(cell)
        elif (change := base(named)) is None:
            continue
        else:
            other = of_cell(outcomes, named | change)
            if (found := difference(cell, other)) is None:
                continue
            first, second, low, high = found
            mean, each = first - second, (by_seed(cell) - by_seed(other)).dropna()
        if len(each) > 1:
            rows.append(named | {"seeds": each, "mean": mean, "low": low, "high": high})
    made = pd.DataFrame(rows, columns=[*KEYS, "seeds", "mean", "low", "high"])
    return made.astype({"b": "Int64", "N": "Int64"})


def seeds_named(outcomes: pd.DataFrame | None) -> str:
    """Which seeds there are, in words; empty where there is one run."""
    seeds = [] if outcomes is None else sorted(outcomes["seed"].unique())
    return f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else ""


def seeds_markdown(outcomes: pd.DataFrame | None) -> str:
    """The section of several runs; empty where there is one."""
    named = seeds_named(outcomes)
    table = pooled(outcomes) if named else pd.DataFrame()
    if table.empty:
        return ""
    seeds = sorted(outcomes["seed"].unique())
    parts = [f"## {NUMBERS.get(len(seeds), len(seeds))} seeds", f"{named.capitalize()}. {HOW}"]
    parts.append(methods_table(table, "accuracy", partial(_cell, seeds=seeds)))
    for base, head in BASES.items():
        if len(found := pooled(outcomes, base)):
            gain = partial(_gain, seeds=seeds)
            parts.append(methods_table(found, f"gain over {head}, points", gain))
    return "\n\n".join(parts)


BASES = {
    over_sft: "SFT greedy",
    over_no_roll_back: "b=0",
    over_recipe: "the paper's recipe in the same search",
}


def _cell(row: Mapping, seeds: Sequence[int]) -> str:
    low, high = 100 * row["low"], 100 * row["high"]
    each = _each(row, seeds, lambda value: f"{100 * value:.1f}")
    return f"**{100 * row['mean']:.1f}** [{low:.1f}, {high:.1f}] ({each})"


def _gain(row: Mapping, seeds: Sequence[int]) -> str:
    return f"{points(row['mean'], row['low'], row['high'])} ({_each(row, seeds, points)})"


def _each(row: Mapping, seeds: Sequence[int], shown: Callable[[float], str]) -> str:
    """Each seed's value; with the seeds where the row has not all of them."""
    named = "" if [*row["seeds"].index] == [*seeds] else "{}: "
    return ", ".join(named.format(seed) + shown(value) for seed, value in row["seeds"].items())
