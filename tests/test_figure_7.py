"""Figure 7, a case study: the rule on outcomes made by hand, and a row that draws its figure."""

import json
from types import SimpleNamespace

import matplotlib
import pandas as pd
import pytest
from hand_made_tree import PROBLEM, make_tree

from lib.base.errors import UserError
from lib.drawing.style import save_figure
from lib.evaluation.results import dumps, read_results, row, table, write_results
from lib.profiles.load import load_profile
from studies.paper import figure_7
from studies.paper.figure_7 import case_rows, case_view, draw_case, first_case

matplotlib.use("Agg")
TASK = load_profile("paper").task
ANSWERS = {"SFT greedy": "2*3=6\n6+4=11\nGoal Reached!", "backtracking data greedy": "<backtrack>"}


def greedy(*correct):
    return pd.DataFrame({"problem": range(len(correct)), "correct": correct})


def searched(*leaves):
    """One row a problem: the leaf chosen, and whether it is right; None where none was."""
    rows = [(i, leaf is not None, leaf) for i, leaf in enumerate(leaves)]
    return pd.DataFrame(rows, columns=["problem", "correct", "leaf"]).sample(frac=1, random_state=0)


TREES = [make_tree()] * 5  # leaf 3 was found at once, leaf 9 after a roll-back


def test_the_first_problem_that_only_a_roll_back_solves():
    chosen = searched(9, 9, 3, None, 9)
    sft, other = greedy(True, False, False, False, False), greedy(False, True, False, False, False)
    assert first_case([sft, other], chosen, TREES) == 4
    assert first_case([sft], chosen, TREES) == 1
    assert first_case([other], chosen, TREES) == 0
    assert first_case([sft, other, greedy(*[True] * 5)], chosen, TREES) is None
    wrong = chosen.assign(correct=False)
    assert first_case([sft, other], wrong, TREES) is None
    assert first_case([], chosen.iloc[:0], []) is None


def test_the_first_problem_that_a_roll_back_solves(monkeypatch):
    experiment = SimpleNamespace(read_trees=lambda made: TREES)
    for leaves, expected in (((3, None, 9, 9), 2), ((3, 3, None, 3), 0)):
        found = searched(*leaves)
        monkeypatch.setattr(figure_7, "chosen", lambda *_, found=found: found)
        assert figure_7.first_solved(experiment, SimpleNamespace(made=None)) == expected


@pytest.fixture
def rows():
    named = {"model": "S", "split": "seen"}
    return case_rows(make_tree(), PROBLEM, TASK, ANSWERS, "mean_logprob", **named)


def test_a_row_keeps_its_tree_through_results_json(rows, tmp_path):
    (only,) = rows.to_dict("records")
    assert only["artifact"] == "figure_7" and only["method"] == "self_backtracking"
    assert (only["N"], only["b"], only["seed"], only["checker"]) == (4, 1, 0, "strict")
    write_results(tmp_path / "results.json", {}, rows)
    _, again = read_results(tmp_path / "results.json")
    assert dumps({}, again) == dumps({}, rows)
    view = case_view(json.loads(again["case"].iloc[0]))
    assert view.data["title"] == (
        "2, 3, 4 \u2192 10   |   SFT greedy: 2*3=6; 6+4=11   |   backtracking data greedy: no step"
    )
    assert [node["text"] for node in view.nodes] == [node.text for node in make_tree().nodes]


def test_a_case_of_before_there_were_other_tasks_is_the_same(rows):
    case = json.loads(rows["case"].iloc[0])
    earlier = {key: case[key] for key in ("answers", "tree")} | {"numbers": [2, 3, 4], "target": 10}
    assert case_view(earlier) == case_view(case)


def test_no_tree_no_row_no_figure(rows):
    empty = case_rows(None, PROBLEM, TASK, {}, "mean_logprob")
    assert empty.empty and "accuracy" in empty
    for without in (empty, table([row("table_1", accuracy=0.5)]), rows.assign(case=None)):
        with pytest.raises(UserError, match="no case study"):
            draw_case(without)


def test_it_is_drawn_the_same_every_time(rows, tmp_path):
    (drawing,) = figure_7.STUDY.figures
    assert drawing.has_rows(rows) and not drawing.has_rows(table([row("table_1")]))
    paths = [save_figure(drawing.draw(rows), tmp_path / name, drawing.name, {}) for name in "ab"]
    assert [path.name for path in paths[0]] == ["figure_7.png", "figure_7.svg"]
    for one, two in zip(*paths, strict=True):
        assert one.read_bytes() == two.read_bytes()
    figure = draw_case(rows)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "2*3=6" in texts and "\u2715" in texts
    # The title is as long as the answers are: it must still fit.
    figure.draw_without_rendering()
    title = next(text for text in figure.axes[0].texts if "SFT greedy" in text.get_text())
    box = title.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width, "the title is cut off"


def test_the_rule_is_stated():
    assert "strict checker" in figure_7.RULE and "roll-back" in figure_7.RULE
