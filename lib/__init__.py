"""Self-Backtracking (arXiv 2502.04404), end to end: one noun a module, its contract on top.

In the order data flows: profiles say what a run is, a task gives problems and traces, training
makes checkpoints of them, search makes trees of a checkpoint's samples, evaluation makes rows of
the trees, and plots make figures of the rows. `python -m lib.commands.reproduce` runs all of it.
"""

import os
import sys
from pathlib import Path

from lib.base.environment import settle

settle(os.environ, Path(__file__).resolve().parents[1], sys.orig_argv)
