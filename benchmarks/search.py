"""How fast the search is: beside decoding problem by problem, and as N, b and the problems grow.

Takes a checkpoint's folder; gives lines of rates and ratios, measured alternately.
The counterpart decodes one problem at a time with `generate(num_beams=N, do_sample=True)`, as the
published code does. The floor is what the same tokens cost in the model's matrix products alone.
Ours is measured in this process, in float32, and dealt to a process for each core once they have
started: in float32, and in bfloat16 where the processor has it.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import torch
from transformers import PreTrainedModel

from lib.base import hardware
from lib.base.errors import UserError
from lib.models.llama import load_model, load_tokenizer, parameter_count
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.parallel import end_shared, search_in_processes
from lib.search.sampler import CacheSampler, SamplerSource, make_sampler
from lib.search.search import search
from lib.search.tree import SearchTree
from lib.search.vllm import VllmSampler
from lib.tasks.task import Task

PROBLEMS, PLAIN_PROBLEMS, ROUNDS = 128, 4, 3
PROCESSES = 0  # as many as there are cores
BREADTHS, DEPTHS = (8, 32), (0, 1, 2)
GROWTH = (64, 256, 1024)  # problems
FLOOR_ROWS, FLOOR_S = 512, 0.3
SHOWN = {"float32": "float32", "auto": "bfloat16"}


@torch.inference_mode()
def search_plainly(
    model: PreTrainedModel,
    tokenizer: StepTokenizer,
    prompt: str,
    spec: SearchSpec,
    limit: int,
) -> int:
    """One problem with `generate(num_beams=N, do_sample=True)`; returns the expansions made."""
    backtrack, ends = tokenizer.backtrack_id, set(tokenizer.step_end_ids)

    def expand(state: list[int], count: int) -> list[list[int]]:
        ids = torch.tensor([state])
        beams = {"num_beams": count, "num_return_sequences": count} if count > 1 else {}
        found = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=spec.temperature,
            max_new_tokens=limit,
            eos_token_id=[tokenizer.eos_id, backtrack],
            pad_token_id=tokenizer.pad_id,
            **beams,
        )
        return found.tolist()

    state = tokenizer.encode_prompts([prompt])[0]
    seen, leaves, expansions = {tuple(state)}, expand(state, spec.breadth), 1
    for _ in range(spec.depth):
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
        leaves = [
            leaf for back in states[: spec.states] for leaf in expand(back, spec.continuations)
        ]
        expansions += len(states[: spec.states])
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


def tokens_read(
    sampler: CacheSampler, tokenizer: StepTokenizer, prompts: list[str], spec: SearchSpec
) -> tuple[int, list[SearchTree]]:
    """Tokens that the model reads in a search, and the search's trees."""
    read = 0

    def count(module, arguments, named) -> None:
        nonlocal read
        read += named["input_ids"].numel()

    handle = sampler.rules.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        trees = search(sampler, tokenizer, prompts, spec)
    finally:
        handle.remove()
    return read, trees


