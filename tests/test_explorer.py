import json
import time
from contextvars import ContextVar
from pathlib import Path

import pytest
from scripted_engine import ScriptedEngine

from lib.base.errors import UserError
from lib.explorer.explorer import Explorer
from lib.explorer.widget import TreeWidget
from lib.explorer.worker import Latest, Worker
from lib.tasks.countdown.rules import check
from lib.tasks.countdown.solver import reachable

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def explorer():
    return Explorer(engine=ScriptedEngine(slow_target=99))


def send(explorer, content, wait=True):
    explorer._on_message(explorer.view, content, [])
    if wait:
        explorer.wait()


def message(explorer):
    return explorer.view.message["text"]


def test_run_shows_the_tree_from_its_question_on(explorer):
    explorer.run("2, 39, 45, 10", 62)
    view = explorer.view
    assert message(explorer).startswith(f"Search done: {len(explorer.tree.nodes)} nodes")
    assert view.tree["step"] == 1 and view.tree["selected"] == 0
    assert len(view.tree["nodes"]) == len(explorer.tree.nodes) > 10
    assert view.tree["title"] == "2, 39, 45, 10 → 62"
    assert view.tree["made"] == "given engine, N = 16, b = 1, T = 0.7, seed 0"
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
    paths = explorer.view.tree["paths"]
    assert not any(path["correct"] for path in paths)


def test_expand_adds_new_nodes_below_the_state(explorer):
    explorer.run("2, 39, 45, 10", 62)
    before = len(explorer.tree.nodes)
    explorer.expand(0)
    added = len(explorer.tree.nodes) - before
    assert added > 0 and message(explorer).startswith(f"Searched on: {added} new nodes")
    tree = explorer.view.tree
    phases = [phase["title"] for phase in tree["phases"]]
    assert phases == ["Expand", "Roll-back 1", "Searched on", "Roll-back 1", "Select"]
    assert tree["step"] == 1 + tree["phases"][2]["first"] and tree["grown"]
    shown = [step["node"] for step in tree["steps"][: tree["step"] - 1]]
    assert sorted(node for node in shown if node is not None) == list(range(before))
    assert "given engine" in explorer.view.tree["made"]


def test_own_step_gets_the_models_verdict(explorer):
    explorer.run("2, 39, 45, 10", 62)
    explorer.play(0, " 39 - 2 = 37 ")
    node = explorer.tree.nodes[explorer.view.tree["selected"]]
    assert node.text == "39-2=37" and node.parent == 0
    assert f"P(<backtrack>) = {node.p_backtrack:.3f}" in message(explorer)
    assert len(node.tokens) == len(node.logprobs) == len("39-2=37\n")
    assert explorer.treeview.nodes[node.id]["facts"][-1][1] == "a step of your own"
    explorer.play(0, "forty")
    assert "'forty' is not a step" in message(explorer)
    leaf = explorer.tree.leaves()[0].id
    explorer.play(leaf, "1+1=2")
    assert "A path ends at that node" in message(explorer)
    explorer.expand(10**6)
    assert "No such node" in message(explorer)


def test_random_problem_is_one_that_greedy_fails(explorer):
    explorer.random_problem()
    assert not check(explorer.problem, explorer._engine.greedy("")).correct
    values = explorer.view.values
    shown = values["numbers"], values["target"]
    numbers, target = explorer.problem.numbers, explorer.problem.target
    assert shown == (", ".join(map(str, numbers)), str(target))


def test_buttons_run_in_the_background_one_at_a_time_and_stop(explorer):
    send(explorer, {"type": "run", "values": {"target": "99"}}, wait=False)
    while explorer._engine.searches == 0:
        time.sleep(0.01)
    send(explorer, {"type": "run", "values": {"target": "98"}}, wait=False)
    assert explorer.view.values["target"] == "99"
    assert message(explorer).startswith("A search is under way")
    explorer.run()
    assert message(explorer).startswith("A search is under way")
    assert explorer._engine.searches == 1 and explorer.view.busy
    send(explorer, {"type": "stop"})
    assert message(explorer) == "Stopped; the tree is as it was." and explorer.tree is None
    assert not explorer.view.busy
    explorer.run(target=62)
    assert message(explorer).startswith("Search done")


