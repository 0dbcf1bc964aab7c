"""What an answer is worth: outcomes, statistics, and the paper's numbers and claims.

Takes search trees or responses with a task's verdicts; gives per-problem outcomes, tidy rows with
95% intervals, and the claims judged by them. Knows nothing of experiments or figures.
"""
