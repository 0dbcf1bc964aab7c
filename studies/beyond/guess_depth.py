"""How deep is a wrong guess? Steps between an error and its first sign, and between it and
`<backtrack>`.

Takes an experiment whose task has an exact solver and says what an error looks like without one
(for another there are no rows); gives rows (artifact `guess_depth`) of independent samples that the
section `[compute]` has: of the SFT model, which never steps back, how many steps later a step that
lost the solution shows (`to_sign`); of the backtracking model, how many steps after the error it
says `<backtrack>` (`to_backtrack`; 0: one step back takes the error back) and how often where there
was no error (`too_early`). A comparison that the paper does not make.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawn
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from lib.drawing.markdown import markdown_table
from lib.drawing.style import (
    METHOD_COLOURS,
    SPLITS,
    artifact_rows,
    errors,
    found_rows,
    legend,
    look,
    panels,
    present,
    styled,
    whole,
)
from lib.evaluation.results import row, table
from lib.evaluation.statistics import clustered_share, with_interval
from lib.experiment.experiment import Experiment
from lib.search.tree import SearchTree
from lib.tasks.task import EXPLORATION, Task
from studies.beyond.equal_compute import ComputeSettings, searches_of, specs
from studies.beyond.search_loss import cells
from studies.measurements import Searched, asked_models, kept_table
from studies.study import Figure, Study

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 2
ARTIFACT = "guess_depth"
COLUMNS = ["problem", "visits", "end", "steps", "error_step", "error", "sign_step"]
STAGES = {"sft": "sft_sampled", "backtracking": "self_backtracking"}


def paths_with_errors(
    trees: Iterable[SearchTree], problems: pd.DataFrame, task: Task
) -> pd.DataFrame:
    """One row a path of each tree: how it ended, after how many steps, and where it went wrong.

    end: the leaf's kind; `unfinished` where `<backtrack>` took back a step that was not complete.
    error_step: the first step that lost the solution, from 1 (and its kind of error), by the exact
    solver; sign_step: the first step from there on that shows it without one, as long as all since
    then are legal and right: one that is not is an error of its own. Both may be missing.
    """
    rows, records = list(problems.itertuples(index=False)), []
    for tree in trees:
        problem = rows[tree.problem_id]
        known: dict[int, tuple] = {0: ((), None, None, None, True)}
        for node in tree.nodes[1:]:
            steps, at, error, sign, legal = known[node.parent]
            if node.kind == "step":
                steps = (*steps, node.text)
                if legal:
                    found = task.solver.judge_steps(problem, steps)
                    legal = found in (None, EXPLORATION)
                    if at is None and found is not None:
                        at, error = len(steps), found
                    told = at is not None and (legal or at == len(steps))
                    if told and sign is None and task.shows_error(problem, steps):
                        sign = len(steps)
                known[node.id] = (steps, at, error, sign, legal)
                continue
            midway = node.kind == "backtrack" and len(node.tokens) > 1
            end = "unfinished" if midway else node.kind
            records.append((tree.problem_id, node.visits, end, len(steps), at, error, sign))
    return pd.DataFrame(records, columns=COLUMNS).astype(
        {"error_step": float, "sign_step": float, "error": object}
    )


def sampled(experiment: Experiment) -> Iterator[tuple[str, str, Searched]]:
    """Model, stage, and the search of independent samples at the largest N of `[compute]`."""
    task = experiment.task
    if task.solver is None or task.shows_error is None:
        return
    spec = specs(experiment)[0][0]
    for model in asked_models(experiment, ComputeSettings):
        for stage in STAGES:
            for found in searches_of(experiment, model, stage, spec):
                yield model, stage, found


def requests(experiment: Experiment) -> Iterator[object]:
    """The searches; `[compute]` has asked for them."""
    for *_, found in sampled(experiment):
        yield found


def rows(experiment: Experiment) -> pd.DataFrame:
    """The rows of every model and split."""
    count, made = experiment.profile.settings(ComputeSettings).problems, []
    for model, stage, found in sampled(experiment):

        def measure(found: Searched = found) -> pd.DataFrame:
            trees = experiment.read_trees(found.made)[:count]
            return paths_with_errors(trees, found.problems, experiment.task)

        inputs = {"search": found.made.key, "problems": count}
        made_by = [paths_with_errors, experiment.task]
        paths = kept_table(experiment, f"errors/{found.made.name}", inputs, measure, made_by)
        named = found.columns(model) | {"method": STAGES[stage]}
        made += sign_rows(paths, **named) if stage == "sft" else backtrack_rows(paths, **named)
    return table(made)


def sign_rows(paths: pd.DataFrame, **columns: object) -> list[dict]:
    """Of samples that a legal step lost: how many steps later that shows; its mean; how many."""
    lost = paths[paths["error_step"].notna()]
    guessed = lost[lost["error"] == EXPLORATION]
    shown = guessed.dropna(subset="sign_step")
    named = {"error": EXPLORATION} | columns
    made = _distances("to_sign", shown["sign_step"] - shown["error_step"], shown, named)
    for name, hits, among in (
        ("guessed", lost["error"] == EXPLORATION, lost),  # of the samples with an error
        ("shown", guessed["sign_step"].notna(), guessed),  # of those whose first error is a guess
    ):
        share, low, high = clustered_share(hits, among["visits"], among["problem"])
        counts = {"samples": int(among["visits"].sum()), "share": share, "low": low, "high": high}
        made.append(row(ARTIFACT, quantity=name) | counts | columns)
    return made


def backtrack_rows(paths: pd.DataFrame, **columns: object) -> list[dict]:
    """Of `<backtrack>`s after an error: how many steps later; of all: how many after none."""
    said = paths[paths["end"] == "backtrack"]
    late = said[said["error_step"].notna()]
    made = _distances("to_backtrack", late["steps"] - late["error_step"], late, columns)
    early = said["error_step"].isna()
    share, low, high = clustered_share(early, said["visits"], said["problem"])
    counts = {"samples": int(said["visits"].sum()), "share": share, "low": low, "high": high}
    return [*made, row(ARTIFACT, quantity="too_early") | counts | columns]


def _distances(name: str, steps: pd.Series, of: pd.DataFrame, columns: dict) -> list[dict]:
    """A row for each number of steps, with its share of these samples, and one with their mean."""
    if of.empty:
        return []
    weights, counts = of["visits"], {"samples": int(of["visits"].sum())}
    counts["problems"] = int(of["problem"].nunique())
    made = []
    for distance in range(int(steps.max()) + 1):
        share, low, high = clustered_share(steps == distance, weights, of["problem"])
        measured = {"step": distance, "share": share, "low": low, "high": high}
        made.append(row(ARTIFACT, quantity=name) | measured | counts | columns)
    mean = with_interval("value", clustered_share(steps, weights, of["problem"]))
    return [*made, row(ARTIFACT, quantity=f"{name}_mean") | mean | counts | columns]


def one_step_back(here: pd.DataFrame) -> float:
    """The share of `<backtrack>`s after a lost solution that one step back takes back; or nan."""
    found = here[(here["quantity"] == "to_backtrack") & (here["step"] == 0).fillna(False)]
    return float(found["share"].iloc[0]) if len(found) else np.nan


def _value(here: pd.DataFrame, name: str, column: str = "value") -> float:
    found = here[here["quantity"] == name]
    return float(found[column].iloc[0]) if len(found) else np.nan


def remark(rows: pd.DataFrame) -> str:
    """How long an error stays hidden, and how often one step back is enough; empty without rows."""
    found, told = artifact_rows(rows, ARTIFACT), []
    for model, split, here in cells(found):
        if np.isnan(sign := _value(here, "to_sign_mean")):
            continue
        line = (
            f"{model}, {SPLITS[split]}: a legal step that loses the solution shows "
            f"{sign:.1f} steps later on average"
        )
        if not np.isnan(shown := _value(here, "shown", "share")):
            line += f" (in {whole(shown)}% of such paths; the others end, or err again, before)"
        if not np.isnan(enough := one_step_back(here)):
            line += (
                f"; of the `<backtrack>`s said after an error, {whole(enough)}% come right after "
                "it, so that one step back is enough"
            )
        told.append(f"{line}.")
    return " ".join(told)


def text(rows: pd.DataFrame) -> str:
    """The shares in a table; empty without rows."""
    found, lines = artifact_rows(rows, ARTIFACT), []
    for model, split, here in cells(found):
        shares = [_value(here, name, "share") for name in ("guessed", "shown", "too_early")]
        means = [_value(here, f"{name}_mean") for name in ("to_sign", "to_backtrack")]
        values = [whole(shares[0]), whole(shares[1]), f"{means[0]:.1f}"]
        values.append(whole(one_step_back(here)))
        values += [f"{means[1]:.1f}", whole(shares[2])]
        lines.append([f"{model}, {split}", *("-" if each == "nan" else each for each in values)])
    head = ["", "wrong samples whose first error is a legal step, %", "of which it shows, %"]
    head.append("steps until it shows")
    head += ["`<backtrack>` right after the error, %", "steps from error to `<backtrack>`"]
    head += ["`<backtrack>` without an error, %"]
    return markdown_table(head, lines) if lines else ""


LOOKS = {
    "to_sign": ("a legal step that lost the solution shows (SFT)", METHOD_COLOURS["sft"]),
    "to_backtrack": ("<backtrack> is said (backtracking model)", look(1)["colour"]),
}


@styled
def distances(rows: pd.DataFrame) -> Drawn:
    """How many steps after an error it shows, and how many after it `<backtrack>` is said."""
    found = found_rows(rows, ARTIFACT)
    found = found[found["quantity"].isin(LOOKS)]
    pairs = [(model, split) for model, split, _ in cells(found)]
    splits = present(found["split"], SPLITS)
    figure, axes = panels(len(pairs) // len(splits), len(splits), height=2.6)
    for panel, (model, split) in zip(
        (panel for line in axes for panel in line), pairs, strict=True
    ):
        here = found[(found["model"] == model) & (found["split"] == split)]
        for number, (name, (_, colour)) in enumerate(LOOKS.items()):
            bars = here[here["quantity"] == name].sort_values("step")
            at = bars["step"].astype(float) + 0.4 * (number - 0.5)
            panel.bar(at, bars["share"].astype(float), 0.38, color=colour,
                      yerr=errors(bars, "share"), error_kw={"elinewidth": 1})  # fmt: skip
        panel.set_title(f"{model}, {SPLITS[split]}")
        panel.set_xlabel("steps after the error")
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for line in axes:
        line[0].set_ylabel("share")
    legend(figure, [Patch(label=label, color=colour) for label, colour in LOOKS.values()])
    return figure


STUDY = Study(
    name="guess_depth",
    section="compute",
    settings=ComputeSettings,
    rows=rows,
    requests=requests,
    title="How deep is a wrong guess?",
    remark=remark,
    text=text,
    figures=(
        Figure(
            "guess_depth",
            distances,
            "How many steps after an error it can be seen without looking ahead, and how many "
            "after it the model says `<backtrack>`. At 0 one step back takes the error back.",
            (ARTIFACT,),
            columns=("step", "quantity", "share"),
        ),
    ),
)
