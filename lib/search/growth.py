"""A search tree while it grows: takes the samples of one state after another, gives the states to
roll back to and, at the end, a `SearchTree`. Knows nothing of who samples, or when it is enough.
"""

import math
from collections.abc import Callable, Iterable, Sequence

from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.rollout import Sample
from lib.search.tree import Node, SearchTree


class Growth:
    """A tree while it grows: nodes as lists, found again by (parent, tokens)."""

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
