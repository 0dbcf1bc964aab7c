"""How long each stage of a run should take on this machine, from a few warm-up steps.

Takes an experiment; gives a printed plan. Stages that are finished already cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch

from lib import hardware, sweep
from lib.ahead import Ahead, Work
from lib.experiment import Experiment
from lib.models import build_model, parameter_count
from lib.sampler import make_sampler
from lib.settings import ModelSettings
from lib.tokenization import build_tokenizer, encode_prompts, encode_traces
from lib.trainbench import COMPILE_SKIP, training_speed

WARM_UP_STEPS = 6
WARM_UP_PROBLEMS = 32


def format_duration(seconds: float) -> str:
    """`45 s`, `3 min` or `1 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def speeds(experiment: Experiment, sizes: ModelSettings) -> tuple[int, float, float]:
    """Parameters, training examples/s and sampled tokens/s of a from-scratch model, untrained."""
    tokenizer = build_tokenizer(experiment.task.pieces)
    recipe = experiment.profile.training.branch
    # One batch many times: small data would not fill them, and only the time counts.
    batch = experiment.mixture(0, recipe.batch_size, experiment.profile.traces.mix)
    traces = encode_traces(tokenizer, pd.concat([batch] * (COMPILE_SKIP + WARM_UP_STEPS)))
    model = build_model(tokenizer, *sizes.size, 0)
    examples_per_s = training_speed(model, tokenizer, traces, recipe)
    torch.manual_seed(0)
    model = build_model(tokenizer, *sizes.size, 0)
    sampler = make_sampler(model.to(hardware.device()), tokenizer, experiment.task.step_end, 16)
    prompts = experiment.task.prompts(experiment.problems("train", 0, WARM_UP_PROBLEMS))
    prefixes = encode_prompts(tokenizer, prompts)
    start = time.monotonic()
    samples = sampler.sample(prefixes, [16] * len(prefixes), 1.0, 0)
    tokens = sum(sample.count * len(sample.tokens) for found in samples for sample in found)
    return parameter_count(model), examples_per_s, tokens / (time.monotonic() - start)


def rates(experiment: Experiment) -> dict[str, tuple[int, float, float]]:
    """`speeds` of every from-scratch model, those of the sweep called `sweep S` and `sweep L`."""
    known = {name: sizes for name, sizes in experiment.profile.models.items() if not sizes.path}
    settings = experiment.profile.sweep
    if settings is not None and len(known) == len(experiment.profile.models):
        small = sweep.small_experiment(experiment, settings.examples[0])
        known |= {f"sweep {name}": sizes for name, sizes in small.profile.models.items()}
    return {name: speeds(experiment, sizes) for name, sizes in known.items()}


def seconds(work: Work, measured: Mapping[str, tuple[int, float, float]]) -> float:
    """How long this work takes at these `rates`."""
    training = sum(count / measured[name][1] for name, count in work.examples.items())
    return training + sum(count / measured[name][2] for name, count in work.tokens.items())


def estimate(experiment: Experiment) -> str:
    """The plan: what will be made, and roughly how long each part takes here.

    What the run's folder has already takes no time.
    """
    from lib import workload  # it builds on the studies, and one of them on lib/plan.py

    profile, measured, ahead = experiment.profile, rates(experiment), Ahead.of(experiment)
    if measured:
        _ = experiment.data  # looking ahead makes nothing, and reads its problems
    lines = [f"processor: {hardware.processor()} ({hardware.describe()['instructions']})"]
    lines.append(
        "plan, from a few warm-up steps (finished parts take no time; checks not counted):"
    )
    total, not_counted = 0.0, profile.studies()

    def add(name: str, ask: Callable[[], object]) -> None:
        nonlocal total
        took = seconds(workload.work_of(ahead, ask), measured)
        lines.append(f"     {name:22} {format_duration(took):>12}")
        total += took

    for name, sizes in profile.models.items():
        if sizes.path:
            lines.append(f"  {name}: {sizes.path}, pretrained; see `make plan`")
            continue
        parameters, examples_per_s, tokens_per_s = measured[name]
        lines.append(
            f"  {name}: {parameters / 1e6:.1f}M parameters,"
            f" {examples_per_s:.0f} training examples/s, {tokens_per_s:.0f} sampled tokens/s"
        )
        for part, ask in workload.main_parts(ahead, name).items():
            add(part, ask)
    if set(profile.models) <= set(measured):
        counted = [name for name in workload.STUDIES if name in not_counted]
        lines += ["  studies:"] if counted else []
        for name in counted:
            add(f"[{name}]", lambda name=name: workload.STUDIES[name](ahead))
        not_counted = [name for name in not_counted if name not in counted]
    if not_counted:
        more = ", ".join(f"[{name}]" for name in not_counted)
        lines.append(f"  NOT COUNTED, though some of them train models too: {more}")
    lines.append(f"  together about {format_duration(total)}")
    return "\n".join(lines)
