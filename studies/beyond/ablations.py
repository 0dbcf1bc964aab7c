"""Ablations: what each part of the training recipe is worth, at equal examples.

Takes a profile and seeds; trains S's backtracking model once for each variant and seed and measures
it on validation problems (none is a test problem, so the winner may be chosen here): rows (artifact
`ablation`) of greedy accuracy, pass@N and Self-Backtracking's accuracy. It trains eleven models a
seed, which takes hours, and over seeds of its own: so `make ablations` (commands/ablations.py)
makes the rows, and no run asks for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.base.files import ROOT
from lib.drawing.markdown import markdown_table
from lib.drawing.style import (
    DEPTH_COLOURS,
    METHOD_COLOURS,
    WIDTH,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation import results, scoring
from lib.experiment.artifacts import Artifact, Run
from lib.experiment.experiment import Experiment
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.search.selection import SELECTION_RULES
from studies.study import Figure, Study

SEEDS = (0, 1, 2)
GROUPS = {
    "optimizer": "optimiser",
    "batch": "batch size",
    "loss": "loss, part by part",
    "start": "start",
}
ORDER = ("muon", "adamw", "paper mask", "honest mask", "+ near misses", "+ verdict weight")
ORDER += ("trunk and branch", "from zero")
COMMITTED = ROOT / "figures" / "ablations"
#: AdamW's own learning rate: at 4e-3, which Muon takes, it diverges or stalls.
ADAMW_RATE = 1e-3
BATCH_SIZES = (32, 64, 128)
COLUMNS = {
    "backtracking_data_greedy": "greedy",
    "pass_at_n": "pass@N",
    "self_backtracking": "Self-Backtracking",
}
GREEDY, CEILING, SEARCH = COLUMNS


@dataclass(frozen=True)
class Variant:
    """One way to train: what it belongs to, its name, how it changes a profile."""

    group: str
    name: str
    change: Callable[[Profile], Profile]
    from_zero: bool = False  # no trunk: all examples in one training from random weights


def variants(profile: Profile) -> list[Variant]:
    """Every variant; in each group one of them is the profile's own recipe."""
    near_miss, batch = profile.traces.near_miss, profile.training.branch.batch_size
    sizes = sorted({*BATCH_SIZES, batch})
    return [
        Variant("optimizer", "muon", lambda p: with_recipes(p, muon)),
        Variant("optimizer", "adamw", lambda p: with_recipes(p, adamw)),
        *(Variant("batch", str(n), lambda p, n=n: with_recipes(p, batch_of(n))) for n in sizes),
        Variant("loss", "paper mask", lambda p: with_loss(p, "paper", 0.0, 1.0)),
        Variant("loss", "honest mask", lambda p: with_loss(p, "honest", 0.0, 1.0)),
        Variant("loss", "+ near misses", lambda p: with_loss(p, "honest", near_miss, 1.0)),
        Variant("loss", "+ verdict weight", lambda p: p),
        Variant("start", "trunk and branch", lambda p: p),
        Variant("start", "from zero", lambda p: p, from_zero=True),
    ]


def muon(recipe: Recipe) -> Recipe:
    """The recipe with Muon, as it is where it has Muon already."""
    return replace(recipe, optimizer="muon")


def adamw(recipe: Recipe) -> Recipe:
    """The recipe with AdamW at its own learning rate."""
    if recipe.optimizer == "adamw":
        return recipe
    return replace(
        recipe, optimizer="adamw", learning_rate=ADAMW_RATE, adamw_learning_rate=ADAMW_RATE
    )


def batch_of(size: int) -> Callable[[Recipe], Recipe]:
    """Batches of `size`: the rates follow its square root, the warm-up has as many examples."""

    def change(recipe: Recipe) -> Recipe:
        if size == recipe.batch_size:
            return recipe
        ratio = size / recipe.batch_size
        return replace(
            recipe,
            batch_size=size,
            learning_rate=recipe.learning_rate * ratio**0.5,
            adamw_learning_rate=recipe.adamw_learning_rate * ratio**0.5,
            warmup_steps=round(recipe.warmup_steps / ratio),
        )

    return change


def with_recipes(profile: Profile, change: Callable[[Recipe], Recipe]) -> Profile:
    """The profile with its trunk's and branch's recipes changed."""
    training = profile.training
    changed = replace(training, trunk=change(training.trunk), branch=change(training.branch))
    return replace(profile, training=changed)


def with_loss(profile: Profile, loss: str, near_miss: float, verdict_weight: float) -> Profile:
    """The profile with another mask, share of near misses and verdict weight."""
    profile = replace(profile, traces=replace(profile.traces, loss=loss, near_miss=near_miss))
    return with_recipes(profile, lambda recipe: replace(recipe, verdict_weight=verdict_weight))


def quick(profile: Profile) -> Profile:
    """The profile with a twentieth of its examples and few problems: does everything run?"""
    return shortened(replace(profile, search=replace(profile.search, breadths=(4,))), 1 / 20)


