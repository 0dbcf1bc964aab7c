"""The checkers before an independent judge: the scorers of the package reasoning-gym.

Its Countdown takes an expression, its mini Sudoku (4x4) a grid; right and mutated answers go to
both sides, and the verdicts are compared. `make test` brings the package, in a folder of its own.
"""

import importlib
import os
import random
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from lib.tasks.countdown.rules import GOAL, parse_step
from lib.tasks.countdown.rules import check as check_countdown
from lib.tasks.countdown.task import make_task as make_countdown
from lib.tasks.sudoku.rules import board_of
from lib.tasks.sudoku.solver import solutions
from lib.tasks.sudoku.task import make_task as make_sudoku

JUDGE = Path(os.environ.get("JUDGE") or Path(sys.prefix, "judge"))
MISSING = f"no reasoning-gym in {JUDGE}: `make test` puts it there"
RIGHT = 1.0
PROBLEMS = 60
FOUR = board_of(2, 2)


@pytest.fixture(scope="module")
def game():
    """A function that gives a game's dataset by its names; without the package this fails in CI and
    is skipped elsewhere."""
    if not (JUDGE / "reasoning_gym").is_dir():
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)

    def dataset(module: str, name: str):
        found = importlib.import_module(f"reasoning_gym.games.{module}")
        return getattr(found, f"{name}Dataset")(getattr(found, f"{name}Config")(seed=0, size=30))

    with pytest.MonkeyPatch.context() as patch:
        # Its own __init__ would import every game, and a dozen packages with them.
        for name in ("reasoning_gym", "reasoning_gym.games"):
            module = ModuleType(name)
            module.__path__ = [str(JUDGE.joinpath(*name.split(".")))]
            patch.setitem(sys.modules, name, module)
        yield dataset


# Sudoku -------------------------------------------------------------------------------------------


def entry(grid: str) -> dict:
    """A 4x4 grid as the judge has problems: its rows of numbers, and its solution."""
    [solution] = solutions(FOUR, grid)
    rows = [[int(digit) for digit in row] for row in FOUR.shown(solution).split("\n")]
    return {"answer": spaced(solution), "metadata": {"solution": rows}}


def spaced(grid: str) -> str:
    return "\n".join(" ".join(row) for row in FOUR.shown(grid.replace(".", "_")).split("\n"))


def test_sudoku_verdicts_agree(game):
    judge, task = game("mini_sudoku", "MiniSudoku"), make_sudoku(
        {"box_rows": 2, "box_columns": 2, "fewest_givens": 4, "most_givens": 9, "held_out": [6]}
    )  # fmt: skip
    generator = random.Random(0)
    table = task.make_problems({"seen": PROBLEMS}, 0)
    verdicts = []
    for row in table.itertuples():
        answers = [row.solution]
        for _ in range(3):  # one digit changed, one left out, two exchanged
            cells = list(row.solution)
            free = [cell for cell in range(16) if row.givens[cell] == "."]
            one, other = generator.sample(free, 2)
            cells[one] = generator.choice("1234")
            answers.append("".join(cells))
            answers.append(row.solution[:one] + "." + row.solution[one + 1 :])
            cells[one], cells[other] = row.solution[other], row.solution[one]
            answers.append("".join(cells))
        for answer in answers:
            steps = [step for step in FOUR.steps(row.givens, answer) if not step.endswith(".")]
            ours = task.check(row, "\n".join([*steps, GOAL])).correct
            assert ours == (judge.score_answer(spaced(answer), entry(row.givens)) == RIGHT)
            verdicts.append(ours)
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.5


def test_each_solves_the_others_sudoku(game):
    judge = game("mini_sudoku", "MiniSudoku")
    task = make_sudoku(
        {"box_rows": 2, "box_columns": 2, "fewest_givens": 4, "most_givens": 9, "held_out": [6]}
    )
    for grid in task.make_problems({"seen": PROBLEMS}, 1)["givens"]:
        rows = [[int(digit) for digit in row.replace(".", "0")] for row in FOUR.shown(grid).split()]
        assert judge._count_solutions(rows) == 1
    for place in range(30):
        asked = judge[place]
        grid = "".join(str(n or ".") for row in asked["metadata"]["puzzle"] for n in row)
        steps = task.solver.complete(grid, [])
        assert task.check(grid, "\n".join([*steps, GOAL])).correct
        assert judge.score_answer(spaced(FOUR.after(grid, steps)), asked) == RIGHT


# Countdown ----------------------------------------------------------------------------------------


def expression(numbers: list[int], steps: list[str]) -> str:
    """The steps as one expression; a number that is not there stands in it as it is."""
    known = [(number, str(number)) for number in numbers]
    for line in steps:
        a, sign, b, result = parse_step(line)
        parts = []
        for number in (a, b):
            found = next((each for each in reversed(known) if each[0] == number), None)
            if found:
                known.remove(found)
            parts.append(found[1] if found else str(number))
        known.append((result, f"({parts[0]} {sign} {parts[1]})"))
    return known[-1][1]


def mutated(steps: list[str], numbers: list[int], generator: random.Random) -> list[str]:
    """One step with another operand, sign or result, or one step fewer; the last result is kept."""
    at, what = generator.randrange(len(steps)), generator.randrange(4)
    a, sign, b, result = parse_step(steps[at])
    made = list(steps)
    if what == 0 and len(steps) > 1:
        return made[1:]
    if what == 1 and at < len(steps) - 1:
        made[at] = f"{a}{sign}{b}={result + generator.randint(1, 3)}"
    elif what == 2:
        made[at] = f"{a}{generator.choice('+-*')}{b}={result}"
    else:
        made[at] = f"{a}{sign}{generator.choice([*numbers, 1, 77])}={result}"
    return made


def test_countdown_verdicts_agree(game):
    judge, generator = game("countdown", "Countdown"), random.Random(0)
    task = make_countdown({"numbers": 4, "max_number": 25, "target_low": 10, "target_high": 75,
                           "max_result": 99, "held_out": 0.1})  # fmt: skip
    table = task.make_problems({"seen": PROBLEMS}, 0)
    verdicts = []
    for row in table.itertuples():
        asked = {"metadata": {"numbers": list(row.numbers), "target": row.target}}
        steps = row.solution.split("\n")
        for answer in (steps, *(mutated(steps, list(row.numbers), generator) for _ in range(4))):
            ours = check_countdown(row, "\n".join([*answer, GOAL])).correct
            theirs = judge.score_answer(expression(list(row.numbers), answer), asked) == RIGHT
            assert ours == theirs, (row, answer)
            verdicts.append(ours)
    assert 0.2 < sum(verdicts) / len(verdicts) < 0.6
    # What a step claims to give, and the goal line, stand in no expression: ours alone sees them.
    row = pd.Series({"numbers": [3, 4], "target": 7})
    asked = {"metadata": {"numbers": [3, 4], "target": 7}}
    assert judge.score_answer(expression([3, 4], ["3+4=8"]), asked) == RIGHT
    assert not check_countdown(row, f"3+4=8\n{GOAL}").correct
