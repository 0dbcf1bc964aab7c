"""Accuracy target by target: is the gap between new and seen targets one of many, or of a few?

Takes an experiment whose problems have a target (of others there are no rows); gives a row for each
target of both test splits (artifact `targets`). The `new` split is drawn from a handful of held-out
targets, so that its interval over problems says little of how another handful would do: this shows
each of them, beside the seen targets near it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import (
    MODEL_COLOURS,
    SPLITS,
    errors,
    handle,
    legend,
    panels,
    pick,
    present,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.results import table
from lib.evaluation.statistics import Difference, difference, wilson_interval
from lib.experiment.experiment import Experiment
from lib.studies.measurements import Searched, chosen, decoding_outcomes, searches
from lib.studies.study import Figure, Study

NEAR = 3  # a seen target is like a held-out one within so much


def models(experiment: Experiment) -> list[str]:
    """The models that are measured target by target."""
    return list(experiment.profile.models) if "target" in experiment.table else []


def model_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Self-Backtracking at the largest N and b."""
    search = experiment.profile.search
    yield from searches(
        experiment, model, experiment.spec(max(search.breadths), max(search.depths))
    )


def requests(experiment: Experiment) -> Iterator[object]:
    """The searches, and SFT's greedy answers."""
    for model in models(experiment):
        sft = experiment.checkpoint(model, "sft")
        yield experiment.decoding(sft, experiment.test_problems(model))
        yield from model_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Self-Backtracking and SFT, greedy: a row a target, with the column `target`."""
    made = []
    for model in models(experiment):
        decoded = decoding_outcomes(experiment, model, "sft", 1)
        for found in model_searches(experiment, model):
            named = {"N": found.spec.breadth, "b": found.spec.depth}
            named |= {"temperature": found.spec.temperature}
            named |= {"selection": experiment.profile.search.selection}
            greedy = decoded[decoded["split"] == found.split]
            for method, outcomes, columns in (
                ("self_backtracking", chosen(experiment, found), named),
                ("sft_greedy", greedy, {}),
            ):
                columns = columns | {"artifact": "targets", "method": method, "model": model}
                columns |= {"split": found.split, "checker": "strict", "seed": experiment.seed}
                correct = outcomes["correct"].reset_index(drop=True)
                for target, cell in correct.groupby(found.problems["target"]):
                    made.append(scoring.accuracy_row(cell, target=int(target), **columns))
    return table(made)


@dataclass(frozen=True)
class LikeTargets:
    """Accuracy (a share) on seen targets like the held-out ones, on `problems` problems; weighted
    unequally, they tell as much as `effective` equal ones (Kish)."""

    accuracy: float
    problems: int
    effective: float


def at_like_targets(seen: pd.DataFrame, new: pd.DataFrame) -> LikeTargets | None:
    """The rows of seen targets within `NEAR` of each held-out one, weighted as those are asked.

    None where a held-out target has no such neighbour. Targets are not equally hard, and a handful
    is held out: which one it is moves the accuracy on new targets by itself.
    """
    targets = [part["target"].to_numpy(int) for part in (new, seen)]
    near = np.abs(np.subtract.outer(*targets)) <= NEAR
    problems, weights = (part["problems"].to_numpy(float) for part in (seen, new))
    asked = near @ problems
    if not len(asked) or not asked.all():
        return None
    each = (weights / weights.sum() / asked) @ near  # the weight of one problem of a seen target
    accuracy = float(each @ (problems * seen["accuracy"].to_numpy(float)))
    return LikeTargets(accuracy, int(problems[each > 0].sum()), float(1 / (problems @ each**2)))


def new_beside_like(model: str, seen: pd.DataFrame, new: pd.DataFrame) -> Difference | None:
    """All held-out targets together against seen ones like them; None as for `at_like_targets`."""
    like = at_like_targets(seen, new)
    if like is None:
        return None
    asked = float(new["problems"].sum())
    share = float((new["accuracy"] * new["problems"]).sum()) / asked
    return difference(model, _measured(share, asked), _measured(like.accuracy, like.effective))


def _measured(share: float, problems: float) -> pd.Series:
    low, high = wilson_interval(share * problems, problems)
    return pd.Series({"accuracy": share, "low": low, "high": high})


def by_split(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Each model with both: the rows of its seen and of its new targets, by Self-Backtracking."""
    if "target" not in rows:
        return
    found = rows[(rows["artifact"] == "targets") & (rows["method"] == "self_backtracking")]
    for model in present(found["model"], MODEL_COLOURS):
        parts = [found[(found["model"] == model) & (found["split"] == each)] for each in SPLITS]
        if not any(part.empty for part in parts):
            yield model, *parts


