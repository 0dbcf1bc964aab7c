"""The answer to the paper's open question, written from the tables: why does the larger model lose?

Takes the tidy rows of a run; gives half a page of Markdown. Every number is interpolated from rows
and every verdict follows RULE, so that another run writes another answer. Knows nothing of how a
row was measured.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.evaluation.paper import paper_accuracy
from lib.evaluation.results import table
from lib.studies.beyond.larger_model import BASE, LETTERS
from lib.studies.beyond.sweep import PAIRINGS, comparisons

HOLDS, REFUTED, OPEN = "holds", "does not hold", "undecided"
MARGIN = 0.02  # a remedy that surely moves the gap by less than this is no cause of it
RULE = (
    "A cause *holds* when its remedy, given to L alone, takes something off the gap (S less L) on "
    "both splits: the paired 95% intervals lie above 0. It *does not hold* when both intervals lie "
    f"below {100 * MARGIN:.0f} points, and is *undecided* otherwise. In the sweep, whose "
    "cells are too many to judge each, it holds when their mean moves by more than that."
)
CAUSES = {
    "a": "its samples repeat themselves",
    "b": "its P(<backtrack>) is miscalibrated",
    "c": "it remembers its training data",
    "d": "it ranks its paths worse",
    "e": "it is trained unequally",
}
COMMAND = "make reproduce PROFILE=paper"


def judged(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a remedy given to L alone: letter, verdict, and `moved` by split, in shares."""
    gaps = _of(rows, "gap")
    if gaps.empty:
        return pd.DataFrame(columns=["remedy", "letter", "verdict", "evidence", "moved"])
    gaps = gaps[(gaps["applied"] == "L") & (gaps["remedy"] != BASE)]
    records = []
    for remedy, cell in gaps.groupby("remedy", sort=False):
        if (cell["moved_low"] > 0).all():
            verdict = HOLDS
        elif (cell["moved_high"] < MARGIN).all():
            verdict = REFUTED
        else:
            verdict = OPEN
        evidence = "; ".join(
            f"{each['split']} {_points(each['moved'])} "
            f"[{_points(each['moved_low'])}, {_points(each['moved_high'])}]"
            for each in cell.to_dict("records")
        )
        records.append(
            {"remedy": remedy, "letter": LETTERS[remedy], "verdict": verdict}
            | {"evidence": evidence, "moved": float(cell["moved"].mean())}
        )
    return pd.DataFrame(records).sort_values("letter", ignore_index=True)


def answer(rows: pd.DataFrame, command: str = COMMAND) -> str:
    """Markdown: what was measured, each cause, the sweep, what it predicts, the command."""
    known = table(rows)
    parts = [_measured(known), *_causes(known), _sweep(known), _prediction(known)]
    parts.append(f"The one command that tests it on the real models: `{command}`.")
    parts.append(f"The rule: {RULE}")
    return "\n\n".join(part for part in parts if part).replace("P(<backtrack>)", "P(`<backtrack>`)")


def _of(rows: pd.DataFrame, artifact: str) -> pd.DataFrame:
    known = table(rows)
    return known[known["artifact"] == artifact]


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"


def _measured(rows: pd.DataFrame) -> str:
    gaps = _of(rows, "gap")
    if gaps.empty:
        remedies = _of(rows, "remedy")
        if remedies.empty:
            return "This run measured no hypotheses: its profile has no section `[hypotheses]`."
        return (
            "This run trained S alone, so there is no gap between two models of its own; below is "
            "what each remedy does to S, and the sweep's two small sizes."
        )
    base = gaps[gaps["remedy"] == BASE].to_dict("records")
    said = "; ".join(
        f"{each['split']} targets {100 * each['accuracy_S']:.1f} against "
        f"{100 * each['accuracy_L']:.1f}, a gap of {_points(each['gap'])} "
        f"[{_points(each['gap_low'])}, {_points(each['gap_high'])}] points"
        for each in base
    )
    loses = [each["gap_low"] > 0 for each in base]
    word = "loses" if all(loses) else "loses on one split" if any(loses) else "does not lose"
    where = f"N={base[0]['N']} b={base[0]['b']}, {base[0]['problems']} problems a split"
    return f"**Measured** ({where}): L {word}. S against L: {said}."


def _causes(rows: pd.DataFrame) -> list[str]:
    lines = [
        f"- ({each['letter']}) L loses because {CAUSES[each['letter']]}: **{each['verdict']}**. "
        f"*{each['remedy'][0].upper()}{each['remedy'][1:]}* takes off the gap {each['evidence']} "
        "points."
        for each in judged(rows).to_dict("records")
    ]
    if not lines:
        lines = _remedies_alone(rows)
    memory = _of(rows, "memorisation").to_dict("records")
    if memory:
        said = ", ".join(
            f"{each['model']} {each['train_loss']:.3f} on traces that it learned from and "
            f"{each['test_loss']:.3f} on unseen ones ({each['loss_gap']:+.3f})"
            for each in memory
        )
        lines.append(f"- (c) Loss of the models as they are: {said}.")
    verdicts = _of(rows, "verdicts")
    if len(verdicts) and "step" in verdicts:
        whole = verdicts[(verdicts["quantity"] == "auc") & verdicts["step"].isna()]
        whole = whole[whole["error"].isna()] if "error" in whole else whole
        said = ", ".join(
            f"{each['model']} {each['split']} {each['share']:.2f}"
            for each in whole.to_dict("records")
        )
        lines.append(f"- P(<backtrack>) as a judge of states, area under its ROC curve: {said}.")
    return ["\n".join(lines)] if lines else []


