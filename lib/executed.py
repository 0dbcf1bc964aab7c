"""Executed notebooks as they are shown: every output kept, nothing of the machine that made them.

Takes the notebooks that papermill left in a run's folder; gives notebook files without timings,
progress bars, tracebacks, absolute paths, user or host names: the same bytes for the same notebook.
Knows nothing of what the notebooks do.
"""

from __future__ import annotations

import getpass
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat

from lib.errors import UserError
from lib.store import read_json

MOST_BYTES = 2_000_000
#: Papermill's copy of the parameters has a random id of its own.
INJECTED = "injected-parameters"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
PNG, SVG = "image/png", "image/svg+xml"
WIDGETS = "application/vnd.jupyter.widget"
#: What no published text may hold. PNGs are left out: base64 has such letters by chance.
FORBIDDEN = tuple(f"/{name}" for name in ("home/", "Users/", "tmp/", "root"))
FOLDERS = (
    (re.compile(r"/(?:home|Users)/[^/\s'\"<>:]+|/root"), "~"),
    (re.compile(r"(?:/private)?/(?:var/)?tmp/"), "…/"),
    (re.compile(r"(?:/private)?/var/folders/\w+/\w+/"), "…/"),
)
COMMON_NAMES = ("root", "localhost")  # tell nobody anything


def shown_notebook(path: Path, root: Path) -> str:
    """The text of the notebook file that shows the executed notebook at `path`.

    `root` is the repository's folder, to which paths become relative. Raises `UserError` where the
    file is no notebook, would be larger than `MOST_BYTES`, or still names a place of this machine.
    """
    record = read_json(path)
    known = isinstance(record, dict) and record.get("nbformat") == 4
    if not known or not isinstance(record.get("cells"), list):
        raise UserError(f"{path}: not a notebook of format 4; run `make reproduce` again")
    notebook = nbformat.read(path, as_version=4)
    notebook = cleaned(notebook, root)
    for place in places_named(notebook, root):
        raise UserError(f"{path}: {place}; it cannot be published")
    text = nbformat.writes(notebook) + "\n"
    if (size := len(text.encode())) > MOST_BYTES:
        raise UserError(f"{path}: {size} bytes without what only repeats; at most {MOST_BYTES}")
    return text


def cleaned(notebook: nbformat.NotebookNode, root: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs alone, and without the machine's paths and names."""
    words = _hider(root, [])(" ".join(cell.source for cell in notebook.cells))
    hide = _hider(root, _own_names(words))
    cells = []
    for number, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        name = INJECTED if INJECTED in tags else cell.get("id", f"cell-{number}")
        kept = {"id": name, "cell_type": cell.cell_type}
        kept |= {"source": hide(cell.source), "metadata": {"tags": tags} if tags else {}}
        if cell.cell_type == "code":
            kept["execution_count"] = cell.execution_count
            kept["outputs"] = [shown for output in cell.outputs if (shown := _output(output, hide))]
        cells.append(kept)
    metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    made = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return nbformat.from_dict(made)


def _output(output: nbformat.NotebookNode, hide: Callable[[str], str]) -> dict | None:
    """An output without the machine; None where nothing is left of it."""
    kind = output.output_type
    if kind == "stream":
        # The other stream has progress bars, and warnings about this machine.
        shown = {"output_type": kind, "name": output.name, "text": hide(output.text)}
        return shown if output.name == "stdout" else None
    if kind == "error":
        shown = {"ename": output.ename, "evalue": hide(output.evalue), "traceback": []}
        return {"output_type": kind, **shown}
    data = {name: value for name, value in output.data.items() if not name.startswith(WIDGETS)}
    if PNG in data:
        data.pop(SVG, None)
    data = {name: value if name == PNG else _each(value, hide) for name, value in data.items()}
    shown = {"output_type": kind, "data": data, "metadata": {}}
    if kind == "execute_result":
        shown["execution_count"] = output.execution_count
    return shown if data else None


def _each(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(name): _each(item, change) for name, item in value.items()}
    return [_each(item, change) for item in value] if isinstance(value, list) else value


def _own_names(words: str) -> list[str]:
    """This machine's user and host, but for a name that is among the notebook's own words."""
    host = platform.node()
    names = {host, host.split(".")[0]}
    with suppress(KeyError, OSError):  # a container's user may have no name
        names.add(getpass.getuser())
    names = {name for name in names if len(name) > 2} - set(COMMON_NAMES)
    names -= set(re.findall(r"[\w.-]+", words))
    return sorted(names, key=len, reverse=True)


def _hider(root: Path, names: list[str]) -> Callable[[str], str]:
    """A function that hides the repository's folder, other folders of people, and these names."""
    roots = {str(root), str(root.resolve())} - {"/"}
    either = "|".join(re.escape(folder) for folder in sorted(roots, key=len, reverse=True))
    # Not a longer path that only begins like this one.
    repository = re.compile(rf"(?:{either})(?:(/)|(?![\w.-]))")
    named = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, names))})(?![\w-])")

    def hide(text: str) -> str:
        text = repository.sub(lambda found: "" if found[1] else ".", text)
        for folder, mark in FOLDERS:
            text = folder.sub(mark, text)
        return named.sub("…", text) if names else text

    return hide


def places_named(notebook: nbformat.NotebookNode, root: Path) -> Iterator[str]:
    """What still names a place on a machine: one line for each find, with its cell's number."""
    forbidden = (*FORBIDDEN, str(root), str(root.resolve()))
    for number, cell in enumerate(notebook.cells):
        parts = [cell.source, *(_texts(output) for output in cell.get("outputs", []))]
        found = [name for name in forbidden if name in "\n".join(parts)]
        if found:
            yield f"cell {number} names {found[0]}"


def _texts(output: nbformat.NotebookNode) -> str:
    found: list[str] = []
    data = {name: value for name, value in output.get("data", {}).items() if name != PNG}
    _each({**output, "data": data}, lambda text: found.append(text) or text)
    return "\n".join(found)