def shortened(profile: Profile, share: float) -> Profile:
    """The profile with S alone, on a share of its examples and of its validation problems."""
    sizes, data = profile.models["S"], profile.data
    data = replace(data, validation_problems=math.ceil(data.validation_problems * share))
    small = replace(
        sizes,
        trunk_examples=max(min(128, sizes.trunk_examples), int(sizes.trunk_examples * share)),
        branch_examples=max(min(256, sizes.branch_examples), int(sizes.branch_examples * share)),
    )
    return replace(profile, models={"S": small}, data=data)


def trained(experiment: Experiment, from_zero: bool) -> Artifact:
    """The backtracking model: a branch of its trunk, or trained on as many examples from zero."""
    if not from_zero:
        return experiment.checkpoint("S", "backtracking")
    profile = experiment.profile
    sizes, mix = profile.models["S"], profile.traces.mix
    recipe, warmup = profile.training.branch, profile.training.trunk.warmup_steps
    inputs = {
        "data": experiment.data.key,
        "parent": sizes.size,
        "traces": asdict(profile.traces),
        "examples": sizes.examples,
        "seed": experiment.seed,
    }
    return experiment.train(
        "models/S-zero",
        inputs,
        lambda: experiment.start("S", None),
        lambda: experiment.mixture(0, sizes.examples, mix),
        replace(recipe, warmup_steps=warmup),
        sizes.examples,
    )


def measured(experiment: Experiment, checkpoint: Artifact, variant: Variant) -> pd.DataFrame:
    """Greedy accuracy, pass@N and Self-Backtracking on the validation problems, strict checker."""
    problems, task = experiment.problems("validation"), experiment.task
    search = experiment.profile.search
    columns = {"artifact": "ablation", "model": "S"}
    columns |= {"group": variant.group, "variant": variant.name}
    decoded = experiment.decode(checkpoint, problems)
    greedy = {"method": GREEDY, "tokens": decoded["tokens"], "seed": experiment.seed}
    rows = [scoring.evaluate_responses(decoded["text"], problems, task, **greedy, **columns)]
    rules = {search.selection: SELECTION_RULES[search.selection]}
    for depth in search.depths:
        made = experiment.search(checkpoint, problems, experiment.spec(max(search.breadths), depth))
        trees = experiment.read_trees(made)
        rows.append(scoring.evaluate_search(trees, problems, task, rules, **columns))
    found = pd.concat(rows, ignore_index=True)
    return found[found["checker"] == "strict"]


def ablate(
    profile: Profile, source: str, seeds: Sequence[int], runs: Path, output: Path
) -> pd.DataFrame:
    """Every variant and seed; `output` is written anew after each, so that a stopped call shows."""
    found: list[pd.DataFrame] = []
    for seed in seeds:
        for variant in variants(profile):
            changed = variant.change(profile)
            experiment = Experiment(changed, source, seed, Run(runs / f"seed-{seed}"))
            with experiment.run.lock():
                print(f"seed {seed}, {variant.group}: {variant.name}", flush=True)
                checkpoint = trained(experiment, variant.from_zero)
                found.append(measured(experiment, checkpoint, variant))
            manifest = Experiment(profile, source, seeds[0], experiment.run).manifest()
            manifest["command"] = "ablations"
            results.write_results(output, manifest, pd.concat(found, ignore_index=True))
    return results.table(pd.concat(found, ignore_index=True))


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy in % over seeds, and their standard deviation where there are several."""
    if rows.empty:
        return pd.DataFrame()
    rows = rows.assign(
        measure=[
            COLUMNS[method] + ("" if pd.isna(b) else f" N={n} b={b}")
            for method, n, b in zip(rows["method"], rows["N"], rows["b"], strict=True)
        ]
    )
    cells = rows.groupby(["group", "variant", "measure"], sort=False)["accuracy"]
    text = cells.agg(
        lambda values: (
            f"{100 * values.mean():.1f}"
            + (f" ± {100 * values.std():.1f}" if len(values) > 1 else "")
        )
    )
    order = sorted(set(zip(rows["group"], rows["variant"], strict=True)), key=table_place)
    measures = sorted(set(rows["measure"]), key=str.lower)
    return text.unstack("measure").loc[order, measures]


def table_place(cell: tuple[str, str]) -> tuple[int, int]:
    """Where a group's variant stands in a table: as `variants` lists them, batches by size."""
    group, variant = cell
    return list(GROUPS).index(group), ORDER.index(variant) if variant in ORDER else int(variant)


def committed(folder: Path = COMMITTED) -> pd.DataFrame:
    """The rows of the results that ship; none where there are none yet."""
    path = folder / "results.json"
    return results.read_results(path)[1] if path.exists() else results.table([])


