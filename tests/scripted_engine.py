"""An engine without a model, for tests: a seeded player that knows the solver and errs at times.

The search itself is the real one (lib/search/search.py); only the sampler and the tokenizer (one
token a character) are made up.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter

from lib.explorer.engine import Stopped
from lib.explorer.session import Reading
from lib.models.tokenizer import StepTokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.rollout import Sample
from lib.search.search import search
from lib.tasks.countdown.rules import GOAL, Problem, after, legal_steps, remaining
from lib.tasks.countdown.solver import reachable

BACKTRACK, EOS = 1, 2
EVIL = "<img src=x onerror=document.title='hacked'>"


class CharacterTokenizer:
    """One token a character, and two special ones."""

    bos_token_id = None

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(character) for character in text] for text in texts]}

    def decode(self, tokens, **_):
        special = {BACKTRACK: "<backtrack>", EOS: ""}
        return "".join(special.get(token, chr(token)) for token in tokens)


LINES = StepTokenizer(CharacterTokenizer(), "\n")


class ScriptedSampler:
    """Plays legal steps at random; says `<backtrack>` mostly where the target is out of reach."""

    def __init__(self, evil: bool = False, skill: float = 0.5):
        self.evil, self.skill = evil, skill

    def sample(self, prefixes, counts, temperature, seed):
        return [
            self._samples("".join(map(chr, prefix)), count, random.Random(f"{seed} {prefix}"))
            for prefix, count in zip(prefixes, counts, strict=True)
        ]

    def p_backtrack(self, problem, steps):
        left = remaining(problem.numbers, steps)
        if not steps:
            return 0.02
        can_reach = left is not None and reachable(left, problem.target)
        noise = random.Random(f"{problem} {steps}").random()
        return round(0.2 * noise if can_reach else 1 - 0.9 * noise**2, 6)

    def _samples(self, state, count, rng):
        problem, steps = read_state(state)
        found, facts = Counter(), {}
        for _ in range(count):
            tokens, *rest = self._one(problem, list(steps), rng)
            found[tokens] += 1
            facts[tokens] = rest
        start = self.p_backtrack(problem, steps)
        return [Sample(t, *facts[t], count=n, p_backtrack_start=start) for t, n in found.items()]

    def _one(self, problem, steps, rng):
        tokens, ends, verdicts = [], [], []
        while True:
            left = remaining(problem.numbers, steps)
            if steps and rng.random() < self.p_backtrack(problem, steps):
                tokens.append(BACKTRACK)
                stop = "backtrack"
                break
            if left is None or len(left) == 1:
                tokens += [*map(ord, GOAL), EOS]
                stop = "goal"
                break
            choices = legal_steps(left)
            good = [c for c in choices if reachable(after(left, c), problem.target)]
            step = str(rng.choice(good if good and rng.random() < self.skill else choices))
            if self.evil and rng.random() < 0.2:
                step = EVIL
            steps.append(step)
            tokens += map(ord, step + "\n")
            ends.append(len(tokens) - 1)
            verdicts.append(self.p_backtrack(problem, steps))
        return tuple(tokens), tuple(logprobs(tokens)), tuple(ends), tuple(verdicts), stop


class ScriptedEngine:
    """What the explorer asks of an engine; a search for `slow_target` lasts a minute."""

    def __init__(self, evil: bool = False, skill: float = 0.5, slow_target: int | None = None):
        self.sampler, self.tokenizer = ScriptedSampler(evil, skill), LINES
        self.slow_target, self.stopped, self.searches = slow_target, False, 0

    def search(self, prompt, breadth, depth, temperature, seed, per_state="sqrt"):
        self._raise_if_stopped()
        self.searches += 1
        end = time.monotonic() + 60 * (read_state(prompt)[0].target == self.slow_target)
        while time.monotonic() < end:
            self._raise_if_stopped()
            time.sleep(0.01)
        spec = SearchSpec(breadth, depth, temperature, seed, per_state=per_state)
        return search(self.sampler, self.tokenizer, [prompt], spec)[0]

    def greedy(self, prompt):
        return GOAL

    def _raise_if_stopped(self):
        if self.stopped:
            raise Stopped("stopped")

    def read(self, prompt, text=""):
        self._raise_if_stopped()
        tokens = tuple(map(ord, text))
        p_backtrack = self.sampler.p_backtrack(*read_state(prompt + text))
        return Reading(tokens, tuple(logprobs(tokens)), p_backtrack)

    def token_texts(self, tokens):
        return [self.tokenizer.decode([token]) for token in tokens]

    def stop(self):
        self.stopped = True

    def resume(self):
        self.stopped = False


def logprobs(tokens):
    return [-math.log(1 + token % 7) / 8 for token in tokens]


def read_state(state: str) -> tuple[Problem, list[str]]:
    """The problem and the steps that a state's text holds."""
    head, _, body = state.partition("###Response:\n")
    numbers, target = re.search(r"\[(.*)\]->target (\d+)", head).groups()
    return Problem(tuple(map(int, numbers.split(", "))), int(target)), body.split("\n")[:-1]
