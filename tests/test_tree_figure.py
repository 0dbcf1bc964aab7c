import xml.etree.ElementTree as xml

import pytest
from hand_made_tree import PROBLEM, TASK, make_tree

from lib.base.errors import UserError
from lib.explorer.annotation import annotate
from lib.explorer.story import Rule
from lib.explorer.tree_figure import chosen_nodes, draw_tree, save_tree
from lib.explorer.tree_view import Labels, describe


@pytest.fixture
def view():
    tree = make_tree()
    rules = [Rule("vote", "Vote", {3: 2.0}, 3)]
    return describe(tree, annotate(tree, PROBLEM, TASK), rules, labels=Labels("$2$ <3>"))


def test_svg_holds_every_label_as_text_and_is_repeatable(view, tmp_path):
    path = save_tree(view, tmp_path / "tree.svg", truth=True)
    texts = [element.text for element in xml.parse(path).iter() if element.tag.endswith("text")]
    for node in view.nodes:
        assert set(node["label"]) <= set(texts)
        assert not node["edge"] or node["edge"] in texts
    assert "$2$ <3>" in texts and "✕" in texts and "✓ right to go back" in texts
    assert "✕ stops with 4 and 5 left" in texts
    assert save_tree(view, tmp_path / "again.svg", truth=True).read_bytes() == path.read_bytes()


def test_png_and_pdf(view, tmp_path):
    assert save_tree(view, tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")
    assert save_tree(view, tmp_path / "tree.pdf").read_bytes().startswith(b"%PDF")
    assert draw_tree(view)._repr_png_().startswith(b"\x89PNG")


def test_chosen_path(view):
    assert chosen_nodes(view) == chosen_nodes(view, "vote") == {0, 1, 2, 3}
    with pytest.raises(UserError, match="choose one of vote"):
        chosen_nodes(view, "best")


def test_unknown_format_writes_nothing(view, tmp_path):
    with pytest.raises(UserError, match="choose one of svg, png, pdf"):
        save_tree(view, tmp_path / "tree.gif")
    assert list(tmp_path.iterdir()) == []