def test_what_was_stopped_can_be_gone_on_with(explorer):
    explorer.run("2, 39, 45, 10", 62)
    explorer._engine.stop()  # as Stop does while a search on from a state is under way
    explorer.expand(0)
    assert message(explorer).startswith("Searched on")
    explorer._engine.stop()
    explorer.play(0, "39-2=37")
    assert "P(<backtrack>)" in message(explorer)


def test_a_stop_while_the_checkpoint_is_loaded_counts(explorer):
    engine = explorer._engine
    engine.resume = explorer.stop  # the user presses Stop just then
    explorer.run("2, 39, 45, 10", 62)
    assert message(explorer) == "Stopped; the tree is as it was." and engine.searches == 0


def test_a_checkpoint_that_is_not_in_the_menu(explorer):
    explorer.run("2, 39, 45, 10", 62, checkpoint="runs/cpu-9/models/S-backtracking")
    assert "checkpoint 'runs/cpu-9/models/S-backtracking': not in the menu" in message(explorer)
    assert explorer.tree is None


def test_blanks_around_a_value_are_none_of_it(explorer):
    explorer.run(" 2, 39, 45, 10\n", 62)
    assert explorer.view.values["numbers"] == "2, 39, 45, 10"


def test_settings_are_read_before_a_hard_problem_is_looked_for(explorer):
    values = dict(explorer.view.values)
    explorer._engine.greedy = None
    explorer.view.values = values | {"breadth": "abc"}
    explorer.random_problem()
    assert "abc" in message(explorer) and explorer.view.values["numbers"] == values["numbers"]


def test_a_first_problem_of_another_task_is_a_message():
    made = Explorer("sudoku", engine=ScriptedEngine(), first=("17, 16, 10, 3", 20))
    assert "the form's fields are" in message(made) and made._first == ()


@pytest.mark.parametrize("name", ["studies", "table_1"])
def test_a_profile_that_extends_another_has_its_task(name):
    made = Explorer(name, engine=ScriptedEngine())
    assert made.view.message["kind"] == "info" and made.task.name == "countdown"


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
    assert not explorer._worker.busy


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
    for nonsense in (None, "x", {}, {"type": "expand", "node": "0"}, {"type": "play", "node": 0}):
        send(explorer, nonsense)
    send(explorer, {"type": "run", "values": "all"})
    assert len(explorer.tree.nodes) == before
    send(explorer, {"type": "play", "node": 0, "step": "39-2=37"})
    assert len(explorer.tree.nodes) == before + 1
    send(explorer, {"type": "expand", "node": 0})
    assert len(explorer.tree.nodes) > before + 1
    send(explorer, {"type": "run", "values": {"target": "63", "unknown": "1", "seed": 7}})
    assert explorer.problem.target == 63 and explorer.view.values["seed"] == "0"


def test_files(explorer, tmp_path):
    explorer.run("2, 39, 45, 10", 62)
    for name in ("tree.svg", "tree.png", "tree.html"):
        assert explorer.save(tmp_path / name).stat().st_size > 1000
    assert explorer.figure(truth=True)._repr_png_().startswith(b"\x89PNG")


def test_nothing_works_on_a_mixture(explorer):
    """Fields that changed since the search belong to the next one, not to this tree."""
    explorer.run("2, 39, 45, 10", 62, breadth=8, depth=0, seed=3)
    send(explorer, {"type": "run", "values": {"target": "no number", "breadth": "64"}})
    assert "'no number' is not a whole number" in message(explorer)
    made, before = explorer.view.tree["made"], len(explorer.tree.nodes)
    assert made == "given engine, N = 8, b = 0, T = 0.7, seed 3"
    explorer.expand(0)
    part = explorer.shown.session.parts[-1]
    assert part.depth == 0 and explorer.shown.session.continuations(0, 1) == 8
    assert explorer.view.tree["made"] == made and explorer.problem.target == 62
    assert len(explorer.tree.nodes) > before
    assert explorer.view.tree["values"]["breadth"] == "8"


def test_fields_and_settings_by_name(explorer):
    with pytest.raises(UserError, match="the form's fields are numbers, target, breadth"):
        explorer.run("1, 2", 3, width=4)
    with pytest.raises(UserError, match="the form's fields are"):
        explorer.run("1, 2", 3, 4)
    explorer.run("2, 39, 45, 10", 62, breadth=0)
    assert "Breadth N: '0' is not a whole number from 1 to 512" in message(explorer)


