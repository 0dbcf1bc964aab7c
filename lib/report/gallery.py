"""The figures of a run: what draws each, its caption, and the rows that it needs.

Takes the rows of lib/evaluation/results.py; draws every figure that has rows. Knows nothing of how
a row was measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lib.drawing import bars, curves
from lib.drawing.style import METHODS, save_figure
from lib.studies.beyond import (
    audit_report,
    equal_compute,
    expansions,
    larger_model,
    step_coverage,
    sweep,
    targets,
    verdicts,
)
from lib.studies.paper import best_of_n, case_study


@dataclass(frozen=True)
class Drawing:
    """A figure: its file name, what draws it, its caption, and the rows that it needs."""

    name: str
    draw: Callable[[pd.DataFrame], Figure]
    caption: str
    artifacts: tuple[str, ...]
    methods: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    checkers: tuple[str, ...] = ()

    def has_rows(self, rows: pd.DataFrame) -> bool:
        if not set(self.columns) <= set(rows.columns):
            return False
        found = rows[rows["artifact"].isin(self.artifacts)].dropna(subset=list(self.columns))
        if self.methods:
            found = found[found["method"].isin(self.methods)]
        return not found.empty and set(self.checkers) <= set(found["checker"])


SEARCH = ("self_backtracking",)
DRAWINGS = (
    Drawing(
        "table_1",
        bars.accuracy_bars,
        "Accuracy on seen and new targets (Table 1).",
        ("table_1",),
        ("sft_greedy", "sft_beam", *SEARCH),
    ),
    Drawing(
        "methods",
        bars.accuracy_by_method,
        "Every method (Tables 1 and 2).",
        ("table_1", "table_2"),
        tuple(METHODS),
    ),
    Drawing(
        "targets",
        targets.accuracy_by_target,
        "Self-Backtracking target by target: those held out beside those seen.",
        ("targets",),
        SEARCH,
        ("target",),
    ),
    Drawing(
        "figure_4",
        curves.accuracy_against_breadth,
        "Accuracy against the breadth N (figure 4).",
        ("figure_4",),
        (*SEARCH, "pass_at_n"),
        ("N", "b"),
    ),
    Drawing(
        "best_of_n",
        best_of_n.draw_best_of_n,
        "Best-of-N: who chooses among the SFT model's samples, and Self-Backtracking at the same N "
        "(Table 1, claim 3).",
        ("best_of_n",),
        columns=("N",),
    ),
    Drawing(
        "tokens",
        curves.accuracy_against_tokens,
        "Accuracy against the tokens that a problem costs.",
        ("table_1", "table_2", "figure_4"),
        tuple(method for method in METHODS if method != "pass_at_n"),
        ("tokens_per_problem",),
    ),
    Drawing(
        "figure_3",
        curves.self_improvement,
        "Self-improvement: accuracy without search after each round (figures 3 and 8).",
        ("figure_3",),
        columns=("round",),
    ),
    Drawing(
        "rounds",
        curves.search_by_round,
        "Search with the improved models, round by round, and how many of its paths differ.",
        ("round_search",),
        SEARCH,
        ("round",),
    ),
    Drawing(
        "figure_5",
        bars.error_types,
        "What the failures are (figures 5 and 9 to 12).",
        ("figure_5",),
        columns=("error", "share"),
    ),
    Drawing(
        "figure_7",
        case_study.draw_case,
        "A case study (figure 7): a problem that greedy decoding fails and search solves after a "
        "roll-back. Orange: the model doubts the state; struck out: `<backtrack>`; green: the "
        "chosen path; a cross: the exact solver disagrees.",
        ("figure_7",),
        columns=("case",),
    ),
    Drawing(
        "table_3",
        curves.accuracy_against_ratio,
        "Accuracy against D_op : D_back (Tables 3 and 4).",
        ("table_3", "table_4"),
        SEARCH,
        ("ratio", "N", "b"),
    ),
    Drawing(
        "audit",
        audit_report.audit,
        "The audit: what each point in which the published code differs costs or gains, alone and "
        "together, on the same problems. Grey: the loss that its users report.",
        ("audit",),
        columns=("switch", "difference"),
    ),
    Drawing(
        "checkers",
        audit_report.checkers,
        "Each method by the strict checker and by the published one, and the difference in points.",
        ("table_1", "table_2"),
        tuple(METHODS),
        checkers=("strict", "published"),
    ),
    Drawing(
        "figure_13",
        curves.accuracy_against_temperature,
        "Accuracy against the temperature (figure 13).",
        ("figure_13",),
        SEARCH,
        ("temperature", "b"),
    ),
    Drawing(
        "coverage",
        step_coverage.coverage_by_step,
        "Step by step (b=0, largest N): of the samples whose steps before were sound, which steps "
        "are legal, computed right, and leave the target within reach of the exact solver.",
        ("step_coverage",),
        columns=("step", "quantity"),
    ),
    Drawing(
        "where_lost",
        step_coverage.where_lost,
        "Where each problem's search is lost (largest N): the first step after which no sample can "
        "reach the target, a solution that is not finished, or one that is not chosen.",
        ("search_loss",),
        columns=("quantity",),
    ),
    Drawing(
        "verdict",
        verdicts.verdict_curves,
        "P(`<backtrack>`) as a judge of every state met in search, against the exact solver.",
        ("verdict_roc",),
        columns=("false_positive",),
    ),
    Drawing(
        "hypotheses",
        larger_model.remedies,
        "What each hypothesis' remedy does, with the setting that validation chose.",
        ("gap", "remedy"),
        columns=("remedy",),
    ),
    Drawing(
        "sweep",
        sweep.sweep_map,
        "Two small sizes over data, epochs and learning rate. A frame: L computes better and loses "
        "(solid: by corrected intervals; dashed: by the two numbers alone).",
        ("sweep",),
        columns=("epochs", "computed"),
    ),
    Drawing(
        "compute_tokens",
        equal_compute.against_tokens,
        "At equal compute: accuracy against the tokens generated, on the same problems.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_breadth",
        equal_compute.against_breadth,
        "The same against N.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_temperature",
        equal_compute.against_temperature,
        "The same against the temperature.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_depth",
        equal_compute.against_depth,
        "Self-Backtracking against b, on the same problems.",
        ("compute",),
        ("self_backtracking",),
        columns=("temperature",),
    ),
    Drawing(
        "expansions",
        expansions.accuracy_against_generated,
        "Independent samples against beams: accuracy (solid) and pass@N (dashed) at the tokens "
        "generated, lost beams' tokens included; a point for each N.",
        ("expansions",),
        columns=("expansion",),
    ),
    Drawing(
        "figure_6",
        bars.loss_curves,
        "Training loss (figure 6).",
        ("figure_6",),
        columns=("loss", "stage"),
    ),
)


def draw_all(rows: pd.DataFrame, manifest: Mapping, folder: Path) -> list[Path]:
    """Draw every figure that has rows into `folder`, as PNG and SVG -> their paths."""
    paths: list[Path] = []
    for drawing in DRAWINGS:
        if drawing.has_rows(rows):
            paths += save_figure(drawing.draw(rows), Path(folder), drawing.name, manifest)
    return paths
