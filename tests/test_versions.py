"""Keys know the code: a producer that is edited raises its VERSION, or says that nothing changed.

tests/versions.json holds, for each producer, its VERSION and a digest of its code without comments
and docstrings. Where the code differs from it, this test fails and says what to do.
"""

import ast
import hashlib
import importlib
import json
import sys
from pathlib import Path

import pytest
from test_house import HOUSE

from lib.base.files import ROOT

RECORD = Path(__file__).with_name("versions.json")
#: A task is its whole folder.
TASKS = {
    "lib.tasks.countdown": ("lib.tasks.countdown.task", "CountdownTask"),
    "lib.tasks.sudoku": ("lib.tasks.sudoku.task", "SudokuTask"),
}


def producers() -> dict[str, list[Path]]:
    """The files that decide what each producer makes."""
    found = {name: sorted((ROOT / name.replace(".", "/")).glob("*.py")) for name in TASKS}
    for path in sorted(path for name in HOUSE for path in (ROOT / name).rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        names = [t.id for node in body if isinstance(node, ast.Assign) for t in node.targets
                 if isinstance(t, ast.Name)]  # fmt: skip
        if "VERSION" in names:
            found[".".join(path.relative_to(ROOT).with_suffix("").parts)] = [path]
    return found


def code(path: Path) -> str:
    """A file's code without comments, docstrings and the version itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [
                each
                for each in body
                if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))
                and not (isinstance(each, ast.Assign) and "VERSION" in ast.unparse(each.targets[0]))
            ]
    return ast.dump(tree)


def now() -> dict[str, dict]:
    """Each producer's version and the digest of its code."""
    found = {}
    for name, paths in producers().items():
        module, attribute = TASKS.get(name, (name, None))
        holder = importlib.import_module(module)
        holder = getattr(holder, attribute) if attribute else holder
        text = "\n".join(code(path) for path in paths)
        found[name] = {
            "version": holder.VERSION,
            "code": hashlib.sha256(text.encode()).hexdigest()[:16],
        }
    return found


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="ast.dump differs between Pythons")
def test_an_edited_producer_raises_its_version():
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    for name, found in now().items():
        before = recorded.get(name, {"version": 0, "code": ""})
        raised = found["version"] > before["version"]
        assert found == before or raised, (
            f"{name}: its code has changed. Where its results differ, raise its VERSION; then, "
            "either way, run `python tests/test_versions.py` and commit tests/versions.json."
        )


def test_every_artifact_names_its_producers():
    """`make` is called with what makes the artifact, so that its key knows the code."""
    for path in sorted(path for name in HOUSE for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if ast.unparse(node.func) in ("experiment.run.make", "self.experiment.run.make"):
                pytest.fail(f"{path}:{node.lineno}: experiment.run.make leaves the code out")


if __name__ == "__main__":
    RECORD.write_text(json.dumps(now(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
