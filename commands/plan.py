"""`make plan`: what a run needs, printed without weights or a GPU.

Takes a profile (and MODEL, HARDWARE); gives parameters, tokens, floating-point operations, memory
by DeepSpeed's own estimator, hours, disk, and whether a pretrained model can be had. From-scratch
models without HARDWARE are timed on this machine with a few warm-up steps. Everything else is
arithmetic from published sizes; what it assumes is printed with it.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from commands.estimate import estimate, format_duration
from lib.base.errors import UserError, exit_status
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.experiment.work import search_tokens
from lib.models.llama import Architecture, from_scratch, load_tokenizer
from lib.models.pretrained import architecture, availability
from lib.models.tokenizer import PIECES, StepTokenizer, add_backtrack, build_tokenizer
from lib.profiles.load import MODEL_VARIABLE, Profile, with_model
from lib.search.sampler import rows_of_chunk
from studies.catalogue import load_profile

SAMPLED_PROBLEMS = 1_000
DEFAULT_MACHINE = "a100"
#: The search that the paper's headline row takes.
HEADLINE = {"problems": 5_000, "breadth": 32, "depth": 1}
GIGA = 1e9
#: Of the peak. Training: short examples, ZeRO-2 traffic and padding included (without ZeRO-2,
#: models of 28 and 79 million parameters reach 26 to 38% on one H100). Search: one token at a time
#: for many rows, which reads the cache more than it multiplies.
TRAINING_UTILISATION = 0.30
SEARCH_UTILISATION = 0.05


@dataclass(frozen=True)
class Machine:
    """One accelerator: dense peaks (no sparsity) and memory, by its maker's data sheet."""

    name: str
    peak_flops: float  # in bfloat16
    float32_flops: float  # without tensor cores
    memory_gb: float

    def training_flops(self, precision: str | None) -> float:
        """The peak of what a model's training computes in."""
        return self.float32_flops if precision == "float32" else self.peak_flops


MACHINES = {
    "a100": Machine("NVIDIA A100 80GB", 312e12, 19.5e12, 80),
    "a10g": Machine("NVIDIA A10G", 70e12, 31.2e12, 24),
    "h100": Machine("NVIDIA H100 SXM", 989e12, 67e12, 80),
    "h200": Machine("NVIDIA H200 SXM", 989e12, 67e12, 141),
    "l40s": Machine("NVIDIA L40S", 362e12, 91.6e12, 48),
    "rtx4090": Machine("NVIDIA RTX 4090", 165e12, 82.6e12, 24),
}


def find_machine(hardware: str, count: int = 1) -> tuple[Machine, int]:
    """The accelerator and how many of it, from `h100` (`count` of them) or `h100x4`."""
    # A name may end in what looks like a count: the longest name that is known wins.
    names = "|".join(sorted(MACHINES, key=len, reverse=True))
    found = re.fullmatch(rf"({names})(?:x([1-9]\d*))?", hardware.lower())
    if not found:
        raise UserError(
            f"HARDWARE={hardware}: choose one of {', '.join(MACHINES)}, and how many: a100x4"
        )
    return MACHINES[found[1]], int(found[2] or count)


@dataclass(frozen=True)
class Tokens:
    """Mean tokens of a training example and of a response."""

    example: float
    response: float
    how: str


def needed_tokens(profile: Profile, path: str) -> Tokens:
    """Counted by the model's own tokenizer where it is at hand, by regular pieces elsewhere."""
    task = profile.load_task()
    table = task.make_problems({"train": SAMPLED_PROBLEMS}, 0)
    half = len(table) // 2
    wrong = task.backtracking_traces(table[half:], 0, profile.traces)
    traces = pd.concat([task.optimal_traces(table[:half]), wrong], ignore_index=True)
    prompts = sum(map(len, task.prompts(table))) / traces["text"].str.len().sum()
    if not path or Path(path).expanduser().is_dir():
        tokenizer = load_tokenizer(path) if path else build_tokenizer(task.pieces)
        add_backtrack(tokenizer)
        lengths = StepTokenizer(tokenizer, task.step_end).encode_traces(traces).lengths()
        how = "counted"
    else:
        pieces = PIECES[3 if "llama" in path.lower().split("/")[-1] else 1]
        lengths = np.array([len(pieces.findall(text)) + 2 for text in traces["text"]])
        how = "counted by pieces of text, since the tokenizer is not here"
    return Tokens(float(lengths.mean()), float(lengths.mean() * (1 - prompts)), how)


