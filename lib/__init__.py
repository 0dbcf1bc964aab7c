"""Self-Backtracking (arXiv 2502.04404) in rooms: each imports only from those before it.

base, tasks, profiles, models, search, evaluation, drawing, training, experiment, explorer. Data
flows the same way: a profile says what a run is, a task gives problems and traces, training makes
checkpoints of them, search makes trees, evaluation makes rows of the trees. Knows nothing of
`studies/`, which ask the questions, and of `commands/`: `python -m commands.reproduce` runs it all.
"""

import os
import sys
from pathlib import Path

from lib.base.processes import settle

settle(os.environ, Path(__file__).resolve().parents[1], sys.orig_argv)
