"""What a roll-back earns, for both recipes and both expansions, and where the rest of the gain is.

Takes an experiment; gives rows of searches with one roll-back against the same searches without, at
equal N and at equal tokens (artifact `rollback_gain`), and a ladder from SFT to Self-Backtracking,
each rung against the one before (`rollback_ladder`): SFT's own samples and choice, the choice of
the Self-Backtracking model among the same samples (forward passes alone), its own samples, and its
roll-back. Everything is paired, on the same problems. A comparison that the paper does not make.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import FuncFormatter, PercentFormatter

from lib.base.checked import Counts, checked
from lib.drawing.markdown import markdown_table, points_of
from lib.drawing.style import (
    EXPANSION_COLOURS,
    artifact_rows,
    errors,
    found_rows,
    handle,
    legend,
    panels,
    problems_of,
    styled,
)
from lib.evaluation import states
from lib.evaluation.results import table
from lib.evaluation.scoring import RECIPE, SEARCH, accuracy_row
from lib.evaluation.statistics import at_cost, mean_interval, paired_difference, with_interval
from lib.experiment.experiment import TEST_SPLITS, Experiment
from lib.experiment.work import FORWARD, training
from lib.search import selection
from lib.training import logprobs
from studies.measurements import (
    Searched,
    chosen,
    decoding_outcomes,
    kept_table,
    outcomes_at_depths,
    search_kinds,
    searches,
)
from studies.paper.paper_recipe import with_paper_recipe
from studies.study import Figure, Study

MODEL = "S"
GAIN, LADDER = "rollback_gain", "rollback_ladder"
RECIPES = {RECIPE: "the paper's recipe", SEARCH: "our recipe"}
EXPANSIONS = {"beam_sample": "beams", "sample": "independent samples"}
EXPANSIONS |= {"stochastic_beam": "samples without replacement"}
#: The rungs, and what the step to each is.
RUNGS = {
    "sft_greedy": ("SFT, greedy", ""),
    "sft_choice": ("SFT's samples,\nSFT's choice", "sampling"),
    "verdict": ("SFT's samples,\nthe other's choice", "the verdict"),
    "without": ("Self-Backtracking,\nb=0", "the data"),
    "with": ("Self-Backtracking,\nb=1", "the roll-back"),
}


@checked
class RollbackSettings:
    """Searches of S with and without a roll-back, by both recipes and both expansions."""

    breadths: Counts  # the ladder stands at the largest


def parts(experiment: Experiment) -> Iterator[tuple[str, Experiment, dict[str, str]]]:
    """Each recipe with its experiment, and how its searches expand a state."""
    recipes = {RECIPE: with_paper_recipe(experiment), SEARCH: experiment}
    for (name, part), kind in product(recipes.items(), search_kinds(experiment)):
        yield name, part, kind


def own_searches(part: Experiment, kind: dict[str, str]) -> Iterator[Searched]:
    """Searches of both test splits with one roll-back: they begin with those without."""
    for breadth in part.profile.settings(RollbackSettings).breadths:
        yield from searches(part, MODEL, part.spec(breadth, 1, **kind))


def sft_searches(experiment: Experiment, kind: dict[str, str]) -> Iterator[Searched]:
    """The SFT model's samples of both test splits, at the largest N."""
    spec = experiment.spec(max(experiment.profile.settings(RollbackSettings).breadths), 0, **kind)
    yield from searches(experiment, MODEL, spec, "sft")


def judged(part: Experiment, recipe: str, found: Searched) -> pd.DataFrame:
    """The finished paths of a search, each with the Self-Backtracking model's mean log-probability
    (column `judged`), made once."""
    judge = part.checkpoint(MODEL, "backtracking")

    def measure() -> pd.DataFrame:
        trees = part.read_trees(found.made)
        paths = states.path_table(trees, found.problems, part.task)
        prompts = part.task.prompts(found.problems.iloc[paths["problem"]])
        how = (*part.load_fast(judge), prompts, paths["text"].tolist())
        return paths.assign(judged=logprobs.response_logprobs(*how))

    inputs = {"search": found.made.key, "judge": judge.key} | part.precision_inputs
    made_by = [logprobs, states, selection, part.task]
    work = training(MODEL, len(found.problems) * found.spec.breadth * FORWARD)
    name = f"judged/{found.made.name}-by-{recipe}"
    return kept_table(part, name, inputs, measure, made_by, work)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search, SFT's answers, and who judges SFT's samples."""
    sft, problems = experiment.checkpoint(MODEL, "sft"), experiment.test_problems(MODEL)
    yield experiment.decoding(sft, problems)
    for recipe, part, kind in parts(experiment):
        yield from own_searches(part, kind)
        for found in sft_searches(experiment, kind):
            yield experiment.known(partial(judged, part, recipe, found), expected=None)


def own_outcomes(part: Experiment, kind: dict[str, str]) -> pd.DataFrame:
    """Answers with and without the roll-back, by the profile's rule: one row a problem, N and b."""
    every = own_searches(part, kind)
    found = pd.concat(outcomes_at_depths(part, x.made, x.problems, [0, 1]) for x in every)
    found = found[found["selection"] == part.profile.search.selection]
    return found.set_index(["N", "b", "split", "problem"]).sort_index()


