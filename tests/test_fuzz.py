"""Inputs that nobody would write: no crash, and no wrong answer by tests/oracles.py.

`make fuzz` runs the same targets for hours.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fuzz_targets import FILE_TARGETS, TEXT_TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.tasks.countdown.rules import GOAL, Problem, check, check_published, parse_step
from lib.tasks.task import BAD_FORMAT


class DrawnSource:
    """Hypothesis' choices, which it shrinks."""

    def __init__(self, data: st.DataObject) -> None:
        self.drawn = data

    def pick(self, options: Sequence):
        return options[self.drawn.draw(st.integers(0, len(options) - 1))]

    def text(self) -> str:
        return self.drawn.draw(st.text(max_size=20))

    def data(self) -> bytes:
        return self.drawn.draw(st.binary(max_size=20))


@pytest.mark.parametrize("target", TEXT_TARGETS)
@given(data=st.data())
def test_text(target, data):
    TEXT_TARGETS[target](DrawnSource(data))


@pytest.mark.parametrize("target", FILE_TARGETS)
@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_file(target, data, tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp(target))
    FILE_TARGETS[target](DrawnSource(data), folder)


LONG = ["9" * 10**5 + "+1=1", "1+1=" + "0" * 10**5, "+" * 10**6, "1+1=2" * 200_000, "\0" * 10**6]
LONG += [" " * 10**6 + "1+1=2", "٣" * 10**6, "(" * 10**6, "1" + "_1" * 500_000 + "+1=2"]


@pytest.mark.parametrize("line", LONG, ids=range(len(LONG)))
def test_a_very_long_line_is_no_step_and_takes_no_time(line):
    assert parse_step(line) is None
    problem = Problem((1, 1), 2)
    assert check(problem, f"{line}\n{GOAL}").error == BAD_FORMAT
    # The published rules drop what surrounds the steps.
    assert check_published(problem, f"{line}\n{GOAL}").correct == (line.strip() == "1+1=2")


def test_a_million_lines_are_read_once():
    problem = Problem((1, 1), 2)
    assert check(problem, "1+1=2\n" * 10**6 + GOAL).step == 1
    assert check_published(problem, "\n" * 10**6 + f"1+1=2\n{GOAL}").correct
