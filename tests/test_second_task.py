"""The explorer with tasks that are not Countdown: lines of text in a node, and Sudoku's grids."""

import json
from pathlib import Path

from grid import FIRST, SUDOKU, SUDOKU_FIRST, SUDOKU_WAY, WAY, GridEngine, sudoku_engine

from lib.explorer.explorer import Explorer
from lib.explorer.page import FOLDER


def make_explorer(tmp_path):
    (tmp_path / "grid.toml").write_text('[task]\nmodule = "grid"\nsettings = {}\n')
    return Explorer(str(tmp_path / "grid.toml"), engine=GridEngine())


def test_a_grid_is_searched_told_and_drawn(tmp_path):
    explorer = make_explorer(tmp_path)
    assert [field["name"] for field in explorer.view.fields][:2] == ["grid", "breadth"]
    assert explorer.view.fields[0]["lines"] == 3
    explorer.run(FIRST)
    assert explorer.view.message["text"].startswith("Search done: 13 nodes, 2 finished paths")
    tree = explorer.view.tree
    assert tree["title"] == "12. / ... / ..2" and tree["nodes"][0]["label"] == ["12.", "...", "..2"]
    assert tree["box"] == 22 + 2 * 14 and tree["layouts"]["wide"]["row"] == 60
    assert tree["nodes"][6]["label"] == ["not legal"]
    told = [step["text"] for step in tree["steps"]]
    assert "Sampled from the question: r1c3=3 (3 samples). Grid: 123 / ... / ..2" in told[1]
    assert any("Not legal: a digit stands twice" in text for text in told)
    assert tree["comparison"][0]["note"].startswith("✕ a digit stands twice")
    paths = {path["leaf"]: path for path in tree["paths"]}
    assert paths[12]["correct"] and paths[12]["steps"] == WAY
    assert paths[12]["found"] == "roll-back 1"
    notes = [node["note"] for node in tree["nodes"]]
    assert "✕ gave up too early: a full grid was in reach" in notes
    assert tree["tips"]["truth"].startswith("✓ a full grid can still be reached")
    explorer.play(0, "r1c3=3")
    explorer.play(0, "45-39=6")
    assert "type one such as r1c3=3" in explorer.view.message["text"]
    for name in ("grid.svg", "grid.html"):
        assert explorer.save(tmp_path / name).stat().st_size > 1000


def test_a_grid_that_is_none_is_one_message(tmp_path):
    explorer = make_explorer(tmp_path)
    explorer.run("1 2 3")
    assert explorer.view.message["text"].startswith("Grid: type three rows")


def test_sudoku_is_drawn_as_grids(tmp_path):
    (tmp_path / "sudoku.toml").write_text(SUDOKU)
    explorer = Explorer(str(tmp_path / "sudoku.toml"), engine=sudoku_engine())
    assert explorer.view.fields[0]["lines"] == 4
    explorer.run(SUDOKU_FIRST)
    assert explorer.view.message["text"].startswith("Search done: 16 nodes, 2 finished paths, 1 co")
    tree = explorer.view.tree
    rows = SUDOKU_FIRST.split("\n")
    assert tree["grid"] == {"box": [2, 2], "empty": ".", "given": rows}
    root, first, wrong = tree["nodes"][0], tree["nodes"][1], tree["nodes"][2]
    assert root["label"] == rows and root["written"] is None
    assert root["width"] == 4 * 14 + 24 and tree["box"] == 22 + 3 * 14
    assert first["label"] == ["123.", *rows[1:]] and first["written"] == [0, 2]
    assert first["edge"] == SUDOKU_WAY[0] and (first["mark"], wrong["mark"]) == ("✓", "✕")
    illegal = next(node for node in tree["nodes"] if node["label"] == ["not legal"])
    assert "written" not in illegal and "written" not in tree["nodes"][-1]
    told = " ".join(step["text"] for step in tree["steps"])
    assert "Not legal: r1c3=2: 2 is in row 1 already" in told
    assert "a solution was in reach" in " ".join(node["note"] for node in tree["nodes"])
    explorer.play(0, "r4c4=1")
    assert explorer.view.tree["nodes"][-1]["written"] == [3, 3]
    explorer.play(0, "r4c4=7")
    assert "type one such as r1c3=4" in explorer.view.message["text"]
    drawn = explorer.save(tmp_path / "tree.svg").read_text()
    assert "1\u00a02\u00a0\u00a0" in drawn and "\u00a0\u00a0\u00a0\u00a03" in drawn
    page = explorer.save(tmp_path / "tree.html").read_text()
    assert json.dumps(tree["grid"], separators=(",", ":")) in page and "drawGrid" in page
    assert "SIDE = 14" in (Path(FOLDER) / "marks.js").read_text()  # layout.LINE_HEIGHT


def test_a_grid_of_ones_own_is_checked(tmp_path):
    (tmp_path / "sudoku.toml").write_text(SUDOKU)
    explorer = Explorer(str(tmp_path / "sudoku.toml"), engine=sudoku_engine())
    explorer.run("11..\n....\n....\n....")
    assert explorer.view.message["text"].startswith("Grid: 1 stands twice in row 1")
