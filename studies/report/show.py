"""What a notebook shows: a study's sentence or two, its table, its figures; a task's kinds of step.

Takes an experiment and a study, or results and a study; displays Markdown and figures. Where the
profile does not ask for the study, one sentence says what would make it. What kinds of step the
problems of each split need belongs to no study. Knows nothing of any one study or task.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from lib.base.errors import UserError
from lib.drawing.style import panels, styled
from lib.experiment.experiment import Experiment
from lib.profiles.load import PROFILES, profile_names, whole_table
from studies.beyond import two_tasks
from studies.study import Study

WITHOUT_GPU = ("cpu", "studies")


def show(experiment: Experiment, *studies: Study) -> None:
    """Make what is missing, and display what these studies show."""
    for study in studies:
        if study.wanted(experiment):
            show_rows(study.measured(experiment), study)
        else:
            display(Markdown(lacking(experiment, study)))


def show_rows(rows: pd.DataFrame, study: Study) -> None:
    """Display what a study shows of results that are there, or that it shows nothing."""
    words = [say(rows) for say in (study.remark, study.text) if say]
    figures = [figure for figure in study.figures if figure.has_rows(rows)]
    for text in filter(None, words):
        display(Markdown(text))
    for figure in figures:
        display(figure.draw(rows))
        display(Markdown(f"*{figure.caption}*"))
    if not any(words) and not figures:
        display(Markdown(f"*{study.title or study.name}: this run has nothing to show.*"))


def show_table(
    experiment: Experiment, study: Study, table: Callable[[Experiment], pd.DataFrame]
) -> None:
    """Display a table beside what a study shows; `lacking` where the profile asks for none."""
    if study.wanted(experiment):
        display(table(experiment).round(3))
    else:
        display(Markdown(lacking(experiment, study)))


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
    """What a profile would need for this study, and which of those that ship has it: one of the
    same task, and rather one that goes on where this one ends, or needs no GPU."""
    own = experiment.profile
    told = f"*The profile `{own.name}` does not ask for this"
    tables = {name: whole_table(PROFILES / f"{name}.toml") for name in profile_names()}
    having = {
        name: table
        for name, table in tables.items()
        if study.section in table and table["task"]["module"] == own.task.module
    }
    if not having:
        return f"{told}, nor does any that ships for its task.*"
    first = min(
        having,
        key=lambda name: (
            name == "smoke",  # which has all, tiny
            having[name].get("extends") != own.name,
            name not in WITHOUT_GPU,
            name,
        ),
    )
    return (
        f"{told}. A section `[{study.section}]` would, as in `profiles/{first}.toml`: "
        f"`make reproduce PROFILE={first}` makes it.*"
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
