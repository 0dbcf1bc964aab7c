"""The tree explorer: type a problem, watch the model search, step by step.

Takes a checkpoint (or any engine with `search`, `greedy` and `read`); gives a widget, the same tree
as a figure, and files to share. Knows nothing of any one task, nor of how a tree is laid out or
drawn. Whatever goes wrong becomes a message in the widget.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from IPython.display import HTML, display

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.explorer.annotation import Labels, Note, annotate, make_labels
from lib.explorer.checkpoints import checkpoint_choices, load_engine, profile_task, trained_on
from lib.explorer.page import save_page, tree_page
from lib.explorer.session import Session, first_search, play_step, search_further, state_steps
from lib.explorer.tree_view import TreeView, describe, score_rules
from lib.explorer.widget import TreeWidget, read_settings, saved_picture, setting_fields
from lib.explorer.words import guide, times
from lib.explorer.worker import STOPPED, Latest, Show, Worker
from lib.tasks.task import VERDICT_THRESHOLD

GREEDY_TRIES = 40
PICTURED = 250  # nodes in the picture that a notebook keeps
NO_CHECKPOINT = (
    "No checkpoint here yet: `make reproduce` trains one, and `make figures` puts it into models/. "
    "Then run this cell again."
)


@dataclass(frozen=True)
class Shown:
    """What is in the view: all of it was made of the same problem, settings and checkpoint."""

    problem: Any
    settings: Mapping[str, float]
    engine: Any
    session: Session
    labels: Labels


class Explorer:
    """The form and the tree. Every public method can also be called from a cell.

    `profile` names the task and the settings for random problems; `checkpoint` a folder beyond
    those found in models/ and runs/; `engine` takes the place of any checkpoint. `first` is a
    problem, as the form's fields have it, that is searched as soon as the explorer is displayed.
    """

    def __init__(
        self,
        profile: str = "cpu",
        seed: int = 0,
        checkpoint: str | Path = "",
        engine: Any = None,
        root: Path = ROOT,
        first: tuple[object, ...] = (),
    ):
        self.shown: Shown | None = None
        self.treeview: TreeView | None = None
        self.view = TreeWidget()
        self._root, self._engine, self._loaded, self._searched_on = root, engine, {}, 0
        self._random = random.Random(seed)
        self._worker, self._painter = Worker(self.view), Latest()
        self._working, self._halt = None, threading.Event()  # the engine at work; a wish to stop
        self._first, self._picture = first, None
        mistake = ""
        try:
            self.task = profile_task(root, profile)
        except UserError as error:
            self.task, mistake, self._first = profile_task(ROOT, "cpu"), str(error), ()
        self._folders = {"given engine": None}
        if engine is None:
            self._folders = checkpoint_choices(root, f"{profile}-{seed}", checkpoint, self.task)
        self._build_form(seed)
        try:
            self._set(*self._first)
        except UserError as error:  # a problem of another task, say
            self._first, mistake = (), str(error)
        told = "Press Run." if self._folders else NO_CHECKPOINT
        self.view.say(mistake or told, "error" if mistake else "info")
        self.view.on_msg(self._on_message)

    def _build_form(self, seed: int) -> None:
        form = self.task.form
        settings = setting_fields(list(self._folders))
        self.view.fields = [*map(vars, form.fields), *settings]
        values = {each["name"]: each["default"] for each in settings} | {"seed": str(seed)}
        self.view.values = form.texts(form.random_problem(self._random)) | values
        self.view.guide = [list(pair) for pair in guide(form.about)]

    def _ipython_display_(self) -> None:
        display(self.view)
        self._picture = display(HTML(""), display_id=True)
        if self._first and self.treeview is None:
            self._start(self._search)

    # What a user can do -------------------------------------------------------------------

    @property
    def tree(self) -> Any:
        """The search tree in the view, or None."""
        return self.shown.session.tree if self.shown else None

    @property
    def problem(self) -> Any:
        """The problem in the view, or None."""
        return self.shown.problem if self.shown else None

    def run(self, *problem: object, **settings: object) -> None:
        """Search the problem in the fields (or this one), and wait for the end."""
        self._set(*problem, **settings)
        self._worker.run(self._job(self._search))

    def random_problem(self) -> None:
        """Fill in a random problem that greedy decoding fails, search it, wait for the end."""
        self._worker.run(self._job(self._find_hard_problem))

    def expand(self, node: int) -> None:
        """Search on from the state of a node, and wait for the end."""
        self._worker.run(self._job(lambda: self._expand(node)))

    def play(self, node: int, step: str) -> None:
        """Add a step of the user's own below a node, with the model's verdict on it."""
        self._worker.run(self._job(lambda: self._play(node, step)))

    def stop(self) -> None:
        """Stop what is running; the tree stays as it was."""
        if self._worker.busy:
            self.view.say("Stopping …", "busy")
            self._halt.set()
            if hasattr(self._working, "stop"):
                self._working.stop()

    def wait(self) -> None:
        """Wait for what a button, or the display, started."""
        self._worker.wait()
        self._painter.wait()

    def figure(self, rule: str | None = None, truth: bool = False) -> Any:
        """The tree as a matplotlib figure; before a search, a figure that says so."""
        from lib.explorer.tree_figure import draw_message, draw_tree  # matplotlib: a second

        self.wait()
        if self.treeview is None:
            return draw_message(self.view.message["text"])
        return draw_tree(self.treeview, rule, truth)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the tree as a picture (.svg, .png, .pdf) or a page to share (.html)."""
        from lib.explorer.tree_figure import save_tree

        self.wait()
        if self.treeview is None:
            raise UserError(f"{path}: no tree to save yet; run a search first")
        if Path(path).suffix == ".html":
            return save_page(self.treeview, path, self.view.guide)
        return save_tree(self.treeview, path, **options)

    # Work --------------------------------------------------------------------------------

    def _job(self, work: Callable[[], Show]) -> Callable[[], Show]:
        """The work, which no earlier Stop ends."""

        def job() -> Show:
            self._halt.clear()
            return work()

        return job

    def _start(self, work: Callable[[], Show]) -> None:
        self._worker.start(self._job(work))

    def _at_work(self, engine: Any) -> Any:
        """The engine, which Stop now stops; a Stop that came while it was loaded counts."""
        if hasattr(engine, "resume"):
            engine.resume()
        self._working = engine
        if self._halt.is_set():
            raise UserError(STOPPED)
        return engine

    def _set(self, *problem: object, **values: object) -> None:
        names = [field.name for field in self.task.form.fields]
        given = dict(zip(names, problem, strict=False)) | values
        unknown = [name for name in given if name not in self.view.values]
        if unknown or len(problem) > len(names):
            known = ", ".join(self.view.values)
            raise UserError(f"{unknown or len(problem)}: the form's fields are {known}")
        texts = {name: str(value).strip() for name, value in given.items()}
        self.view.values = {**self.view.values, **texts}

    def _ready_engine(self) -> Any:
        """The engine of the chosen checkpoint, ready to work."""
        name = self.view.values["checkpoint"]
        if not self._folders:
            raise UserError(NO_CHECKPOINT)
        if name not in self._folders:
            known = ", ".join(self._folders)
            raise UserError(
                f"checkpoint {name!r}: not in the menu ({known}); an Explorer made anew finds what "
                "has come since"
            )
        folder = self._folders[name]
        if folder is not None:
            if folder not in self._loaded:
                self.view.say(f"Loading {Path(folder).name}; the first time, PyTorch too …", "busy")
                self._loaded = {folder: load_engine(folder, self.task)}
            self._engine = self._loaded[folder]
        return self._at_work(self._engine)

    def _search(self, typed: Mapping[str, str] | None = None) -> Show:
        """Search what the fields say; `typed` is what stood in the page's."""
        self.view.values = values = {**self.view.values, **(typed or {})}
        form = self.task.form
        problem, settings = form.parse(values), read_settings(values)
        engine = self._ready_engine()
        self.view.say("Searching …", "busy")
        tree = engine.search(form.prompt(problem), **settings)
        greedy = engine.greedy(form.prompt(problem))
        known = trained_on(self._root, self._folders.get(values["checkpoint"]), self.task)
        labels = make_labels(self.task, problem, values, greedy, known)
        self._searched_on = 0
        return self._view(Shown(problem, settings, engine, first_search(tree), labels))

    def _find_hard_problem(self, typed: Mapping[str, str] | None = None) -> Show:
        self.view.values = {**self.view.values, **(typed or {})}
        read_settings(self.view.values)  # a mistake there is told before minutes are spent
        engine, form = self._ready_engine(), self.task.form
        self.view.say("Looking for a problem that greedy decoding fails …", "busy")
        for _ in range(GREEDY_TRIES):
            problem = form.random_problem(self._random)
            if not self.task.check(problem, engine.greedy(form.prompt(problem))).correct:
                break
        else:
            raise UserError(f"Greedy decoding solved {GREEDY_TRIES} random problems; try again.")
        self.view.values = {**self.view.values, **form.texts(problem)}
        return self._search()

    def _expand(self, node: int) -> Show:
        shown = self._checked(node)
        self.view.say("Searching on from the selected state …", "busy")
        # A seed of its own, or searching on from the question would find what is already there.
        self._searched_on += 1
        settings = {**shown.settings, "seed": shown.settings["seed"] + self._searched_on}
        branch = self._at_work(shown.engine).search(self._prompt(node), **settings)
        session = search_further(shown.session, node, branch)
        added = len(session.tree.nodes) - len(shown.session.tree.nodes)
        line = f"Searched on: {times(added, 'new node')}; step on to see what is new."
        return self._view(replace(shown, session=session), node, line)

    def _play(self, node: int, text: str) -> Show:
        shown = self._checked(node)
        step = self.task.form.parse_step(str(text))
        if step is None:
            example = self.task.form.step_example
            raise UserError(f"{str(text)[:40]!r} is not a step; type one such as {example}.")
        engine = self._at_work(shown.engine)
        read = engine.read(self._prompt(node), step + self.task.step_end)
        verdict = "step back" if read.p_backtrack >= VERDICT_THRESHOLD else "go on"
        line = f"{step}: the model says {verdict}, P(<backtrack>) = {read.p_backtrack:.3f}."
        session, added = play_step(shown.session, node, step, read)
        return self._view(replace(shown, session=session), added, line)

    def _checked(self, node: int) -> Shown:
        """What is in the view, if one can go on from the node."""
        if self.tree is None or not 0 <= node < len(self.tree.nodes):
            raise UserError("No such node: run a search first.")
        if self.tree.nodes[node].kind not in ("root", "step"):
            raise UserError("A path ends at that node: choose a state before it.")
        return self.shown

    def _prompt(self, node: int) -> str:
        steps = state_steps(self.tree, node)
        return self.task.form.prompt(self.problem) + "".join(
            step + self.task.step_end for step in steps
        )

    def _view(self, shown: Shown, selected: int = 0, line: str = "") -> Show:
        """A session's view, to be shown: a search from its question on, else from what is new."""
        session, before = shown.session, self.shown
        notes = annotate(session.tree, shown.problem, self.task)
        decode = getattr(shown.engine, "token_texts", None)
        view = describe(session, notes, score_rules(session.tree), decode, shown.labels)
        nodes = [each["node"] for each in view.data["steps"]]
        step = 1 + nodes.index(selected)
        if before and line and len(session.parts) > len(before.session.parts):
            newest = len(session.parts) - 1
            step = 1 + next(p["first"] for p in view.data["phases"] if p["part"] == newest)
        self.shown, self.treeview = shown, view
        start = {"step": step, "selected": selected, "grown": bool(line)}

        def show() -> None:
            with self.view.hold_sync():
                self.view.tree = {**view.data, **start}
                self.view.say(line or self._summary(notes))
            self._keep_picture(view)

        return show

    def _summary(self, notes: list[Note]) -> str:
        finished = [note for note in notes if note.correct is not None]
        right = sum(bool(note.correct) for note in finished)
        paths = times(len(finished), "finished path")
        text = f"Search done: {len(notes)} nodes, {paths}, {right} correct."
        if notes[0].reachable is False:
            return text + " The exact solver finds no solution: this problem is impossible."
        return text + " Press Play or Step to watch it."

    def _keep_picture(self, view: TreeView) -> None:
        """The picture that stays in the notebook when the kernel is gone; drawing takes seconds."""
        picture = self._picture

        def draw() -> None:
            from lib.explorer.tree_figure import draw_tree

            png = draw_tree(view, most=PICTURED)._repr_png_()
            picture.update(HTML(saved_picture(png, view.data["title"])))

        if picture is not None:
            self._painter.ask(draw)

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        """A wish from the page; what is not understood is ignored."""
        self.view.send({"type": "received"})
        if not isinstance(content, dict):
            return
        kind, node, step, values = map(content.get, ("type", "node", "step", "values"))
        if kind in ("run", "random") and isinstance(values, dict):
            named = {k: v for k, v in values.items() if k in self.view.values}
            known = {k: v[:500] for k, v in named.items() if isinstance(v, str)}
            wish = self._search if kind == "run" else self._find_hard_problem
            self._start(lambda: wish(known))
        elif kind == "stop":
            self.stop()
        elif kind == "page" and self.treeview is not None:
            name = "".join(c if c.isalnum() else "-" for c in self.treeview.data["title"])
            page = {"type": "page", "text": tree_page(self.treeview, self.view.guide)}
            self.view.send(page | {"name": f"tree-{name}.html"})
            self.view.say(f"The page is saved as tree-{name}.html, among the browser's downloads.")
        elif kind == "expand" and isinstance(node, int):
            self._start(lambda: self._expand(node))
        elif kind == "play" and isinstance(node, int) and isinstance(step, str):
            self._start(lambda: self._play(node, step))
