"""Streams of search: traces solved by hand, searches that are what they say, masks, answers."""

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.tasks.countdown import problems, rules, search_streams
from lib.tasks.countdown.rules import GOAL, Problem, parse_step, remaining
from lib.tasks.countdown.search_streams import (
    Strategy,
    answer,
    blocks,
    prompt_tokens,
    stream,
    stream_mask,
    stream_traces,
)
from lib.tasks.countdown.task import CountdownTask

SETTINGS = problems.Settings(4, 25, 10, 75, 99, 0.1)
TASK = CountdownTask(SETTINGS)
STRATEGIES = [
    Strategy(o, h, w)
    for o in search_streams.ORDERS
    for h in search_streams.HEURISTICS
    for w in (1, 3)
]


def written(numbers, target, strategy, max_tokens=400):
    return stream(Problem(numbers, target), strategy, 99, random.Random(0), max_tokens)


def test_heuristics_by_hand():
    assert search_streams.sum_heuristic((4, 10), 12) == 5
    assert search_streams.multiply_heuristic((4, 10, 13), 12) == 0 + 2 + 1  # to 4, 12 and 12
    assert search_streams.multiply_heuristic((9, 2), 13) == 4 + 11  # 13's only factor but 1
    assert search_streams.multiply_heuristic((3,), 1) == 2


def test_depth_first_by_hand():
    # The states nearest to 13 are {3, 14}, at 5.5 from it, and {6, 7}, at 6.5.
    text = written((7, 2, 3), 13, Strategy("dfs", "sum", 2))
    assert text == "7*2=14\n14-3=11\n14+3=17\n\n3*2=6\n7+6=13\n" + GOAL
    assert answer(Problem((7, 2, 3), 13), text) == "3*2=6\n7+6=13\n" + GOAL


def test_breadth_first_by_hand():
    text = written((7, 2, 3), 13, Strategy("bfs", "sum", 2))
    # First the question's two best children, then each one's own.
    assert text == "7*2=14\n3*2=6\n\n7*2=14\n14-3=11\n14+3=17\n\n3*2=6\n7+6=13\n" + GOAL
    assert answer(Problem((7, 2, 3), 13), text) == "3*2=6\n7+6=13\n" + GOAL


def test_two_numbers_are_one_block():
    assert written((5, 6), 30, Strategy("dfs", "sum", 3)) == "6*5=30\n" + GOAL
    assert written((5, 6), 31, Strategy("bfs", "sum", 5)) is None
    assert answer(Problem((5, 6), 30), "6+5=11\n6*5=30\n" + GOAL) == "6*5=30\n" + GOAL


@given(
    some.lists(some.integers(1, 25), min_size=4, max_size=4),
    some.integers(10, 75),
    some.sampled_from(STRATEGIES),
)
def test_every_block_is_a_path_and_legal_children_of_its_state(numbers, target, strategy):
    problem, found = Problem(tuple(numbers), target), []
    for path, tried, reached in blocks(problem, strategy, 99, random.Random(1)):
        left = remaining(numbers, [str(step) for step in path])
        assert left is not None
        legal = {str(step) for step in rules.legal_steps(left)}
        assert len(set(map(str, tried))) == len(tried) <= strategy.width
        assert set(map(str, tried)) <= legal
        last = [step.result == target for step in tried] if len(left) == 2 else []
        assert reached == any(last) and last[:-1].count(True) == 0
        found.append((path, reached))
        if strategy.order == "dfs":
            assert len(path) == 2
    assert [reached for _, reached in found[:-1]].count(True) == 0
    paths = [path for path, _ in found]
    assert len(set(paths)) == len(paths)
    if strategy.order == "bfs":
        assert [len(path) for path in paths] == sorted(len(path) for path in paths)
        assert len(paths) <= 1 + 2 * strategy.width


def test_a_wide_depth_first_search_finds_whatever_is_reachable():
    table = problems.make_problems(problems.Settings(3, 9, 1, 30, 81, 0.1), {"train": 20}, 0)
    for row in table.itertuples():
        for heuristic in search_streams.HEURISTICS:
            strategy = Strategy("dfs", heuristic, 99)
            text = stream(Problem.of(row), strategy, 81, random.Random(0), 100_000)
            assert rules.check(row, answer(row, text)).correct


