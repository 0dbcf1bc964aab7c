"""`make bench`: this machine's speeds, each beside its plain counterpart.

Takes a profile or a checkpoint; prints rates and ratios. Nothing in lib/ imports it.
"""

import lib  # noqa: F401  (first of all, it shuts the machine's own settings out)
