"""Work for a widget, one thing at a time, in a thread: the page and Stop stay alive.

Takes functions; whatever goes wrong in one becomes a line in the widget. Knows nothing of searches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context

from lib.base.errors import UserError
from lib.explorer.widget import TreeWidget

STOPPED = "stopped"  # what an engine that was stopped says
BUSY = "A search is under way: wait for it to end, or press Stop."

#: What is to be shown when the work is done.
Show = Callable[[], None]


class Worker:
    """Does one thing at a time; a second one is refused with a line."""

    def __init__(self, view: TreeWidget):
        self.view = view
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        return self._lock.locked()

    def start(self, work: Callable[[], Show]) -> bool:
        """Do `work` in a thread; False where something is under way."""
        if not self._acquire():
            return False
        self._thread = _thread(lambda: self._locked(work))
        return True

    def run(self, work: Callable[[], Show]) -> None:
        """Do `work` and wait for its end."""
        if self._acquire():
            self._locked(work)

    def wait(self) -> None:
        """Wait for what was started."""
        if self._thread is not None:
            self._thread.join()

    def _acquire(self) -> bool:
        if self._lock.acquire(blocking=False):
            return True
        self.view.say(BUSY, "error")
        return False

    def _locked(self, work: Callable[[], Show]) -> None:
        """Do `work` while holding the lock; what it gives is shown when the next can begin."""
        self.view.busy = True
        try:
            show = self._done(work)
        finally:
            self.view.busy = False
            self._lock.release()
        show()

    def _done(self, work: Callable[[], Show]) -> Show:
        """Do `work`; this is the edge where every failure becomes a line."""
        try:
            return work()
        except UserError as error:
            line = str(error)
            if line == STOPPED:
                line = "Stopped; the tree is as it was."
        except KeyboardInterrupt:
            line = "Interrupted; the tree is as it was."
        except Exception as error:
            told = (str(error).strip() or "no message").splitlines()[0][:200]
            line = f"That failed ({type(error).__name__}: {told}). Try again."
        return lambda: self.view.say(line, "error")


class Latest:
    """Does the latest of what it is asked to do, in a thread of its own; what came before and has
    not begun is dropped."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last = None

    def ask(self, work: Callable[[], None]) -> None:
        if self._last is not None:
            self._last.cancel()
        self._last = self._pool.submit(copy_context().run, work)

    def wait(self) -> None:
        """Wait until nothing is left to do."""
        wait([self._last] if self._last else [])


def _thread(work: Callable[[], None]) -> threading.Thread:
    """A thread that does `work` on behalf of whoever starts it.

    Without its context a kernel takes what the thread sends for the answer to whatever came last,
    and routes the widget's next message to where that came from, which may be gone.
    """
    thread = threading.Thread(target=copy_context().run, args=(work,), daemon=True)
    thread.start()
    return thread
