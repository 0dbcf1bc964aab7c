"""Why the larger model loses: experiments that could refute each cause.

Takes an experiment with one model or two; gives tidy rows. Hypotheses: (a) the samples repeat
themselves: a higher temperature, or samples without replacement, would help; (b) P(<backtrack>) is
miscalibrated: a constant added to its logit would help; (c) the model remembers its training data;
(d) it ranks its paths worse: the other model would choose better among them. What has a setting
chooses it on the validation split. (c) goes on in lib/studies/beyond/sweep.py, with (e), unequal
training. Artifacts: `remedy` (one model), `judge`, `memorisation`, `gap` (S less L). Knows nothing
of figures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.base import files
from lib.drawing.style import (
    PALETTE,
    SPLITS,
    errors,
    found_rows,
    handle,
    legend,
    panels,
    present,
    styled,
)
from lib.evaluation import scoring, statistics
from lib.evaluation.results import row, table
from lib.evaluation.states import path_table, ranking
from lib.evaluation.statistics import clustered_share
from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import TEST_SPLITS, Experiment, loss_traces
from lib.search.variants import SamplingVariant
from lib.studies import measurements
from lib.training.logprobs import mean_loss, response_logprobs

BASE, TEMPERATURE, DISTINCT, SHIFT, JUDGE = (
    "as measured",
    "higher temperature",
    "without replacement",
    "shifted <backtrack>",
    "the other model chooses",
)
#: The hypothesis (the issue's letter) that each remedy could refute.
LETTERS = {TEMPERATURE: "a", DISTINCT: "a", SHIFT: "b", JUDGE: "d"}


def search_for(
    experiment: Experiment,
    model: str,
    split: str,
    temperature: float | None = None,
    variant: SamplingVariant | None = None,
) -> tuple[Artifact, pd.DataFrame]:
    """The search of one variant of a model over a split's problems, and these problems."""
    settings, search = experiment.profile.hypotheses, experiment.profile.search
    temperature = search.temperature if temperature is None else temperature
    spec = experiment.spec(settings.breadth, settings.depth, temperature=temperature)
    if split == "validation":
        problems = experiment.problems(split, 0, settings.validation_problems)
    else:
        problems = experiment.test_problems(model, split)
        in_table = settings.breadth in search.breadths and settings.depth in search.depths
        if variant or temperature != search.temperature or not in_table:
            problems = problems.iloc[: settings.problems]
    checkpoint = experiment.checkpoint(model, "backtracking")
    return experiment.search(checkpoint, problems, spec, variant), problems


def outcomes_of(experiment: Experiment, model: str, split: str, **variant) -> pd.DataFrame:
    """One row a problem (correct, covered, tokens), by the profile's selection rule."""
    settings, search = experiment.profile.hypotheses, experiment.profile.search
    made, problems = search_for(experiment, model, split, **variant)
    found = measurements.search_outcomes(experiment, made, problems)
    found = found[found["selection"] == search.selection].reset_index(drop=True)
    return found if split == "validation" else found[found["problem"] < settings.problems]


def choices(experiment: Experiment) -> dict[str, list[tuple[float | None, dict]]]:
    """Every remedy's settings: (setting, arguments of `search_for`), the usual one among them."""
    settings = experiment.profile.hypotheses
    usual = experiment.profile.search.temperature
    # The usual setting first: of equals it stays.
    temperatures = dict.fromkeys([usual, *settings.temperatures])
    shifts = dict.fromkeys([0.0, *settings.shifts])
    varied = SamplingVariant(oversampling=settings.oversampling)
    return {
        TEMPERATURE: [(t, {} if t == usual else {"temperature": t}) for t in temperatures],
        SHIFT: [(s, {"variant": SamplingVariant(shift=s)} if s else {}) for s in shifts],
        DISTINCT: [(None, {"variant": varied})],
    }


def chosen(experiment: Experiment, model: str, remedy: str) -> tuple[float | None, dict]:
    """The setting of a remedy that is most often right on validation; of equals the first."""
    offered = choices(experiment)[remedy]
    if len(offered) == 1:
        return offered[0]
    return max(
        offered,
        key=lambda each: outcomes_of(experiment, model, "validation", **each[1])["correct"].mean(),
    )


def remedied(experiment: Experiment, model: str) -> dict[tuple[str, str], pd.DataFrame]:
    """(remedy, split) -> outcomes with the validated setting; BASE is the model as it is."""
    found = {(BASE, split): outcomes_of(experiment, model, split) for split in TEST_SPLITS}
    for remedy in choices(experiment):
        setting, arguments = chosen(experiment, model, remedy)
        for split in TEST_SPLITS:
            outcomes = outcomes_of(experiment, model, split, **arguments)
            found[remedy, split] = outcomes.assign(setting=setting)
    return found


