"""How deep a wrong guess is: the hand-made trees exactly; both tasks in a figure and on a page."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from grid import SUDOKU_FIRST, SUDOKU_WAY, sudoku_engine
from hand_made_tree import PROBLEM, TASK, make_tree
from hypothesis import given
from hypothesis import strategies as st
from test_measurements import small
from test_sudoku import EVERY, FOUR, SMALL, filled

from commands import figures
from lib.evaluation.results import row, table, write_results
from lib.evaluation.scoring import accuracy_row
from lib.search.tree import Node
from lib.tasks.sudoku.task import make_task
from studies.beyond import guess_depth, two_tasks
from studies.beyond.equal_compute import ComputeSettings
from studies.beyond.guess_depth import backtrack_rows, paths_with_errors, sign_rows
from studies.report.page import render

PROBLEMS = pd.DataFrame([{"numbers": list(PROBLEM.numbers), "target": PROBLEM.target}] * 8)


def longer_tree():
    """The hand-made tree, and two samples that go on from `4-3=1` to 3, which is not the target."""
    tree = make_tree()
    more = [Node(10, 4, "step", 0, "2+1=3", (1, 2), (-0.1, -0.1), 0.5, 3)]
    more += [Node(11, 10, "backtrack", 0, "<backtrack>", (1,), (-0.1,), None, 2)]
    more += [Node(12, 10, "goal", 0, "Goal Reached!", (3,), (-0.1,), None, 1)]
    return replace(tree, nodes=(*tree.nodes, *more))


def test_where_each_path_went_wrong():
    found = paths_with_errors([longer_tree()], PROBLEMS, TASK)
    known = found.drop(columns="problem").replace({np.nan: None}).values.tolist()
    assert known == [
        [2, "goal", 2, None, None, None],
        [1, "backtrack", 1, 1, "exploration", None],  # it does not show yet
        [1, "goal", 1, 1, "exploration", None],
        [1, "limit", 1, 1, "computation", 1],
        [2, "backtrack", 2, 1, "exploration", 2],
        [1, "goal", 2, 1, "exploration", 2],
    ]
    signs = {(each["quantity"], each.get("step")): each for each in sign_rows(found, model="S")}
    assert signs["to_sign", 1]["share"] == 1 and signs["to_sign", 0]["share"] == 0
    assert signs["to_sign_mean", None]["value"] == 1 and signs["to_sign", 1]["samples"] == 3
    assert signs["guessed", None]["share"] == pytest.approx(5 / 6)
    assert signs["shown", None]["share"] == pytest.approx(3 / 5)
    said = {(each["quantity"], each.get("step")): each for each in backtrack_rows(found, model="S")}
    assert said["to_backtrack", 0]["share"] == pytest.approx(1 / 3)
    assert said["to_backtrack", 1]["share"] == pytest.approx(2 / 3)
    assert said["too_early", None]["share"] == 0 and said["too_early", None]["samples"] == 3


def test_a_later_mistake_is_no_sign_of_the_guess():
    tree = make_tree()  # `4-3=1` leads nowhere, and what follows it is computed wrong, then goes on
    more = [Node(10, 4, "step", 0, "2+1=4", (1, 2), (-0.1, -0.1), 0.5, 2)]
    more += [Node(11, 10, "goal", 0, "Goal Reached!", (3,), (-0.1,), None, 2)]
    found = paths_with_errors([replace(tree, nodes=(*tree.nodes, *more))], PROBLEMS, TASK)
    last = found.iloc[-1]
    assert (last.error_step, last.error, last.steps) == (1, "exploration", 2)
    assert np.isnan(last.sign_step)


def test_sudoku_s_paths():
    grid = SUDOKU_FIRST.replace("\n", "")
    tree = sudoku_engine().search("", 4, 1, 0.7, 0)
    found = paths_with_errors([tree], pd.DataFrame({"givens": [grid]}), make_task(SMALL))
    known = found[["end", "steps", "error_step", "error", "sign_step"]].replace({np.nan: None})
    assert known.values.tolist() == [
        ["backtrack", 2, 2, "exploration", 2],  # with r3c1=3 no digit is left for r3c4
        ["backtrack", 2, None, None, None],
        ["goal", 1, 1, "rule_violation", 1],
        ["goal", len(SUDOKU_WAY), None, None, None],
    ]
    said = {each["quantity"]: each for each in backtrack_rows(found)}
    assert said["too_early"]["share"] == pytest.approx(1 / 3)  # two samples of the first


@given(grid=st.sampled_from(EVERY), kept=st.lists(st.booleans(), min_size=16, max_size=16),
       cell=st.integers(0, 15), digit=st.sampled_from("1234"))  # fmt: skip
def test_what_shows_an_error_has_one(grid, kept, cell, digit):
    problem = "".join(d if keep else "." for d, keep in zip(grid, kept, strict=True))
    steps = [FOUR.step_text(cell, digit)]
    after = FOUR.after(problem, steps)
    shown = FOUR.shows_error(problem, steps)
    if after is None:
        assert shown
    elif shown:
        assert not filled(after)
    else:
        empty = [at for at in range(16) if after[at] == "."]
        assert all(any(not FOUR.clashes(after, at, d) for d in "1234") for at in empty)


def test_countdown_shows_an_error_at_its_end():
    for steps, shown in ((["4-3=1"], False), (["4-3=1", "2+1=3"], True), (["4-3=2"], True),
                         (["2*3=6", "6+4=10"], False), ([], False)):  # fmt: skip
        assert TASK.shows_error(PROBLEM, steps) == shown


def test_the_study_on_a_tiny_model(tmp_path):
    experiment = small(tmp_path)
    asked = ComputeSettings(("S",), 6, (1, 4), ((4, 1),))
    experiment.profile = experiment.profile.with_sections(compute=asked)
    assert len([*guess_depth.requests(experiment)]) == 4
    found = guess_depth.rows(experiment)
    write_results(tmp_path / "results.json", {}, found)
    assert set(found["method"]) == {"sft_sampled", "self_backtracking"} and set(found["b"]) == {0}
    shares = found[found["quantity"].isin(["to_sign", "to_backtrack"])]
    sums = shares.groupby(["quantity", "split"])["share"].sum()
    assert sums.tolist() == pytest.approx([1.0] * len(sums))
    assert (found["quantity"] == "too_early").sum() == 2
    guess_depth.text(found)


# Both tasks ---------------------------------------------------------------------------------------


def task_rows(task):
    columns = {"artifact": "compute", "model": "S", "temperature": 0.7}
    columns |= {} if task == "countdown" else {"task": task}
    found = []
    for split in ("seen", "new"):
        for b, n, tokens, right in (
            (0, 2, 60, 30),
            (0, 8, 200, 50),
            (1, 8, 150, 55),
            (2, 8, 180, 60),
        ):
            found.append(accuracy_row(
                [True] * right + [False] * (100 - right), method="self_backtracking", b=b, N=n,
                tokens_per_problem=float(tokens), split=split, **columns
            ) | {"ceiling": 0.9})  # fmt: skip
        for method, right in (("sft_sampled", 20), ("self_consistency", 25)):
            for n, tokens in ((1, 50), (8, 250)):
                found.append(accuracy_row(
                    [True] * right + [False] * (100 - right), method=method, b=0, N=n,
                    tokens_per_problem=float(tokens), split=split, **columns
                ) | {"ceiling": 0.9})  # fmt: skip
        named = {"model": "S", "split": split} | ({"task": task} if "task" in columns else {})
        for quantity, more in (("to_sign_mean", {"value": 3.5}), ("to_sign", {"step": 3}),
                               ("to_backtrack", {"step": 0})):  # fmt: skip
            share = {"share": 0.75, "low": 0.7, "high": 0.8}
            found.append(
                row("guess_depth", "sft_sampled", quantity=quantity, **share, **more, **named)
            )
    return table(found)


def test_both_tasks_are_told_and_drawn(tmp_path):
    own, other = task_rows("sudoku"), task_rows("countdown")
    assert two_tasks.both(own, tmp_path) is None
    write_results(tmp_path / "figures" / "cpu" / "results.json", {"profile": "cpu"}, other)
    found = two_tasks.both(own, tmp_path)
    assert set(found["task"]) == {"countdown", "sudoku"}
    told = two_tasks.remark(found)
    assert "Sudoku, seen split, b=2 N=8, at equal tokens: +" in told
    assert (
        "Countdown, new split: a legal step that loses the solution shows 3.5 steps later" in told
    )
    assert "75% come right after it" in told
    titles = [axes.get_title() for axes in two_tasks.against_tokens(found).axes]
    assert titles[:2] == ["Countdown, seen split (n=100)", "Sudoku, seen split (n=100)"]
    page = render({"profile": "sudoku"}, own, None, found)
    assert "## Both tasks" in page and "](two_tasks.png)" in page
    assert "## Both tasks" not in render({"profile": "sudoku"}, own)
    assert "## How deep is a wrong guess?" in page
    assert guess_depth.STUDY.figures[0].draw(own).axes


def test_the_page_of_sudoku_shows_both(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "draw_all", lambda *_: None)  # the other figures
    for name, task in (("cpu", "countdown"), ("sudoku", "sudoku")):
        write_results(
            tmp_path / "figures" / name / "results.json", {"profile": name}, task_rows(task)
        )
    figures.show("sudoku", 0, tmp_path, check=False)
    folder = tmp_path / "figures" / "sudoku"
    assert (folder / "two_tasks.svg").exists() and "## Both tasks" in (
        folder / "README.md"
    ).read_text()
    figures.show("sudoku", 0, tmp_path, check=True)
