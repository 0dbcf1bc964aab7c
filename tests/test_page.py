import json
import re

from hand_made_tree import PROBLEM, TASK, make_tree

from lib.explorer.annotation import annotate
from lib.explorer.page import FOLDER, MODULES, save_page, script, script_json, tree_page
from lib.explorer.tree_view import Labels, describe

EVIL = "</script><script>alert(1)</script><!-- & \u2028"


def evil_view():
    tree = make_tree()
    object.__setattr__(tree.nodes[1], "text", EVIL)
    return describe(tree, annotate(tree, PROBLEM, TASK), labels=Labels(EVIL))


def test_page_carries_the_tree_and_nothing_else_runs():
    page = tree_page(evil_view())
    assert "alert(1)</script>" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    tree = re.search(r'id="tree">(.*?)</script>', page, re.DOTALL).group(1)
    assert json.loads(tree)["tree"]["nodes"][1]["text"] == EVIL


def test_script_json_has_no_markup():
    text = script_json({"text": EVIL})
    assert not set("<>&") & set(text) and text.isascii()
    assert json.loads(text) == {"text": EVIL}


def test_script_itself_never_writes_html():
    text = script()
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in text
    assert "</script" not in text and "import(" not in text and "fetch(" not in text


def test_the_modules_are_joined_whole_and_share_no_name():
    text = script()
    assert not re.search(r"^import |^export (?!default)", text, re.MULTILINE)
    names = re.findall(r"^(?:const|function|class) (\w+)", text, re.MULTILINE)
    assert len(names) == len(set(names)) > 20
    for name in MODULES:
        assert len((FOLDER / name).read_text().splitlines()) <= 320, name


def test_save_page(tmp_path):
    path = save_page(evil_view(), tmp_path / "deep" / "tree.html")
    assert path.read_text().startswith("<!doctype html>")
