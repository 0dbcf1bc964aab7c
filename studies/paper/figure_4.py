"""Figure 4: accuracy against the breadth N for every depth b, and what a roll-back adds.

Takes an experiment; gives rows for each selection rule with the ceiling that none can pass
(artifact `figure_4`), and the same searches with and without roll-backs, problem by problem
(artifact `rollback`): a search with b > 0 begins with the very samples of b = 0, so that the two
are paired, and the interval of their difference is much narrower than those of the accuracies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import FuncFormatter

from lib.drawing.markdown import markdown_table, points
from lib.drawing.style import (
    CEILING_MARK,
    METHOD_COLOURS,
    METHODS,
    MODEL_COLOURS,
    PAPER_MARK,
    SPLITS,
    curve,
    handle,
    legend,
    look,
    panels,
    paper_handle,
    percent,
    pick,
    powers,
    present,
    problems_of,
    setting,
    styled,
)
from lib.evaluation import scoring
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import table
from lib.evaluation.scoring import accuracy_row, outcome_rows
from lib.evaluation.statistics import paired_difference
from lib.experiment.experiment import Experiment
from studies.measurements import (
    SAMPLES,
    SEARCH,
    Searched,
    chosen,
    method_of,
    method_outcomes,
    tabled_searches,
)
from studies.study import Figure, Study


def model_searches(experiment: Experiment, model: str) -> Iterator[Searched]:
    """Every N and b of the profile."""
    yield from tabled_searches(experiment, model, experiment.profile.search.breadths)


def requests(experiment: Experiment) -> Iterator[object]:
    """Every search of the figure."""
    for model in experiment.profile.models:
        yield from model_searches(experiment, model)


def outcomes(experiment: Experiment) -> pd.DataFrame:
    """Every search problem by problem, by every selection rule."""
    return pd.concat(
        method_outcomes(experiment, model, model_searches(experiment, model), "figure_4")
        for model in experiment.profile.models
    )


def rows(experiment: Experiment) -> pd.DataFrame:
    """The figure's rows, and those of what a roll-back adds."""
    added = [rollback_rows(experiment, model) for model in experiment.profile.models]
    return table(pd.concat([outcome_rows(outcomes(experiment)), *added], ignore_index=True))


def rollback_rows(experiment: Experiment, model: str) -> pd.DataFrame:
    """A row for each split, N and b > 0: accuracy, and `gain` over b=0 with its 95% interval.

    `gained` and `lost` count the problems that only one of the two solves. No rows without b=0.
    """
    search = experiment.profile.search
    if 0 not in search.depths:
        return table([])
    right = {
        (
            method_of(experiment, each.spec),
            each.split,
            each.spec.breadth,
            each.spec.depth,
        ): solved(experiment, each)
        for each in model_searches(experiment, model)
    }
    found = []
    for (method, split, breadth, depth), correct in right.items():
        if depth == 0:
            continue
        base = right[method, split, breadth, 0]
        named = {"artifact": "rollback", "method": method, "model": model}
        named |= {"split": split, "N": breadth, "b": depth, "seed": experiment.seed}
        named |= {"temperature": search.temperature, "selection": search.selection}
        gain, low, high = paired_difference(correct, base)
        row = accuracy_row(correct, checker="strict", **named)
        row |= {"gain": gain, "gain_low": low, "gain_high": high}
        row |= {"gained": int((correct & ~base).sum()), "lost": int((base & ~correct).sum())}
        found.append(row)
    return table(found)


