"""The tasks that a model can learn: Countdown, Sudoku, and the contract for a task of your own.

Takes a task's settings; gives problems, prompts, traces with their loss masks, and verdicts on
responses and states. Knows nothing of profiles, tokens, models or search.
"""
