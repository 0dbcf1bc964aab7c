"""`make ablations`: what each part of the training recipe is worth, at equal examples.

Takes a profile and how many seeds; trains S's backtracking model once for each variant and seed
and measures it on validation problems (none is a test problem, so the winner may be chosen here).
Leaves one results file with greedy accuracy, pass@N and Self-Backtracking's accuracy. Made once
each: a stopped call goes on where it was. Hours, and so no part of `make reproduce`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError, exit_status
from lib.base.files import ROOT
from lib.evaluation import results, scoring
from lib.experiment.artifacts import Artifact, Run
from lib.experiment.experiment import Experiment
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.search.selection import SELECTION_RULES
from lib.studies.sections import load_profile

SEEDS = (0, 1, 2)
GROUPS = ("optimizer", "batch", "loss", "start")
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


@dataclass(frozen=True)
class Variant:
    """One way to train: what it belongs to, its name, how it changes a profile."""

    group: str
    name: str
    change: Callable[[Profile], Profile]
    from_zero: bool = False  # no trunk: all examples in one training from random weights


def variants(profile: Profile) -> list[Variant]:
    """Every variant; in each group one of them is the profile's own recipe."""
    batch = profile.training.branch.batch_size
    found = [
        Variant("optimizer", "muon", lambda p: with_recipes(p, muon)),
        Variant("optimizer", "adamw", lambda p: with_recipes(p, adamw)),
    ]
    sizes = sorted({*BATCH_SIZES, batch})
    found += [
        Variant("batch", str(size), lambda p, size=size: with_recipes(p, batch_of(size)))
        for size in sizes
    ]
    found += [
        Variant("loss", "paper mask", lambda p: with_loss(p, "paper", 0.0, 1.0)),
        Variant("loss", "honest mask", lambda p: with_loss(p, "honest", 0.0, 1.0)),
        Variant(
            "loss",
            "+ near misses",
            lambda p: with_loss(p, "honest", profile.traces.near_miss, 1.0),
        ),
        Variant("loss", "+ verdict weight", lambda p: p),
        Variant("start", "trunk and branch", lambda p: p),
        Variant("start", "from zero", lambda p: p, from_zero=True),
    ]
    return found


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
    sizes = experiment.profile.models["S"]
    whole = replace(sizes, trunk_examples=0, branch_examples=sizes.examples)
    alone = replace(
        experiment, profile=replace(experiment.profile, models={"S": whole})
    )  # the same run, so the same problems
    recipe = experiment.profile.training.branch
    recipe = replace(recipe, warmup_steps=experiment.profile.training.trunk.warmup_steps)
    inputs = {
        "data": experiment.data.key,
        "parent": sizes.size,
        "traces": asdict(experiment.profile.traces),
        "examples": sizes.examples,
        "seed": experiment.seed,
    }
    return experiment.train(
        "models/S-zero",
        inputs,
        lambda: experiment.start("S", None),
        lambda: alone.traces("S", "backtracking"),
        recipe,
    )


def measured(experiment: Experiment, checkpoint: Artifact, variant: Variant) -> pd.DataFrame:
    """Greedy accuracy, pass@N and Self-Backtracking on the validation problems, strict checker."""
    problems, search = experiment.problems("validation"), experiment.profile.search
    columns = {"model": "S", "group": variant.group, "variant": variant.name}
    decoded = experiment.decode(checkpoint, problems)
    rows = [
        scoring.evaluate_responses(
            decoded["text"],
            problems,
            experiment.task,
            artifact="ablation",
            method="backtracking_data_greedy",
            tokens=decoded["tokens"],
            seed=experiment.seed,
            **columns,
        )
    ]
    for depth in search.depths:
        made = experiment.search(checkpoint, problems, experiment.spec(max(search.breadths), depth))
        rows.append(
            scoring.evaluate_search(
                experiment.read_trees(made),
                problems,
                experiment.task,
                {search.selection: SELECTION_RULES[search.selection]},
                artifact="ablation",
                **columns,
            )
        )
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
    order = sorted(set(zip(rows["group"], rows["variant"], strict=True)), key=_place)
    measures = sorted(set(rows["measure"]), key=str.lower)
    return text.unstack("measure").loc[order, measures]


def _place(cell: tuple[str, str]) -> tuple[int, int]:
    """Where a group's variant stands in the table: as `variants` lists them, batches by size."""
    group, variant = cell
    return GROUPS.index(group), ORDER.index(variant) if variant in ORDER else int(variant)


def committed(folder: Path = COMMITTED) -> pd.DataFrame:
    """The summary of the results that ship; empty where there are none yet."""
    path = folder / "results.json"
    return summary(results.read_results(path)[1]) if path.exists() else summary(results.table([]))


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


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.studies.beyond.ablations", description=__doc__
    )
    parser.add_argument("--profile", default="cpu", help="whose task, sizes and recipe")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, a twentieth of the examples"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="which seeds")
    parser.add_argument("--share", type=float, default=1.0, help="of its examples and problems")
    options = parser.parse_args(arguments)

    def work() -> None:
        profile = load_profile(options.profile)
        if profile.models["S"].path:
            raise UserError(f"PROFILE={options.profile}: ablations train from scratch")
        if not 0 < options.share <= 1 or min(options.seeds) < 0:
            raise UserError(
                f"--share {options.share} --seeds {' '.join(map(str, options.seeds))}: a share is"
                " more than 0 and at most 1, a seed at least 0"
            )
        seeds = sorted(set(options.seeds))
        runs = ROOT / "runs" / f"ablations-{profile.name}"
        profile = shortened(profile, options.share)
        output = COMMITTED / "results.json"
        if options.quick:
            profile, seeds, runs = quick(profile), [0], runs.with_name(f"{runs.name}-quick")
            output = runs / "results.json"
        print(summary(ablate(profile, options.profile, seeds, runs, output)).to_string())
        print(f"written to {output.relative_to(ROOT)}")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