def seconds_dealt(source: SamplerSource, prompts: list[str], spec: SearchSpec) -> float:
    """Wall-clock time of a search dealt to a process for each core, its file of trees included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        search_in_processes(Path(folder) / "trees.jsonl", source, prompts, spec, PROCESSES)
        return time.perf_counter() - start


def compared(
    sampler: CacheSampler,
    tokenizer: StepTokenizer,
    prompts: list[str],
    sources: Sequence[SamplerSource],
    spec: SearchSpec,
) -> str:
    """A line: ours in this process, ours dealt to kept ones, and one problem at a time."""
    model, limit, some = sampler.rules.model, sampler.rules.max_new_tokens, prompts[:PROBLEMS]
    read, trees = tokens_read(sampler, tokenizer, some, spec)
    tokens = sum(tree.tokens_generated for tree in trees) / len(trees)
    # As many problems for each core as this process has with all cores' threads.
    many = some * hardware.available_cores()
    ours, plain, products = [], [], []
    dealt: dict[SamplerSource, list[float]] = {source: [] for source in sources}
    for number in range(ROUNDS):
        start = time.perf_counter()
        search(sampler, tokenizer, some, spec)
        between = time.perf_counter()
        at = number * PLAIN_PROBLEMS
        for prompt in prompts[at : at + PLAIN_PROBLEMS]:
            search_plainly(model, tokenizer, prompt, spec, limit)
        ours.append(len(some) / (between - start))
        plain.append(PLAIN_PROBLEMS / (time.perf_counter() - between))
        products.append(products_per_s(model) * len(some) / read)
        for source, rates in dealt.items():
            rates.append(len(many) / seconds_dealt(source, many, spec))
    rate, their_rate, most = map(statistics.median, (ours, plain, products))
    shown = ", ".join(
        f"{statistics.median(rates):.1f} in {SHOWN[source.precision]}:"
        f" {statistics.median(rates) / their_rate:.0f}x"
        for source, rates in dealt.items()
    )
    return (
        f"search N={spec.breadth:2} b={spec.depth}     {rate:8.1f} problems/s"
        f" ({rate * tokens:,.0f} tokens/s), one at a time {their_rate:.2f}:"
        f" {rate / their_rate:.0f}x (its matrix products alone:"
        f" {most / their_rate:.0f}x); dealt to a process for each core {shown}"
    )


def bench_search(task: Task, checkpoint: Path) -> Iterator[str]:
    """Ours against one problem at a time, with the checkpoint that ships; then growth."""
    if not checkpoint.exists():
        raise UserError(f"{checkpoint}: no checkpoint to search with; run `make reproduce` first")
    limit, small = task.max_response_tokens, SearchSpec(8, 1)
    precisions = SHOWN if hardware.has_bfloat16("cpu") else ("float32",)
    sources = [
        SamplerSource(str(checkpoint), task.step_end, limit, precision) for precision in precisions
    ]
    sampler, tokenizer = sources[0].load("cpu")
    prompts = task.prompts(task.make_problems({"seen": max(GROWTH)}, 1))
    search(sampler, tokenizer, prompts[:32], small)  # the first pays for allocations
    for source in sources:  # and for the processes' start
        seconds_dealt(source, prompts[:PROBLEMS], small)
    for breadth in BREADTHS:
        for depth in DEPTHS:
            yield compared(sampler, tokenizer, prompts, sources, SearchSpec(breadth, depth))
    end_shared()
    for count in GROWTH:
        start = time.perf_counter()
        with PeakMemory() as memory:
            search(sampler, tokenizer, prompts[:count], small)
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
    model = load_model(checkpoint)
    tokenizer = StepTokenizer(load_tokenizer(checkpoint), task.step_end)
    ours = make_sampler(model, tokenizer, task.max_response_tokens)
    start = time.perf_counter()
    theirs = VllmSampler(checkpoint, *tokenizer.stop_ids, task.max_response_tokens)
    try:
        spent = time.perf_counter() - start
        about = f"vLLM {theirs.engine['version']} on {theirs.engine['device']}"
        yield f"{about}: ready in {spent:.0f} s; {parameter_count(model) / 1e6:.1f}M parameters"
        prompts = task.prompts(task.make_problems({"seen": problems}, 1))
        samplers = {"ours": ours, "vLLM": theirs}
        for sampler in samplers.values():
            search(sampler, tokenizer, prompts, SearchSpec(8, 1))  # the first pays for allocations
        for breadth, depth in SHAPES:
            rates: dict[str, list[float]] = {name: [] for name in samplers}
            tokens: dict[str, int] = {}
            for number in range(VLLM_ROUNDS):
                for name, sampler in samplers.items():
                    start = time.perf_counter()
                    spec = SearchSpec(breadth, depth, seed=number)
                    trees = search(sampler, tokenizer, prompts, spec)
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
