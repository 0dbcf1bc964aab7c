"""Why does the larger model lose? The paper's own numbers, and its asymmetry given to our models.

Takes an experiment; trains small branches of S and L by the paper's recipe with AdamW: as the
paper's 1B was trained, with each difference of its 3B's training, and with all of them. Gives rows
of their searches (artifact `asymmetry`), of what L loses by a difference beyond what S loses by it
(`asymmetry_gap`), and of the training loss around the ends of epochs (`asymmetry_loss`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.base.checked import Count, Naturals, Positive, checked
from lib.drawing.markdown import markdown_table, points_of
from lib.drawing.style import (
    MODEL_COLOURS,
    artifact_rows,
    errors,
    found_rows,
    handle,
    legend,
    panels,
    present,
    problems_of,
    setting,
    styled,
)
from lib.evaluation.paper import ERRORS, failures, paper_accuracy
from lib.evaluation.results import row, table
from lib.evaluation.scoring import accuracy_row
from lib.evaluation.statistics import (
    clustered_share,
    mean_interval,
    paired_difference,
    with_interval,
)
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.profiles.recipe import Recipe
from lib.tasks.task import NOT_REACHED
from studies.branches import small_branch
from studies.measurements import depth_searches, outcomes_at_depths, state_outcomes
from studies.paper.figure_6 import ends_of_epochs
from studies.paper.paper_recipe import with_paper_recipe
from studies.study import Figure, Study

ARTIFACTS = ("asymmetry", "asymmetry_gap", "asymmetry_loss")
BATCHES, EPOCHS = 4, 3  # of the paper's 1B for one of its 3B; of a third of the data
USUAL, TOGETHER = "usual", "together"
#: How the paper's 3B was trained otherwise than its 1B.
CAUSES = {
    "batch": "a quarter of the batch, at the same learning rate",
    "epochs": "three epochs over a third of the data",
    "bfloat16": "weights kept in bfloat16",
}
NAMES = {USUAL: "as the 1B was", **CAUSES, TOGETHER: "all three"}
HOLDS, REFUTED, OPEN = "holds", "does not hold", "undecided"
MARGIN = 0.02  # a difference that surely takes less than this from L beyond S is no cause
RULE = (
    "The comparison that decides is paired, over both test splits, at the deepest search: what L "
    "loses by a difference of training, less what S loses by the same. A cause *holds* where its "
    "95% interval lies above 0, *does not hold* where it lies below "
    f"{100 * MARGIN:.0f} points, and is *undecided* otherwise."
)


@checked
class LargerModelSettings:
    """Branches of both models with the paper's asymmetry of training."""

    examples: Count  # of each branch, epochs included
    learning_rate: Positive  # of AdamW, the same for all
    problems: Count  # of each test split
    breadth: Count
    depths: Naturals


