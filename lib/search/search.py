"""Self-backtracking search: takes a sampler and prompts, gives one `SearchTree` per prompt.

Expand the question; then `depth` times roll every `<backtrack>` back one step, select the states to
go on from, and expand them (the paper's section 3.3). Knows nothing of models (a `Sampler` makes
the tokens), of the task (a step is what a step-end token closes), of files or of choosing an answer
(lib/search/selection.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.rollout import Sample
from lib.search.sampler import Sampler
from lib.search.tree import Node, SearchTree

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1


def search(
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    spec: SearchSpec,
    on_progress: Callable[[int], object] | None = None,
) -> list[SearchTree]:
    """One tree per prompt.

    Level 0 expands the question N times. At each of the `depth` further levels every leaf that
    ended in `<backtrack>` gives its state one step back; of those that were not expanded before, up
    to sqrt(N), by visits and then by log-probability, are expanded (`spec.per_state` says how many
    times each).
    """
    chunks = iter_search(sampler, tokenizer, prompts, spec, on_progress=on_progress)
    return [tree for trees in chunks for tree in trees]


def iter_search(
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    spec: SearchSpec,
    chunks: Iterable[int] | None = None,
    on_progress: Callable[[int], object] | None = None,
) -> Iterator[list[SearchTree]]:
    """As `search`, giving each chunk's trees when they are done.

    Chunk c holds problems `c * spec.chunk` up to `(c + 1) * spec.chunk` and has a random stream of
    its own, so `chunks` (which of them to do; all by default) can be dealt to any number of
    processes. `on_progress` is called with the number of problems just done. `UserError` where the
    sampler does not offer the expansion.
    """
    offered = getattr(sampler, "expansions", ("sample",))
    if spec.expansion not in offered:
        raise UserError(f"expansion {spec.expansion!r}: this sampler offers {', '.join(offered)}")
    text_of = Decoder(tokenizer)
    for chunk in range(chunk_count(prompts, spec)) if chunks is None else chunks:
        first = chunk * spec.chunk
        asked = prompts[first : first + spec.chunk]
        growing = [GrowingTree(ids, text_of) for ids in tokenizer.encode_prompts(asked)]
        _grow(growing, sampler, spec, chunk)
        yield [
            each.finish(first + place, prompt, tokenizer.step_end, spec)
            for place, (each, prompt) in enumerate(zip(growing, asked, strict=True))
        ]
        if on_progress is not None:
            on_progress(len(growing))


def _grow(trees: Sequence[GrowingTree], sampler: Sampler, spec: SearchSpec, chunk: int) -> None:
    """Expand the questions of one chunk together; roll back, select, expand, `depth` times."""
    # One session a chunk: its memory is bounded, and so is what its trees depend on.
    session = getattr(sampler, "session", None) if spec.depth else None
    sampler = session() if session else sampler
    how = {} if spec.expansion == "sample" else {"expansion": spec.expansion}

    def expand(states: Sequence[tuple[GrowingTree, int]], count: int, level: int) -> None:
        prefixes = [tree.state(state) for tree, state in states]
        seed = _stream(spec.seed, chunk, level)
        found = sampler.sample(prefixes, [count] * len(states), spec.temperature, seed, **how)
        for (tree, state), samples in zip(states, found, strict=True):
            tree.add(state, level, samples)

    expand([(tree, 0) for tree in trees], spec.breadth, 0)  # node 0 is the question
    for level in range(1, spec.depth + 1):
        states = [(tree, state) for tree in trees for state in tree.rolled_back(spec.states)]
        expand(states, spec.continuations, level)


def _stream(seed: int, chunk: int, level: int) -> int:
    """The seed of one level's samples: the first levels are the same whatever follows."""
    return int(np.random.SeedSequence([seed, chunk, level]).generate_state(1, np.uint64)[0])


