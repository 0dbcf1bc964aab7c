"""Two sizes trained over data size, epochs and learning rate: where does the larger one lose?

Takes an experiment whose profile has a section `sweep`; gives tidy rows (artifact `sweep`, one a
model and cell) and the table of comparisons. Hypotheses c (memorisation: epochs over fixed data)
and e (unequal training: L's learning rate at equal examples, equal FLOPs, equal loss). As in the
run itself, each size has a trunk (D_op) that stands for a pretrained model, and each cell a branch
fine-tuned from it on D_op and D_back. The task is one of their own, easy enough for small models.
Knows nothing of figures.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lib.base import files
from lib.base.errors import UserError
from lib.drawing.style import (
    found_rows,
    panels,
    styled,
)
from lib.evaluation import scoring, statistics
from lib.evaluation.results import table
from lib.evaluation.states import state_table
from lib.evaluation.statistics import clustered_share
from lib.experiment.artifacts import Artifact, Run
from lib.experiment.experiment import TEST_SPLITS, Experiment, loss_traces
from lib.models.llama import parameter_count
from lib.profiles.settings import DataSettings, ModelSettings, TaskSettings, TrainingSettings
from lib.search.selection import SELECTION_RULES
from lib.tasks.task import COMPUTATION, FORMAT, RULE
from lib.training.logprobs import mean_loss

LOSS_EXAMPLES = 1_000
VALIDATION = 500
CELL = ["examples", "epochs", "rate"]
PAIRINGS = ("equal examples", "equal FLOPs", "equal loss")


def cells(experiment: Experiment, model: str) -> list[tuple[int, int, float]]:
    """(examples, epochs, rate) of a model's runs; S keeps the recipe's own learning rate."""
    sweep = experiment.profile.sweep
    rates = sweep.rates if model == "L" else (1.0,)
    return [
        (examples, epochs, rate)
        for examples in sweep.examples
        for epochs in sweep.epochs
        for rate in rates
    ]


def small_experiment(experiment: Experiment, examples: int) -> Experiment:
    """The sweep's own experiment: its task, sizes and data, in a folder of the run."""
    profile, sweep = experiment.profile, experiment.profile.sweep
    trunk = sweep.trunk_examples
    data = DataSettings(trunk + max(sweep.examples), VALIDATION, sweep.test_problems)
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
        data=data,
        models=models,
        training=TrainingSettings(*recipes),
    )
    run = Run(experiment.run.folder / "sweep")
    return Experiment(small, experiment.source, experiment.seed, run)


def trained(small: Experiment, model: str, cell: tuple[int, int, float]) -> Artifact:
    """The checkpoint of a cell: from the size's trunk, on D_op and D_back."""
    examples, epochs, rate = cell
    trunk = small.checkpoint(model, "trunk")
    recipe = small.profile.training.branch
    recipe = replace(
        recipe,
        epochs=float(epochs),
        learning_rate=recipe.learning_rate * rate,
        adamw_learning_rate=recipe.adamw_learning_rate * rate,
    )
    inputs = {
        "data": small.data.key,
        "parent": trunk.key,
        "traces": asdict(small.profile.traces),
        "examples": examples,
        "seed": small.seed,
    }
    return small.train(
        f"models/{model}-{examples}x{epochs}-rate{rate}",
        inputs,
        lambda: small.start(model, trunk),
        lambda: small.traces(model, "backtracking"),
        recipe,
    )


def measured(experiment: Experiment, model: str, cell: tuple[int, int, float]) -> dict:
    """One row: losses, FLOPs, greedy and search accuracy, and how its steps fare; made once."""
    sweep, search = experiment.profile.sweep, experiment.profile.search
    small = small_experiment(experiment, cell[0])
    checkpoint = trained(small, model, cell)
    problems = pd.concat([small.problems(split) for split in TEST_SPLITS], ignore_index=True)
    inputs = {"checkpoint": checkpoint.key, "breadth": sweep.breadth, "depth": sweep.depth}
    inputs |= {"temperature": search.temperature, "selection": search.selection}
    inputs |= small.precision_inputs | small.chunk_inputs

    def make(folder: Path) -> None:
        decoded = small.decode(checkpoint, problems)
        greedy = scoring.response_outcomes(decoded["text"], problems, small.task)
        spec = small.spec(sweep.breadth, sweep.depth)
        trees = small.read_trees(small.search(checkpoint, problems, spec))
        rules = {search.selection: SELECTION_RULES[search.selection]}
        found = scoring.search_outcomes(trees, problems, small.task, rules)
        loaded = small.load(checkpoint)
        parts = loss_traces(small, model, LOSS_EXAMPLES)
        losses = {f"{name}_loss": mean_loss(*loaded, part) for name, part in parts.items()}
        tokens = loaded[1].encode_traces(parts["train"]).lengths().mean()
        # Of the branch alone, as of fine-tuning: forward and backward, six a parameter and token.
        flops = 6 * parameter_count(loaded[0]) * tokens * cell[0] * cell[1]
        steps = _steps(state_table(trees, problems, small.task)) if small.task.solver else {}
        record = {
            "outcomes": found["correct"].tolist(),
            "greedy": greedy["correct"].tolist(),
            "covered": float(found["covered"].mean()),
            "tokens": float(found["tokens"].mean()),
            "parameters": parameter_count(loaded[0]),
            "flops": float(flops),
            **losses,
            **steps,
        }
        files.write_atomic(folder / "row.json", json.dumps(record))

    artifact = small.run.make(f"cells/{checkpoint.name}", inputs, make)
    return files.read_json(artifact.path / "row.json")


