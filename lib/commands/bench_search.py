"""How fast the search is: beside decoding problem by problem, and as N, b and the problems grow.

Takes a checkpoint's folder; gives lines of rates and ratios, measured alternately.
The counterpart decodes one problem at a time with `generate(num_beams=N, do_sample=True)`, as the
published code does. The floor is what the same tokens cost in the model's matrix products alone.
Ours is measured in this process, in float32, and dealt to a process for each core once they have
started: in float32, and in bfloat16 where the processor has it.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.base import hardware
from lib.base.errors import UserError
from lib.models.llama import load_model, load_tokenizer, parameter_count
from lib.models.tokenizer import backtrack_id, encode_prompts
from lib.search.parallel import end_shared, search_in_processes
from lib.search.sampler import CacheSampler, make_sampler, step_end_ids
from lib.search.search import search
from lib.search.vllm import VllmSampler
from lib.tasks.task import Task

PROBLEMS, PLAIN_PROBLEMS, ROUNDS = 128, 4, 3
PROCESSES = 0  # as many as there are cores
BREADTHS, DEPTHS = (8, 32), (0, 1, 2)
GROWTH = (64, 256, 1024)  # problems
FLOOR_ROWS, FLOOR_S = 512, 0.3


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


class PeakMemory:
    """The most memory that this process held within the block, beyond what it held before, MB."""

    def __enter__(self) -> PeakMemory:
        self.before = self.peak = _resident()
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()
        self.megabytes = (self.peak - self.before) / 2**20

    def _look(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, _resident())


def _resident() -> int:
    return psutil.Process().memory_info().rss


@torch.inference_mode()
def products_per_s(model: PreTrainedModel, rows: int = FLOOR_ROWS) -> float:
    """Tokens a second through the model's matrix products alone, so many rows at once."""
    linears = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    inputs = {part.in_features: torch.randn(rows, part.in_features) for part in linears}
    inputs = {size: given.to(model.device) for size, given in inputs.items()}
    tokens, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < FLOOR_S:
        for part in linears:
            part(inputs[part.in_features])
        tokens += rows
    return tokens / spent


def tokens_read(sampler: CacheSampler, tokenizer, prompts: list[str], breadth: int, depth: int):
    """Tokens that the model reads in a search, and the search's trees."""
    read = 0

    def count(module, arguments, named) -> None:
        nonlocal read
        read += named["input_ids"].numel()

    handle = sampler.rules.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        trees = search(sampler, tokenizer, prompts, breadth, depth, 0.7, 0)
    finally:
        handle.remove()
    return read, trees


def seconds_dealt(
    checkpoint: Path,
    limit: int,
    prompts: list[str],
    step_end: str,
    precision: str,
    breadth: int,
    depth: int,
) -> float:
    """Wall-clock time of a search dealt to a process for each core, its file of trees included."""
    with tempfile.TemporaryDirectory() as folder:
        how = {"step_end": step_end, "precision": precision}
        settings = (PROCESSES, prompts, breadth, depth, 0.7, 0)
        start = time.perf_counter()
        search_in_processes(Path(folder) / "trees.jsonl", checkpoint, limit, *settings, **how)
        return time.perf_counter() - start


def compared(
    sampler: CacheSampler,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    checkpoint: Path,
    step_end: str,
    breadth: int,
    depth: int,
) -> str:
    """A line: ours in this process, ours dealt to kept ones, and one problem at a time."""
    model, limit, some = sampler.rules.model, sampler.rules.max_new_tokens, prompts[:PROBLEMS]
    read, trees = tokens_read(sampler, tokenizer, some, breadth, depth)
    tokens = sum(tree.tokens_generated for tree in trees) / len(trees)
    # As many problems for each core as this process has with all cores' threads.
    many = some * hardware.available_cores()
    precisions = {"float32": "float32"}
    if hardware.has_bfloat16("cpu"):
        precisions["auto"] = "bfloat16"
    ours, plain, products = [], [], []
    dealt: dict[str, list[float]] = {precision: [] for precision in precisions}
    for number in range(ROUNDS):
        start = time.perf_counter()
        search(sampler, tokenizer, some, breadth, depth, 0.7, 0)
        between = time.perf_counter()
        at = number * PLAIN_PROBLEMS
        for prompt in prompts[at : at + PLAIN_PROBLEMS]:
            search_plainly(model, tokenizer, prompt, breadth, depth, limit)
        ours.append(len(some) / (between - start))
        plain.append(PLAIN_PROBLEMS / (time.perf_counter() - between))
        products.append(products_per_s(model) * len(some) / read)
        for precision, rates in dealt.items():
            how = (checkpoint, limit, many, step_end, precision, breadth, depth)
            rates.append(len(many) / seconds_dealt(*how))
    rate, their_rate, most = map(statistics.median, (ours, plain, products))
    shown = ", ".join(
        f"{statistics.median(rates):.1f} in {precisions[precision]}:"
        f" {statistics.median(rates) / their_rate:.0f}x"
        for precision, rates in dealt.items()
    )
    return (
        f"search N={breadth:2} b={depth}     {rate:8.1f} problems/s"
        f" ({rate * tokens:,.0f} tokens/s), one at a time {their_rate:.2f}:"
        f" {rate / their_rate:.0f}x (its matrix products alone:"
        f" {most / their_rate:.0f}x); dealt to a process for each core {shown}"
    )


def bench_search(task: Task, checkpoint: Path) -> Iterator[str]:
    """Ours against one problem at a time, with the checkpoint that ships; then growth."""
    if not checkpoint.exists():
        raise UserError(f"{checkpoint}: no checkpoint to search with; run `make reproduce` first")
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    limit, step_end = task.max_response_tokens, task.step_end
    sampler = make_sampler(model, tokenizer, step_end, limit)
    prompts = task.prompts(task.make_problems({"seen": max(GROWTH)}, 1))
    search(sampler, tokenizer, prompts[:32], 8, 1, 0.7, 0)  # the first pays for allocations
    for precision in ("float32", "auto"):  # and for the processes' start
        seconds_dealt(checkpoint, limit, prompts[:PROBLEMS], step_end, precision, 8, 1)
    for breadth in BREADTHS:
        for depth in DEPTHS:
            yield compared(sampler, tokenizer, prompts, checkpoint, step_end, breadth, depth)
    end_shared()
    for count in GROWTH:
        start = time.perf_counter()
        with PeakMemory() as memory:
            search(sampler, tokenizer, prompts[:count], 8, 1, 0.7, 0)
        spent = time.perf_counter() - start
        yield (
            f"search N= 8 b=1     {count / spent:8.1f} problems/s of {count} problems,"
            f" at most {memory.megabytes:.0f} MB more memory, trees included"
        )


VLLM_PROBLEMS, VLLM_ROUNDS = 64, 3
SHAPES = ((8, 0), (8, 1), (32, 0), (32, 1))  # N, b


def bench_vllm(task: Task, checkpoint: Path, problems: int = VLLM_PROBLEMS) -> Iterator[str]:
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
            for number in range(VLLM_ROUNDS):
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
