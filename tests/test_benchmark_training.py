"""The training benchmark: its clock, its peak, and both of its sides on a tiny model."""

import pytest
import torch

from benchmarks import busy as bench_busy_module
from benchmarks import training as bench_training_module
from benchmarks.busy import DEFAULT_SPINS
from benchmarks.training import (
    BATCH_SIZE,
    GPU_BATCH_SIZE,
    GPU_SIZES,
    SIZES,
    bench_traces,
    bench_training,
    matmul_peak,
    train_fast,
    train_plainly,
)
from commands import estimate
from commands.estimate import StepTimes
from lib.base import hardware
from lib.base.processes import SPINS
from lib.models.llama import build_model, parameter_count
from lib.models.tokenizer import build_tokenizer
from lib.profiles.recipe import Recipe
from studies.catalogue import load_profile

PROFILE = load_profile("smoke")
TOKENIZER = build_tokenizer(PROFILE.load_task().pieces)


def test_step_times_skip_the_first_steps():
    times = StepTimes(2, BATCH_SIZE)
    times.times = [(1, 0.0), (2, 100.0), (3, 101.0), (4, 102.0)]
    assert times.examples_per_s() == BATCH_SIZE


def test_a_rate_is_that_of_the_recipe_s_batch(monkeypatch):
    def train(model, tokenizer, traces, spec, folder, times, keep):
        recipe, log_steps = spec.recipe, spec.log_steps
        assert (recipe.batch_size, recipe.packing, recipe.epochs) == (16, True, 1)
        assert log_steps == 1 and not keep
        times.times = [(1, 0.0), (2, 100.0), (3, 102.0)]

    monkeypatch.setattr(estimate, "train", train)
    recipe = Recipe(batch_size=16, packing=True)
    assert estimate.training_speed(None, None, range(64), recipe) == 8


def test_a_gpu_s_loss_is_told_seldom_and_often_enough_to_time_it(monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: "cuda")
    asked = []

    def train(model, tokenizer, traces, spec, folder, times, keep):
        recipe, log_steps = spec.recipe, spec.log_steps
        asked.append(log_steps)
        for step in range(log_steps, len(traces) // recipe.batch_size + 1, log_steps):
            times(step, 0, 0.0)

    monkeypatch.setattr(estimate, "train", train)
    for steps in (8, 62, 4):
        assert estimate.training_speed(None, None, range(16 * steps), Recipe(batch_size=16)) > 0
    assert asked == [3, 10, 1]


def test_sizes_are_those_that_are_named():
    sizes = [parameter_count(build_model(TOKENIZER, *size, 0)) / 1e6 for *size, _ in SIZES]
    assert sizes == pytest.approx([2, 3, 10, 25], rel=0.1)


def test_a_gpu_s_sizes_are_the_gpu_profile_s():
    models = load_profile("gpu").models.values()
    assert tuple(size for *size, _ in GPU_SIZES) == tuple(list(model.size) for model in models)
    assert load_profile("gpu").training.branch.batch_size == GPU_BATCH_SIZE


def test_both_sides_give_a_rate():
    traces = bench_traces(PROFILE, TOKENIZER, 3 * BATCH_SIZE)
    assert len(traces) == 3 * BATCH_SIZE
    assert train_plainly(build_model(TOKENIZER, 16, 1, 1, 0), TOKENIZER, traces, 1) > 0
    assert train_fast(build_model(TOKENIZER, 16, 1, 1, 0), TOKENIZER, traces, 1, False) > 0


def test_lines_hold_ratio_and_share(monkeypatch):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(bench_training_module, "matmul_peak", lambda dtype, device: 1e9)
    monkeypatch.setattr(bench_training_module, "train_plainly", lambda *_, **__: 50.0)
    monkeypatch.setattr(bench_training_module, "train_fast", lambda *_, **__: 100.0)
    peak, line = bench_training(PROFILE, ((16, 1, 1, 1),))
    assert "1 GFLOP/s at best (float32, measured)" in peak
    assert "100 examples/s, Trainer's defaults 50: 2.00x;" in line and "% of the peak" in line


def test_the_peak_is_measured(monkeypatch):
    monkeypatch.setattr(bench_training_module, "PEAK_SIZE", 128)
    assert 1e8 < matmul_peak(torch.float32, "cpu", 2) < 1e14


def test_beside_busy_processes_both_spins_are_measured_by_turns(monkeypatch):
    asked = []

    def measured(spins, busy):
        asked.append((spins, busy))
        return {SPINS: 12.0, DEFAULT_SPINS: 10.0}[spins] / (1 + busy * (4 if spins != SPINS else 1))

    monkeypatch.setattr(bench_busy_module, "measured", measured)
    alone, one, two = bench_busy_module.bench_busy()
    assert len(asked) == 3 * 2 * bench_busy_module.ROUNDS and asked[0] != asked[1]
    assert "12.00 steps/s, torch's default  10.00: 1.20x" in alone and "slower" not in alone
    assert one.endswith(
        "6.00 steps/s, torch's default   2.00: 3.00x; 2.0 and 5.0 times slower than alone"
    )
    assert two.startswith("training beside two busy processes")


@pytest.mark.slow
def test_a_busy_measurement_is_a_process_of_its_own():
    with bench_busy_module.busy_processes(1):
        assert bench_busy_module.measured(SPINS, 1, 0.2) > 0