def targets_remark(rows: pd.DataFrame) -> str:
    """What new targets score beside seen targets like them; empty where the run has no targets."""
    told = []
    for model, seen, new in by_split(rows):
        like, apart = at_like_targets(seen, new), new_beside_like(model, seen, new)
        if like is None:
            told.append(f"{model}: a held-out target has no seen one near it")
        else:
            worth = f"{like.problems} seen problems, worth {like.effective:.0f} equal ones"
            told.append(f"{apart} ({worth})")
    if not told:
        return ""
    return (
        "Only a handful of targets is held out, and targets are not equally hard. So the new ones "
        f"are compared with the seen ones within {NEAR} of each, weighted by how often that one is "
        f"asked. {'; '.join(told)}. This is no part of claim 5's verdict."
    )


def pairs(seen: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Each held-out target beside the seen ones near it, taken together; last, all (`target` None).

    Columns target, held_out, accuracy, low, high, problems.
    """
    records = []
    for cell in new.sort_values("target").to_dict("records"):
        near = seen[(seen["target"] - cell["target"]).abs() <= NEAR]
        asked = float(near["problems"].sum())
        right = float((near["accuracy"] * near["problems"]).sum())
        named, kept = {"target": cell["target"]}, ("accuracy", "low", "high", "problems")
        records.append(named | {"held_out": True} | {name: cell[name] for name in kept})
        if asked:
            measured = _measured(right / asked, asked)
            records.append(named | {"held_out": False, "problems": asked, **measured})
    like, asked = at_like_targets(seen, new), float(new["problems"].sum())
    share = float((new["accuracy"] * new["problems"]).sum()) / asked
    records.append({"held_out": True, "problems": asked, **_measured(share, asked)})
    if like is not None:
        measured = _measured(like.accuracy, like.effective)
        records.append({"held_out": False, "problems": like.problems, **measured})
    return pd.DataFrame(records)


@styled
def accuracy_by_target(rows: pd.DataFrame) -> Drawn:
    """Every held-out target beside the seen ones within `NEAR` of it, a panel a model."""
    found = pick(rows, "targets", need=["target"])
    found = list(by_split(found))
    if not found:
        raise UserError("figure of targets: the results have no rows for it")
    count = max(len(new) for _, _, new in found) + 1
    figure, axes = panels(1, len(found), height=0.42 * count + 0.8, sharey=False)
    for panel, (model, seen, new) in zip(axes[0], found, strict=True):
        shown = pairs(seen, new)
        places = {target: place for place, target in enumerate(sorted(new["target"]))}
        labels = [*map(str, places), "all"]
        at = shown["target"].map(places).fillna(len(places))
        for held_out, shift in ((True, -0.17), (False, 0.17)):
            dots = shown[shown["held_out"] == held_out]
            y = at[dots.index] + shift
            panel.errorbar(
                dots["accuracy"].astype(float),
                y,
                xerr=errors(dots),
                fmt="D" if held_out else "o",
                color=MODEL_COLOURS[model],
                mfc=MODEL_COLOURS[model] if held_out else "white",
                markersize=6,
                capsize=3,
            )
            for place, problems in zip(y, dots["problems"], strict=True):
                text = {"va": "center_baseline", "ha": "right", "fontsize": 9}
                panel.text(1.15, place, f"{problems:.0f}", **text)
        panel.axhline(len(places) - 0.5, color="#999999", linewidth=0.8)
        panel.set_title(f"{model}, b={new['b'].max()} N={new['N'].max()}")
        panel.set_yticks(range(len(labels)), labels)
        panel.set_ylim(len(labels) - 0.4, -0.6)
        panel.set_xlim(-0.03, 1.17)
        panel.set_xticks([0, 0.25, 0.5, 0.75, 1])
        panel.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_xlabel("accuracy (right: n)")
        panel.tick_params(axis="y", grid_alpha=0)
    axes[0][0].set_ylabel("held-out target")
    handles = [
        handle("a held-out target", "#555555", linestyle="none", marker="D"),
        handle(f"seen targets within {NEAR} of it", "#555555", linestyle="none", mfc="white"),
    ]
    legend(figure, handles)
    return figure


STUDY = Study(
    name="targets",
    rows=rows,
    requests=requests,
    title="Target by target",
    remark=targets_remark,
    figures=(
        Figure(
            "targets",
            accuracy_by_target,
            "Self-Backtracking on each held-out target, and on the seen targets next to it. Below: "
            "all of them, seen ones weighted as their held-out neighbours are asked.",
            ("targets",),
            ("self_backtracking",),
            ("target",),
        ),
    ),
)
