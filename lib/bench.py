"""`make bench`: speeds on this machine, each beside its plain counterpart, measured in one run.

Takes nothing; prints rates and ratios: the problem generator, traces, training (transformers'
Trainer as it comes against ours, same model and data), and search (one problem at a time with
`generate(num_beams=N, do_sample=True)` against ours, same checkpoint). Machines are noisy: quote
the ratios.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib import hardware
from lib.errors import UserError
from lib.experiment import make_sampler
from lib.models import load_model, load_tokenizer
from lib.problems import Settings, make_problems
from lib.profiles import ROOT, load_profile
from lib.sampler import step_end_ids
from lib.search import search
from lib.task import Task
from lib.tokenization import (
    backtrack_id,
    encode_prompts,
)
from lib.trainbench import bench_training

PAPER_TASK = Settings(4, 99, 10, 100, 9999, 0.1)
CHECKPOINT = ROOT / "models" / "countdown-s"
SEARCH_PROBLEMS, PLAIN_PROBLEMS = 256, 4


def rate(function: Callable[[], object], count: int) -> float:
    """Items a second of one call that handles `count` of them."""
    start = time.perf_counter()
    function()
    return count / (time.perf_counter() - start)


def bench_data(task: Task, problems: int = 200_000) -> list[str]:
    """Problems and traces a second, on one core."""
    table = make_problems(PAPER_TASK, {"train": 20_000}, 0)
    made = rate(lambda: make_problems(PAPER_TASK, {"train": problems}, 1), problems)
    optimal = rate(lambda: task.optimal_traces(table), len(table))
    wrong = rate(lambda: task.backtracking_traces(table, 0, "honest", 0.3), len(table))
    return [
        f"problem generator   {made:10,.0f} problems/s (4 numbers to 99, each with a solution)",
        f"D_op traces         {optimal:10,.0f} examples/s",
        f"D_back traces       {wrong:10,.0f} examples/s",
    ]


@torch.inference_mode()
def search_plainly(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    breadth: int,
    depth: int,
    limit: int,
) -> int:
    """One problem with `generate(num_beams=N, do_sample=True)`; returns the expansions made."""
    backtrack, ends = backtrack_id(tokenizer), set(step_end_ids(tokenizer))

    def expand(state: list[int], count: int) -> list[list[int]]:
        ids = torch.tensor([state])
        beams = {"num_beams": count, "num_return_sequences": count} if count > 1 else {}
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=0.7,
            max_new_tokens=limit,
            eos_token_id=[tokenizer.eos_token_id, backtrack],
            pad_token_id=tokenizer.pad_token_id,
            **beams,
        )
        return found.tolist()

    state = encode_prompts(tokenizer, [prompt])[0]
    seen, leaves, expansions = {tuple(state)}, expand(state, breadth), 1
    few = math.isqrt(breadth)
    for _ in range(depth):
        states = []
        for leaf in leaves:
            if backtrack not in leaf:
                continue
            body = leaf[: leaf.index(backtrack)]
            stops = [i for i in range(len(body) - 1) if body[i] in ends and i >= len(state) - 1]
            back = tuple(body[: stops[-1] + 1]) if stops else tuple(state)
            if back not in seen:
                seen.add(back)
                states.append(list(back))
        leaves = [leaf for back in states[:few] for leaf in expand(back, few)]
        expansions += len(states[:few])
    return expansions


def bench_search(task: Task) -> Iterator[str]:
    """Ours against one problem at a time, with the checkpoint that ships."""
    if not CHECKPOINT.exists():
        raise UserError(f"{CHECKPOINT}: no checkpoint to search with; run `make reproduce` first")
    model, tokenizer = load_model(CHECKPOINT), load_tokenizer(CHECKPOINT)
    limit = task.max_response_tokens
    sampler = make_sampler(model, tokenizer, task, limit)
    prompts = task.prompts(task.make_problems({"seen": SEARCH_PROBLEMS}, 1))
    for breadth in (8, 32):
        for depth in (0, 1, 2):
            start = time.perf_counter()
            trees = search(sampler, tokenizer, prompts, breadth, depth, 0.7, 0)
            spent = time.perf_counter() - start
            tokens = sum(tree.tokens_generated for tree in trees)
            few = prompts[:PLAIN_PROBLEMS]
            plain = rate(
                lambda few=few, n=breadth, b=depth: [
                    search_plainly(model, tokenizer, prompt, n, b, limit) for prompt in few
                ],
                len(few),
            )
            ours = len(prompts) / spent
            yield (
                f"search N={breadth:2} b={depth}     {ours:8.1f} problems/s"
                f" ({tokens / spent:,.0f} tokens/s), one at a time {plain:.2f}: {ours / plain:.0f}x"
            )


def main() -> int:
    """The command line; returns the exit status."""
    profile = load_profile("cpu")
    task = profile.load_task()
    print(f"{hardware.processor()} ({hardware.describe()['instructions']})", flush=True)
    try:
        for lines in (bench_data(task), bench_training(task), bench_search(task)):
            for line in lines:
                print(line, flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
