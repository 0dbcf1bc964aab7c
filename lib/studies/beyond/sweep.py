"""Two sizes trained over data size, epochs and learning rate: where does the larger one lose?

Takes an experiment; gives rows (artifact `sweep`, one a model and cell) and the table of
comparisons. Hypotheses c (memorisation: epochs over fixed data) and e (unequal training: L's
learning rate at equal examples, equal FLOPs, equal loss). As in the run itself, each size has a
trunk (D_op) that stands for a pretrained model, and each cell a branch fine-tuned from it on D_op
and D_back. The task is one of their own, easy enough for small models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch

from lib.base import files
from lib.base.checked import Count, Counts, Natural, Positives, checked, rule
from lib.base.errors import UserError
from lib.drawing.style import MODEL_COLOURS, found_rows, legend, panels, styled
from lib.evaluation import scoring, states, statistics
from lib.evaluation.results import table
from lib.evaluation.states import state_table
from lib.evaluation.statistics import clustered_share
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.models.llama import parameter_count
from lib.profiles.settings import DataSettings, ModelSettings, TaskSettings, TrainingSettings
from lib.search.selection import SELECTION_RULES
from lib.studies.measurements import loss_traces
from lib.studies.study import Figure, Study
from lib.tasks.task import COMPUTATION, FORMAT, RULE
from lib.training import logprobs

LOSS_EXAMPLES = 1_000
VALIDATION = 500
ARTIFACT = PART = (
    "sweep"  # its folder in the run, and what stands before its models' names in the plan
)
CELL = ["examples", "epochs", "rate"]
PAIRINGS = ("equal examples", "equal FLOPs", "equal loss")


@checked
class SweepModel:
    """One of the sweep's two sizes."""

    hidden_size: Count
    layers: Count
    heads: Count


@checked
class SweepSettings:
    """Small models of two sizes over data size, epochs and learning rate (hypotheses c and e)."""

    task: dict[str, Any]  # the task's settings, easier than the profile's
    models: Annotated[
        dict[str, SweepModel], rule(lambda found: set(found) == {"S", "L"}, "must be S and L")
    ]
    trunk_examples: Count  # D_op, once, from random weights: the sizes' stand-in for pretraining
    examples: Counts  # distinct examples of each branch
    epochs: Counts
    rates: Positives  # times the branch recipe's learning rates
    batch_size: Count
    test_problems: Count
    breadth: Count
    depth: Natural


@dataclass(frozen=True)
class Cell:
    """One run of a model: so many examples and epochs, at this multiple of the learning rate."""

    small: Experiment
    model: str
    examples: int
    epochs: int
    rate: float


def cells(experiment: Experiment) -> Iterator[Cell]:
    """Every run of both models; S keeps the recipe's own learning rate."""
    sweep = experiment.profile.settings(SweepSettings)
    for examples in sweep.examples:
        small = small_experiment(experiment, examples)
        for model in sweep.models:
            for epochs in sweep.epochs:
                for rate in sweep.rates if model == "L" else (1.0,):
                    yield Cell(small, model, examples, epochs, rate)


def small_experiment(experiment: Experiment, examples: int) -> Experiment:
    """The sweep's own experiment: its task, sizes and data, in a folder of the run."""
    profile, sweep = experiment.profile, experiment.profile.settings(SweepSettings)
    trunk = sweep.trunk_examples
    models = {
        name: ModelSettings(trunk, examples, sweep.test_problems, **asdict(size))
        for name, size in sweep.models.items()
    }
    recipes = [
        replace(recipe, batch_size=sweep.batch_size, compile=False)
        for recipe in (profile.training.trunk, profile.training.branch)
    ]
    small = replace(
        profile,
        task=TaskSettings(profile.task.module, sweep.task),
        data=DataSettings(trunk + max(sweep.examples), VALIDATION, sweep.test_problems),
        models=models,
        training=TrainingSettings(*recipes),
    )
    return experiment.part(small, PART, f"{PART} ")