def gain_rows(found: pd.DataFrame, **columns: object) -> Iterator[dict]:
    """One roll-back against none, by N and split (None: both): at equal N, and at equal tokens.

    At equal tokens, answers without it are interpolated problem by problem, linear in the logarithm
    of the mean tokens, between two N whose costs lie around those with it; NaN where none do.
    """
    breadths = sorted(found.index.unique("N"))
    for split in (*TEST_SPLITS, None):
        cells = {
            (n, b): found.loc[(n, b, split or slice(None)), :] for n, b in product(breadths, (0, 1))
        }
        costs = [cells[n, 0]["tokens"].mean() for n in breadths]
        without = np.array([cells[n, 0]["correct"].to_numpy(float) for n in breadths])
        for place, breadth in enumerate(breadths):
            right, tokens = cells[breadth, 1]["correct"], cells[breadth, 1]["tokens"].mean()
            known = {"N": breadth, "b": 1, "split": split, "tokens_per_problem": tokens}
            each = accuracy_row(right, artifact=GAIN, **known, **columns)
            each |= with_interval("gain", paired_difference(right, without[place]))
            if (base := at_cost(tokens, costs, without)) is not None:
                each |= with_interval("equal", mean_interval(right.to_numpy(float) - base))
            yield each


def ladder(experiment: Experiment, recipe: str, part: Experiment, kind: dict) -> dict:
    """Rung -> whether each problem is solved, by split and problem, at the largest N."""
    keys, both = ["split", "problem"], []
    for each in sft_searches(experiment, kind):
        paths = judged(part, recipe, each).sort_values(["judged", "leaf"], ascending=[False, True])
        best, own = paths.groupby("problem")["correct"].first(), chosen(experiment, each)
        right = own.set_index("problem")[["correct"]].set_axis(["sft_choice"], axis=1)
        right["verdict"] = best.reindex(right.index, fill_value=False)
        both.append(right.reset_index().assign(split=each.split))
    found = pd.concat(both).set_index(keys)
    own = own_outcomes(part, kind)["correct"].loc[own["N"].iloc[0]]
    greedy = decoding_outcomes(experiment, MODEL, "sft", 1).set_index(keys)["correct"]
    known = {"sft_greedy": greedy, "sft_choice": found["sft_choice"], "verdict": found["verdict"]}
    known |= {"without": own.loc[0], "with": own.loc[1]}
    return {name: known[name].astype(bool).sort_index() for name in RUNGS}


def ladder_rows(found: dict[str, pd.Series], **columns: object) -> Iterator[dict]:
    """Each rung's accuracy, by split (None: both), and what it gains over the one before."""
    for split in (*TEST_SPLITS, None):
        before = None
        for name, right in found.items():
            right = right.loc[split or slice(None)]
            each = accuracy_row(right, artifact=LADDER, split=split, rung=name, **columns)
            gain = {} if before is None else with_interval("gain", paired_difference(right, before))
            yield each | gain
            before = right


def rows(experiment: Experiment) -> pd.DataFrame:
    """Both artifacts."""
    made, breadth = [], max(experiment.profile.settings(RollbackSettings).breadths)
    for recipe, part, kind in parts(experiment):
        expansion = part.spec(1, 0, **kind).expansion
        named = {"method": recipe, "model": MODEL, "seed": part.seed, "expansion": expansion}
        named |= {"checker": "strict", "selection": part.profile.search.selection}
        made += gain_rows(own_outcomes(part, kind), **named)
        made += ladder_rows(ladder(experiment, recipe, part, kind), **named, N=breadth)
    return table(made)


def pooled(rows: pd.DataFrame, artifact: str) -> pd.DataFrame:
    """The rows over both splits, with the name of recipe and expansion; beams first."""
    found = artifact_rows(rows, artifact)
    found = found if "expansion" in found else found.assign(expansion=None)
    found = found[found["split"].isna()]
    pairs = pd.Series(list(zip(found["method"], found["expansion"], strict=True)), found.index)
    place = pairs.map(list(product(RECIPES, EXPANSIONS)).index)
    names = pairs.map(lambda pair: f"{RECIPES[pair[0]]}, {EXPANSIONS[pair[1]]}")
    return found.assign(place=place, name=names).sort_values(["place", "N"], kind="stable")


def at_one_breadth(rows: pd.DataFrame) -> pd.DataFrame:
    """The gains at the largest N that has one at equal tokens, if any has."""
    found = pooled(rows, GAIN)
    known = found.dropna(subset="equal") if "equal" in found else found
    return found[found["N"] == (known if len(known) else found)["N"].max()]


