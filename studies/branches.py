"""A branch of a trunk beside the run's own: of its own size, recipe and mix of D_back.

Takes an experiment and what differs; gives a checkpoint, made once. Knows nothing of any one study.
"""

from __future__ import annotations

from dataclasses import asdict

from lib.experiment.artifacts import Artifact
from lib.experiment.experiment import Experiment
from lib.profiles.recipe import Recipe


def small_branch(
    experiment: Experiment,
    model: str,
    name: str,
    examples: int,
    recipe: Recipe,
    mix: float = 1.0,
    **inputs: object,
) -> Artifact:
    """A branch of the model's trunk, of its own size and recipe, `mix` of D_back for each of D_op.

    inputs: what its key says beside that.
    """
    sizes = experiment.profile.models[model]
    parent = None if sizes.path else experiment.checkpoint(model, "trunk")
    inputs |= {
        "data": experiment.data.key,
        "parent": parent.key if parent else (sizes.path, *sizes.size),
        "start": sizes.trunk_examples,
        "traces": asdict(experiment.profile.traces) | {"mix": mix},
        "examples": examples,
        "seed": experiment.seed,
    }
    return experiment.train(
        f"models/{model}-{name}",
        inputs,
        lambda: experiment.start(model, parent),
        lambda: experiment.mixture(sizes.trunk_examples, examples, mix),
        recipe,
        examples,
        sizes.max_tokens,
    )
