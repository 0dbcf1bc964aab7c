"""How long each stage of a run should take on this machine, from a few warm-up steps.

Takes an experiment; gives a printed plan. Stages that are finished already cost nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import torch

from lib.base import hardware
from lib.commands.bench_training import COMPILE_SKIP, training_speed
from lib.experiment.experiment import Experiment
from lib.experiment.planner import Ahead, Work
from lib.models.llama import build_model, parameter_count, with_fast_products
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.settings import ModelSettings
from lib.search.parallel import process_count
from lib.search.sampler import make_sampler, rows_of_chunk
from lib.studies.beyond import sweep

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
    count = (COMPILE_SKIP + WARM_UP_STEPS) * recipe.batch_size
    mixture = experiment.mixture(0, count, experiment.profile.traces.mix)
    steps = StepTokenizer(tokenizer, experiment.task.step_end)
    traces = steps.encode_traces(mixture)
    model = build_model(tokenizer, *sizes.size, 0)
    examples_per_s = training_speed(model, tokenizer, traces, recipe)
    torch.manual_seed(0)
    model = build_model(tokenizer, *sizes.size, 0)
    parameters = parameter_count(model)
    model = with_fast_products(model.to(hardware.device()), experiment.profile.search.precision)
    rows = rows_of_chunk(experiment.profile.search.chunk)
    sampler = make_sampler(model, steps, 16, rows)
    on_gpu = hardware.device() == "cuda"  # which takes many rows to be busy
    count = experiment.profile.search.chunk if on_gpu else WARM_UP_PROBLEMS
    prompts = experiment.task.prompts(experiment.problems("train", 0, count))
    prefixes = steps.encode_prompts(prompts)
    if on_gpu:  # its first calls load what they need
        sampler.sample(prefixes, [16] * len(prefixes), 1.0, 0)
    processes = experiment.profile.search.processes
    on_cores = not on_gpu and processes != 1  # then each has one thread
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if on_cores else threads)
    try:
        start = time.monotonic()
        samples = sampler.sample(prefixes, [16] * len(prefixes), 1.0, 0)
        spent = time.monotonic() - start
    finally:
        torch.set_num_threads(threads)
    tokens = sum(sample.count * len(sample.tokens) for found in samples for sample in found)
    at_once = min(process_count(processes), hardware.available_cores()) if on_cores else 1
    return parameters, examples_per_s, at_once * tokens / spent


def rates(experiment: Experiment, wanted: Collection[str]) -> dict[str, tuple[int, float, float]]:
    """`speeds` of the from-scratch models named, those of the sweep called `sweep S`, `sweep L`."""
    models = experiment.profile.models
    known = {name: (experiment, sizes) for name, sizes in models.items() if not sizes.path}
    settings = experiment.profile.sweep
    if settings is not None:
        small = sweep.small_experiment(experiment, settings.examples[0])
        known |= {f"sweep {name}": (small, sizes) for name, sizes in small.profile.models.items()}
    return {name: speeds(*model) for name, model in known.items() if name in wanted}


def seconds(work: Work, measured: Mapping[str, tuple[int, float, float]]) -> float:
    """How long this work takes at these `rates`."""
    training = sum(count / measured[name][1] for name, count in work.examples.items())
    return training + sum(count / measured[name][2] for name, count in work.tokens.items())


def estimate(experiment: Experiment) -> str:
    """The plan: what will be made, and roughly how long each part takes here.

    What the run's folder has already takes no time.
    """
    from lib.studies import (
        work as work_module,  # it builds on the studies, and one of them on lib/plan.py
    )

    profile, ahead = experiment.profile, Ahead.of(experiment)
    scratch = [name for name, sizes in profile.models.items() if not sizes.path]
    if scratch:
        _ = experiment.data  # looking ahead makes nothing, and reads its problems
    # What is asked for again counts as nothing: the order is that of the run.
    parts = {
        name: {
            part: work_module.work_of(ahead, ask)
            for part, ask in work_module.main_parts(ahead, name).items()
        }
        for name in scratch
    }
    not_counted, studies = profile.studies(), {}
    if len(scratch) == len(profile.models):
        studies = {
            name: work_module.work_of(ahead, lambda name=name: work_module.STUDIES[name](ahead))
            for name in work_module.STUDIES
            if name in not_counted
        }
        not_counted = [name for name in not_counted if name not in studies]
    works = [*(work for found in parts.values() for work in found.values()), *studies.values()]
    measured = rates(experiment, {n for work in works for n in (*work.examples, *work.tokens)})

    def line(name: str, work: Work) -> str:
        return f"     {name:22} {format_duration(seconds(work, measured)):>12}"

    lines = [f"processor: {hardware.processor()} ({hardware.describe()['instructions']})"]
    told = "finished parts take no time; compiling and checks not counted"
    lines.append(f"plan, from a few warm-up steps ({told}):")
    for name, sizes in profile.models.items():
        if sizes.path:
            lines.append(f"  {name}: {sizes.path}, pretrained; see `make plan`")
            continue
        if name not in measured:
            lines.append(f"  {name}: all made")
            continue
        parameters, examples_per_s, tokens_per_s = measured[name]
        lines.append(
            f"  {name}: {parameters / 1e6:.1f}M parameters,"
            f" {examples_per_s:.0f} training examples/s, {tokens_per_s:.0f} sampled tokens/s"
        )
        lines += [line(part, work) for part, work in parts[name].items()]
    lines += ["  studies:"] if studies else []
    lines += [line(f"[{name}]", work) for name, work in studies.items()]
    if not_counted:
        more = ", ".join(f"[{name}]" for name in not_counted)
        lines.append(f"  NOT COUNTED, though some of them train models too: {more}")
    total = sum(seconds(work, measured) for work in works)
    lines.append(f"  together about {format_duration(total)}")
    return "\n".join(lines)
