"""Studies: one file for each question of a run, and the catalogue that lists them.

Takes an experiment; gives what is to be made (`requests`), rows, figures and words. `paper/` has
the paper's tables and figures, `beyond/` our own questions. Knows nothing of pages or commands.
"""

import lib  # noqa: F401  (first of all, it shuts the machine's own settings out)