def recipe_of(part: Experiment, variant: str) -> Recipe:
    """AdamW, one epoch and the branches' batch, but for what the variant changes."""
    rate = part.profile.settings(LargerModelSettings).learning_rate
    changed = {"optimizer": "adamw", "learning_rate": rate, "adamw_learning_rate": rate}
    changed |= {"epochs": float(EPOCHS) if variant in ("epochs", TOGETHER) else 1.0}
    recipe = replace(part.profile.training.branch, **changed)
    if variant in ("batch", TOGETHER):
        recipe = replace(recipe, batch_size=max(1, recipe.batch_size // BATCHES))
    return replace(recipe, weights="bfloat16") if variant in ("bfloat16", TOGETHER) else recipe


def branches(experiment: Experiment) -> Iterator[tuple[Experiment, str, str, Artifact]]:
    """The experiment with the paper's recipe, and each model's every variant."""
    part, settings = with_paper_recipe(experiment), experiment.profile.settings(LargerModelSettings)
    for model in experiment.profile.models:
        for variant in NAMES:
            recipe = recipe_of(part, variant)
            count = max(2, settings.examples // round(recipe.epochs))
            made = small_branch(part, model, f"asymmetry-{variant}", count, recipe)
            yield part, model, variant, made


def searches(part: Experiment, checkpoint: Artifact) -> Iterator[tuple]:
    """A branch's searches of both test splits, the depths that each gives, and its problems."""
    settings = part.profile.settings(LargerModelSettings)
    for split in TEST_SPLITS:
        problems = part.problems(split).iloc[: settings.problems]
        how = (part, checkpoint, problems, settings.breadth, settings.depths)
        yield from ((made, depths, problems) for made, depths in depth_searches(*how))


def requests(experiment: Experiment) -> Iterator[object]:
    """Every branch and its searches."""
    for part, *_, checkpoint in branches(experiment):
        yield from searches(part, checkpoint)


def outcomes(part: Experiment, checkpoint: Artifact) -> pd.DataFrame:
    """A branch's answers by the profile's rule, in one order of split, b and problem."""
    found = pd.concat(
        outcomes_at_depths(part, made, problems, depths)
        for made, depths, problems in searches(part, checkpoint)
    )
    found = found[found["selection"] == part.profile.search.selection]
    return found.sort_values(["split", "b", "problem"], ignore_index=True)


def sound_states(part: Experiment, checkpoint: Artifact) -> pd.DataFrame:
    """P(<backtrack>) after each step from which the target can still be reached."""
    found = [pd.DataFrame(columns=["split", "b", "problem", "p_backtrack"])]
    for made, depths, problems in searches(part, checkpoint) if part.task.solver else ():
        states = state_outcomes(part, made, problems, len(problems))
        states = states[(states["step"] > 0) & states["alive"].astype(bool)]
        states = states.dropna(subset="p_backtrack").assign(split=problems["split"].iloc[0])
        found += [states[states["level"] <= depth].assign(b=depth) for depth in depths]
    return pd.concat(found[1:] or found)


def of_cell(found: pd.DataFrame, split: str | None, b: int) -> pd.DataFrame:
    """The rows of a split (None: of both) at a depth."""
    return found[(found["b"] == b) & ((found["split"] == split) | (split is None))]


def rows(experiment: Experiment) -> pd.DataFrame:
    """All three artifacts; split None is both splits together."""
    settings = experiment.profile.settings(LargerModelSettings)
    known, made, models = {}, [], experiment.profile.models
    wanted = list(product((*TEST_SPLITS, None), sorted(set(settings.depths))))
    named = {"method": "self_backtracking", "N": settings.breadth, "seed": experiment.seed}
    for part, model, variant, checkpoint in branches(experiment):
        found, states = outcomes(part, checkpoint), sound_states(part, checkpoint)
        known[model, variant], curve = found, part.loss_curve(checkpoint)
        columns = named | {"model": model, "variant": variant, "checker": "strict"}
        if "changed_bfloat16" in curve:
            columns["unchanged"] = 1 - curve["changed_bfloat16"].mean()
        for split, b in wanted:
            cell, base = of_cell(found, split, b), of_cell(known[model, USUAL], split, b)
            gain = paired_difference(cell["correct"], base["correct"])
            missed = mean_interval(cell["error"] == NOT_REACHED)
            sound = of_cell(states, split, b)
            problem = sound["split"] + sound["problem"].astype(str)
            doubt = clustered_share(sound["p_backtrack"], np.ones(len(sound)), problem)
            each = accuracy_row(cell["correct"], artifact=ARTIFACTS[0], split=split, b=b, **columns)
            each |= with_interval("gain", gain) | with_interval("not_reached", missed)
            made.append(each | with_interval("p_backtrack", doubt) | {"states": len(sound)})
        at = {"model": model, "variant": variant, "seed": experiment.seed}
        ends = ends_of_epochs(curve, round(recipe_of(part, variant).epochs))
        made += [row(ARTIFACTS[2], **at) | each for each in ends]
    for variant, (split, b) in product((*CAUSES, TOGETHER) if "L" in models else (), wanted):
        signs = {("L", USUAL): 1, ("L", variant): -1, ("S", USUAL): -1, ("S", variant): 1}
        lost = sum(n * of_cell(known[k], split, b)["correct"].astype(int) for k, n in signs.items())
        excess = with_interval("excess", mean_interval(lost))
        columns = {"variant": variant, "split": split, "b": b, "problems": len(lost)}
        made.append(row(ARTIFACTS[1], **named, **columns) | excess)
    return table(made)


def paper_gap() -> str:
    """The paper's figures as points of accuracy: of what 3B loses to 1B, how much is what."""
    lines = []
    for split, b in product(TEST_SPLITS, (0, 1)):
        small, large = (failures(model, split, b) for model in ("S", "L"))
        right = [paper_accuracy("self_backtracking", m, split, 32, b) for m in ("S", "L")]
        lost = [right[0] - right[1], *(large[error] - small[error] for error in ERRORS)]
        shown = [f"{100 * value:+.1f}" for value in lost]
        lines.append([f"{split} targets, b={b}", *shown])
    _, whole, missed, *_ = lines[1]
    told = (
        f"Of the {float(whole):.1f} points that the paper's 3B loses to its 1B (seen targets, b=1, "
        f"N=32), {float(missed):.1f} are *not reached*: searches that end without any finished "
        "path. Its shares of the failures, times its failures, in points of accuracy, 3B less 1B:"
    )
    return f"{told}\n\n{markdown_table(['', '3B loses', *ERRORS], lines)}"


def deciding(rows: pd.DataFrame, artifact: str) -> pd.DataFrame:
    """The rows over both splits, at the largest b."""
    found = artifact_rows(rows, artifact)
    found = found[found["split"].isna()]
    return found[found["b"] == found["b"].max()]


def verdict(gap: Mapping) -> str:
    """What RULE says of a cause."""
    refuted = REFUTED if gap["excess_high"] < MARGIN else OPEN
    return HOLDS if gap["excess_low"] > 0 else refuted


def remark(rows: pd.DataFrame) -> str:
    """Which of the differences makes L lose, and by how much; empty without both models' rows."""
    found, gaps = deciding(rows, ARTIFACTS[0]), deciding(rows, ARTIFACTS[1])
    if gaps.empty:
        return ""
    usual = found[found["variant"] == USUAL].set_index("model")["accuracy"]
    last = found[found["variant"] == TOGETHER].set_index("model")["accuracy"]["L"]
    told = [
        f"Trained alike, S solves {100 * usual['S']:.1f}% and L {100 * usual['L']:.1f}% (both test "
        f"splits,{setting(gaps.iloc[0])}); L with all three differences {100 * last:.1f}%. What "
        "they take from L beyond what they take from S:"
    ]
    for gap in gaps.to_dict("records"):
        excess = points_of(gap, "excess")
        told.append(f"{NAMES[gap['variant']]}, {excess} points, **{verdict(gap)}**;")
    return " ".join(told)[:-1] + "."


def text(rows: pd.DataFrame) -> str:
    """Each branch's accuracy, searches that reach nothing, doubt of sound states, and losses."""
    losses, lines = artifact_rows(rows, ARTIFACTS[2]), []
    for each in deciding(rows, ARTIFACTS[0]).to_dict("records"):
        of = losses[(losses["model"] == each["model"]) & (losses["variant"] == each["variant"])]
        falls = ", ".join(f"{100 * fall:.0f}" for fall in of["fall"].dropna())
        shares = {name: each.get(name, np.nan) for name in ("p_backtrack", "unchanged")}
        shown = {k: "" if pd.isna(share) else f"{100 * share:.1f}" for k, share in shares.items()}
        gain = points_of(each, "gain")
        line = [f"{each['model']}, {NAMES[each['variant']]}", f"{100 * each['accuracy']:.1f}"]
        line += ["" if each["variant"] == USUAL else gain, f"{100 * each['not_reached']:.1f}"]
        lines.append([*line, shown["p_backtrack"], falls, shown["unchanged"]])
    head = ["trained", "solved, %", "gain over as the 1B was, points", "not reached, %"]
    head += ["P(`<backtrack>`) on sound states, %", "the loss falls at an epoch's end, %"]
    head += ["weights that a step leaves unchanged, %"]
    return f"{markdown_table(head, lines)}\n\nThe rule: {RULE}" if lines else ""


SHOWN = {"accuracy": "solved", "not_reached": "not reached"}
SHOWN |= {"p_backtrack": "P(<backtrack>)\non sound states"}


@styled
def draw_asymmetry(rows: pd.DataFrame) -> Drawn:
    """Accuracy, searches without a finished path, and doubt of sound states, by training."""
    found = deciding(found_rows(rows, ARTIFACTS[0]), ARTIFACTS[0])
    found = found.assign(accuracy_low=found["low"], accuracy_high=found["high"])
    shown = {name: label for name, label in SHOWN.items() if name in found}
    variants, models = present(found["variant"], NAMES), present(found["model"], MODEL_COLOURS)
    figure, axes = panels(1, len(shown), height=0.5 * len(variants) + 0.6)
    for panel, (name, label) in zip(axes[0], shown.items(), strict=True):
        for number, model in enumerate(models):
            dots = found[(found["model"] == model) & found[name].notna()]
            at = dots["variant"].map(variants.index).astype(float) + 0.2 * number
            reach = errors(dots, name, f"{name}_low", f"{name}_high")
            style = {"color": MODEL_COLOURS[model], "marker": "os"[number], "capsize": 3}
            panel.errorbar(dots[name].astype(float), at, xerr=reach, linestyle="none", **style)
        panel.set_xlabel(label)
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[0][0].set_yticks(range(len(variants)), [NAMES[each] for each in variants])
    axes[0][0].invert_yaxis()
    where = f"both splits,{setting(found.iloc[0])}{problems_of(found)}"
    looks = [(f"{m}, {where}", MODEL_COLOURS[m], "os"[n]) for n, m in enumerate(models)]
    legend(figure, [handle(*look, marker=at, linestyle="none") for *look, at in looks])
    return figure


STUDY = Study(
    name="larger_model",
    section="larger_model",
    settings=LargerModelSettings,
    rows=rows,
    requests=requests,
    title="Why does the paper's larger model lose?",
    remark=remark,
    text=text,
    figures=(
        Figure(
            "asymmetry",
            draw_asymmetry,
            "Both models trained as the paper's 1B was, and as its 3B was, in each way and in all.",
            (ARTIFACTS[0],),
            columns=("variant",),
        ),
    ),
)
