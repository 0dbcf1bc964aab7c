"""Guided depth-first search: by hand with a scripted sampler, and against a plain recursion."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from lib.base.errors import UserError
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.search.guided_dfs import (
    GuidedSearch,
    GuidedSpec,
    generated,
    guided_search,
    proposals,
    step_sampler,
)
from lib.search.rollout import Sample
from lib.tasks.countdown import problems
from lib.tasks.countdown.rules import GOAL, Problem, check, equation_test, legal_steps, remaining
from lib.tasks.countdown.task import CountdownTask
from lib.tasks.task import DEAD, OPEN
from lib.tasks.task import REACHED as REACHED

TASK = CountdownTask(problems.Settings(4, 9, 1, 30, 81, 0.1))
TOKENIZER = build_tokenizer(TASK.pieces)
STEPS = StepTokenizer(TOKENIZER, TASK.step_end)
NEWLINE = TOKENIZER.convert_tokens_to_ids("\n")
PROBLEM = Problem((2, 3, 4), 20)


def ids(text):
    return tuple(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def sample(text, logprob=-1.0, count=1):
    tokens = ids(text)
    ends = tuple(i for i, token in enumerate(tokens) if token == NEWLINE)
    each = (logprob / len(tokens),) * len(tokens)
    return Sample(tokens, each, ends, (math.nan,) * len(ends), "goal", count)


class Scripted:
    """Proposes what `ways` says for the steps so far: texts, the most probable first."""

    def __init__(self, ways):
        self.ways, self.asked = ways, []

    def sample(self, prefixes, counts, temperature, seed):
        assert len(set(prefixes)) == len(prefixes)
        found = []
        for prefix, count in zip(prefixes, counts, strict=True):
            steps = TOKENIZER.decode(list(prefix)).split("###Response:\n")[1]
            self.asked.append((steps, count))
            texts = self.ways(steps) if callable(self.ways) else self.ways.get(steps, [])
            # In another order than that of their probability.
            found.append([sample(text, -1.0 - i) for i, text in enumerate(texts)][::-1])
        return found


def guided(sampler, many, limit, samples=5, temperature=0.7, **how):
    prompts = [problem.prompt() for problem in many]
    spec = GuidedSpec(limit, samples, temperature, seed=0)
    return guided_search(sampler, STEPS, prompts, many, equation_test, spec, **how)


def run(sampler, limit, problem=PROBLEM):
    (found,) = guided(sampler, [problem], limit)
    return found


WAYS = {
    "": ["2+3=5\n", "2*3=6\n", "rest", "4*3=12\n"],
    "2+3=5\n": ["5+4=9\n", "5-4=1\n"],
    "2*3=6\n": ["6+4=20\n", GOAL, "6*4=24\n"],
    "4*3=12\n": ["12-2=10\n"],
    "3*4=12\n": [],
}


def test_depth_first_best_child_first_by_hand():
    sampler = Scripted(WAYS | {"": ["2+3=5\n", "2*3=6\n", "4+1=5\n"], "4+1=5\n": ["5*4=20\n"]})
    found = run(sampler, 64)
    # Visited: 2+3=5, 5+4=9, 5-4=1, 2*3=6, 6+4=20 (a lie), 6*4=24, 4+1=5, 5*4=20 (true).
    assert found.steps == ("4+1=5", "5*4=20") and len(found.visits) == 8
    assert [steps for steps, _ in sampler.asked] == ["", "2+3=5\n", "2*3=6\n", "4+1=5\n"]
    assert {count for _, count in sampler.asked} == {5}
    # It is the model's business that 1 is not there; the strict checker says so.
    assert not check(PROBLEM, "\n".join([*found.steps, GOAL])).correct


def test_smaller_budgets_are_beginnings_of_the_same_search():
    whole = run(Scripted(WAYS | {"4*3=12\n": ["12+8=20\n"]}), 64)
    assert whole.steps == ("4*3=12", "12+8=20") and len(whole.visits) == 8
    for limit in range(1, 10):
        part = run(Scripted(WAYS | {"4*3=12\n": ["12+8=20\n"]}), limit)
        assert part.visits == whole.visits[:limit]
        assert (part.steps, part.tokens) == whole.within(limit)
        assert (part.steps is None) == (limit < 8)


def test_tokens_are_those_generated_before_a_visit():
    found = run(Scripted(WAYS), 64)
    first = len(ids("2+3=5\n2*3=6\nrest4*3=12\n")) - len(ids("2"))  # two begin with a 2
    assert found.visits[0] == first
    assert found.visits[1] == found.visits[2] == first + len(ids("5+4=9\n-4=1\n"))
    assert found.steps is None and found.tokens == found.visits[-1]
    # Nothing is expanded after the last visit, though 2+3=5 would be open.
    assert run(Scripted(WAYS), 1) == GuidedSearch(None, (first,), first)


def test_no_proposals_end_the_search():
    for texts in ([], [GOAL], ["<backtrack>"]):
        found = run(Scripted({"": texts}), 9)
        assert found.steps is None and found.visits == ()
        assert found.tokens == sum(len(ids(text)) for text in texts)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), OPEN),
        (("2*3=6",), OPEN),
        (("4*5=20",), OPEN),  # numbers are left
        (("what",), DEAD),
        (("2*3=6", "6*4=24"), DEAD),
        (("2*3=6", "6+4=20"), DEAD),  # not true
        (("2+3=5", "5*4=20"), REACHED),
        (("9+9=1", "10*2=20"), REACHED),  # the last equation is all that it looks at
        (("2+3=5", "5*4=20", "20+0=20"), DEAD),
        (("2*3=6", "40/2=20"), REACHED),
        (("2*3=6", "0/0=20"), DEAD),
    ],
)
def test_goal_test(steps, expected):
    assert equation_test(PROBLEM, steps) == expected


def test_proposals_are_cut_merged_and_sorted():
    found = proposals(
        [sample("4*3=12\n12-2=10\n", -2.0), sample("2+3=5\n", -0.5), sample("4*3=12\n", -1.8)]
    )
    assert found == [ids("2+3=5\n"), ids("4*3=12\n")]
    assert proposals([sample("2+3")]) == []
    assert generated([]) == 0
    assert generated([sample("12"), sample("13"), sample("1")]) == 3


def recursion(problem, ways, limit):
    """The same search as a plain recursion: visited paths, and the one that reached."""
    visited, reached = [], []

    def go(steps):
        for text in ways("".join(f"{step}\n" for step in steps)):
            if reached or len(visited) == limit:
                return
            path = (*steps, text.strip())
            visited.append(path)
            verdict = equation_test(problem, path)
            if verdict == REACHED:
                reached.append(path)
            elif verdict == OPEN:
                go(path)

    go(())
    return visited, reached[0] if reached else None


@given(
    some.lists(some.integers(1, 9), min_size=3, max_size=4),
    some.integers(1, 30),
    some.integers(1, 40),
    some.integers(0, 9),
)
def test_equals_a_plain_recursion(numbers, target, limit, shift):
    problem = Problem(tuple(numbers), target)

    def ways(steps):
        left = remaining(numbers, steps.split("\n")[:-1])
        found = [f"{step}\n" for step in legal_steps(left)]
        return found[shift % len(found) :][:4]

    found = run(Scripted(ways), limit, problem)
    visited, reached = recursion(problem, ways, limit)
    assert (found.steps, len(found.visits)) == (reached, len(visited))
    assert list(found.visits) == sorted(found.visits)


def test_problems_advance_together_as_they_would_alone():
    many = [Problem((2, 3, 4), 20), Problem((2, 3, 4), 9), Problem((4, 3, 2), 1), PROBLEM]
    progress = []
    together = guided(Scripted(WAYS), many, 64, on_progress=progress.append)
    assert together == [run(Scripted(WAYS), 64, problem) for problem in many]
    assert sum(progress) == len(many)
    assert guided(Scripted(WAYS), [], 3) == []


def test_a_real_sampler_stops_at_the_step_s_end():
    torch.manual_seed(0)
    model = build_model(TOKENIZER, 16, 1, 2, 0)
    sampler = step_sampler(model, STEPS, 12)
    prefixes = STEPS.encode_prompts([PROBLEM.prompt()])
    (found,) = sampler.sample(prefixes, [200], 1.0, 0)
    assert any(s.step_ends for s in found)
    for s in found:
        assert not {NEWLINE, TOKENIZER.eos_token_id} & set(s.tokens[:-1])
    # Any other token with a line end in it closes a step, too.
    assert any(len(s.tokens) - 1 > s.step_ends[0] for s in found if s.step_ends)
    again = [
        guided(one, [PROBLEM] * 2, 9, 30, 1.0) for one in (sampler, sampler, sampler.session())
    ]
    assert again[0] == again[1] == again[2] and again[0][0] == again[0][1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [((0, 1), "limit 0"), ((1, 0), "samples 0")],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(UserError, match=message):
        guided(Scripted({}), [PROBLEM], *settings)
    with pytest.raises(UserError, match="1 prompts for 0 problems"):
        guided_search(Scripted({}), STEPS, ["x"], [], equation_test, GuidedSpec(1, 1, 0.7, 0))