def chunk_count(prompts: Sequence[str], spec: SearchSpec) -> int:
    """How many chunks a search of these prompts has."""
    return -(-len(prompts) // spec.chunk)


def roll_backs(depth: int, from_one: bool = False) -> int:
    """How often leaves are rolled back at this depth.

    `from_one` is the audit's switch: the published code counts the question's own expansion as
    depth 1, so that its 1 is the paper's b = 0.
    """
    return max(depth - 1, 0) if from_one else depth


class GrowingTree:
    """One problem's tree while it grows: nodes as records, found again by (parent, tokens)."""

    def __init__(self, prompt_ids: Sequence[int], text_of: Callable[[tuple[int, ...], str], str]):
        self.prompt_ids = tuple(prompt_ids)
        self.text_of = text_of
        self.nodes: list[dict] = []
        self.found: dict[tuple[int | None, tuple[int, ...]], int] = {}
        self.expanded: dict[int, int] = {}
        self.tokens_generated: dict[int, int] = {}  # by level
        self.tokens_sampled = 0
        self._visit(None, "root", 0, (), (), math.nan, 0)

    def _visit(self, parent, kind, level, tokens, logprobs, p_backtrack, count) -> int:
        """The node of these tokens under the parent: `count` more visits, or a new node."""
        key = (parent, tokens)
        if key not in self.found:
            self.found[key] = len(self.nodes)
            path_logprob = math.fsum(logprobs)
            if parent is not None:
                path_logprob += self.nodes[parent]["path_logprob"]
            self.nodes.append(
                dict(parent=parent, kind=kind, level=level, tokens=tokens, logprobs=logprobs)
                | dict(p_backtrack=None, visits=0, path_logprob=path_logprob)
            )
        node = self.nodes[self.found[key]]
        node["visits"] += count
        if node["p_backtrack"] is None and not math.isnan(p_backtrack):
            node["p_backtrack"] = p_backtrack
        return self.found[key]

    def state(self, node: int) -> tuple[int, ...]:
        """Token ids of the prompt and the steps down to the node."""
        parts = []
        while self.nodes[node]["parent"] is not None:
            parts.append(self.nodes[node]["tokens"])
            node = self.nodes[node]["parent"]
        return self.prompt_ids + tuple(token for part in reversed(parts) for token in part)

    def add(self, state: int, level: int, samples: Iterable[Sample]) -> None:
        """Merge what was sampled from a state into the tree."""
        generated = getattr(samples, "lost_tokens", 0)
        samples = sorted(samples, key=lambda sample: sample.tokens)
        self.expanded[state] = level
        previous: tuple[int, ...] = ()
        for sample in samples:
            node, start = state, 0
            if state == 0:
                self._visit(None, "root", 0, (), (), sample.p_backtrack_start, sample.count)
            for end, p_backtrack in zip(sample.step_ends, sample.p_backtrack, strict=True):
                tokens, logprobs = sample.tokens[start : end + 1], sample.logprobs[start : end + 1]
                node = self._visit(node, "step", level, tokens, logprobs, p_backtrack, sample.count)
                start = end + 1
            rest, logprobs = sample.tokens[start:], sample.logprobs[start:]
            self._visit(node, sample.stop, level, rest, logprobs, math.nan, sample.count)

            shared = 0
            while shared < len(previous) and previous[shared] == sample.tokens[shared]:
                shared += 1
            generated += len(sample.tokens) - shared
            self.tokens_sampled += sample.count * len(sample.tokens)
            previous = sample.tokens
        self.tokens_generated[level] = self.tokens_generated.get(level, 0) + generated

    def rolled_back(self, limit: int) -> list[int]:
        """At most `limit` states to expand next: one step before each `<backtrack>`, of those that
        were not expanded yet the most visited, then the most probable.

        A `<backtrack>` in the middle of a step takes back that unfinished step.
        """
        states = set()
        for node in self.nodes:
            if node["kind"] == "backtrack":
                state = node["parent"]
                if len(node["tokens"]) == 1 and state != 0:
                    state = self.nodes[state]["parent"]
                states.add(state)
        states -= self.expanded.keys()
        order = sorted(
            states,
            key=lambda i: (-self.nodes[i]["visits"], -self.nodes[i]["path_logprob"], i),
        )
        return order[:limit]

    def finish(self, problem_id: int, prompt: str, step_end: str, spec: SearchSpec) -> SearchTree:
        """The tree that a search of this prompt has grown."""
        levels = range(spec.depth + 1)
        by_level = tuple(self.tokens_generated.get(level, 0) for level in levels)
        nodes = []
        for i, node in enumerate(self.nodes):
            text = self.text_of(node["tokens"], node["kind"])
            del node["path_logprob"]
            nodes.append(Node(id=i, text=text, **node))
        return SearchTree(
            problem_id=problem_id,
            prompt=prompt,
            step_end=step_end,
            nodes=tuple(nodes),
            expanded=tuple(self.expanded.items()),
            tokens_generated=sum(by_level),
            tokens_sampled=self.tokens_sampled,
            # The usual search's trees are written as they were before there were others.
            tokens_by_level=() if spec.is_usual else by_level,
            **spec.settings(),
        )


class Decoder:
    """Text of a node's tokens. The same steps come again and again, so each is decoded once."""

    def __init__(self, tokenizer: StepTokenizer):
        self.tokenizer = tokenizer
        self.known: dict[tuple[tuple[int, ...], str], str] = {}

    def __call__(self, tokens: tuple[int, ...], kind: str) -> str:
        key = (tokens, kind)
        if key not in self.known:
            if len(self.known) > 1_000_000:
                self.known.clear()
            ids = tokens[:-1] if kind == "goal" else tokens
            text = self.tokenizer.decode(ids) if ids else ""
            self.known[key] = text.removesuffix(self.tokenizer.step_end) if kind == "step" else text
        return self.known[key]
