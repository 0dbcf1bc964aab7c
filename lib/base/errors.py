"""The one exception for mistakes that a user can mend (bad profiles, files, tasks), and how a
command ends on it."""

import sys
from collections.abc import Callable

MOST_SHOWN = 2_000


class UserError(Exception):
    """A mistake in what was given; one line says what, where, and what would be right.

    Texts of unknown origin stand in it, so what is not printable (line ends, terminal codes) is
    shown by its escape, and the middle of a very long line is left out. `more` are further lines.
    """

    def __init__(self, message: object = "", *more: object) -> None:
        super().__init__("\n  ".join(printable(str(line)) for line in (message, *more)))


def printable(text: str) -> str:
    """The text on one line of at most about `MOST_SHOWN` characters, safe on a terminal."""
    if len(text) > MOST_SHOWN:
        half = MOST_SHOWN // 2
        text = f"{text[:half]} … {text[-half:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def exit_status(work: Callable[[], object]) -> int:
    """Do a command's work -> its exit status; what stopped it is told in one line."""
    try:
        work()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; what was made is kept, and the same command goes on", file=sys.stderr)
        return 130
    return 0


def first_line(error: BaseException) -> str:
    """What an error says in one line; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