def remedy_rows(experiment: Experiment, model: str) -> list[dict]:
    """One model with and without each remedy: accuracy, pass@N, and the paired gain."""
    settings, search = experiment.profile.hypotheses, experiment.profile.search
    found, rows = remedied(experiment, model), []
    for (remedy, split), outcomes in found.items():
        base = found[BASE, split]
        gain, low, high = statistics.paired_difference(outcomes["correct"], base["correct"])
        made = {"remedy": remedy, "letter": LETTERS.get(remedy)}
        made |= {"gain": gain, "gain_low": low, "gain_high": high}
        made |= {"ceiling": float(outcomes["covered"].mean())}
        if "setting" in outcomes:
            made["setting"] = outcomes["setting"].iloc[0]
        columns = {"artifact": "remedy", "method": "self_backtracking", "model": model}
        columns |= {"split": split, "N": settings.breadth, "b": settings.depth}
        columns |= {"selection": search.selection, "checker": "strict", "seed": experiment.seed}
        columns["tokens_per_problem"] = float(outcomes["tokens"].mean())
        rows.append(scoring.accuracy_row(outcomes["correct"], **columns) | made)
    return rows


def judged_paths(experiment: Experiment, model: str, judge: str, split: str) -> pd.DataFrame:
    """The finished paths of a model's base search, with the judge's mean log-probability."""
    made, problems = search_for(experiment, model, split)
    settings = experiment.profile.hypotheses
    checkpoint = experiment.checkpoint(judge, "backtracking")
    inputs = {"search": made.key, "judge": checkpoint.key, "problems": settings.problems}
    inputs |= experiment.precision_inputs  # judging itself, a model ranks as its search does

    def make(folder: Path) -> None:
        trees = experiment.read_trees(made)[: settings.problems]
        found = path_table(trees, problems, experiment.task)
        prompts = experiment.task.prompts(problems.iloc[found["problem"]])
        loaded = experiment.load_fast(checkpoint)
        found["judged"] = response_logprobs(*loaded, prompts, found["text"].tolist())
        files.write_parquet(folder / "paths.parquet", found)

    artifact = experiment.run.make(f"judged/{made.name}-by-{judge}", inputs, make)
    return files.read_parquet(artifact.path / "paths.parquet")


def judged_outcomes(experiment: Experiment, model: str, judge: str, split: str) -> np.ndarray:
    """correct [problems] when the judge's mean log-probability chooses among a model's paths."""
    settings = experiment.profile.hypotheses
    found = judged_paths(experiment, model, judge, split)
    best = found.sort_values(["judged", "leaf"], ascending=[False, True]).groupby("problem").first()
    correct = np.zeros(len(outcomes_of(experiment, model, split)), dtype=bool)
    correct[best.index.to_numpy()] = best["correct"]
    return correct[: settings.problems]


def judge_rows(experiment: Experiment) -> list[dict]:
    """Whose paths, ranked by whom: AUC over all paths and within problems, and accuracy."""
    models, rows = list(experiment.profile.models), []
    for model in models:
        for judge in models:
            for split in TEST_SPLITS:
                found = judged_paths(experiment, model, judge, split)
                correct = judged_outcomes(experiment, model, judge, split)
                columns = {"artifact": "judge", "method": "self_backtracking", "model": model}
                columns |= {"split": split, "seed": experiment.seed, "checker": "strict"}
                columns |= {"N": experiment.profile.hypotheses.breadth}
                columns |= {"b": experiment.profile.hypotheses.depth}
                made = {"judge": judge, "paths": len(found)} | ranking(found, "judged")
                rows.append(scoring.accuracy_row(correct, **columns) | made)
    return rows


def memorisation_rows(experiment: Experiment, model: str) -> list[dict]:
    """Mean loss of the backtracking model on traces that it learned from, and on unseen ones."""
    checkpoint = experiment.checkpoint(model, "backtracking")
    inputs = {"checkpoint": checkpoint.key}
    inputs["examples"] = experiment.profile.hypotheses.loss_examples

    def make(folder: Path) -> None:
        loaded = experiment.load(checkpoint)
        parts = loss_traces(experiment, model, inputs["examples"])
        files.write_parquet(
            folder / "losses.parquet",
            pd.DataFrame({name: [mean_loss(*loaded, traces)] for name, traces in parts.items()}),
        )

    artifact = experiment.run.make(f"losses/{model}", inputs, make)
    losses = files.read_parquet(artifact.path / "losses.parquet").iloc[0]
    columns = {"method": "self_backtracking", "model": model, "seed": experiment.seed}
    made = {"train_loss": float(losses["train"]), "test_loss": float(losses["test"])}
    made["loss_gap"] = made["test_loss"] - made["train_loss"]
    return [row("memorisation", **columns) | made]


