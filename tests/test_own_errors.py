"""Traces of own errors, on a hand-made tree: what each state teaches, character by character."""

import pandas as pd
import pytest

from lib.evaluation.results import row, table
from lib.search.tree import Node, SearchTree
from lib.studies.beyond.own_errors import accuracy_table, own_error_traces
from lib.tasks.countdown.problems import Settings
from lib.tasks.countdown.task import CountdownTask

TASK = CountdownTask(Settings(3, 25, 10, 75, 99, 0.1))
PROMPT = "###Question: numbers [8, 3, 5]->target 19\n###Response:\n"
PROBLEMS = pd.DataFrame({"numbers": [[8, 3, 5]], "target": [19]})


def tree(*nodes):
    """Nodes as (parent, kind, text)."""
    made = [Node(0, None, "root", 0, "", (), (), None, len(nodes))]
    for number, (parent, kind, text) in enumerate(nodes, 1):
        made.append(Node(number, parent, kind, 0, text, (1,), (-0.1,), None, 1))
    return SearchTree(0, PROMPT, 8, 0, 1.0, 0, tuple(made), ((0, 0),), 8, 8, "\n")


def traces(*nodes, loss="honest"):
    return own_error_traces([tree(*nodes)], PROBLEMS, TASK, loss).to_dict("records")


@pytest.mark.parametrize("loss, outcome", [("honest", "1"), ("paper", "0")])
def test_the_first_step_that_loses_the_target(loss, outcome):
    # 8+3=11 and 5 left: 16, 6, 55. What follows teaches nothing more.
    found = traces((0, "step", "8+3=11"), (1, "step", "11+5=16"), (2, "goal", ""), loss=loss)
    mask = "0" * len(PROMPT) + "0000" + 3 * outcome + "2" * len("<backtrack>")
    text = PROMPT + "8+3=11\n<backtrack>"
    assert found == [{"text": text, "mask": mask, "kind": "exploration"}]


def test_a_wrong_result_after_a_right_step():
    found = traces((0, "step", "8*3=24"), (1, "step", "24-5=18"), (2, "backtrack", "<backtrack>"))
    mask = "0" * len(PROMPT) + "1" * 7 + "0" * 8 + "2" * 11
    assert found == [
        {"text": PROMPT + "8*3=24\n24-5=18\n<backtrack>", "mask": mask, "kind": "computation"}
    ]


def test_a_wrong_result_of_a_number_that_is_not_there_is_not_learned():
    """The first reason that is found is the number; nothing says that the result is right."""
    (trace,) = traces((0, "step", "9+3=13"))
    assert trace["kind"] == "rule_violation"
    assert trace["mask"] == "0" * len(PROMPT) + "0" * 7 + "2" * 11


def test_a_false_alarm_shows_the_way_on():
    found = traces((0, "step", "8*3=24"), (1, "backtrack", "<backtrack>"))
    mask = "0" * len(PROMPT) + "1" * 15 + "2" * len("Goal Reached!")
    assert found == [
        {"text": PROMPT + "8*3=24\n24-5=19\nGoal Reached!", "mask": mask, "kind": "false_alarm"}
    ]


def test_a_solution_that_was_found():
    right = [(0, "step", "8*3=24"), (1, "step", "24-5=19"), (2, "goal", "Goal Reached!")]
    [trace] = traces(*right)
    assert trace["text"] == PROMPT + "8*3=24\n24-5=19\nGoal Reached!"
    assert trace["kind"] == "self"
    # At the end, too: nothing is left to do but to say so.
    alarmed = traces(*right, (2, "backtrack", "<backtrack>"))
    assert [trace["text"] for trace in alarmed] == [trace["text"]]


@pytest.mark.parametrize(
    "nodes",
    [
        [(0, "step", "8 plus 3")],
        [(0, "step", "8*3=24"), (1, "limit", "24-")],
        [(0, "step", "8*3=24"), (1, "goal", "")],  # ended too early: no step is wrong
    ],
)
def test_what_teaches_nothing(nodes):
    assert traces(*nodes) == []


def test_a_text_stands_once():
    twice = traces((0, "step", "8+3=11"), (0, "step", "8+3=11"))
    assert len(twice) == 1


def test_the_table_shows_each_branch_and_its_ceiling():
    common = {"artifact": "mining", "model": "S", "N": 8, "b": 1, "checker": "strict"}
    rows = [
        row(split=split, method=method, accuracy=share, low=0.1, high=0.9, problems=10,
            tokens_per_problem=50.0, branch=branch, **common)
        for branch, right in (("self_backtracking", 0.5), ("mined_backtracking", 0.6))
        for split in ("seen", "new")
        for method, share in ((branch, right), ("pass_at_n", 0.7))
    ]  # fmt: skip
    lines = accuracy_table(table(rows)).splitlines()
    assert lines[2].startswith("| as it was | b=1 | **50.0** [10.0, 90.0] | 70.0 | **50.0**")
    assert lines[3].startswith("| trained on, own errors among it | b=1 | **60.0**")
    assert accuracy_table(table([])) == ""
