"""The tree explorer: type a problem, watch the model search, step by step.

Takes a checkpoint (or any engine with `search`, `greedy` and `verdict`); gives a widget, the same
tree as a figure, and files to share. Knows nothing of how a tree is laid out or drawn
(`lib.explorer.tree_view`, lib/explorer.js). Whatever goes wrong becomes a message in the widget.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as ipw
import traitlets
from matplotlib.figure import Figure

from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.explorer.engine import Controls, checkpoint_choices
from lib.explorer.tree_figure import TreeFigure, draw_tree, save_page, save_tree
from lib.explorer.tree_view import TreeView, describe, layout_y
from lib.search.tree import add_step, insert_branch, state_steps
from lib.tasks.countdown.interactive import (
    DEFAULT_RANGES,
    annotate,
    parse_problem,
    problem_ranges,
    random_problem,
)
from lib.tasks.countdown.rules import Problem, check, parse_step
from lib.tasks.countdown.solver import reachable

GREEDY_TRIES = 40
BUSY = "A search is under way: wait for it to end, or press Stop."
NO_CHECKPOINT = (
    "No checkpoint here yet: `make reproduce` trains one (and puts the small one into models/). "
    "Then run this cell again."
)


class Explorer(ipw.VBox):
    """Controls and the tree. Every public method can also be called from a cell.

    `profile` names the settings for random problems; `checkpoint` a folder beyond those found in
    models/ and runs/; `engine` takes the place of any checkpoint.
    """

    def __init__(
        self,
        profile: str = "cpu",
        seed: int = 0,
        checkpoint: str | Path = "",
        engine: Any = None,
        root: Path = ROOT,
    ):
        self.problem: Problem | None = None
        self.tree: Any = None
        self.treeview: TreeView | None = None
        self.view = TreeWidget()
        self._engine, self._loaded, self._searched_on = engine, {}, 0
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        checkpoints = {"given engine": None}
        if engine is None:
            checkpoints = checkpoint_choices(root, f"{profile}-{seed}", checkpoint)
        self.view.say("Press Run." if checkpoints else NO_CHECKPOINT)
        try:
            self._ranges = problem_ranges(root, profile)
        except UserError as error:
            self._ranges = DEFAULT_RANGES
            self.view.say(str(error), "error")
        first = random_problem(self._random, **self._ranges)
        self.controls = Controls(checkpoints, first, seed)
        self.controls.run.on_click(lambda _: self._start(self._search))
        self.controls.stop.on_click(lambda _: self.stop())
        self.controls.random.on_click(lambda _: self._start(self._find_hard_problem))
        self.view.on_msg(self._on_message)
        super().__init__([self.controls, self.view])

    # What a user can do -------------------------------------------------------------------

    def run(self, numbers: str | None = None, target: int | str | None = None) -> None:
        """Search the problem in the fields (or this one), and wait for the end."""
        if numbers is not None:
            self.controls.numbers.value = str(numbers)
        if target is not None:
            self.controls.target.value = str(target)
        self._run(self._search)

    def random_problem(self) -> None:
        """Fill in a random problem that greedy decoding fails, search it, wait for the end."""
        self._run(self._find_hard_problem)

    def expand(self, node: int) -> None:
        """Search on from the state of a node, and wait for the end."""
        self._run(lambda: self._expand(node))

    def play(self, node: int, step: str) -> None:
        """Add a step of the user's own below a node, with the model's verdict on it."""
        self._run(lambda: self._play(node, step))

    def stop(self) -> None:
        """Stop what is running; the tree stays as it was."""
        engine = self._engine
        if self._lock.locked() and hasattr(engine, "stop"):
            engine.stop()
            self.view.say("Stopping …", "busy")

    def wait(self) -> None:
        """Wait for what a button started."""
        if self._thread is not None:
            self._thread.join()

    def figure(self, rule: str | None = None, truth: bool = False) -> Figure:
        """The tree as a matplotlib figure; before a search, a figure that says so."""
        if self.treeview is not None:
            return draw_tree(self.treeview, rule, truth)
        figure = TreeFigure(figsize=(7, 0.8))
        figure.text(0.01, 0.5, self.view.message["text"], va="center", wrap=True, parse_math=False)
        return figure

    def save(self, path: str | Path, **options: Any) -> Path:
        """Write the tree as a picture (.svg, .png, .pdf) or a page to share (.html)."""
        if self.treeview is None:
            raise UserError(f"{path}: no tree to save yet; run a search first")
        if Path(path).suffix == ".html":
            return save_page(self.treeview, path)
        return save_tree(self.treeview, path, **options)

    # Work, one at a time ------------------------------------------------------------------

    def _start(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread, so that the page and Stop stay alive."""
        if not self._lock.acquire(blocking=False):
            self.view.say(BUSY, "error")
            return
        self._thread = threading.Thread(target=self._locked, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        if not self._lock.acquire(blocking=False):
            self.view.say(BUSY, "error")
            return
        self._locked(work)

    def _locked(self, work: Callable[[], None]) -> None:
        """Do `work` while holding the lock; this is the edge where every failure becomes a line."""
        try:
            self.controls.set_busy(True)
            if hasattr(self._engine, "resume"):
                self._engine.resume()
            work()
        except UserError as error:
            text = str(error)
            stopped = text == "stopped"
            self.view.say("Stopped; the tree is as it was." if stopped else text, "error")
        except KeyboardInterrupt:
            self.view.say("Interrupted; the tree is as it was.", "error")
        except Exception as error:
            line = (str(error).strip() or "no message").splitlines()[0][:200]
            self.view.say(f"That failed ({type(error).__name__}: {line}). Try again.", "error")
        finally:
            self.controls.set_busy(False)
            self._lock.release()

    def _ready_engine(self) -> Any:
        """The engine of the chosen checkpoint, loaded once."""
        folder = self.controls.checkpoint.value
        if folder is None:
            if self._engine is None:
                raise UserError(NO_CHECKPOINT)
            return self._engine
        if folder not in self._loaded:
            self.view.say(f"Loading {Path(folder).name} …", "busy")
            from lib.explorer.engine import (
                Engine,  # imports torch, for seconds: not before it is needed
            )

            self._loaded = {folder: Engine(folder)}
        self._engine = self._loaded[folder]
        return self._engine

    def _search(self) -> None:
        problem = parse_problem(self.controls.numbers.value, self.controls.target.value)
        engine = self._ready_engine()
        self.view.say("Searching …", "busy")
        tree = engine.search(problem, **self.controls.search_settings())
        self.problem, self._searched_on = problem, 0
        self._show(tree, step=1, selected=0)

    def _find_hard_problem(self) -> None:
        engine = self._ready_engine()
        self.view.say("Looking for a problem that greedy decoding fails …", "busy")
        for _ in range(GREEDY_TRIES):
            problem = random_problem(self._random, **self._ranges)
            if not check(problem, engine.greedy(problem)).correct:
                break
        else:
            raise UserError(f"Greedy decoding solved {GREEDY_TRIES} random problems; try again.")
        self.controls.set_problem(problem)
        self._search()

    def _expand(self, node: int) -> None:
        self._check_state(node)
        engine = self._ready_engine()
        self.view.say("Searching on from the selected state …", "busy")
        steps = state_steps(self.tree, node)
        # A seed of its own, or searching on from the question would find what is already there.
        self._searched_on += 1
        settings = self.controls.search_settings()
        settings["seed"] += self._searched_on
        branch = engine.search(self.problem, **settings, steps=steps)
        before = len(self.tree.nodes)
        tree = insert_branch(self.tree, node, branch)
        added = len(tree.nodes) - before
        step = before + 1 if added else before
        self._show(tree, step, node, f"Searched on: {added} new nodes; step on to see them.")

    def _play(self, node: int, text: str) -> None:
        self._check_state(node)
        text = str(text).strip().replace(" ", "")
        if parse_step(text) is None:
            raise UserError(f"{text[:40]!r} is not a step; type one such as 45-39=6.")
        engine = self._ready_engine()
        p_backtrack = engine.verdict(self.problem, [*state_steps(self.tree, node), text])
        tokens = engine.tokens(text + "\n") if hasattr(engine, "tokens") else ()
        tree, added = add_step(self.tree, node, text, tokens, p_backtrack)
        verdict = "step back" if p_backtrack >= 0.5 else "go on"
        line = f"{text}: the model says {verdict}, P(<backtrack>) = {p_backtrack:.3f}."
        self._show(tree, len(tree.nodes), added, line)

    def _check_state(self, node: int) -> None:
        if self.tree is None or not 0 <= node < len(self.tree.nodes):
            raise UserError("No such node: run a search first.")
        if self.tree.nodes[node].kind not in ("root", "step"):
            raise UserError("A path ends at that node: choose a state before it.")

    def _show(self, tree: Any, step: int, selected: int, line: str | None = None) -> None:
        from lib.explorer.tree_view import score_rules  # imports torch too

        numbers = ", ".join(map(str, self.problem.numbers))
        decode = getattr(self._engine, "token_texts", None)
        notes = annotate(tree, self.problem)
        title = f"{numbers} → {self.problem.target}"
        self.tree = tree
        self.treeview = describe(tree, notes, score_rules(tree), decode, title)
        with self.view.hold_sync():
            if line is None:
                self.view.places = {}
            start = {"step": step, "selected": selected, "grown": line is not None}
            self.view.tree = {**self.treeview.data, **start}
            self.view.step, self.view.selected = step, selected
            self.view.say(line or self._summary(notes))

    def _summary(self, notes: list[Any]) -> str:
        finished = [note for note in notes if note.correct is not None]
        right = sum(note.correct for note in finished)
        text = f"Search done: {len(notes)} nodes, {len(finished)} finished paths, {right} correct."
        if not reachable(self.problem.numbers, self.problem.target):
            return text + " The exact solver finds no solution: this problem is impossible."
        return text + " Press Play or Step to watch it."

    def _on_message(self, _: Any, content: Any, __: Any) -> None:
        """A wish from the page; what is not understood is ignored."""
        self.view.send({"type": "received"})
        if not isinstance(content, dict):
            return
        kind, node, step = content.get("type"), content.get("node"), content.get("step")
        if kind == "collapse" and self.tree is not None:
            wished = content.get("nodes") or []
            self.view.places = layout_y(self.tree, set(wished)) if wished else {}
        elif kind == "expand" and isinstance(node, int):
            self._start(lambda: self._expand(node))
        elif kind == "play" and isinstance(node, int) and isinstance(step, str):
            self._start(lambda: self._play(node, step))


class TreeWidget(anywidget.AnyWidget):
    """`step` is the number of nodes shown; `places` the rows while branches are collapsed."""

    _esm = Path(__file__).with_name("explorer.js")
    _css = Path(__file__).with_name("explorer.css")
    tree = traitlets.Dict().tag(sync=True)
    step = traitlets.Int(1).tag(sync=True)
    selected = traitlets.Int(0).tag(sync=True)
    places = traitlets.Dict().tag(sync=True)
    message = traitlets.Dict().tag(sync=True)

    def say(self, text: str, kind: str = "info") -> None:
        """Show one line above the tree; `kind` is info, busy or error."""
        self.message = {"kind": kind, "text": text}
