"""What a notebook shows: a study's sentence or two, its table, its figures; a task's kinds of step.

Takes an experiment and a study, or results and a study; displays Markdown and figures. Where the
profile does not ask for the study, one sentence says what would make it. What kinds of step the
problems of each split need belongs to no study. Knows nothing of any one study or task.
"""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import panels, styled
from lib.experiment.experiment import Experiment
from lib.profiles.load import PROFILES, profile_names, read_table
from studies.beyond import two_tasks
from studies.study import Study


def show(experiment: Experiment, *studies: Study) -> None:
    """Make what is missing, and display what these studies show."""
    for study in studies:
        if study.wanted(experiment):
            show_rows(study.measured(experiment), study)
        else:
            display(Markdown(lacking(experiment, study)))


def show_rows(rows: pd.DataFrame, study: Study) -> None:
    """Display what a study shows of results that are there."""
    for text in (study.remark, study.text):
        if text and (words := text(rows)):
            display(Markdown(words))
    for figure in study.figures:
        if figure.has_rows(rows):
            display(figure.draw(rows))
            display(Markdown(f"*{figure.caption}*"))


def show_tasks(rows: pd.DataFrame) -> None:
    """Display a run's rows beside the committed ones of the other task."""
    found = two_tasks.both(rows)
    if found is None:
        display(Markdown("*This needs the section `[compute]` of a run of each of the two tasks.*"))
        return
    display(Markdown(two_tasks.remark(found)))
    display(two_tasks.against_tokens(found))
    display(Markdown(f"*{two_tasks.CAPTION}*"))


def lacking(experiment: Experiment, study: Study) -> str:
    """What a profile would need for this study, and which of those that ship has it."""
    having = [n for n in profile_names() if study.section in read_table(PROFILES / f"{n}.toml")]
    first = min(having, key=lambda name: name == "smoke", default="smoke")  # which has all, tiny
    return (
        f"*The profile `{experiment.profile.name}` does not ask for this. A section "
        f"`[{study.section}]` would, as in `profiles/{first}.toml`: `make reproduce "
        f"PROFILE={first}` makes it.*"
    )


@styled
def kind_shares(counts: pd.DataFrame) -> Figure:
    """How often each kind of step stands in the solutions: a panel a split."""
    if counts.empty:
        raise UserError("figure of the kinds of step: the task names none")
    figure, axes = panels(1, len(counts.columns), height=1.9)
    for panel, split in zip(axes[0], counts, strict=True):
        panel.bar(counts.index, counts[split] / counts[split].sum(), color="#6f6f6f")
        panel.set_title(f"{split} (n={counts[split].sum()} steps)")
        panel.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0][0].set_ylabel("share of steps")
    return figure


def kind_remark(counts: pd.DataFrame) -> str:
    """In which kind of step the two test splits differ most, in a sentence; "" without them."""
    if not {"seen", "new"} <= set(counts):
        return ""
    shares = 100 * counts / counts.sum()
    kind = (shares["new"] - shares["seen"]).abs().idxmax()
    return (
        f"The test splits differ most in `{kind}`: {shares.loc[kind, 'seen']:.0f}% of the steps of "
        f"`seen` and {shares.loc[kind, 'new']:.0f}% of `new`. A difference of accuracy between the "
        "two is read with that in mind."
    )
