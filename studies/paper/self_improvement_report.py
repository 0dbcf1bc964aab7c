"""What self-improvement's three ways say: their curves, the paper's points, by heart or not.

Takes the rows of studies/paper/self_improvement.py; gives a figure, a remark and a table, in which
every number and verdict is computed. Knows nothing of how a row was measured.
"""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure as Drawn

from lib.drawing.markdown import markdown_table, points, points_of
from lib.drawing.style import (
    METHOD_COLOURS,
    PAPER_MARK,
    SPLITS,
    artifact_rows,
    curve,
    handle,
    legend,
    panels,
    paper_handle,
    percent,
    pick,
    present,
    problems_of,
    styled,
)
from lib.evaluation.paper import SELF_IMPROVEMENT
from lib.experiment.experiment import TEST_SPLITS

GREEDY, SEARCH = "self_improvement", "self_improvement_search"
GAIN, SWEEP = "self_improvement_gain", "self_improvement_sweep"
PUBLISHED, OTHERS = "trained_on_test_problems", "trained_on_other_test_problems"
FRESH, CONTROL = "fresh_problems", "generator_solutions"
NAMES = {
    PUBLISHED: "as published: TRAINED ON THESE TEST PROBLEMS",
    OTHERS: "the same model on other test problems",
    FRESH: "fresh training problems, D_back kept",
    CONTROL: "control: the generator's solutions, D_back kept",
}
LOOKS = {
    PUBLISHED: {"colour": METHOD_COLOURS["reward"], "marker": "s"},
    OTHERS: {"colour": METHOD_COLOURS["own_reward"], "marker": "v"},
    FRESH: {"colour": METHOD_COLOURS["improved"], "marker": "o"},
    CONTROL: {"colour": "#222222", "marker": "^"},
}
RULE = (
    "The comparison that decides is of greedy decoding after the last round, at the largest b, "
    "over both test splits. The jump is *learned by heart* where the model that was trained on the "
    "test problems solves more of them than the one with fresh problems does (paired 95% interval "
    "above 0), and gains more on them than on other test problems (the two 95% intervals apart)."
)


def paper_gain(b: int, number: int) -> float | None:
    """What the paper's 1B gains by these rounds, greedy, mean of both splits; None: not told."""
    told = [SELF_IMPROVEMENT[split, b][0] for split in TEST_SPLITS if b in (0, 1)]
    if not told or not 0 < number < len(told[0]):
        return None
    return sum(line[number] - line[0] for line in told) / 100 / len(told)


def deciding(rows: pd.DataFrame) -> pd.DataFrame:
    """The gains over both splits at the largest b."""
    found = artifact_rows(rows, GAIN)
    found = found[found["split"].isna()]
    return found[found["b"] == found["b"].max()]


def remark(rows: pd.DataFrame) -> str:
    """How many of the paper's points each way gives, and what RULE says; empty without rows."""
    found = deciding(rows)
    if found.empty:
        return ""
    b, rounds = int(found["b"].max()), sorted({1, int(found["round"].max())})
    told = [
        f"In points of greedy accuracy over both splits, b={b}: the paper's first round gives "
        f"{points(paper_gain(b, 1) or 0)} and its third {points(paper_gain(b, 3) or 0)}. After "
        f"round {' and round '.join(map(str, rounds))} here:"
    ]
    shown = {}
    for method in present(found["method"], NAMES):
        of = found[found["method"] == method]
        ends = [of[of["round"] == number].iloc[0] for number in rounds]
        shown[method] = ends[-1]
        each = [points_of(end, "gain") for end in ends]
        told.append(f"*{NAMES[method]}* {' and '.join(each)};")
    lead = shown[PUBLISHED]
    by_heart = lead["lead_low"] > 0 and lead["gain_low"] > shown[OTHERS]["gain_high"]
    told.append(
        f"{points_of(lead, 'lead')} points of the first are more than fresh problems give on the "
        "same test problems: the jump is "
        f"{'**learned by heart**' if by_heart else '**not** by heart alone'}."
    )
    return " ".join(told)


def text(rows: pd.DataFrame) -> str:
    """The sweep as a table, and the rule; empty without rows."""
    found = artifact_rows(rows, SWEEP)
    if found.empty:
        return ""
    found = found[found["checker"] == "strict"].sort_values(["round_problems", "epochs"])
    lines = [
        [f"{each['round_problems']:.0f}", f"{each['epochs']:g}", f"{100 * each['accuracy']:.1f}"]
        for each in found.to_dict("records")
    ]
    head = ["problems searched", "epochs", "greedy on validation problems, %"]
    swept = f"One first round on fresh problems, swept:\n\n{markdown_table(head, lines)}"
    return f"{swept}\n\nThe rule: {RULE}"


@styled
def curves_by_round(rows: pd.DataFrame) -> Drawn:
    """Accuracy after each round: greedy solid, search dashed; a column for each b."""
    found = pick(rows, GREEDY, SEARCH, need=["round", "b"])
    splits, depths = present(found["split"], SPLITS), sorted(found["b"].unique())
    methods = present(found["method"], NAMES)
    found["x"] = found["round"].astype(float)
    figure, axes = panels(len(splits), len(depths))
    for line, split in zip(axes, splits, strict=True):
        for panel, depth in zip(line, depths, strict=True):
            here = found[(found["split"] == split) & (found["b"] == depth)]
            for place, method in enumerate(methods):
                of = here[here["method"] == method].assign(x=here["x"] + 0.05 * (place - 1.5))
                curve(panel, of[of["artifact"] == GREEDY], "x", **LOOKS[method])
                hollow = LOOKS[method] | {"linestyle": "--", "mfc": "white"}
                curve(panel, of[of["artifact"] == SEARCH], "x", **hollow)
            if paper := SELF_IMPROVEMENT.get((split, int(depth))):
                panel.plot(range(len(paper[0])), [p / 100 for p in paper[0]], **PAPER_MARK)
            where = f"{SPLITS[split]}, b={depth} N={here['N'].max()}{problems_of(here)}"
            panel.set_title(f"{here['model'].iloc[0]}, {where}")
            panel.xaxis.get_major_locator().set_params(integer=True)  # the paper may have more
        line[0].set_ylabel("accuracy")
    for panel in axes[-1]:
        panel.set_xlabel("round of self-improvement")
    for line in axes:
        percent(line[0], from_zero=True)
    handles = [handle(NAMES[name], **LOOKS[name]) for name in methods]
    handles.append(handle("dashed: search with that model", "#777777", linestyle="--", mfc="white"))
    legend(figure, [*handles, paper_handle("the paper's 1B, greedy")], columns=2)
    return figure
