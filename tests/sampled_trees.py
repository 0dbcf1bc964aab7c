"""Search trees of samples, by hand: for the tests of best-of-N and of preference pairs."""

import dataclasses

import pandas as pd
import pytest

from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.search.tree import Node, SearchTree
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask
from studies.catalogue import load_profile

TASK = CountdownTask(problems.Settings(2, 9, 1, 20, 81, 0.1))
PROBLEMS = pd.DataFrame({"numbers": [[3, 4]], "target": [7], "split": "seen"})


def tree(*ended, breadth=None, depth=0, problem_id=0):
    """A tree of one-step paths: (step, tokens, visits, terminal kind)."""
    visits = sum(path[2] for path in ended)
    nodes = [Node(0, None, "root", 0, "", (), (), None, visits)]
    for step, tokens, count, kind in ended:
        at = len(nodes)
        text = {"goal": "Goal Reached!", "backtrack": "<backtrack>", "limit": ""}[kind]
        nodes.append(Node(at, 0, "step", 0, step, tokens, (-0.5,) * len(tokens), 0.1, count))
        nodes.append(Node(at + 1, at, kind, 0, text, (1,), (-0.5,), None, count))
    prompt = TASK.prompts(PROBLEMS)[0]
    total = visits if breadth is None else breadth
    made = (tuple(nodes), ((0, 0),), 9, 9, "\n")
    return SearchTree(problem_id, prompt, total, depth, 1.0, 0, *made)


TREE = tree(
    ("3+4=7", (5, 6, 7), 3, "goal"),
    ("3*4=12", (5, 8), 1, "goal"),
    ("4-3=1", (9,), 2, "backtrack"),
)


def small_experiment(folder, **changes):
    """S of the smoke profile, with a model of seconds."""
    profile = load_profile("smoke")
    replace = dataclasses.replace
    sizes = {"hidden_size": 16, "layers": 1, "heads": 1, "test_problems": 6}
    model = replace(profile.models["S"], **sizes, trunk_examples=384, branch_examples=384)
    settings = replace(
        profile.sections["baselines"],
        breadths=(2, 4),
        test_problems=6,
        problems=20,
        samples=4,
        **changes,
    )
    profile = replace(
        profile,
        data=replace(profile.data, train_problems=900, test_problems=8, validation_problems=4),
        models={"S": model},
    )
    profile = profile.with_sections(baselines=settings)
    return Experiment(profile, "smoke", 0, Run(folder))


class Verdict:
    """Every second path is right: a model of two dozen steps solves nothing."""

    def __init__(self, correct):
        self.correct, self.error, self.step = correct, None, 0


@pytest.fixture
def lenient_checks(monkeypatch):
    def check(self, problem, response):
        return Verdict(len(response) % 2 == 0)

    monkeypatch.setattr(CountdownTask, "check", check)
    monkeypatch.setattr(CountdownTask, "check_published", check)