def test_a_state_gets_as_many_continuations_again_as_are_asked_for(explorer):
    for per_state, count in (("√N each", 4), ("N each", 16)):
        explorer.run("2, 39, 45, 10", 62, per_state=per_state)
        session = explorer.shown.session
        again = [state for state, level in explorer.tree.expanded if level == 1]
        assert again and all(session.continuations(state, 0) >= count for state in again)
        told = f"again with {count} continuations"
        assert any(told in step["text"] for step in explorer.view.tree["steps"])
    assert explorer.view.tree["made"] == "given engine, N = 16, b = 1 with N each, T = 0.7, seed 0"
    explorer.run(per_state="all")
    assert "Roll back with: 'all' is not one of √N each, N each" in message(explorer)


def test_greedy_stands_beside_the_search(explorer):
    explorer.run("2, 39, 45, 10", 62)
    [greedy] = explorer.view.tree["comparison"]
    assert greedy["steps"] == [] and greedy["note"] == "✕ stops with 2, 39, 45 and 10 left"
    lines = {rule["name"]: rule["line"] for rule in explorer.view.tree["rules"]}
    for name, line in lines.items():
        [path] = [p for p in explorer.view.tree["paths"] if p["leaf"] == chosen(explorer, name)]
        assert line["steps"] == path["steps"] and line["correct"] == path["correct"]


def chosen(explorer, name):
    [rule] = [rule for rule in explorer.view.tree["rules"] if rule["name"] == name]
    return rule["chosen"]


def test_outside_the_training_is_a_warning_not_a_refusal():
    explorer = Explorer(engine=ScriptedEngine())
    explorer._folders = {"shipped": str(ROOT / "models" / "countdown-s")}
    explorer._ready_engine = lambda: explorer._engine
    explorer.view.values = {**explorer.view.values, "checkpoint": "shipped"}
    explorer.run("1, 2, 3, 4, 9999", 30)
    warning = explorer.view.tree["warning"]
    assert "5 numbers (trained on 4)" in warning and "9999 (trained on numbers up to 25)" in warning
    assert message(explorer).startswith("Search done")
    explorer.run("1, 2, 3, 4", 30)
    assert explorer.view.tree["warning"] == ""


def test_the_page_is_sent_to_the_browser(explorer):
    explorer.run("2, 39, 45, 10", 62)
    sent = []
    explorer.view.send = sent.append
    send(explorer, {"type": "page"})
    page = sent[-1]
    assert page["name"] == "tree-2--39--45--10---62.html"
    assert "given engine, N = 16, b = 1, T = 0.7, seed 0" in page["text"].replace("\\u003d", "=")
    assert "Breadth N, level 0" in page["text"]


def test_a_notebook_keeps_a_picture(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr("lib.explorer.explorer.display", lambda *_, **__: Handle(shown))
    explorer._ipython_display_()
    explorer.run("2, 39, 45, 10", 62)
    explorer.wait()
    assert "data:image/png;base64," in shown[-1].data and "run this cell" in shown[-1].data
    explorer.run("1, 2, 3, 4, 5", 62, breadth=512, depth=2)
    explorer.wait()
    assert len(explorer.tree.nodes) > 250 and len(shown[-1].data) < 2_000_000


class Handle:
    def __init__(self, shown):
        self.update = shown.append


def test_the_first_problem_is_searched_when_it_is_displayed(monkeypatch):
    explorer = Explorer(engine=ScriptedEngine(), first=("2, 39, 45, 10", 62))
    monkeypatch.setattr("lib.explorer.explorer.display", lambda *_, **__: Handle([]))
    assert explorer.tree is None
    explorer._ipython_display_()
    explorer.wait()
    assert explorer.problem.target == 62 and explorer.tree is not None


def test_a_thread_works_on_behalf_of_whoever_started_it():
    """Or a kernel takes what it sends for the answer to another message."""
    asked_by, seen = ContextVar("asked_by", default="nobody"), []
    worker, latest = Worker(TreeWidget()), Latest()
    asked_by.set("the page")
    assert worker.start(lambda: seen.append(asked_by.get()) or (lambda: None))
    latest.ask(lambda: seen.append(asked_by.get()))
    worker.wait()
    latest.wait()
    assert seen == ["the page", "the page"]


def test_the_same_words_again_are_a_change():
    view, said = TreeWidget(), []
    view.observe(lambda change: said.append(change["new"]["text"]), "message")
    view.say("Grid: no.", "error")
    view.say("Grid: no.", "error")
    assert said == ["Grid: no."] * 2