def trained(cell: Cell) -> Artifact:
    """The checkpoint of a cell: from the size's trunk, on D_op and D_back."""
    small, model = cell.small, cell.model
    trunk, recipe = small.checkpoint(model, "trunk"), small.profile.training.branch
    recipe = replace(
        recipe,
        epochs=float(cell.epochs),
        learning_rate=recipe.learning_rate * cell.rate,
        adamw_learning_rate=recipe.adamw_learning_rate * cell.rate,
    )
    inputs = {
        "data": small.data.key,
        "parent": trunk.key,
        "traces": asdict(small.profile.traces),
        "examples": cell.examples,
        "seed": small.seed,
    }
    return small.train(
        f"models/{model}-{cell.examples}x{cell.epochs}-rate{cell.rate}",
        inputs,
        lambda: small.start(model, trunk),
        lambda: small.traces(model, "backtracking"),
        recipe,
        cell.examples,
    )


def measured(experiment: Experiment, cell: Cell) -> Artifact:
    """Losses, FLOPs, greedy and search answers of a cell, and how its steps fare."""
    sweep, small, task = experiment.profile.settings(SweepSettings), cell.small, cell.small.task
    checkpoint, rule = trained(cell), small.profile.search.selection
    problems = small.test_problems(cell.model)
    decoded = small.decoding(checkpoint, problems)
    searched = small.search(checkpoint, problems, small.spec(sweep.breadth, sweep.depth))

    def make(folder: Path) -> None:
        greedy = scoring.response_outcomes(
            small.decode(checkpoint, problems)["text"], problems, task
        )
        trees, rules = small.read_trees(searched), {rule: SELECTION_RULES[rule]}
        found = scoring.search_outcomes(trees, problems, task, rules)
        loaded, parts = small.load(checkpoint), loss_traces(small, cell.model, LOSS_EXAMPLES)
        tokens = loaded[1].encode_traces(parts["train"]).lengths().mean()
        parameters = parameter_count(loaded[0])
        record = {
            "outcomes": found["correct"].tolist(),
            "greedy": greedy["correct"].tolist(),
            "covered": float(found["covered"].mean()),
            "tokens": float(found["tokens"].mean()),
            "parameters": parameters,
            # Of the branch alone, as of fine-tuning: forward and backward, six a parameter, token.
            "flops": float(6 * parameters * tokens * cell.examples * cell.epochs),
        }
        for name, part in parts.items():
            record[f"{name}_loss"] = logprobs.mean_loss(*loaded, part)
        record |= step_shares(state_table(trees, problems, task)) if task.solver else {}
        files.write_atomic(folder / "row.json", json.dumps(record))

    inputs = {"search": searched.key, "decoded": decoded.key, "selection": rule}
    made_by = [scoring, states, logprobs, task]
    return small.make(f"cells/{checkpoint.name}", inputs, make, made_by)


def step_shares(found: pd.DataFrame) -> dict:
    """Of samples whose steps before were sound: computed right (of the legal), and reachable."""
    found = found[(found["step"] > 0) & found["alive_before"]]
    legal = ~found["error"].isin([FORMAT, RULE])
    right = legal & (found["error"] != COMPUTATION)
    record = {}
    for name, hits, among in (("computed", right, legal), ("reachable", found["alive"], right)):
        share, low, high = clustered_share(hits, found["visits"] * among, found["problem"])
        record |= {name: share, f"{name}_low": low, f"{name}_high": high}
    return record


def requests(experiment: Experiment) -> Iterator[object]:
    """The trunks, and a branch, a decoding and a search for each cell."""
    for cell in cells(experiment):
        yield measured(experiment, cell)


def rows(experiment: Experiment) -> pd.DataFrame:
    """A row a model and cell, both test splits together."""
    sweep, found = experiment.profile.settings(SweepSettings), []
    for cell in cells(experiment):
        record = files.read_json(measured(experiment, cell).path / "row.json")
        outcomes, greedy = record.pop("outcomes"), record.pop("greedy")
        low, high = statistics.wilson_interval(sum(greedy), len(greedy))
        columns = {"artifact": ARTIFACT, "method": "self_backtracking", "model": cell.model}
        columns |= {"N": sweep.breadth, "b": sweep.depth, "checker": "strict"}
        columns |= {"seed": experiment.seed, "tokens_per_problem": record.pop("tokens")}
        made = {name: getattr(cell, name) for name in CELL}
        made |= {"greedy": sum(greedy) / len(greedy), "greedy_low": low, "greedy_high": high}
        made |= {"ceiling": record.pop("covered")} | record
        found.append(scoring.accuracy_row(outcomes, **columns) | made)
    return table(found)