def _steps(states: pd.DataFrame) -> dict:
    """Of samples whose steps before were sound: computed right (of the legal), and reachable."""
    found = states[(states["step"] > 0) & states["alive_before"]]
    legal = ~found["error"].isin([FORMAT, RULE])
    right = legal & (found["error"] != COMPUTATION)
    record = {}
    for name, hits, among in (("computed", right, legal), ("reachable", found["alive"], right)):
        share, low, high = clustered_share(hits, found["visits"] * among, found["problem"])
        record |= {name: share, f"{name}_low": low, f"{name}_high": high}
    return record


def sweep_rows(experiment: Experiment) -> pd.DataFrame:
    """Artifact `sweep`: a row a model and cell, both test splits together; empty if not asked."""
    if experiment.profile.sweep is None:
        return table([])
    sweep, rows = experiment.profile.sweep, []
    for model in sweep.models:
        for cell in cells(experiment, model):
            record = measured(experiment, model, cell)
            greedy = sum(record["greedy"]) / len(record["greedy"])
            low, high = statistics.wilson_interval(sum(record["greedy"]), len(record["greedy"]))
            made = dict(zip(CELL, cell, strict=True))
            made |= {"greedy": greedy, "greedy_low": low, "greedy_high": high}
            made |= {"ceiling": record["covered"]}
            skipped = ("outcomes", "greedy", "covered", "tokens")
            made |= {name: value for name, value in record.items() if name not in skipped}
            columns = {"artifact": "sweep", "method": "self_backtracking", "model": model}
            columns |= {"N": sweep.breadth, "b": sweep.depth, "checker": "strict"}
            columns |= {"seed": experiment.seed, "tokens_per_problem": record["tokens"]}
            rows.append(scoring.accuracy_row(record["outcomes"], **columns) | made)
    return table(rows)


def comparisons(rows: pd.DataFrame) -> pd.DataFrame:
    """S against L, cell by cell, in each pairing -> one row a pair.

    equal examples: the same data and epochs, L at every learning rate. equal FLOPs, equal loss: for
    each S the L, of those trained on the same data, whose FLOPs (or loss on unseen traces) are the
    nearest. computes: L less S in the share of steps that are computed right; loses: S less L in
    Self-Backtracking's accuracy; gain: what search adds to greedy. `regime` is the paper's: L
    computes better and loses. `helped_less`: L computes better and search adds less to it.
    """
    known = table(rows)
    known = known[known["artifact"] == "sweep"]
    columns = ["pairing", *CELL, "rate_L", "epochs_L", "accuracy_S", "accuracy_L", "loses"]
    if known.empty or "computed" not in known:
        return pd.DataFrame(columns=[*columns, "regime", "helped_less"])
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
        records += [_pair(name, s, each) for name, each in pairs]
    found = pd.DataFrame(records)
    # As many chances as there are pairs: intervals are Bonferroni's, 95% for all of them together.
    return _judged(found, max(1, len(found)))


def _pair(pairing: str, s: dict, large: dict) -> dict:
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


def _judged(found: pd.DataFrame, chances: int) -> pd.DataFrame:
    wider = NormalDist().inv_cdf(1 - 0.025 / chances) / NormalDist().inv_cdf(0.975)
    sure = {
        name: found[name] > found[f"{name}_half"] * wider
        for name in ("loses", "computes", "gain_difference")
    }
    found = found.assign(
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


@styled
def sweep_map(rows: pd.DataFrame) -> Figure:
    """The sweep at equal examples: how much better L computes, and how much lower it scores.

    A frame marks the paper's regime: L computes better and S scores higher (solid: surely, by
    Bonferroni's intervals; dashed: by the two numbers alone).
    """
    found = comparisons(found_rows(rows, "sweep"))
    found = found[found["pairing"] == "equal examples"]
    if found.empty:
        raise UserError("figure of sweep: the task cannot judge steps, so nothing was compared")
    found = found.astype({"examples": int, "epochs": int})
    rates = sorted(found["rate_L"].unique(), reverse=True)
    shown = {
        "computes": "steps computed right,\nL less S (points)",
        "loses": "Self-Backtracking's accuracy,\nS less L (points)",
    }
    height = 0.55 * found["examples"].nunique() + 1.3
    figure, axes = panels(len(rates), 2, height=height, sharey=False)
    for line, rate in zip(axes, rates, strict=True):
        cell = found[found["rate_L"] == rate]
        for panel, (name, title) in zip(line, shown.items(), strict=True):
            grid = 100 * cell.pivot(index="examples", columns="epochs", values=name)
            most = max(1.0, float(np.abs(100 * found[name]).max()))
            sns.heatmap(grid, ax=panel, annot=True, fmt="+.1f", center=0, cmap="vlag_r",
                        vmin=-most, vmax=most, cbar=False, linewidths=1)  # fmt: skip
            panel.set_title(f"{title}" + (f", L at {rate:g} x the rate" if len(rates) > 1 else ""))
            panel.set_ylabel("examples")
            panel.set_xlabel("epochs")
            for at in cell[cell["regime_pointwise"]].to_dict("records"):
                place = (
                    list(grid.columns).index(at["epochs"]),
                    list(grid.index).index(at["examples"]),
                )
                look = "-" if at["regime"] else "--"
                panel.add_patch(Rectangle(place, 1, 1, fill=False, linewidth=2.5, linestyle=look,
                                          edgecolor="#222222", clip_on=False))  # fmt: skip
    for panel in figure.axes:
        panel.grid(False)
    return figure
