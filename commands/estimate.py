"""How long each stage of a run should take on this machine, from a few warm-up steps.

Takes an experiment; gives a printed plan. Stages that are finished already cost nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.base import hardware
from lib.base.errors import UserError
from lib.experiment.experiment import Experiment
from lib.experiment.planner import Planner
from lib.experiment.work import Work
from lib.models.llama import build_model, parameter_count, with_fast_products
from lib.models.tokenizer import StepTokenizer, TokenizedTraces, build_tokenizer
from lib.profiles.recipe import Recipe
from lib.profiles.settings import ModelSettings
from lib.search.parallel import process_count
from lib.search.sampler import make_sampler, rows_of_chunk
from lib.training.trainer import TrainingSpec, train
from studies import catalogue
from studies.study import Study, nothing

COMPILE_SKIP = 2  # steps that pay for compilation
GPU_LOG_STEPS = 10
WARM_UP_STEPS = 6
WARM_UP_PROBLEMS = 32


def format_duration(seconds: float) -> str:
    """`45 s`, `3 min` or `1 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class StepTimes:
    """Seconds from the first counted step to the last."""

    def __init__(self, skip: int, batch_size: int) -> None:
        self.skip, self.batch_size, self.times = skip, batch_size, []

    def __call__(self, step: int, last: int, loss: float) -> None:
        self.times.append((step, time.perf_counter()))

    def examples_per_s(self) -> float:
        (first, start), *_, (last, end) = [t for t in self.times if t[0] >= self.skip]
        return (last - first) * self.batch_size / (end - start)


def training_speed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    recipe: Recipe,
    times: StepTimes | None = None,
) -> float:
    """Examples/s of our training on these traces, once it is compiled (`COMPILE_SKIP` steps).

    One process without DeepSpeed, whatever the profile says. The model is not kept. `times` is told
    of each step, and may end the training by raising.
    """
    times = times or StepTimes(COMPILE_SKIP, recipe.batch_size)
    log_steps = 1
    if hardware.device() == "cuda":  # a loss that is told is waited for: the GPU stands still
        timed = len(traces) // recipe.batch_size - COMPILE_SKIP
        log_steps = max(1, min(GPU_LOG_STEPS, timed // 2))
    with tempfile.TemporaryDirectory() as folder:
        spec = TrainingSpec(replace(recipe, epochs=1), 0, log_steps)
        train(model, tokenizer, traces, spec, Path(folder), times, keep=False)
    hardware.release_memory()
    return times.examples_per_s()


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


def rates(planner: Planner, wanted: Collection[str]) -> dict[str, tuple[int, float, float]]:
    """`speeds` of the from-scratch models of these names."""
    models = planner.profile.models.items()
    return {n: speeds(planner, sizes) for n, sizes in models if n in wanted and not sizes.path}


def seconds(work: Work, measured: Mapping[str, tuple[int, float, float]]) -> float:
    """How long this work takes at these `rates`."""
    training = sum(count / measured[name][1] for name, count in work.examples.items())
    return training + sum(count / measured[name][2] for name, count in work.tokens.items())


def label(study: Study) -> str:
    """A study in the plan: its section's name, which others may share, or its own."""
    return f"[{study.section}]" if study.section else study.name


def checkpoint_works(planner: Planner, model: str) -> dict[str, Work]:
    """What the training of each of a model's checkpoints takes."""
    names = {"trunk": "trunk", "sft": "sft branch", "backtracking": "backtracking branch"}
    return {
        names[stage]: planner.work_of([planner.checkpoint(model, stage)])
        for stage in planner.stages(model)
    }


def asking(experiment: Experiment) -> list[Study]:
    """The wanted studies that need something made."""
    return [study for study in catalogue.wanted(experiment) if study.requests is not nothing]


def study_works(planner: Planner) -> tuple[dict[str, Work], list[str]]:
    """What each wanted study takes more than those before it, and those that cannot say.

    One that asks for nothing of its own reads what others have made, and is not named.
    """
    works: dict[str, Work] = {}
    failed = []
    for study in asking(planner):
        try:
            work = planner.work_of(study.requests(planner))
        except UserError:
            failed.append(label(study))
        else:
            works.setdefault(label(study), Work()).add(work)
    return works, failed


def spent(experiment: Experiment) -> dict[str, float]:
    """Seconds that each part took, this time or before: what it asked for and none before it did.

    Where two share a search, the first has made it. What no part names is left out, and so is a
    part that is not done.
    """
    planner = Planner.of(experiment)
    works = {"problems": planner.work_of([planner.data])}
    for model in experiment.profile.models:
        found = checkpoint_works(planner, model).items()
        works |= {f"{model}, {name}": work for name, work in found}
    works |= study_works(planner)[0]
    return {name: work.spent for name, work in works.items() if work.spent}


class Plan(NamedTuple):
    """What will be made, as text, and how long it should take; None where a part is not counted."""

    text: str
    seconds: float | None


def estimate(experiment: Experiment) -> Plan:
    """The plan: what will be made, and roughly how long each part takes here.

    What the run's folder has already takes no time. Pretrained models are not measured, so that
    nothing that needs one is counted.
    """
    profile, planner = experiment.profile, Planner.of(experiment)
    scratch = [name for name, sizes in profile.models.items() if not sizes.path]
    # What is asked for again counts as nothing: the order is that of the run.
    parts = {name: checkpoint_works(planner, name) for name in scratch}
    works = [work for found in parts.values() for work in found.values()]
    studies, not_counted = {}, [label(study) for study in asking(experiment)]
    if scratch:
        studies, not_counted = study_works(planner)
    every = [*works, *studies.values()]
    measured = rates(planner, {name for work in every for name in work.models()})
    not_counted += [n for n, work in studies.items() if work.models() - set(measured)]
    studies = {name: work for name, work in studies.items() if name not in not_counted}

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
    lines += [line(name, work) for name, work in studies.items()]
    if not_counted:
        more = ", ".join(dict.fromkeys(not_counted))
        lines.append(f"  NOT COUNTED, though some of them train models too: {more}")
    total = sum(seconds(work, measured) for work in (*works, *studies.values()))
    lines.append(f"  together about {format_duration(total)}")
    pretrained = len(scratch) < len(profile.models)
    return Plan("\n".join(lines), None if not_counted or pretrained else total)
