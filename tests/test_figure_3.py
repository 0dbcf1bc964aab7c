"""Self-improvement: what a round learns from, and that no round sees another's problems."""

from types import SimpleNamespace

import pandas as pd

from lib.profiles.recipe import Recipe
from lib.profiles.settings import ModelSettings
from lib.search.tree import Node, SearchTree
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask
from lib.tasks.countdown.traces import optimal_traces
from studies.paper import figure_3
from studies.paper.figure_3 import correct_responses, response_traces, round_problems

TASK = CountdownTask(problems.Settings(3, 9, 1, 20, 81, 0.1))
PROBLEMS = pd.DataFrame(
    {"numbers": [[3, 4], [5, 5], [2, 9]], "target": [7, 10, 18], "split": "train"}
)


def tree(index, *ended):
    """A tree of one-step paths: (step, logprob, terminal kind)."""
    nodes = [Node(0, None, "root", 0, "", (), (), None, 9)]
    for step, logprob, kind in ended:
        at = len(nodes)
        nodes.append(Node(at, 0, "step", 0, step, (at,), (logprob,), 0.1, 1))
        text = {"goal": "Goal Reached!", "backtrack": "<backtrack>", "limit": ""}[kind]
        nodes.append(Node(at + 1, at, kind, 0, text, (1,), (logprob,), None, 1))
    row = PROBLEMS.iloc[[index]]
    return SearchTree(
        index, TASK.prompts(row)[0], 4, 0, 1.0, 0, tuple(nodes), ((0, 0),), 9, 9, "\n"
    )


def test_the_most_probable_correct_path_of_each_problem():
    trees = [
        tree(0, ("4-3=1", -0.1, "goal"), ("4+3=7", -0.9, "goal"), ("3+4=7", -0.5, "goal")),
        tree(1, ("5+5=11", -0.1, "goal"), ("5+5=10", -0.2, "backtrack"), ("5-5=0", -1, "limit")),
        tree(2, ("9*2=18", -3.0, "goal")),
    ]
    found = correct_responses(trees, PROBLEMS, TASK)
    assert found.to_dict("list") == {
        "problem": [0, 2],
        "response": ["3+4=7\nGoal Reached!", "9*2=18\nGoal Reached!"],
    }
    assert list(correct_responses([trees[1]], PROBLEMS.iloc[[1]], TASK).columns) == [
        "problem",
        "response",
    ]


def test_equally_probable_paths_go_to_the_first_leaf():
    both = [("4+3=7", -0.5, "goal"), ("3+4=7", -0.5, "goal")]
    for order in (both, both[::-1]):
        found = correct_responses([tree(0, *order)], PROBLEMS.iloc[[0]], TASK)
        assert found.response.tolist() == [order[0][0] + "\nGoal Reached!"]


def test_own_paths_are_taught_as_the_generator_s_are():
    table = TASK.make_problems({"train": 5}, 0)
    made = optimal_traces(table)
    prompts = TASK.prompts(table)
    responses = [t.removeprefix(p) for t, p in zip(made.text, prompts, strict=True)]
    own = response_traces(prompts, responses, TASK)
    pd.testing.assert_frame_equal(own[["text", "mask"]], made[["text", "mask"]])
    assert set(own.kind) == {"self"}
    assert list(response_traces([], [], TASK).columns) == ["text", "mask", "kind"]


def test_rounds_search_problems_that_nothing_trained_on():
    sizes = ModelSettings(5, 3, 1, hidden_size=16, layers=1, heads=1)
    settings = SimpleNamespace(problems=4)
    experiment = SimpleNamespace(
        profile=SimpleNamespace(models={"S": sizes}, improvement=settings),
        problems=lambda split, start, count: (split, range(start, start + count)),
    )
    rounds = [round_problems(experiment, "S", number) for number in (1, 2, 3)]
    assert rounds == [("train", range(start, start + 4)) for start in (8, 12, 16)]


def test_the_control_learns_as_many_of_the_generator_s_solutions(monkeypatch):
    table = TASK.make_problems({"train": 9}, 0)
    learned = []
    experiment = SimpleNamespace(
        profile=SimpleNamespace(improvement=SimpleNamespace(recipe=Recipe())),
        task=TASK,
        seed=0,
        train=lambda name, inputs, *_: learned.append((name, inputs)),
    )
    own = response_traces(TASK.prompts(table)[:4], ["x"] * 4, TASK)
    monkeypatch.setattr(figure_3, "round_problems", lambda *_: table)
    monkeypatch.setattr(figure_3, "experience", lambda *_: own)
    monkeypatch.setattr(figure_3, "self_improved", lambda *_: None)
    monkeypatch.setattr(figure_3.files, "digest", list)
    for control in (False, True):
        figure_3.improve(experiment, "S", SimpleNamespace(key="parent"), 1, control)
    (name, inputs), (control_name, control_inputs) = learned
    assert (name, control_name) == ("models/S-improved1", "models/S-control1")
    assert inputs["experience"] == own.text.tolist()
    assert control_inputs["experience"] == TASK.optimal_traces(table).text.tolist()[:4]
