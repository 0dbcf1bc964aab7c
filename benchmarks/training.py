"""Training speed beside its plain counterpart: same model, same data, measured in one run.

Takes a profile; gives examples/s of transformers' Trainer as it comes (float32, SDPA,
AdamW, padded) and of ours (packed, compiled, bfloat16 where the hardware has it, Muon), and what
share of the machine's measured matrix-product peak ours uses. A GPU has sizes of its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator

import pandas as pd
import torch
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from commands.estimate import COMPILE_SKIP, StepTimes, training_speed
from lib.base import hardware
from lib.models.llama import build_model, from_scratch, parameter_count
from lib.models.tokenizer import StepTokenizer, TokenizedTraces, build_tokenizer
from lib.profiles.load import Profile
from lib.profiles.recipe import Recipe
from lib.training.muon import orthogonalise_flops

BATCH_SIZE, GPU_BATCH_SIZE = 128, 512
PLAIN_SKIP = 1  # steps that pay for allocations
#: Width, layers, heads, and how many steps are timed: 2M, 3M, 10M and 25M parameters.
SIZES = ((208, 4, 8, 10), (256, 4, 8, 10), (384, 6, 6, 5), (512, 8, 8, 4))
#: The gpu profile's.
GPU_SIZES = ((768, 4, 6, 60), (1280, 4, 10, 40))
PEAK_SIZE = 2048


class Clock(TrainerCallback):
    """Tells `StepTimes` of each step of a plain Trainer."""

    def __init__(self, times: StepTimes) -> None:
        self.times = times

    def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times(state.global_step, state.max_steps, 0.0)


def matmul_peak(dtype: torch.dtype, device: str, tries: int = 4) -> float:
    """FLOP/s of this machine's best square matrix product."""
    size = PEAK_SIZE if device == "cpu" else 4 * PEAK_SIZE
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(tries + 1):
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * size**3 / (time.perf_counter() - start))
    return best


def train_plainly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    steps: int,
    batch_size: int = BATCH_SIZE,
) -> float:
    """Examples/s of transformers' Trainer with its defaults: float32, SDPA, AdamW, padded."""
    examples = [
        {"input_ids": ids.tolist(), "labels": ids.tolist(), "attention_mask": [1] * len(ids)}
        for ids in (traces[index]["input_ids"] for index in range(len(traces)))
    ]
    times = StepTimes(PLAIN_SKIP, batch_size)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch_size,
            max_steps=steps + PLAIN_SKIP,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=hardware.device() == "cpu",
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=examples,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            callbacks=[Clock(times)],
        )
        trainer.train()
    return times.examples_per_s()


def train_fast(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    traces: TokenizedTraces,
    steps: int,
    compile: bool = True,
    batch_size: int = BATCH_SIZE,
) -> float:
    """Examples/s of our training: Muon, packed."""
    count = batch_size * (steps + COMPILE_SKIP)
    traces = TokenizedTraces(traces.ids, traces.codes, traces.starts[: count + 1])
    recipe = Recipe(optimizer="muon", batch_size=batch_size, compile=compile, packing=True)
    return training_speed(model, tokenizer, traces, recipe)


def bench_traces(
    profile: Profile, tokenizer: PreTrainedTokenizerBase, count: int
) -> TokenizedTraces:
    """`count` examples, D_op and D_back in equal parts, shuffled: each part of them is alike."""
    task = profile.load_task()
    table = task.make_problems({"train": count}, 0)
    wrong = task.backtracking_traces(table[count // 2 :], 0, profile.traces)
    both = pd.concat([task.optimal_traces(table[: count // 2]), wrong], ignore_index=True)
    shuffled = both.sample(frac=1, random_state=0)
    return StepTokenizer(tokenizer, task.step_end).encode_traces(shuffled)


def bench_training(
    profile: Profile, sizes: tuple[tuple[int, int, int, int], ...] = ()
) -> Iterator[str]:
    """Trainer as it comes against ours, for each size: width, layers, heads, steps."""
    tokenizer = build_tokenizer(profile.load_task().pieces)
    device = hardware.device()
    sizes = sizes or (GPU_SIZES if device == "cuda" else SIZES)
    batch_size = GPU_BATCH_SIZE if device == "cuda" else BATCH_SIZE
    fast = hardware.has_bfloat16(device)
    dtype = torch.bfloat16 if fast else torch.float32
    peak = matmul_peak(dtype, device)
    yield (
        f"matrix products     {peak / 1e9:10,.0f} GFLOP/s at best"
        f" ({str(dtype).removeprefix('torch.')}, measured)"
    )
    most = batch_size * (max(steps for *_, steps in sizes) + COMPILE_SKIP)
    traces = bench_traces(profile, tokenizer, most)
    tokens = float(traces.lengths().mean())
    for *size, steps in sizes:
        how = {"batch_size": batch_size}
        plain = train_plainly(build_model(tokenizer, *size, 0), tokenizer, traces, steps, **how)
        model = build_model(tokenizer, *size, 0)
        ours = train_fast(model, tokenizer, traces, steps, **how)
        # Backward costs twice what forward does. Padding is not counted as work.
        work = 3 * tokens * from_scratch(len(tokenizer), *size).forward_flops(tokens)
        shapes = [
            part.weight.shape
            for part in model.model.layers.modules()
            if isinstance(part, torch.nn.Linear)
        ]
        muon = sum(orthogonalise_flops(*sorted(shape), dtype) for shape in shapes) / batch_size
        yield (
            f"training {parameter_count(model) / 1e6:5.1f}M     {ours:8.0f} examples/s,"
            f" Trainer's defaults {plain:.0f}: {ours / plain:.2f}x;"
            f" {work * ours / peak:.0%} of the peak,"
            f" {(work + muon) * ours / peak:.0%} with Muon's own products"
        )