def comparisons(rows: pd.DataFrame) -> pd.DataFrame:
    """S against L, cell by cell, in each pairing -> one row a pair.

    equal examples: the same data and epochs, L at every learning rate. equal FLOPs, equal loss: for
    each S the L, of those trained on the same data, whose FLOPs (or loss on unseen traces) are the
    nearest. computes: L less S in the share of steps that are computed right; loses: S less L in
    Self-Backtracking's accuracy (`loses_sure`: surely above 0); gain: what search adds to greedy.
    `regime` is the paper's: L computes better and loses. `helped_less`: L computes better and
    search adds less to it.
    """
    known = table(rows)
    known = known[known["artifact"] == ARTIFACT]
    columns = ["pairing", *CELL, "rate_L", "epochs_L", "accuracy_S", "accuracy_L", "loses"]
    if known.empty or "computed" not in known:
        return pd.DataFrame(columns=[*columns, "loses_sure", "regime", "helped_less"])
    known = known.sort_values(CELL)  # of equally near ones the first, whatever the rows' order
    small, large = (known[known["model"] == name].to_dict("records") for name in ("S", "L"))
    records = []
    for s in small:
        same = [each for each in large if each["examples"] == s["examples"]]
        pairs = [("equal examples", each) for each in same if each["epochs"] == s["epochs"]]
        if same:
            distance = {
                "equal FLOPs": lambda each, s=s: (
                    # Of two learning rates the one with the lower loss on unseen traces.
                    abs(np.log(each["flops"] / s["flops"])),
                    each["test_loss"],
                ),
                "equal loss": lambda each, s=s: abs(each["test_loss"] - s["test_loss"]),
            }
            pairs += [(name, min(same, key=far)) for name, far in distance.items()]
        records += [pair_row(name, s, each) for name, each in pairs]
    found = pd.DataFrame(records)
    # As many chances as there are pairs: intervals are Bonferroni's, 95% for all of them together.
    return with_verdicts(found, max(1, len(found)))


def pair_row(pairing: str, s: dict, large: dict) -> dict:
    record = {"pairing": pairing} | {name: s[name] for name in CELL}
    record |= {"rate_L": large["rate"], "epochs_L": large["epochs"]}
    for name in ("accuracy", "greedy", "computed", "reachable", "ceiling", "test_loss"):
        record |= {f"{name}_S": s[name], f"{name}_L": large[name]}
    for model, each in (("S", s), ("L", large)):
        record[f"loss_gap_{model}"] = each["test_loss"] - each["train_loss"]
    record["loses"] = s["accuracy"] - large["accuracy"]
    record["computes"] = large["computed"] - s["computed"]
    gains = [each["accuracy"] - each["greedy"] for each in (s, large)]
    record["gain_difference"] = gains[0] - gains[1]
    spread = {
        "loses": [(each["low"], each["high"]) for each in (s, large)],
        "computes": [(each["computed_low"], each["computed_high"]) for each in (s, large)],
    }
    spread["gain_difference"] = [
        *spread["loses"],
        *((each["greedy_low"], each["greedy_high"]) for each in (s, large)),
    ]
    for name, intervals in spread.items():
        # Half-widths of 95% intervals add in squares; the two models are taken as independent.
        halves = [(high - low) / 2 for low, high in intervals]
        record[f"{name}_half"] = float(np.sqrt(np.square(halves).sum()))
    return record


def with_verdicts(found: pd.DataFrame, chances: int) -> pd.DataFrame:
    wider = NormalDist().inv_cdf(1 - 0.025 / chances) / NormalDist().inv_cdf(0.975)
    sure = {
        name: found[name] > found[f"{name}_half"] * wider
        for name in ("loses", "computes", "gain_difference")
    }
    found = found.assign(
        loses_sure=sure["loses"],
        regime=sure["computes"] & sure["loses"],
        helped_less=sure["computes"] & sure["gain_difference"],
        # Without the correction, and without any interval: how near the sweep comes.
        regime_uncorrected=(found["computes"] > found["computes_half"])
        & (found["loses"] > found["loses_half"]),
        regime_pointwise=(found["computes"] > 0) & (found["loses"] > 0),
    )
    order = {name: place for place, name in enumerate(PAIRINGS)}
    return found.sort_values(
        ["pairing", *CELL, "rate_L"],
        key=lambda column: column.map(order) if column.name == "pairing" else column,
        ignore_index=True,
    )


