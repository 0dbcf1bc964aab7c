"""How fast vLLM searches beside transformers' cache classes: same checkpoint, same machine.

Takes a checkpoint's folder; gives lines of rates. vLLM is made for models and batches that fill
GPUs; what a line says holds for the model and the machine that it was measured on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from lib.errors import UserError
from lib.models import load_model, load_tokenizer, parameter_count
from lib.sampler import make_sampler
from lib.search import search
from lib.task import Task
from lib.vllm_sampler import VllmSampler

PROBLEMS, ROUNDS = 64, 3
SHAPES = ((8, 0), (8, 1), (32, 0), (32, 1))  # N, b


def bench_vllm(task: Task, checkpoint: Path, problems: int = PROBLEMS) -> Iterator[str]:
    """Both samplers by turns, in searches of the same problems."""
    if not checkpoint.exists():
        raise UserError(f"{checkpoint}: no checkpoint to search with; run `make reproduce` first")
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    ours = make_sampler(model, tokenizer, task.step_end, task.max_response_tokens)
    rules = ours.rules
    start = time.perf_counter()
    theirs = VllmSampler(
        checkpoint,
        rules.eos_id,
        rules.backtrack_id,
        rules.step_end_ids,
        rules.max_new_tokens,
    )
    try:
        spent = time.perf_counter() - start
        about = f"vLLM {theirs.engine['version']} on {theirs.engine['device']}"
        yield f"{about}: ready in {spent:.0f} s; {parameter_count(model) / 1e6:.1f}M parameters"
        prompts = task.prompts(task.make_problems({"seen": problems}, 1))
        samplers = {"ours": ours, "vLLM": theirs}
        for sampler in samplers.values():
            search(sampler, tokenizer, prompts, 8, 1, 0.7, 0)  # the first pays for allocations
        for breadth, depth in SHAPES:
            rates: dict[str, list[float]] = {name: [] for name in samplers}
            tokens: dict[str, int] = {}
            for number in range(ROUNDS):
                for name, sampler in samplers.items():
                    start = time.perf_counter()
                    trees = search(sampler, tokenizer, prompts, breadth, depth, 0.7, number)
                    rates[name].append(len(prompts) / (time.perf_counter() - start))
                    tokens[name] = sum(tree.tokens_sampled for tree in trees)
            found = {name: statistics.median(values) for name, values in rates.items()}
            sampled = {name: found[name] * tokens[name] / len(prompts) for name in samplers}
            yield (
                f"search N={breadth:2} b={depth}     ours {found['ours']:6.1f} problems/s"
                f" ({sampled['ours']:,.0f} sampled tokens/s), vLLM {found['vLLM']:6.1f}"
                f" ({sampled['vLLM']:,.0f}): {found['vLLM'] / found['ours']:.2f}x"
            )
    finally:
        theirs.close()
