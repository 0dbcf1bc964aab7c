"""Selection rules compared: accuracy, share of the pass@N ceiling, and how each ranks paths.

Takes an experiment; gives rows (artifact `selection`) of the searches at the largest N. The rule
that is called the default here is the one that is most often right on the validation split; no test
split has a say. Section 3.3 of the paper chooses by mean log-probability. How paths are scored is
in lib/search/selection.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from lib.drawing.markdown import markdown_table
from lib.drawing.style import MODEL_COLOURS, artifact_rows, present
from lib.evaluation import scoring, states, statistics
from lib.evaluation.results import table
from lib.evaluation.states import path_table, ranking
from lib.experiment.experiment import Experiment
from lib.search import selection
from lib.search.selection import SELECTION_RULES
from studies.beyond.step_coverage import InstrumentSettings
from studies.measurements import SAMPLE, Searched, kept_table, outcomes, widest_searches
from studies.study import Study


def model_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """The tables' searches at the largest N and every b; last, one of the validation problems."""
    yield from widest_searches(experiment, model, expansion=SAMPLE)
    search, settings = experiment.profile.search, experiment.profile.settings(InstrumentSettings)
    problems = experiment.problems("validation", 0, settings.validation_problems)
    spec = experiment.spec(max(search.breadths), max(search.depths), expansion=SAMPLE)
    made = experiment.search(experiment.checkpoint(model, "backtracking"), problems, spec)
    yield Searched(made, problems, "validation", spec)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every model's searches."""
    for model in experiment.profile.models:
        yield from model_searches(experiment, model)


def rows(experiment: Experiment) -> pd.DataFrame:
    """Every rule on validation, seen and new; `default` marks the one that validation chose."""
    found = []
    for model in experiment.profile.models:
        known = [(each, outcomes(experiment, each)) for each in model_searches(experiment, model)]
        default = most_often_right(known[-1][1])
        for each, judged in known:
            made = rule_rows(judged, scored_paths(experiment, each), **each.columns(model))
            found += [row | {"default": row["selection"] == default} for row in made]
    return table(found)


def most_often_right(outcomes: pd.DataFrame) -> str:
    """The rule of the highest accuracy; among equals the first in SELECTION_RULES."""
    accuracy = outcomes.groupby("selection")["correct"].mean()
    return max(SELECTION_RULES, key=lambda name: accuracy[name])


def scored_paths(experiment: Experiment, found: Searched) -> pd.DataFrame:
    """The `path_table` of a search, made once."""
    return kept_table(
        experiment,
        f"paths/{found.made.name}",
        {"search": found.made.key},
        lambda: path_table(experiment.read_trees(found.made), found.problems, experiment.task),
        [states, selection, experiment.task],
    )


def rule_rows(outcomes: pd.DataFrame, found: pd.DataFrame, **columns: object) -> list[dict]:
    """A row for every rule, from `search_outcomes` and the `path_table`."""
    rows = []
    for name, cell in outcomes.groupby("selection"):
        right, covered = int(cell["correct"].sum()), int(cell["covered"].sum())
        low, high = statistics.wilson_interval(right, covered)
        extra = {"ceiling": covered / len(cell)}
        if covered:
            extra |= {"of_ceiling": right / covered}
            extra |= {"of_ceiling_low": low, "of_ceiling_high": high}
        known = columns | {"selection": name, "checker": "strict", "artifact": "selection"}
        known |= {"tokens_per_problem": float(cell["tokens"].mean())}
        rows.append(scoring.accuracy_row(cell["correct"], **known) | extra)
        rows[-1] |= ranking(found, name)
    return rows


def deepest(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each model, its default rule, and its rows at the largest b."""
    found = artifact_rows(rows, "selection")
    found = found[found["b"] == found["b"].max()]
    for model in present(found["model"], MODEL_COLOURS):
        here = found[found["model"] == model]
        yield model, here.loc[here["default"].astype(bool), "selection"].iloc[0], here


def selection_remark(rows: pd.DataFrame) -> str:
    """What validation chose, and how that does on the test splits; empty without rows."""
    told = []
    for model, default, here in deepest(rows):
        parts = []
        for split in ("seen", "new"):
            accuracy = here[here["split"] == split].set_index("selection")["accuracy"]
            best = accuracy.max()
            what = "no rule is better" if accuracy[default] == best else f"at best {100 * best:.1f}"
            parts.append(f"{100 * accuracy[default]:.1f}% on the {split} split ({what})")
        told.append(f"For {model} validation chose `{default}`: {' and '.join(parts)}.")
    return " ".join([*told, "No test problem had a say."]) if told else ""


def selection_text(rows: pd.DataFrame) -> str:
    """Each rule's accuracy at the largest b, as a table; empty without rows."""
    lines = []
    for model, default, here in deepest(rows):
        for rule in present(here["selection"], SELECTION_RULES):
            cells = here[here["selection"] == rule].set_index("split")
            line = [f"**{rule}**" if rule == default else rule, model]
            line += [f"{100 * cells['accuracy'][s]:.1f}" for s in ("validation", "seen", "new")]
            cells = cells.reindex(columns=["of_ceiling", "auc_within"], index=["seen", "new"])
            values = cells.T.to_numpy(float).ravel()  # missing where nothing was right
            line += ["" if pd.isna(value) else f"{100 * value:.1f}" for value in values]
            lines.append(line)
    if not lines:
        return ""
    head = ["rule", "", "validation", "seen", "new", "of the ceiling, seen", "new"]
    head += ["right above wrong, seen", "new"]
    return (
        "In %: accuracy; its share of the ceiling; and how often, of a right and a wrong path of "
        "one problem, the right one has the higher score.\n\n" + markdown_table(head, lines)
    )


STUDY = Study(
    name="selection_rules",
    section="instruments",
    settings=InstrumentSettings,
    rows=rows,
    requests=requests,
    title="Who chooses among the paths",
    remark=selection_remark,
    text=selection_text,
)
