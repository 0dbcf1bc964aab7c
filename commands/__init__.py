"""What `make` calls: reproduce, plan, figures, ablations.

Takes the command line; prints, writes and ends with an exit status. What they do is in the rooms
below; nothing imports them but the tests.
"""

import lib  # noqa: F401  (first of all, it shuts the machine's own settings out)
