"""Depth-first search guided by a model (DFS in Table 2 of the paper).

Takes a sampler, prompts and a goal test; gives one `GuidedSearch` a prompt. In each state the model
proposes next steps (samples, each cut at its step's end); the distinct ones are explored depth
first, the most probable first, until the goal test holds or `limit` states were visited. The goal
test is part of the method: it looks at the problem, which no selection rule of Self-Backtracking
may. Knows nothing of models or of the task.

All problems advance together: each of them asks for one expansion a round. What a state proposes
depends on the state alone, so the search with a smaller budget is the beginning of this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lib.base.errors import UserError
from lib.models.tokenizer import StepTokenizer
from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler, Sampler
from lib.tasks.task import OPEN, REACHED, GoalTest

#: Raised whenever the same inputs give other results: what was made before is then made again.
VERSION = 1


@dataclass(frozen=True)
class GuidedSpec:
    """One search: it visits at most `limit` states, and draws `samples` proposals in each that it
    expands."""

    limit: int
    samples: int
    temperature: float
    seed: int

    def __post_init__(self) -> None:
        if min(self.limit, self.samples) < 1:
            raise UserError(
                f"DFS with limit {self.limit}, samples {self.samples}: each must be 1 or more"
            )


@dataclass(frozen=True)
class GuidedSearch:
    """One problem's search.

    steps: the path that the goal test accepted, None where no visited state passed it; visits:
    tokens that the model had generated when each state was visited; tokens: in all.
    """

    steps: tuple[str, ...] | None
    visits: tuple[int, ...]
    tokens: int

    def within(self, budget: int) -> tuple[tuple[str, ...] | None, int]:
        """What the search with a budget of so many states gives: the path, and its tokens."""
        if len(self.visits) <= budget:
            return self.steps, self.tokens
        return None, self.visits[budget - 1]


@dataclass(frozen=True)
class _State:
    tokens: tuple[int, ...]  # after the prompt
    steps: tuple[str, ...]


def step_sampler(model: Any, tokenizer: StepTokenizer, limit: int) -> CacheSampler:
    """A sampler that stops at the token that is a step's end.

    A vocabulary may have others that contain it: what follows them is cut off by `proposals`.
    """
    ends, eos = tokenizer.step_end_ids, tokenizer.eos_id
    whole = (token for token in ends if tokenizer.decode([token]) == tokenizer.step_end)
    return CacheSampler(model, next(whole, eos), eos, ends, limit, tokenizer.pad_id)


def proposals(samples: Iterable[Sample]) -> list[tuple[int, ...]]:
    """The distinct next steps among samples, most probable first. What ends no step is dropped."""
    found: dict[tuple[int, ...], float] = {}
    for sample in samples:
        if sample.step_ends:
            end = sample.step_ends[0] + 1
            found[sample.tokens[:end]] = math.fsum(sample.logprobs[:end])
    return sorted(found, key=lambda tokens: (-found[tokens], tokens))


def generated(samples: Iterable[Sample]) -> int:
    """Tokens that the model generated for these samples: what they share counts once."""
    return len({s.tokens[:end] for s in samples for end in range(1, len(s.tokens) + 1)})


class _Search:
    """One problem's search between two expansions."""

    def __init__(self, problem: Any, limit: int, test: GoalTest, text: Callable[..., str]):
        self.problem, self.limit, self.test, self.text = problem, limit, test, text
        self.stack = [_State((), ())]
        self.visits: list[int] = []
        self.tokens = 0
        self.reached: tuple[str, ...] | None = None

    def next_state(self) -> _State | None:
        """Visit states down to one that must be expanded; None when the search is over.

        The question itself is no visit. A state that cannot be visited any more is not expanded.
        """
        while self.stack and self.reached is None:
            state = self.stack.pop()
            if state.steps:
                if len(self.visits) == self.limit:
                    break
                self.visits.append(self.tokens)
            verdict = self.test(self.problem, state.steps)
            if verdict == REACHED:
                self.reached = state.steps
            elif verdict == OPEN and len(self.visits) < self.limit:
                return state
        return None

    def add(self, state: _State, samples: Sequence[Sample]) -> None:
        """Put what was proposed in a state on the stack, the best on top."""
        self.tokens += generated(samples)
        for tokens in reversed(proposals(samples)):
            step = self.text(tokens)
            self.stack.append(_State(state.tokens + tokens, (*state.steps, step)))

    def result(self) -> GuidedSearch:
        return GuidedSearch(self.reached, tuple(self.visits), self.tokens)


def guided_search(
    sampler: Sampler,
    tokenizer: StepTokenizer,
    prompts: Sequence[str],
    problems: Sequence[Any],
    test: GoalTest,
    spec: GuidedSpec,
    on_progress: Callable[[int], object] | None = None,
) -> list[GuidedSearch]:
    """Search every prompt. A problem is whatever `test` takes."""
    if len(prompts) != len(problems):
        raise UserError(f"{len(prompts)} prompts for {len(problems)} problems: must be as many")

    def text(tokens: tuple[int, ...]) -> str:
        return tokenizer.decode(tokens).partition(tokenizer.step_end)[0]

    searches = [_Search(problem, spec.limit, test, text) for problem in problems]
    prefixes = [tuple(ids) for ids in tokenizer.encode_prompts(prompts)]
    going = len(searches)
    for left in _rounds(searches, prefixes, sampler, spec):
        if on_progress is not None:
            on_progress(going - left)
        going = left
    if on_progress is not None:
        on_progress(going)
    return [search.result() for search in searches]


def _rounds(
    searches: list[_Search],
    prefixes: list[tuple[int, ...]],
    sampler: Sampler,
    spec: GuidedSpec,
) -> Iterator[int]:
    """One expansion of every search that goes on, again and again; yields how many there were."""
    going = list(range(len(searches)))
    while going:
        asked = [(i, state) for i in going if (state := searches[i].next_state()) is not None]
        if not asked:
            return
        # Two problems can be the same text; a state asked twice would get other random numbers.
        distinct = list(dict.fromkeys(prefixes[i] + state.tokens for i, state in asked))
        counts = [spec.samples] * len(distinct)
        drawn = sampler.sample(distinct, counts, spec.temperature, spec.seed)
        known = dict(zip(distinct, drawn, strict=True))
        for i, state in asked:
            searches[i].add(state, known[prefixes[i] + state.tokens])
        going = [i for i, _ in asked]
        yield len(going)
