"""Language models and tokenizers: from scratch at a size of ours, or pretrained ones.

Takes a profile's sizes or path, and a task's texts; gives ordinary transformers models, token ids
with loss codes, and what a model costs. Knows nothing of training, search or experiments.
"""