def _remedies_alone(rows: pd.DataFrame) -> list[str]:
    found = _of(rows, "remedy")
    if found.empty:
        return []
    found = found[found["remedy"] != BASE]
    lines = []
    for (model, remedy), cell in found.groupby(["model", "remedy"], sort=False):
        said = "; ".join(
            f"{each['split']} {_points(each['gain'])} "
            f"[{_points(each['gain_low'])}, {_points(each['gain_high'])}]"
            for each in cell.to_dict("records")
        )
        setting = cell["setting"].iloc[0] if "setting" in cell else np.nan
        chosen = "" if pd.isna(setting) else f" (validation chose {setting:g})"
        lines.append(f"- ({LETTERS[remedy]}) {model}, {remedy}{chosen}: {said} points.")
    return lines


def _sweep(rows: pd.DataFrame) -> str:
    pairs = comparisons(rows)
    if pairs.empty:
        return ""
    said = [f"**The sweep** compares {len(pairs)} pairs of small models."]
    sure, near = int(pairs["regime"].sum()), int(pairs["regime_pointwise"].sum())
    helped = int(pairs["helped_less"].sum())
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
    said.append(f"In {helped} of them L computes better and search adds surely less to it.")
    return "\n\n".join([" ".join(said), "\n".join(f"- {line}" for line in _unequal(pairs))])


def _unequal(pairs: pd.DataFrame) -> list[str]:
    """Hypotheses c and e in the sweep: what epochs, data and learning rate do to the gap."""
    lines = []
    same = pairs[pairs["pairing"] == PAIRINGS[0]]
    epochs = same.groupby("epochs")[["loses", "loss_gap_S", "loss_gap_L"]].mean()
    if len(epochs) > 1:
        first, last = epochs.iloc[0], epochs.iloc[-1]
        change = last["loses"] - first["loses"]
        memory = ", ".join(
            f"{model} {first[f'loss_gap_{model}']:+.3f}, then {last[f'loss_gap_{model}']:+.3f}"
            for model in ("L", "S")
        )
        lines.append(
            f"(c) L loses because {CAUSES['c']}: **{HOLDS if change > MARGIN else REFUTED}** in "
            f"the sweep. From {epochs.index[0]:.0f} to {epochs.index[-1]:.0f} epochs over the same "
            f"data the gap, S less L, moves by {_points(change)} points (loss on unseen traces "
            f"less that on learned ones: {memory})."
        )
    size = same.groupby("examples")["loses"].mean()
    if len(size) > 1:
        lines[-1:] = [
            f"{' '.join(lines[-1:])} From {size.index[0]:.0f} to {size.index[-1]:.0f} examples it "
            f"moves by {_points(size.iloc[-1] - size.iloc[0])}."
        ]
    by_pairing = pairs.groupby("pairing")["loses"].mean()
    means = ", ".join(f"{_points(by_pairing[name])} at {name}" for name in PAIRINGS)
    line = f"(e) L loses because {CAUSES['e']}: the mean gap is {means}."
    if same["rate_L"].nunique() > 1:
        moved, most = _own_rate(same)
        line += (
            " With the learning rate that gives L the lowest loss on unseen traces, "
            f"{_points(moved)} points come off the gap on average, at most {_points(most)}: for "
            f"the learning rate the cause **{HOLDS if moved > MARGIN else REFUTED}**."
        )
    return [*lines, line]


def _own_rate(same: pd.DataFrame) -> tuple[float, float]:
    """What a learning rate of L's own, chosen by loss, adds to its accuracy: mean and most."""
    gains = []
    for _, cell in same.groupby(["examples", "epochs"]):
        usual = cell.loc[(cell["rate_L"] - 1).abs().idxmin(), "accuracy_L"]
        gains.append(cell.loc[cell["test_loss_L"].idxmin(), "accuracy_L"] - usual)
    return float(np.mean(gains)), float(np.max(gains))


def _prediction(rows: pd.DataFrame) -> str:
    def paper(model: str, split: str, breadth: int = 32, depth: int = 1) -> float:
        return paper_accuracy("self_backtracking", model, split, breadth, depth)

    splits = ("seen", "new")
    gap = np.mean([paper("S", split) - paper("L", split) for split in splits])
    growth = {
        model: np.mean([paper(model, s, 32, 0) - paper(model, s, 8, 0) for s in splits])
        for model in ("S", "L")
    }
    said = (
        f"**For 1B and 3B.** The paper's gap is {_points(gap)} points (N=32 b=1); from 8 to 32 "
        f"samples its 1B gains {_points(growth['S'])}, its 3B {_points(growth['L'])}."
    )
    causes = judged(rows)
    held = causes[causes["verdict"] == HOLDS]
    if len(held):
        said += " Carried over point for point, " + "; ".join(
            f"*{each['remedy']}* for the 3B would leave a gap of {_points(gap - each['moved'])}"
            for each in held.to_dict("records")
        )
        said += "."
    elif len(causes):
        said += " No remedy holds here, so none of them is predicted to close it."
    pairs = comparisons(rows)
    same = pairs[pairs["pairing"] == PAIRINGS[0]] if len(pairs) else pairs
    if len(same) and same["epochs"].nunique() > 1:
        epochs = same.groupby("epochs")["loses"].mean()
        said += (
            f" What the sweep predicts of the paper's 3 epochs: training for {epochs.index[0]:.0f} "
            f"in place of {epochs.index[-1]:.0f} moves the gap by "
            f"{_points(epochs.iloc[0] - epochs.iloc[-1])} points"
        )
        if same["rate_L"].nunique() > 1:
            said += f", a learning rate of the 3B's own by {_points(-_own_rate(same)[0])}"
        said += "."
    return said
