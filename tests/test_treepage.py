import json
import re

from hand_made_tree import PROBLEM, make_tree

from lib.explorer.tree_figure import SCRIPT, save_page, script_json, tree_page
from lib.explorer.tree_view import describe
from lib.tasks.countdown.interactive import annotate

EVIL = "</script><script>alert(1)</script><!-- & \u2028"


def evil_view():
    tree = make_tree()
    object.__setattr__(tree.nodes[1], "text", EVIL)
    return describe(tree, annotate(tree, PROBLEM), title=EVIL)


def test_page_carries_the_tree_and_nothing_else_runs():
    page = tree_page(evil_view())
    assert "alert(1)</script>" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    tree = re.search(r'id="tree">(.*?)</script>', page, re.DOTALL).group(1)
    assert json.loads(tree)["nodes"][1]["text"] == EVIL


def test_script_json_has_no_markup():
    text = script_json({"text": EVIL})
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == {"text": EVIL}


def test_script_itself_never_writes_html():
    script = SCRIPT.read_text()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in script
    assert "</script" not in script and "import(" not in script and "fetch(" not in script


def test_save_page(tmp_path):
    path = save_page(evil_view(), tmp_path / "deep" / "tree.html")
    assert path.read_text().startswith("<!doctype html>")
