"""How long each stage of a run should take on this machine, from a few warm-up steps.

Takes an experiment; gives a printed plan. Stages that are finished already cost nothing.
"""

from __future__ import annotations

import time

import torch

from lib import hardware
from lib.experiment import Experiment
from lib.models import build_model, parameter_count
from lib.optimizers import MuonAdamW
from lib.profiles import ModelSettings
from lib.sampler import make_sampler
from lib.tokenization import build_tokenizer, encode_prompts, encode_traces
from lib.training import collate, weighted_loss

WARM_UP_STEPS = 3
WARM_UP_PROBLEMS = 32
# A search's tokens for each problem, over its breadth: most samples share their first tokens, and
# roll-backs add a third. Measured at N = 32; the estimate is rough and says so.
TOKENS_PER_SAMPLE = {0: 20, 1: 27}


def format_duration(seconds: float) -> str:
    """`45 s`, `3 min` or `1 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def speeds(experiment: Experiment, sizes: ModelSettings) -> tuple[int, float, float]:
    """Parameters, training examples/s and sampled tokens/s of a from-scratch model, untrained."""
    tokenizer = build_tokenizer(experiment.task.pieces)
    model = build_model(tokenizer, *sizes.size, 0)
    model = model.to(hardware.device())
    recipe = experiment.profile.training.branch
    traces = experiment.task.optimal_traces(experiment.problems("train", 0, recipe.batch_size))
    examples = [encode_traces(tokenizer, traces)[i] for i in range(recipe.batch_size)]
    batch = collate(examples, tokenizer.pad_token_id, recipe.verdict_weight)
    batch = {key: value.to(model.device) for key, value in batch.items()}
    optimizer = MuonAdamW(model, recipe.learning_rate, recipe.adamw_learning_rate)
    for step in range(WARM_UP_STEPS + 1):
        if step == 1:
            start = time.monotonic()  # the first step pays for allocations
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        weighted_loss(logits, batch["input_ids"], batch["loss_weights"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    examples_per_s = WARM_UP_STEPS * recipe.batch_size / (time.monotonic() - start)
    torch.manual_seed(0)
    model = build_model(tokenizer, *sizes.size, 0)
    sampler = make_sampler(model.to(hardware.device()), tokenizer, experiment.task.step_end, 16)
    prompts = experiment.task.prompts(experiment.problems("train", 0, WARM_UP_PROBLEMS))
    prefixes = encode_prompts(tokenizer, prompts)
    start = time.monotonic()
    samples = sampler.sample(prefixes, [16] * len(prefixes), 1.0, 0)
    tokens = sum(sample.count * len(sample.tokens) for found in samples for sample in found)
    return parameter_count(model), examples_per_s, tokens / (time.monotonic() - start)


def stages(experiment: Experiment, name: str, examples_per_s: float, tokens_per_s: float) -> dict:
    """Seconds of each stage of one model."""
    profile, sizes = experiment.profile, experiment.profile.models[name]
    search, improvement = profile.search, profile.improvement

    def searched(problems: int, breadth: int, depth: int) -> float:
        per_sample = TOKENS_PER_SAMPLE[min(depth, 1)] * (1 + 0.5 * max(0, depth - 1))
        return problems * breadth * per_sample / tokens_per_s

    tests = 2 * sizes.test_problems
    sweeps = [(n, b) for n in search.breadths for b in search.depths]
    sweeps += [(improvement.breadth, b) for b in search.depths] * (len(search.temperatures) - 1)
    found = improvement.problems * improvement.recipe.epochs / examples_per_s
    rounds = searched(improvement.problems, improvement.breadth, improvement.depth) + 2 * found
    further = {}
    if (baselines := profile.baselines) is not None and name in baselines.models:
        sampled = baselines.problems * baselines.samples
        scored = 2 * baselines.test_problems * max(baselines.breadths)
        # A forward pass alone is a third of training's; DPO's pair has a reference, KTO's two
        # paths have strangers too.
        passes = min(baselines.reward_paths, sampled) + scored / 3 + baselines.pairs * (8 / 3 + 4)
        further["best-of-N, DPO, KTO"] = passes / examples_per_s + searched(sampled + scored, 1, 0)
    return {
        "trunk": sizes.trunk_examples / examples_per_s,
        "sft branch": sizes.branch_examples / examples_per_s,
        "backtracking branch": sizes.branch_examples / examples_per_s,
        "search": sum(searched(tests, n, b) for n, b in sweeps),
        "self-improvement": improvement.rounds * rounds,
        **further,
    }


def estimate(experiment: Experiment) -> str:
    """The plan: what will be made, and roughly how long each part takes here."""
    lines = [f"processor: {hardware.processor()} ({hardware.describe()['instructions']})"]
    lines.append("plan, from a few warm-up steps (finished parts are not made again):")
    total = 0.0
    for name, sizes in experiment.profile.models.items():
        if sizes.path:
            lines.append(f"  {name}: {sizes.path}, pretrained; see `make plan`")
            continue
        parameters, examples_per_s, tokens_per_s = speeds(experiment, sizes)
        lines.append(
            f"  {name}: {parameters / 1e6:.1f}M parameters,"
            f" {examples_per_s:.0f} training examples/s, {tokens_per_s:.0f} sampled tokens/s"
        )
        for stage, seconds in stages(experiment, name, examples_per_s, tokens_per_s).items():
            lines.append(f"     {stage:22} {format_duration(seconds):>12}")
            total += seconds
    if more := [f"[{name}]" for name in experiment.profile.studies() if name != "baselines"]:
        lines.append(f"  NOT COUNTED, though some of them train models too: {', '.join(more)}")
    lines.append(f"  together about {format_duration(total)}")
    return "\n".join(lines)
