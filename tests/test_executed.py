"""Executed notebooks as shown: outputs stay, and nothing of the machine does."""

import base64
import getpass
import platform

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lib.base.errors import UserError
from studies.report import publish
from studies.report.publish import FORBIDDEN, places_named, shown_notebook

PIXELS = base64.b64encode(b"\x89PNG, or so").decode()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "home" / "ann" / "project"


@pytest.fixture
def notebook(root, monkeypatch):
    """A notebook as papermill leaves it, by ann on a machine called anns-laptop."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ann")
    monkeypatch.setattr(platform, "node", lambda: "anns-laptop.example")
    injected = new_code_cell(f"profile = '{root}/mine.toml'", id="93ad1c7e")
    injected.metadata = {"tags": ["injected-parameters"], "papermill": {"start_time": "2026"}}
    shown = {"image/png": PIXELS, "image/svg+xml": "<svg/>", "text/plain": f"<Figure {root}/a>"}
    outputs = [
        new_output("stream", name="stdout", text=f"wrote {root}/runs, {root}2 and {root}\n"),
        new_output("stream", name="stderr", text="10%|###   | 1/10\r"),
        new_output("display_data", shown, metadata={"made": str(root)}),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "3"}}),
        new_output("execute_result", {"application/json": {"at": ["/" + "root/x", 1]}}),
        new_output("error", ename="OSError", evalue="/tmp/q3/x: full", traceback=[str(root)]),
        new_output(
            "stream", name="stdout", text="ann@anns-laptop, by Joann on anns-laptop.example"
        ),
    ]
    cell = new_code_cell("work()", outputs=outputs, execution_count=2, metadata={"papermill": {}})
    made = new_notebook(cells=[new_markdown_cell("# Title"), injected, cell])
    made.metadata = {
        "kernelspec": {"name": "python3", "display_name": "ann's", "language": "python"},
        "language_info": {"name": "python", "version": "3.11.4"},
        "papermill": {"input_path": str(root), "output_path": str(root)},
    }
    return made


def write(notebook, folder):
    path = folder / "made.ipynb"
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def test_outputs_stay_and_the_machine_does_not(notebook, root):
    text = shown_notebook(write(notebook, root), root)
    for name in (*FORBIDDEN, str(root), "laptop", "ann@", "papermill", "###", "svg", "3.11.4"):
        assert name not in text, name
    shown = nbformat.reads(text, as_version=4)
    nbformat.validate(shown)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert shown.metadata == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert [cell.source for cell in shown.cells] == ["# Title", "profile = 'mine.toml'", "work()"]
    assert shown.cells[1].id == "injected-parameters" and shown.cells[2].metadata == {}
    stdout, figure, result, error, last = shown.cells[2].outputs
    assert stdout.text.startswith("wrote runs, ") and stdout.text.endswith("project2 and .\n")
    assert figure.data == {"image/png": PIXELS, "text/plain": "<Figure a>"}
    assert result.data == {"application/json": {"at": ["~/x", 1]}}
    assert error.evalue == "…/q3/x: full" and error.traceback == []
    assert last.text == "…@…, by Joann on …"


def test_the_same_notebook_gives_the_same_bytes(notebook, root):
    text = shown_notebook(write(notebook, root), root)
    notebook.cells[1].id, notebook.metadata.papermill = "another0", {"input_path": "elsewhere"}
    notebook.cells[2].outputs[1].text = "50%|#####  |"
    assert shown_notebook(write(notebook, root), root) == text
    (root / "made.ipynb").write_text(text)
    assert shown_notebook(root / "made.ipynb", root) == text


def test_a_name_that_the_notebook_uses_is_no_secret(notebook, root):
    notebook.cells[0].source = "# By ann"
    assert "# By ann" in shown_notebook(write(notebook, root), root)


def test_places_are_found_in_text_and_not_in_pictures(root):
    output = new_output("display_data", {"image/png": "/tmp/", "text/html": "<b>"})
    made = new_notebook(cells=[new_code_cell("", outputs=[output])])
    assert not list(places_named(made, root))
    for name in (*FORBIDDEN, str(root)):
        output.data["text/html"] = f"<b>{name}x"
        assert next(places_named(made, root)).startswith("cell 0 names ")


def test_what_cannot_be_shown_is_named(notebook, root, monkeypatch):
    path = write(notebook, root)
    size = len(shown_notebook(path, root).encode())
    monkeypatch.setattr(publish, "MOST_BYTES", size)
    shown_notebook(path, root)
    monkeypatch.setattr(publish, "MOST_BYTES", size - 1)
    with pytest.raises(UserError, match=rf"made\.ipynb: {size} bytes .*at most {size - 1}"):
        shown_notebook(path, root)
    for text in ("", "[]", '{"nbformat": 4, "cells": 1}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"made\.ipynb: "):
            shown_notebook(path, root)
