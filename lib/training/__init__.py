"""Training: what a model, a reward model or a preference learns from, on one device or many.

Takes a model, tokenized traces (or sampled paths with verdicts) and a recipe; leaves a checkpoint
that plain transformers loads, and its loss curve. Knows nothing of tasks, searches or experiments.
"""