def training_examples(profile: Profile, name: str) -> dict[str, float]:
    """Examples (epochs included) that each stage of a model is trained on."""
    sizes, recipes, improvement = profile.models[name], profile.training, profile.improvement
    branch = sizes.branch_examples * recipes.branch.epochs
    stages = {} if sizes.path else {"trunk": sizes.trunk_examples * recipes.trunk.epochs}
    stages |= {"sft branch": branch, "backtracking branch": branch}
    rounds = profile.rounds(name) * improvement.problems * improvement.recipe.epochs
    # At most: a round learns the problems that its search solved, and its control as many.
    return stages | {"self-improvement": 2 * rounds} if rounds else stages


def zero2_memory(parameters: int, devices: int, nodes: int) -> tuple[float, float] | None:
    """GB of processor and of accelerator memory by DeepSpeed's estimator; None without DeepSpeed.

    Parameters, gradients and optimizer states; activations come on top.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from deepspeed.runtime.zero.stage_1_and_2 import (
                estimate_zero2_model_states_mem_needs as estimator,
            )
    except ImportError:
        return None
    cpu, gpu = estimator(parameters, devices, nodes, cpu_offload=False)
    return cpu / GIGA, gpu / GIGA


def activations_gb(model: Architecture, batch: int, tokens: float) -> float:
    """Roughly: 34 values of 2 bytes a token, layer and width (Korthikanti et al. 2022), and logits
    with their gradient in float32."""
    layers = model.layers * 34 * model.hidden_size * batch * tokens
    return (layers + 2 * 4 * model.vocabulary * batch * tokens) / GIGA


def model_lines(profile: Profile, name: str, machine: Machine | None, count: int) -> list[str]:
    """The plan of one model."""
    sizes, recipe = profile.models[name], profile.training.branch
    task, path = profile.load_task(), sizes.path
    tokens = needed_tokens(profile, path)
    if path:
        model = architecture(path)
        lines = [f"{name}: {path}", f"  availability   {availability(path)}"]
        if model is None:
            return [*lines, "  its sizes are not known here: give a local folder as MODEL"]
    else:
        model = from_scratch(len(build_tokenizer(task.pieces)), *sizes.size)
        lines = [f"{name}: from scratch, {sizes.hidden_size} wide, {sizes.layers} layers"]
    size, trainers = model.parameters(), count if profile.deepspeed else 1
    lines.append(f"  parameters     {size:,}" + (", before <backtrack> is added" if path else ""))
    lines.append(f"  an example     {tokens.example:.1f} tokens on average ({tokens.how})")
    stages = training_examples(profile, name)
    flops_each = 3 * tokens.example * model.forward_flops(tokens.example)
    for stage, examples in stages.items():
        spent = examples * flops_each
        hours = ""
        if machine:
            speed = trainers * machine.training_flops(sizes.precision) * TRAINING_UTILISATION
            hours = f", {format_duration(spent / speed)}"
            hours += f" in {sizes.precision}" if sizes.precision else ""
        lines.append(
            f"  {stage:20} {examples:12,.0f} examples, {examples * tokens.example / 1e6:8,.1f}M"
            f" tokens, {spent:.2e} FLOPs{hours}"
        )
    if machine:
        lines += memory_lines(model, recipe.batch_size, tokens, machine, trainers)
    lines += search_lines(profile, model, tokens, machine, count)
    # Three checkpoints while a stage trains (float32 weights, and an optimizer's two moments: the
    # oldest goes when the newest is whole), and the weights of every finished stage and round.
    kept = len(stages) + (2 * profile.rounds(name) - 1 if profile.rounds(name) else 0)
    disk = (4 * kept + 3 * 12) * size / GIGA
    lines.append(f"  disk           {disk:,.1f} GB: {kept} checkpoints kept, three being written")
    return lines


def memory_lines(
    model: Architecture, batch: int, tokens: Tokens, machine: Machine, count: int
) -> list[str]:
    """Memory of training and search on each accelerator."""
    found = zero2_memory(model.parameters(), count, 1)
    if found is None:
        return ["  memory         DeepSpeed is not installed here (it needs Linux)"]
    cpu, gpu = found
    share = -(-batch // count)
    extra = activations_gb(model, share, tokens.example)
    fits = "fits" if gpu + extra < machine.memory_gb else "DOES NOT FIT"
    return [
        f"  ZeRO-2 memory  {gpu:.1f} GB on each of {count} (DeepSpeed's estimator), and about"
        f" {extra:.1f} GB of activations for {share} examples: {fits} in"
        f" {machine.memory_gb:.0f} GB; {cpu:.1f} GB of main memory",
    ]


def search_devices(profile: Profile, count: int) -> int:
    """On how many of the accelerators the profile searches: 0 processes are one on each."""
    return count if profile.search.processes == 0 else min(count, profile.search.processes)


def search_lines(
    profile: Profile, model: Architecture, tokens: Tokens, machine: Machine | None, count: int
) -> list[str]:
    """The search of the headline row, planned on paper."""
    breadth, depth = HEADLINE["breadth"], HEADLINE["depth"]
    how, count = profile.search, search_devices(profile, count)
    with_depth, without = (
        search_tokens(1, breadth, b, how.expansion, how.per_state) for b in (depth, 0)
    )
    each = breadth * tokens.response * with_depth / without  # where no two samples share a token
    flops = each * model.forward_flops(tokens.example)
    line = (
        f"  search         N={breadth} b={depth}: about {each:,.0f} tokens,"
        f" {flops:.2e} FLOPs a problem"
    )
    if not machine:
        return [line]
    a_second = machine.peak_flops * SEARCH_UTILISATION / flops
    spent = HEADLINE["problems"] / (a_second * count)
    cache = (
        rows_of_chunk(profile.search.chunk) * 2 * tokens.example * model.cache_values() * 4 / GIGA
    )
    weights = 4 * model.parameters() / GIGA
    return [
        line,
        f"                 {a_second:,.1f} problems/s on each; {HEADLINE['problems']:,} problems:"
        f" {format_duration(spent)} on all {count}; {weights:.1f} GB of weights and up to"
        f" {cache:.1f} GB of cache",
    ]


def plan(profile: Profile, source: str, hardware: str) -> list[str]:
    """The whole plan as lines."""
    lines = [f"plan of {profile.name}: {profile.description}"]
    settings = profile.deepspeed
    count = settings.processes() if settings else 1
    pretrained = any(sizes.path for sizes in profile.models.values())
    machine = None
    if hardware or pretrained:
        machine, count = find_machine(hardware or DEFAULT_MACHINE, count)
        lines.append(
            f"hardware: {count} x {machine.name}, {machine.peak_flops / 1e12:.0f} TFLOP/s dense"
            f" bfloat16 each; assumed: {TRAINING_UTILISATION:.0%} of it in training,"
            f" {SEARCH_UTILISATION:.0%} in search"
            + ("" if hardware else " (another: HARDWARE=h100x4)")
        )
    for name in profile.models:
        lines += ["", *model_lines(profile, name, machine, count)]
    if more := [f"[{name}]" for name in profile.studies()]:
        lines += ["", f"NOT COUNTED, though some of them train models too: {', '.join(more)}"]
    if not machine:
        with tempfile.TemporaryDirectory() as folder:
            measured = estimate(Experiment(profile, source, 0, Run(Path(folder)))).text
        lines += ["", "on this machine (for an accelerator: HARDWARE=h100):", measured]
    return lines


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commands.plan", description=__doc__)
    parser.add_argument("--profile", default="paper", help="name of a profile, or a TOML file")
    parser.add_argument("--model", default="", help="the pretrained model: a folder or hub name")
    parser.add_argument("--hardware", default="", help="such as h100 or a100x4")
    options = parser.parse_args(arguments)

    def work() -> None:
        model = options.model or os.environ.get(MODEL_VARIABLE, "")
        profile = with_model(load_profile(options.profile), model)
        print("\n".join(plan(profile, options.profile, options.hardware)))

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
