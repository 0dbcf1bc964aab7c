"""Search with a trained model: samples of its continuations, trees of them, and an answer.

Takes a model, a tokenizer with the task's step end, prompts and a `SearchSpec`; gives search trees
(JSON lines), decoded responses and selection rules. Knows nothing of tasks, checkers or training.

To be read in this order: search, tree, selection; below them sampler, rollout, expansion and beams,
kv_trie and kv_cache; beside them search_file, parallel, vllm, decoding, guided_dfs and variants.
"""
