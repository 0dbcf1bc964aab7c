import json
import time

import pytest
from scripted_engine import ScriptedEngine

from lib.base.errors import UserError
from lib.explorer.explorer import Explorer
from lib.tasks.countdown.rules import check
from lib.tasks.countdown.solver import reachable


@pytest.fixture
def explorer():
    return Explorer(engine=ScriptedEngine(slow_target=99))


def message(explorer):
    return explorer.view.message["text"]


def test_run_shows_the_tree_from_its_question_on(explorer):
    explorer.run("2, 39, 45, 10", 62)
    view = explorer.view
    assert message(explorer).startswith(f"Search done: {len(explorer.tree.nodes)} nodes")
    assert view.step == 1 and view.selected == 0
    assert len(view.tree["nodes"]) == len(explorer.tree.nodes) > 10
    assert view.tree["title"] == "2, 39, 45, 10 → 62"
    assert len(view.tree["rules"]) == 5
    json.dumps(view.tree, allow_nan=False)


def test_the_first_problem_can_be_solved(explorer):
    explorer.run()
    assert reachable(explorer.problem.numbers, explorer.problem.target)


def test_bad_input_is_a_message_and_keeps_the_tree(explorer):
    explorer.run("2, 39, 45, 10", 62)
    before = explorer.tree
    for numbers, target in [("", ""), ("a b", 3), ("0 0", 1), ("1 2", -5), ("9" * 999 + " 1", 1)]:
        explorer.run(numbers, target)
        assert explorer.view.message["kind"] == "error"
        assert explorer.tree is before and explorer.view.tree["nodes"]


def test_impossible_problem_is_searched_and_named(explorer):
    explorer.run("1, 1, 1, 1", 9999)
    assert "this problem is impossible" in message(explorer)
    assert not any(node["correct"] for node in explorer.treeview.nodes)


def test_expand_adds_new_nodes_below_the_state(explorer):
    explorer.run("2, 39, 45, 10", 62)
    before = len(explorer.tree.nodes)
    explorer.expand(0)
    added = len(explorer.tree.nodes) - before
    assert added > 0 and message(explorer).startswith(f"Searched on: {added} new nodes")
    assert explorer.view.step == before + 1
    assert explorer.view.tree["order"][:before] != [] and explorer.view.tree["grown"]


def test_own_step_gets_the_models_verdict(explorer):
    explorer.run("2, 39, 45, 10", 62)
    explorer.play(0, " 39 - 2 = 37 ")
    node = explorer.tree.nodes[explorer.view.selected]
    assert node.text == "39-2=37" and node.parent == 0
    assert f"P(<backtrack>) = {node.p_backtrack:.3f}" in message(explorer)
    explorer.play(0, "forty")
    assert "'forty' is not a step" in message(explorer)
    leaf = explorer.tree.leaves()[0].id
    explorer.play(leaf, "1+1=2")
    assert "A path ends at that node" in message(explorer)
    explorer.expand(10**6)
    assert "No such node" in message(explorer)


def test_random_problem_is_one_that_greedy_fails(explorer):
    explorer.random_problem()
    assert not check(explorer.problem, explorer._engine.greedy(explorer.problem)).correct
    shown = explorer.controls.numbers.value, explorer.controls.target.value
    numbers, target = explorer.problem.numbers, explorer.problem.target
    assert shown == (", ".join(map(str, numbers)), str(target))


def test_buttons_run_in_the_background_one_at_a_time_and_stop(explorer):
    explorer.controls.target.value = "99"
    explorer.controls.run.click()
    while explorer._engine.searches == 0:
        time.sleep(0.01)
    explorer.controls.run.click()
    assert message(explorer).startswith("A search is under way")
    explorer.run()
    assert message(explorer).startswith("A search is under way")
    assert explorer._engine.searches == 1 and not explorer.controls.stop.disabled
    explorer.controls.stop.click()
    explorer.wait()
    assert message(explorer) == "Stopped; the tree is as it was." and explorer.tree is None
    assert explorer.controls.stop.disabled
    explorer.run(target=62)
    assert message(explorer).startswith("Search done")


@pytest.mark.parametrize(
    ("failure", "text"),
    [(KeyboardInterrupt(), "Interrupted"), (RuntimeError("bad\nluck"), "RuntimeError: bad)")],
)
def test_failures_are_one_line(explorer, failure, text):
    def fail(*_, **__):
        raise failure

    explorer._engine.search = fail
    explorer.run("2, 39, 45, 10", 62)
    assert text in message(explorer) and "\n" not in message(explorer)
    assert not explorer._lock.locked()


def test_no_checkpoint_and_a_missing_one(tmp_path):
    none = Explorer(root=tmp_path, profile="cup")
    none.run("1, 2", 3)
    assert "make reproduce" in message(none)
    missing = Explorer(root=tmp_path, checkpoint="nothing/here")
    missing.run("1, 2", 3)
    assert "nothing/here: no such folder" in message(missing)
    assert missing.figure()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no tree to save yet"):
        missing.save(tmp_path / "tree.svg")


def test_messages_from_the_page(explorer):
    explorer.run("2, 39, 45, 10", 62)
    before = len(explorer.tree.nodes)

    def send(content):
        explorer._on_message(explorer.view, content, [])
        explorer.wait()

    for nonsense in (None, "x", {}, {"type": "expand", "node": "0"}, {"type": "play", "node": 0}):
        send(nonsense)
    assert len(explorer.tree.nodes) == before
    send({"type": "play", "node": 0, "step": "39-2=37"})
    assert len(explorer.tree.nodes) == before + 1
    send({"type": "expand", "node": 0})
    assert len(explorer.tree.nodes) > before + 1
    send({"type": "collapse", "nodes": [0]})
    assert list(explorer.view.places) == ["0"]
    send({"type": "collapse", "nodes": []})
    assert explorer.view.places == {}


def test_files(explorer, tmp_path):
    explorer.run("2, 39, 45, 10", 62)
    for name in ("tree.svg", "tree.png", "tree.html"):
        assert explorer.save(tmp_path / name).stat().st_size > 1000
    assert explorer.figure(truth=True)._repr_png_().startswith(b"\x89PNG")
