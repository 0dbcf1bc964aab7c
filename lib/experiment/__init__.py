"""An experiment: artifacts made once, keyed by inputs and code, and a planner that makes none.

Takes a profile and a seed; gives problems, checkpoints, search trees and decoded responses in a
run's folder, resumable at any moment. Knows nothing of any one study.
"""