def remark(rows: pd.DataFrame) -> str:
    """What a roll-back adds, and what the rest of the gain is; empty without rows."""
    if (found := at_one_breadth(rows)).empty:
        return ""
    told, steps = [], []
    for each in found.to_dict("records"):
        at_equal = f" and {known} at equal tokens" if (known := points_of(each, "equal")) else ""
        told.append(f"{each['name']}, {points_of(each, 'gain')} points at equal N{at_equal}")
    rungs = pooled(rows, LADDER)
    for name, of in rungs.groupby("name", sort=False):
        of = of.set_index("rung").to_dict("index")
        gained = [f"{what} {points_of(of[rung], 'gain')}" for rung, (_, what) in RUNGS.items()]
        ends = [100 * of[rung]["accuracy"] for rung in ("sft_greedy", "with")]
        steps.append(f"{name}, {ends[0]:.1f}% to {ends[1]:.1f}%: {', '.join(gained[1:])}")
    return (
        f"What one roll-back adds at N={found['N'].max()}, both test splits: {'; '.join(told)}. "
        f"What leads from SFT's greedy answers to it at N={rungs['N'].max()}: {'; '.join(steps)}."
    )


def text(rows: pd.DataFrame) -> str:
    """Both as tables; empty without rows."""
    lines, rungs = [], []
    for each in pooled(rows, GAIN).to_dict("records"):
        line = [each["name"], f"{each['N']}", f"{100 * each['accuracy']:.1f}"]
        line += [points_of(each, "gain"), points_of(each, "equal")]
        lines.append([*line, f"{each['tokens_per_problem']:.0f}"])
    for name, of in pooled(rows, LADDER).groupby("name", sort=False):
        of = of.set_index("rung").to_dict("index")
        cells = [f"{100 * of[r]['accuracy']:.1f} {points_of(of[r], 'gain')}" for r in RUNGS]
        rungs.append([name, *cells])
    head = ["", "N", "b=1 solves, %", "over b=0 at equal N", "at equal tokens", "tokens a problem"]
    labels = ["", *(label.replace("\n", " ") for label, _ in RUNGS.values())]
    told = "Accuracy in %, and points gained over the rung before:"
    found = (markdown_table(head, lines), told, markdown_table(labels, rungs))
    return "\n\n".join(found) if lines else ""


@styled
def draw_gains(rows: pd.DataFrame) -> Drawn:
    """The ladder's rungs; beside it, what a roll-back adds at equal N and at equal tokens."""
    found, rungs = at_one_breadth(found_rows(rows, GAIN, LADDER)), pooled(rows, LADDER)
    figure, axes = panels(1, 2, height=3.2, sharey=False, width_ratios=[1.3, 1])
    (left, right), handles = axes[0], []
    for place, (name, dot) in enumerate(found.groupby("name", sort=False)):
        colour, hollow = EXPANSION_COLOURS[dot["expansion"].iloc[0]], name.startswith("the paper")
        style = {"linestyle": "--", "mfc": "white"} if hollow else {}
        of = rungs[rungs["name"] == name]
        at = of["rung"].map(list(RUNGS).index).astype(float) + 0.1 * place
        look = {"color": colour, "marker": "o", "capsize": 2.5, **style}
        left.errorbar(of["accuracy"], at, xerr=errors(of), **look)
        handles.append(handle(name, colour, **style))
        look |= {"linestyle": "none"}
        for shift, column, marker in ((-0.12, "gain", "o"), (0.12, "equal", "D")):
            reach = (
                errors(dot, column, f"{column}_low", f"{column}_high") if column in dot else None
            )
            if reach is not None and dot[column].notna().all():
                right.errorbar(
                    dot[column], [place + shift], xerr=reach, **look | {"marker": marker}
                )
    left.set_yticks(range(len(RUNGS)), [label for label, _ in RUNGS.values()])
    left.set_title(f"{MODEL}, both splits, N={rungs['N'].max()}{problems_of(rungs)}")
    left.set_xlabel("accuracy")
    left.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    right.axvline(0, color="#222222", linewidth=1)
    right.set_yticks([])
    right.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:+.0f}" if x else "0"))
    right.set_xlabel("gain of a roll-back, in points")
    right.set_title(f"N={found['N'].max()}{problems_of(found)}")
    for panel in axes[0]:
        panel.invert_yaxis()
    for label, marker in (("at equal N", "o"), ("at equal tokens", "D")):
        handles.append(handle(label, "#777777", marker=marker, linestyle="none"))
    legend(figure, handles, columns=2)
    return figure


STUDY = Study(
    name="rollback_gain",
    section="rollback_gain",
    settings=RollbackSettings,
    rows=rows,
    requests=requests,
    title="What a roll-back earns",
    remark=remark,
    text=text,
    figures=(
        Figure(
            "rollback_gain",
            draw_gains,
            "From SFT's greedy answers to Self-Backtracking, rung by rung; and what its roll-back "
            "adds at equal N and at equal tokens.",
            (GAIN,),
            columns=("expansion", "gain"),
        ),
    ),
)