def remark(rows: pd.DataFrame) -> str:
    """In how many pairs the larger model computes better and loses; empty without any."""
    pairs = comparisons(rows)
    if pairs.empty:
        return ""
    said = [f"The sweep compares {len(pairs)} pairs of small models."]
    sure, near = int(pairs["regime"].sum()), int(pairs["regime_pointwise"].sum())
    if sure:
        first = pairs[pairs["regime"]].sort_values("loses").iloc[-1]
        said.append(
            f"In {sure} of them L surely computes better and loses, most with "
            f"{first['examples']:.0f} examples, {first['epochs']:.0f} epochs and L at "
            f"{first['rate_L']:g} times the learning rate: steps computed right "
            f"{100 * first['computed_L']:.1f}% against {100 * first['computed_S']:.1f}%, accuracy "
            f"{100 * first['accuracy_L']:.1f} against {100 * first['accuracy_S']:.1f}."
        )
    else:
        said.append(
            "In none of them does L surely compute better and lose (intervals corrected for the "
            f"number of pairs); by the two numbers alone it does in {near}, uncorrected in "
            f"{int(pairs['regime_uncorrected'].sum())}."
        )
    helped = int(pairs["helped_less"].sum())
    said.append(f"In {helped} of them L computes better and search adds surely less to it.")
    if not pairs["loses_sure"].any():
        said.append("In none of them does L surely lose; so no cause is judged there.")
    return " ".join(said)


@styled
def draw_sweep(rows: pd.DataFrame) -> Drawn:
    """The sweep at equal examples: how much better L computes, and how much higher it scores.

    The paper's regime is where L is ahead on the left and S on the right.
    """
    rows = found_rows(rows, ARTIFACT)
    known, found = rows.iloc[0], comparisons(rows)
    found = found[found["pairing"] == PAIRINGS[0]]
    if found.empty:
        raise UserError("figure of sweep: the task cannot judge steps, so nothing was compared")
    found = found.astype({"examples": int, "epochs": int})
    found = found.assign(scores=-found["loses"])
    rates = sorted(found["rate_L"].unique(), reverse=True)
    searched = (
        f"Self-Backtracking's accuracy (N={known['N']} b={known['b']}, n={known['problems']})"
    )
    shown = {"computes": "steps computed right", "scores": searched}
    colours = [MODEL_COLOURS["S"], "#f4f4f4", MODEL_COLOURS["L"]]
    colours = LinearSegmentedColormap.from_list("S to L", colours)
    height = 0.55 * found["examples"].nunique() + 1.3
    figure, axes = panels(len(rates), 2, height=height, sharey=False)
    for line, rate in zip(axes, rates, strict=True):
        cell = found[found["rate_L"] == rate]
        for panel, (name, title) in zip(line, shown.items(), strict=True):
            grid = 100 * cell.pivot(index="examples", columns="epochs", values=name)
            most = max(1.0, float(np.abs(100 * found[name]).max()))
            sns.heatmap(grid, ax=panel, annot=True, fmt="+.1f", center=0, cmap=colours,
                        vmin=-most, vmax=most, cbar=False, linewidths=1,
                        annot_kws={"color": "#222222"})  # fmt: skip
            at_rate = f", L at {rate:g} x S's rate" if len(rates) > 1 else ""
            panel.set_title(f"{title},\nL less S in points{at_rate}")
            panel.set_ylabel("examples")
            panel.set_xlabel("epochs")
    for panel in figure.axes:
        panel.grid(False)
    handles = [Patch(color=colour, label=f"{model} is ahead")
               for model, colour in MODEL_COLOURS.items()]  # fmt: skip
    legend(figure, handles)
    return figure


STUDY = Study(
    name="sweep",
    section="sweep",
    settings=SweepSettings,
    rows=rows,
    requests=requests,
    figures=(
        Figure(
            "sweep",
            draw_sweep,
            "Two small sizes over data, epochs and L's learning rate: who computes its steps "
            "better (left), and who solves more (right).",
            (ARTIFACT,),
            columns=("epochs", "computed"),
        ),
    ),
    title="Two small sizes over data, epochs and learning rate",
    remark=remark,
)
