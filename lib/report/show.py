"""A study in a notebook: what it found in a sentence or two, its table, its figures.

Takes an experiment and a study, or results and a study; displays Markdown and figures. Where the
profile does not ask for the study, one sentence says what would make it. Knows nothing of any one
study.
"""

from __future__ import annotations

import pandas as pd
from IPython.display import Markdown, display

from lib.experiment.experiment import Experiment
from lib.studies.study import Study


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


def lacking(experiment: Experiment, study: Study) -> str:
    """What a profile would need for this study."""
    name = experiment.profile.name
    return (
        f"*The profile `{name}` does not ask for this. A section `[{study.section}]`, as in "
        f"`profiles/cpu.toml` or `profiles/smoke.toml`, would make it.*"
    )