@pytest.fixture(scope="module")
def made():
    table = problems.make_problems(SETTINGS, {"train": 150}, 0)
    return table, stream_traces(table, 99, 160, 0)


def test_traces_are_short_solved_and_the_same_again(made):
    table, traces = made
    assert len(table) / 2 < len(traces) <= len(table)
    prompts = {Problem.of(row).prompt(): row for row in table.to_dict("records")}
    for text, mask in zip(traces["text"], traces["mask"], strict=True):
        prompt, row = next((p, row) for p, row in prompts.items() if text.startswith(p))
        body = text.removeprefix(prompt)
        assert rules.check(row, answer(row, body)).correct
        assert mask == "0" * len(prompt) + stream_mask(body)
        assert len(prompt) + len(body) == len(mask)
    pd.testing.assert_frame_equal(stream_traces(table, 99, 160, 0), traces)
    assert not stream_traces(table, 99, 160, 1)["text"].equals(traces["text"])
    # Some back up and some do not; more than one strategy is there.
    back = traces["text"].map(search_streams.moves_back)
    assert back.min() == 0 < back.max() and traces["kind"].nunique() > 5
    assert stream_traces(table.iloc[:0], 99, 160, 0).columns.tolist() == ["text", "mask", "kind"]


def test_tokens_are_counted_as_the_tokenizer_does(made):
    table, traces = made
    tokenizer = build_tokenizer(TASK.pieces)
    lengths = StepTokenizer(tokenizer, "\n").encode_traces(traces, max_tokens=160).lengths()
    assert lengths.max() > 140
    for row in table.head(20).itertuples():
        problem = Problem.of(row)
        ids = tokenizer(problem.prompt())["input_ids"]
        assert prompt_tokens(problem) == len(ids) + 1
    # The cap is exact: one token less, and the longest does not fit.
    text = written((7, 2, 3), 13, Strategy("dfs", "sum", 2))
    problem = Problem((7, 2, 3), 13)
    exact = len(tokenizer(problem.prompt() + text)["input_ids"]) + 1
    assert written((7, 2, 3), 13, Strategy("dfs", "sum", 2), exact) == text
    assert written((7, 2, 3), 13, Strategy("dfs", "sum", 2), exact - 1) is None


def test_mask_marks_moves_back_and_the_goal_line():
    assert stream_mask("1+2=3\n\n3-2=1\n" + GOAL) == "111111" + "2" + "111111" + "2" * len(GOAL)
    assert stream_mask(GOAL) == "2" * len(GOAL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("1+2=3\n", "1+2=3\n"),
        ("junk" + GOAL, "junk" + GOAL),
        (GOAL, GOAL),
        ("\n\n" + GOAL, GOAL),
        ("7*2=14\n14+3=17\n14-3=11\n\n7*3=21\n21-2=19", "7*3=21\n21-2=19"),
        ("7*3=21\n21-3=18\n21-2=19\n" + GOAL, "7*3=21\n21-2=19\n" + GOAL),
        ("7*3=21\n" + GOAL, "7*3=21\n" + GOAL),
        (GOAL + "\n" + GOAL, GOAL + "\n" + GOAL),
    ],
)
def test_answer_of_any_text(text, expected):
    assert answer(Problem((7, 2, 3), 19), text) == expected


def test_a_stream_is_no_answer_but_its_end_is():
    text = "7*2=14\n14+3=17\n\n7*3=21\n21-2=19\n" + GOAL
    problem = Problem((7, 2, 3), 19)
    assert not rules.check(problem, text).correct
    assert rules.check(problem, answer(problem, text)).correct
    # The last block alone counts: a path begun in another block is not joined to it.
    cut = "7*3=21\n\n21-2=19\n" + GOAL
    assert not rules.check(problem, answer(problem, cut)).correct


def test_parse_step_reads_every_line(made):
    _, traces = made
    for text in traces["text"].head(30):
        lines = text.split("###Response:\n")[1].split("\n")[:-1]
        assert all(line == "" or parse_step(line) for line in lines)
