"""Settings of the studies: a profile's optional sections, each checked on its own.

Takes profiles; gives them with all their sections, and experiments of them. Knows nothing of how a
study is done.
"""

from __future__ import annotations

import os

from lib.base.files import ROOT
from lib.experiment.artifacts import Run
from lib.experiment.experiment import RUNS_VARIABLE, Experiment
from lib.profiles import load
from lib.profiles.load import MODEL_VARIABLE, Profile, with_model
from lib.studies.catalogue import sections


def load_profile(name: str) -> Profile:
    """The profile called `name`, or in the TOML file at this path, with its studies' sections."""
    return load.load_profile(name, sections())


def open_experiment(profile: str, seed: int) -> Experiment:
    """The experiment of a profile (name or TOML path), in `runs/<profile>-<seed>/`.

    The environment variables that `make reproduce MODEL=... RUNS=...` sets name its pretrained
    model, and a folder in place of `runs`.
    """
    loaded = with_model(load_profile(profile), os.environ.get(MODEL_VARIABLE, ""))
    runs = ROOT / (os.environ.get(RUNS_VARIABLE) or "runs")
    return Experiment(loaded, profile, seed, Run(runs / f"{loaded.name}-{seed}"))