def solved(experiment: Experiment, searched: Searched) -> np.ndarray:
    """Which problems are solved `[problems]`, by the profile's selection rule."""
    return chosen(experiment, searched).sort_values("problem")["correct"].to_numpy(bool)


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of what roll-backs add."""
    found = table(rows)
    return found[(found["artifact"] == "rollback") & found["N"].notna()]


def remark(rows: pd.DataFrame) -> str:
    """How often roll-backs surely add to a search; empty where there are no rows."""
    added, told = gains(rows), []
    for method, found in added.groupby(added["method"].fillna(SEARCH)):
        sure, lost = (found["gain_low"] > 0).sum(), (found["gain_high"] < 0).sum()
        least, most = points(found["gain"].min()), points(found["gain"].max())
        told.append(
            f"{'With independent samples, roll' if method == SAMPLES else 'Roll'}-backs add "
            f"between {least} and {most} points to a search that begins with the same samples. "
            f"Of {len(found)} comparisons the interval lies above 0 in {sure} and below it in "
            f"{lost}."
        )
    return " ".join(told)


def gain_table(rows: pd.DataFrame) -> str:
    """What roll-backs add, in Markdown; empty where there are no rows."""
    keys = ["model", "split", "method", "N", "b"]
    found = gains(rows).sort_values(keys, ascending=[False, False, True, True, True])
    lines = [
        [
            row["model"],
            row["split"],
            setting(row).strip() + (", independent samples" if row["method"] == SAMPLES else ""),
            f"{100 * row['accuracy']:.1f}",
            points(row["gain"], row["gain_low"], row["gain_high"]),
            f"{row['gained']}",
            f"{row['lost']}",
        ]
        for row in found.to_dict("records")
    ]
    head = ["", "split", "search", "solved, %", "gain over b=0, points", "gained", "lost"]
    return markdown_table(head, lines) if lines else ""


@styled
def accuracy_against_breadth(rows: pd.DataFrame) -> Drawn:
    """Figure 4: accuracy against N for each b, below the ceilings that no selection can pass.

    Under each panel, where the rows have it, the gain of roll-backs on the same problems.
    """
    found = beside_paper(pick(rows, "figure_4", need=["N", "b"]))
    added = gains(rows)
    added = added[added["method"].fillna(SEARCH) == SEARCH]
    found = found[found["method"].isin([SEARCH, scoring.CEILINGS[SEARCH]])]
    sft = rows[(rows["method"] == "sft_pass_at_n") & rows["N"].isin(found["N"])]
    sft = sft[sft["checker"] == "strict"]
    models, splits = present(found["model"], MODEL_COLOURS), present(found["split"], SPLITS)
    lines = 1 if added.empty else 2
    how = {"sharey": "row", "height_ratios": [2.2, 1][:lines] * len(models)}
    figure, axes = panels(lines * len(models), len(splits), 3.6 / lines + 0.3, **how)
    for number, model in enumerate(models):
        for column, split in enumerate(splits):
            here = [
                part[(part["model"] == model) & (part["split"] == split)]
                for part in (found, sft, added)
            ]
            panel = axes[lines * number][column]
            _accuracies(panel, here[0], here[1])
            panel.set_title(f"{model}, {SPLITS[split]}{problems_of(here[0])}")
            if lines == 2:
                _gains(axes[lines * number + 1][column], here[2])
        axes[lines * number][0].set_ylabel("accuracy")
        percent(axes[lines * number][0])
        if lines == 2:
            axes[lines * number + 1][0].set_ylabel("gain over b=0\n(points)")
    for panel in (panel for line in axes for panel in line):
        powers(panel, found["N"])
        panel.set_xlim(axes[0][0].get_xlim())
    for panel in axes[-1]:
        panel.set_xlabel("breadth N")
    depths = sorted(found["b"].unique())
    handles = [handle(f"b={depth}", linestyle="none", **look(depth)) for depth in depths]
    grey = METHOD_COLOURS["sft"]
    known = {"pass_at_n": "#222222"} if (found["method"] == "pass_at_n").any() else {}
    known |= {} if sft.empty else {"sft_pass_at_n": grey}
    handles += [handle(METHODS[name], colour, **CEILING_MARK) for name, colour in known.items()]
    papers = [paper_handle("the paper")] if found["paper"].notna().any() else []
    legend(figure, handles + papers, columns=3)
    return figure


def _apart(line: pd.DataFrame, depths: list[int]) -> pd.DataFrame:
    """The rows with a place `x` beside N: no b stands over another. Lines would mislead then."""
    step = min(0.44, 0.9 / len(depths))
    shift = line["b"].map(depths.index) - (len(depths) - 1) / 2
    return line.assign(x=line["N"].astype(float) * 2 ** (step * shift))


def _accuracies(panel: Axes, rows: pd.DataFrame, sft: pd.DataFrame) -> None:
    """Accuracy and ceiling by N and b; the ceiling of SFT's samples; the paper's numbers."""
    depths = sorted(rows["b"].unique())
    for depth, line in _apart(rows, depths).groupby("b"):
        chosen, style = line[line["method"] == "self_backtracking"], look(depth)
        curve(panel, chosen, "x", linestyle="none", **style)
        ceiling = line[line["method"] == "pass_at_n"]
        panel.plot(ceiling["x"], ceiling["accuracy"], color=style["colour"], **CEILING_MARK)
        mark = PAPER_MARK | {"markeredgecolor": style["colour"]}
        panel.plot(chosen["x"] * 2**-0.15, chosen["paper"], **mark)
    grey = METHOD_COLOURS["sft"]
    panel.plot(sft["N"].astype(float), sft["accuracy"], color=grey, **CEILING_MARK)


def _gains(panel: Axes, rows: pd.DataFrame) -> None:
    """What b > 0 adds to b = 0 on the same problems, with its paired interval."""
    panel.axhline(0, color="#222222", linewidth=0.9)
    bounds = {"accuracy": rows["gain"], "low": rows["gain_low"], "high": rows["gain_high"]}
    for depth, line in _apart(rows.assign(**bounds), sorted(rows["b"].unique())).groupby("b"):
        curve(panel, line, "x", linestyle="none", **look(depth))
    points = FuncFormatter(lambda share, _: f"{round(100 * share, 1):+g}" if share else "0")
    panel.yaxis.set_major_formatter(points)


def of_samples(rows: pd.DataFrame) -> Drawn:
    """Figure 4 of independent samples, where the profile's own search has beams."""
    names = {SAMPLES: SEARCH, scoring.CEILINGS[SAMPLES]: scoring.CEILINGS[SEARCH]}
    hidden = dict.fromkeys(names.values(), "other")
    renamed = rows["method"].map(hidden | names).fillna(rows["method"])
    return accuracy_against_breadth(rows.assign(method=renamed))


STUDY = Study(
    name="figure_4",
    rows=rows,
    requests=requests,
    outcomes=outcomes,
    figures=(
        Figure(
            "figure_4",
            accuracy_against_breadth,
            "Accuracy against the breadth N (figure 4). Below each: what roll-backs add to it on "
            "the same problems.",
            ("figure_4",),
            (SEARCH,),
            ("N", "b"),
        ),
        Figure(
            "figure_4_samples",
            of_samples,
            "The same with independent samples in place of beams.",
            ("figure_4",),
            (SAMPLES,),
            ("N", "b"),
        ),
    ),
    remark=remark,
    text=gain_table,
    title="Figure 4: breadth and roll-backs",
)