def conditions(folder: Path = COMMITTED) -> str:
    """What the results that ship were measured on, in a sentence; empty where there are none."""
    path = folder / "results.json"
    if not path.exists():
        return ""
    manifest, rows = results.read_results(path)
    sizes = manifest["settings"]["models"]["S"]
    return (
        f"S of `{manifest['profile']}`, {sizes['trunk_examples']:,} examples for the trunk and"
        f" {sizes['branch_examples']:,} for the branch, {rows['problems'].max()} validation"
        f" problems, seeds {', '.join(map(str, sorted(rows['seed'].dropna().unique())))}."
    )


def ablations_remark(rows: pd.DataFrame) -> str:
    """What Self-Backtracking scores with each variant, in words; empty without rows."""
    found = rows[(rows["artifact"] == "ablation") & (rows["method"] == SEARCH)]
    found, told = found[found["b"] == found["b"].max()], []
    means = found.groupby(["group", "variant"])["accuracy"].mean() if len(found) else {}
    for group, title in GROUPS.items():
        names = [name for each, name in sorted(means.keys(), key=table_place) if each == group]
        scores = "; ".join(f"{name}: {100 * means[group, name]:.1f}" for name in names)
        told += [f"{title.capitalize()} ({scores})."] if names else []
    if not told:
        return ""
    return f"Self-Backtracking's accuracy in %, mean of the seeds. {' '.join(told)}"


def ablations_text(rows: pd.DataFrame) -> str:
    """The `summary` in Markdown; empty without rows."""
    found = rows[rows["artifact"] == "ablation"]
    if found.empty:
        return ""
    table = summary(found)
    lines = [[*name, *cells] for name, cells in zip(table.index, table.to_numpy(), strict=True)]
    seeds = ", ".join(map(str, sorted(found["seed"].dropna().unique())))
    return (
        f"Accuracy in % by the strict checker, on {found['problems'].max()} validation problems: "
        f"mean ± standard deviation over the seeds {seeds}.\n\n"
        + markdown_table(["", "", *table.columns], lines)
    )


@styled
def accuracy_by_variant(rows: pd.DataFrame) -> Drawn:
    """A panel for what is varied, a line for each variant: each seed a dot, their mean a large one.

    Greedy decoding, Self-Backtracking at each b, and the ceiling at the largest b.
    """
    found = found_rows(rows, "ablation")
    depths, groups = sorted(found["b"].dropna().unique()), present(found["group"], GROUPS)
    series = [(GREEDY, None, METHOD_COLOURS["backtracking"], "o")]
    series += [(SEARCH, b, DEPTH_COLOURS[b], "sD^v"[b]) for b in depths]
    series.append((CEILING, max(depths), "#222222", "|"))
    listed = sorted(set(zip(found["group"], found["variant"], strict=True)), key=table_place)
    names = {each: [name for group, name in listed if group == each] for each in groups}
    sizes = [len(names[group]) for group in groups]
    height = 0.52 * sum(sizes) / len(groups) + 0.4
    figure, axes = panels(
        len(groups), 1, height, False, height_ratios=[size + 0.6 for size in sizes], sharex=True
    )
    figure.set_figwidth(WIDTH)
    for (panel,), group in zip(axes, groups, strict=True):
        for place, name in enumerate(names[group]):
            here = found[(found["group"] == group) & (found["variant"] == name)]
            for number, (method, depth, colour, marker) in enumerate(series):
                cells = here[here["method"] == method]
                values = (cells if depth is None else cells[cells["b"] == depth])["accuracy"]
                at = place + 0.21 * (number - (len(series) - 1) / 2)
                style = {"color": colour, "marker": marker, "linestyle": "none"}
                panel.plot(values, [at] * len(values), markersize=3.5, alpha=0.6, **style)
                panel.plot(values.mean(), at, markersize=7, **style)
        panel.set_title(GROUPS[group], loc="left", fontsize=10, fontweight="bold")
        panel.set_yticks(range(len(names[group])), names[group])
        panel.set_ylim(len(names[group]) - 0.5, -0.5)
        panel.set_xlim(0, 1.02)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.tick_params(axis="y", grid_alpha=0)
    problems, breadth = found["problems"].max(), found["N"].max()
    axes[-1][0].set_xlabel(f"accuracy of S on {problems} validation problems, N={breadth}")
    handles = []
    for method, depth, colour, marker in series:
        label = COLUMNS[method] + ("" if depth is None else f", b={depth}")
        handles.append(handle(label, colour, marker=marker, linestyle="none", markersize=7))
    legend(figure, handles)
    return figure


STUDY = Study(
    name="ablations",
    title="What each part of the recipe is worth",
    remark=ablations_remark,
    text=ablations_text,
    figures=(
        Figure(
            "ablations",
            accuracy_by_variant,
            "S trained with one part of the recipe changed, on equally many examples: each seed a "
            "small dot, their mean a large one.",
            ("ablation",),
            columns=("group", "variant"),
        ),
    ),
)