def gap_rows(experiment: Experiment) -> list[dict]:
    """The gap, S less L, as measured and with each remedy; `moved` is what the remedy took off it.

    applied: to L alone, or to both models, each with its own validated setting. Differences are
    paired: both models answer the same problems.
    """
    if set(experiment.profile.models) != {"S", "L"}:
        return []
    small, large = (remedied(experiment, model) for model in ("S", "L"))
    rows = []
    for split in TEST_SPLITS:
        known = {
            remedy: tuple(each[remedy, split]["correct"].to_numpy(float) for each in (small, large))
            for remedy, where in small
            if where == split
        }
        known[JUDGE] = tuple(
            judged_outcomes(experiment, model, judge, split).astype(float)
            for model, judge in (("S", "L"), ("L", "S"))
        )
        # S may be measured on more problems than L: the first are the same.
        count = min(len(part) for pair in known.values() for part in pair)
        known = {name: tuple(part[:count] for part in pair) for name, pair in known.items()}
        base_small, base_large = known[BASE]
        for remedy, (changed_small, changed_large) in known.items():
            for applied in ("L",) if remedy == BASE else ("L", "both"):
                left = changed_small if applied == "both" else base_small
                gap, moved = left - changed_large, base_small - base_large - left + changed_large
                rows.append(_gap_row(experiment, split, remedy, applied, gap, moved))
                rows[-1] |= {"accuracy_S": left.mean(), "accuracy_L": changed_large.mean()}
    return rows


def _gap_row(experiment, split, remedy, applied, gap, moved) -> dict:
    settings = experiment.profile.hypotheses
    made = {"remedy": remedy, "letter": LETTERS.get(remedy), "applied": applied}
    for name, values in (("gap", gap), ("moved", moved)):
        value, low, high = _mean(values)
        made |= {name: value, f"{name}_low": low, f"{name}_high": high}
    known = {"split": split, "N": settings.breadth, "b": settings.depth, "problems": len(gap)}
    return row("gap", method="self_backtracking", seed=experiment.seed, **known) | made


def _mean(values: np.ndarray) -> tuple[float, float, float]:
    if not np.ptp(values):  # remedy and base agree on every problem, as they do when it is the base
        return float(values[0]), float(values[0]), float(values[0])
    return clustered_share(values, np.ones(len(values)), np.arange(len(values)))


def hypothesis_rows(experiment: Experiment) -> pd.DataFrame:
    """Artifacts remedy, judge, memorisation and gap; empty where the profile does not ask."""
    if experiment.profile.hypotheses is None:
        return table([])
    rows = []
    for model in experiment.profile.models:
        rows += remedy_rows(experiment, model) + memorisation_rows(experiment, model)
    return table(rows + judge_rows(experiment) + gap_rows(experiment))


@styled
def remedies(rows: pd.DataFrame) -> Figure:
    """What each hypothesis' remedy does to the gap S less L; with one model, to its accuracy."""
    known = table(rows)
    if (known["artifact"] == "gap").any():
        found = found_rows(rows, "gap")
        value, label = "gap", "accuracy, S less L (points)"
        found = found.assign(series=["remedy for L" if each == "L" else "for both models"
                                     for each in found["applied"]])  # fmt: skip
    else:
        found = found_rows(rows, "remedy")
        value, label = "gain", "gain in accuracy (points)"
        found = found.assign(series=found["model"])
    found = found.assign(letter=found["letter"].fillna(""))
    names = list(dict.fromkeys(found.sort_values("letter")["remedy"]))
    names.sort(key=lambda name: name != BASE)
    labels = found.drop_duplicates("remedy").set_index("remedy")["letter"]
    splits, series = present(found["split"], SPLITS), list(dict.fromkeys(found["series"]))
    figure, axes = panels(1, len(splits), height=0.5 * len(names) + 0.8)
    for panel, split in zip(axes[0], splits, strict=True):
        for number, name in enumerate(series):
            line = found[(found["split"] == split) & (found["series"] == name)]
            shift = 0.18 * (number - (len(series) - 1) / 2)
            low, high = errors(line, value, f"{value}_low", f"{value}_high")
            panel.errorbar(
                100 * line[value].astype(float),
                line["remedy"].map(names.index) + shift,
                xerr=[100 * low, 100 * high],
                color=PALETTE[number],
                marker="oD"[number % 2],
                linestyle="none",
                capsize=3,
            )
        base = found[(found["split"] == split) & (found["remedy"] == BASE)]
        panel.axvline(
            100 * float(base[value].iloc[0]), color="#777777", linestyle="--", linewidth=1
        )
        panel.axvline(0, color="#222222", linewidth=1)
        panel.set_title(SPLITS[split])
        panel.set_xlabel(label)
    ticks = [f"({labels[name]}) {name}" if labels[name] else name for name in names]
    axes[0][0].set_yticks(range(len(names)), ticks)
    axes[0][0].invert_yaxis()
    legend(figure, [handle(name, PALETTE[number], marker="oD"[number % 2], linestyle="none")
                    for number, name in enumerate(series)])  # fmt: skip
    return figure
