"""The explorer with a task that is not Countdown: grids of several lines in a node."""

from grid import FIRST, WAY, GridEngine

from lib.explorer.explorer import Explorer


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
