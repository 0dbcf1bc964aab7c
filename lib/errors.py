"""The one exception for mistakes that a user can mend (bad profiles, files, tasks), and how a
command ends on it."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake in what was given; one line says what, where, and what would be right."""


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
