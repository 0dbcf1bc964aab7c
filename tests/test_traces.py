"""Traces: what each kind of error claims, by an oracle of its own, and masks character by
character."""

import re
from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from lib.base.errors import UserError
from lib.tasks.countdown import problems
from lib.tasks.countdown.traces import (
    backtracking_traces,
    optimal_traces,
    parse_solutions,
    play_traces,
)

SETTINGS = problems.Settings(4, 25, 10, 75, 99, 0.1)
NEAR = {1, 2, 3, 4, 5, 10, 20, 30}  # by how much a near miss misses its target
GOAL, BACKTRACK = "Goal Reached!", "<backtrack>"
PROMPT = re.compile(r"###Question: numbers \[([0-9, ]+)\]->target ([0-9]+)\n###Response:\n")


def reachable(numbers, target) -> bool:
    """Whether the target can be made: forwards, over sets of states."""
    states = {tuple(sorted(numbers))}
    for _ in range(len(numbers) - 1):
        states = {
            tuple(sorted([*rest, value]))
            for state in states
            for i, j in combinations(range(len(state)), 2)
            for rest in [[n for k, n in enumerate(state) if k not in (i, j)]]
            for value in results(state[i], state[j])
        }
    return (target,) in states


def results(a, b) -> set[int]:
    quotients = {x // y for x, y in ((a, b), (b, a)) if y and x % y == 0}
    return {a + b, abs(a - b), a * b} | quotients


def read(text):
    """Numbers, target, and the steps as (a, op, b, result), by a parser of its own."""
    match = PROMPT.match(text)
    numbers = Counter(map(int, match[1].split(", ")))
    *lines, last = text[match.end() :].split("\n")
    steps = [re.fullmatch(r"(\d+)(\D)(\d+)=(\d+)", line).groups() for line in lines]
    return numbers, int(match[2]), [(int(a), op, int(b), int(c)) for a, op, b, c in steps], last


def holds(step) -> bool:
    a, op, b, result = step
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[op] == result


def take(left: Counter, step) -> bool:
    """Move one step on; False where an operand is not there."""
    left.subtract([step[0], step[2]])
    if min(left.values()) < 0:
        return False
    left.update([step[3]])
    return True


@pytest.fixture(scope="module")
def table():
    return problems.make_problems(SETTINGS, {"train": 2_400}, 5)


@pytest.fixture(scope="module")
def backtracking(table):
    return backtracking_traces(table, SETTINGS, 5, "honest", 0.25)


def test_optimal_traces_solve_their_problem(table):
    traces = optimal_traces(table)
    assert set(traces.kind) == {"optimal"} and len(traces) == len(table)
    for text, given, goal in zip(traces.text, table.numbers, table.target, strict=True):
        left, target, steps, last = read(text)
        assert (left, target, last) == (Counter(given), goal, GOAL)
        assert all(holds(step) and take(left, step) for step in steps)
        assert +left == Counter([target])


def test_erroneous_steps_are_what_they_claim(table, backtracking):
    solutions = [[line for line in text.split("\n")] for text in table.solution]
    seen = set()
    for index, (text, kind) in enumerate(zip(backtracking.text, backtracking.kind, strict=True)):
        left, target, (*prefix, error), last = read(text)
        assert last == BACKTRACK and 0 <= len(prefix) <= 2
        lines = text.split("\n")[2:]
        assert lines[: len(prefix)] == solutions[index][: len(prefix)]
        assert all(holds(step) and take(left, step) for step in prefix)
        available = take(left, error)
        state = list((+left).elements())
        seen.add((kind, len(prefix)))
        if kind == "computation":
            assert available and not holds(error)
        elif kind == "rule_violation":
            assert not available and holds(error)
        else:
            assert available and holds(error)
            if kind == "exploration":
                assert target == table.target[index] and not reachable(state, target), text
            else:
                assert kind == "near_miss" and lines[:-1] == solutions[index]
                # Below 1 the target moves up instead, and may move further.
                assert target >= 1 and abs(target - error[3]) in NEAR
    errors = ("exploration", "computation", "rule_violation")
    assert seen == {(kind, depth) for kind in errors for depth in range(3)} | {("near_miss", 2)}


def test_near_misses_of_small_targets_stay_positive():
    settings = problems.Settings(3, 12, 1, 30, 60, 0.1)
    table = problems.make_problems(settings, {"train": 1_000}, 5)
    for text in backtracking_traces(table, settings, 5, "honest", 1.0).text:
        _, target, steps, _ = read(text)
        assert target >= 1 and abs(target - steps[-1][3]) in NEAR


def test_a_fifth_of_the_near_misses_miss_the_first_digit_alone(table):
    made = backtracking_traces(table, SETTINGS, 5, "honest", 1.0)
    near = made[made.kind == "near_miss"].text
    missed = pd.Series([abs(target - steps[-1][3]) for _, target, steps, _ in map(read, near)])
    # A quarter of the moves that are drawn; far ones leave the range of targets more often.
    assert missed.isin([10, 20, 30]).mean() == pytest.approx(0.2, abs=0.04)
    assert set(missed) == NEAR


def test_equal_parts(table, backtracking):
    shares = backtracking.kind.value_counts(normalize=True)
    # Four standard deviations of a share of 1/4 among 2,400.
    assert shares.to_dict() == pytest.approx(dict.fromkeys(shares.index, 0.25), abs=0.036)
    errors = backtracking_traces(table, SETTINGS, 5, "paper", 0.0).kind
    shares = errors.value_counts(normalize=True)
    assert set(shares.index) == {"exploration", "computation", "rule_violation"}
    assert shares.to_dict() == pytest.approx(dict.fromkeys(shares.index, 1 / 3), abs=0.039)


def test_prefix_lengths_are_uniform(backtracking):
    errors = backtracking[backtracking.kind != "near_miss"]
    lengths = errors.text.str.count("=") - 1
    shares = lengths.value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx(dict.fromkeys(range(3), 1 / 3), abs=0.045)


@pytest.mark.parametrize("max_number", [1, 2, 3])
def test_rule_violations_of_tiny_numbers(max_number):
    """Where nearly every small number is there, a missing one must be found all the same."""
    settings = problems.Settings(4, max_number, 1, 4, 9, 0.25)
    table = problems.make_problems(settings, {"train": 3}, 0)
    table = pd.concat([table] * 300, ignore_index=True)
    traces = backtracking_traces(table, settings, 0, "honest", 0.0)
    for text in traces.text[traces.kind == "rule_violation"]:
        left, _, (*prefix, error), _ = read(text)
        assert all(take(left, step) for step in prefix)
        assert not take(left, error) and holds(error), text


def masked(trace) -> list[tuple[str, str]]:
    """The trace's characters in runs of equal mask."""
    runs = re.finditer(r"(.)\1*", trace["mask"])
    return [(run[1], trace["text"][run.start() : run.end()]) for run in runs]


def test_mask_of_an_optimal_trace():
    table = pd.DataFrame({"numbers": [[3, 4, 2]], "target": [14], "solution": ["3+4=7\n7*2=14"]})
    assert masked(optimal_traces(table).iloc[0]) == [
        ("0", "###Question: numbers [3, 4, 2]->target 14\n###Response:\n"),
        ("1", "3+4=7\n7*2=14\n"),
        ("2", GOAL),
    ]


@pytest.mark.parametrize("loss", ["paper", "honest"])
def test_masks_of_backtracking_traces(table, loss):
    traces = backtracking_traces(table, SETTINGS, 5, loss, 0.25)
    for trace in traces.to_dict("records"):
        prompt = PROMPT.match(trace["text"])[0]
        *prefix, error = trace["text"][len(prompt) :].removesuffix(BACKTRACK).splitlines(True)
        choice, outcome = error.split("=")
        prefix_mask = "0" if trace["kind"] == "near_miss" else "1"
        learned = "1" if loss == "honest" and trace["kind"] != "computation" else "0"
        expected = [
            *("0" for _ in prompt),
            *(prefix_mask for _ in "".join(prefix)),
            *("0" for _ in choice + "="),
            *(learned for _ in outcome),
            *("2" for _ in BACKTRACK),
        ]
        assert trace["mask"] == "".join(expected)


def test_the_loss_changes_masks_alone(table, backtracking):
    other = backtracking_traces(table, SETTINGS, 5, "paper", 0.25)
    pd.testing.assert_frame_equal(other[["text", "kind"]], backtracking[["text", "kind"]])
    assert (other["mask"] != backtracking["mask"]).any()


def test_same_seed_same_traces(table, backtracking):
    again = backtracking_traces(table, SETTINGS, 5, "honest", 0.25)
    pd.testing.assert_frame_equal(again, backtracking)
    assert not again.equals(backtracking_traces(table, SETTINGS, 6, "honest", 0.25))


def test_nothing_in_nothing_out(table):
    none = table.iloc[:0]
    assert len(optimal_traces(none)) == len(backtracking_traces(none, SETTINGS, 0, "paper", 0)) == 0


def test_bad_input_is_named(table):
    with pytest.raises(UserError, match=r"traces.loss = 'mine': choose one of paper, honest"):
        backtracking_traces(table, SETTINGS, 0, "mine", 0.0)
    with pytest.raises(UserError, match="row 1: a solution of 1 steps, not 2"):
        parse_solutions(pd.Series(["1+2=3\n3+4=7", "1+2=3"]), 2)


def test_solutions_as_arrays():
    steps = parse_solutions(pd.Series(["45-39=6\n6*10=60", "8/4=2\n2+0=2"]), 2)
    assert steps.tolist() == [
        [[45, 1, 39, 6], [6, 2, 10, 60]],
        [[8, 3, 4, 2], [2, 0, 0, 2]],
    ]
    assert steps.dtype == np.int64


def test_no_trace_asks_a_test_problem_or_a_held_out_target():
    settings = problems.Settings(3, 20, 10, 40, 99, 0.2)
    counts = {"train": 3_000, "seen": 500, "new": 500}
    table = problems.make_problems(settings, counts, 0)
    train = table[table.split == "train"]
    tests = table[table.split != "train"]

    def keys(numbers, target):
        return set(zip((tuple(sorted(row)) for row in numbers), target, strict=True))

    def asked(traces):
        found = traces.text.str.extract(r"\[(.*)\]->target (\d+)")
        return keys(found[0].map(lambda text: map(int, text.split(", "))), found[1].astype(int))

    traces = backtracking_traces(train, settings, 0, "honest", 1.0, tests)
    assert (traces.kind == "near_miss").mean() > 0.9
    assert not asked(traces) & keys(tests.numbers, tests.target)
    held_out = set(problems.held_out_targets(settings, 0).tolist())
    assert not {target for _, target in asked(traces)} & held_out
    # What the exclusion is for: without it some of the prompts are test problems.
    assert asked(backtracking_traces(train, settings, 0, "honest", 1.0)) & keys(
        tests.numbers, tests.target
    )


@pytest.mark.parametrize("held_out", [0.2, 0.9])
def test_a_held_out_target_is_not_learned_to_be_wrong(held_out):
    """Wrong paths must not be the only ones to end on it: nothing in training may tell it apart."""
    settings = problems.Settings(3, 20, 10, 40, 99, held_out)
    table = problems.make_problems(settings, {"train": 600, "new": 600}, 0)
    train, tests = (table[table.split == split] for split in ("train", "new"))
    held = set(problems.held_out_targets(settings, 0).tolist())

    def last_results(traces):
        paths = [read(text)[2] for text in traces.text]
        return {steps[-1][3] for steps in paths if len(steps) == 2}

    traces = backtracking_traces(train, settings, 0, "honest", 0.2, tests)
    assert not last_results(traces) & held
    for text, kind in zip(traces.text, traces.kind, strict=True):
        left, _, (*prefix, error), _ = read(text)
        assert all(take(left, step) for step in prefix)
        assert take(left, error) == (kind != "rule_violation")
        assert holds(error) == (kind != "computation")
    # What the exclusion is for.
    assert last_results(backtracking_traces(train, settings, 0, "honest", 0.2)) & held


def test_kinds_of_error_in_the_papers_parts(table):
    shares = backtracking_traces(table, SETTINGS, 5, "paper", 0.0, kinds=(1, 2, 2)).kind
    shares = shares.value_counts(normalize=True)
    assert shares["exploration"] == pytest.approx(0.2, abs=0.03)
    assert shares["rule_violation"] == pytest.approx(0.4, abs=0.03)


def test_random_play_reaches_its_target_in_nine_of_ten_traces():
    settings = problems.Settings(4, 25, 10, 75, 99, 0.1, held_out_sets=0.2)
    made = problems.make_problems(settings, {"train": 1_000, "seen": 300, "new": 300}, 5)
    train, tests = made[made.split == "train"], made[made.split != "train"]
    traces = play_traces(train, 5, tests)
    assert len(traces) == len(train) and traces.equals(play_traces(train, 5, tests))
    trained, asked, reached = set(train.target), set(), 0
    held_out = set(tests.target) - trained
    assert held_out
    for text, mask in zip(traces.text, traces["mask"], strict=True):
        left, target, steps, last = read(text)
        assert len(text) == len(mask) and target in trained
        assert all(holds(step) and take(left, step) for step in steps) and len(steps) == 3
        (final,) = (+left).elements()
        assert final not in held_out
        assert last == (GOAL if final == target else "")
        reached += final == target
        asked.add((tuple(sorted(map(int, PROMPT.match(text)[1].split(", ")))), target))
    assert 870 < reached < 930  # three standard deviations of nine in ten
    given = {(tuple(sorted(n)), t) for n, t in zip(tests.numbers, tests.target, strict=True)}
    assert not asked & given
    numbers = np.array([key for key, _ in asked])
    assert not problems.in_held_out_set(settings, numbers, 5).any()
