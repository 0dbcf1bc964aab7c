"""Large inputs are not held: what `make load` measures at full size, in little and at once."""

import weakref

from load import Repeating
from scripted_engine import LINES

from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from lib.search.search import iter_search, search
from lib.search.search_file import search_to_file
from lib.search.tree import SearchTree, TreeFile
from lib.tasks.countdown import problems
from lib.tasks.countdown.task import CountdownTask

TASK = CountdownTask(problems.Settings(4, 25, 10, 75, 99, 0.1))

PROMPTS = [f"###Question: numbers [3, 4]->target {n}\n###Response:\n" for n in range(12)]


def alive(references: list) -> int:
    return sum(reference() is not None for reference in references)


def test_a_search_holds_one_chunk_of_trees_and_a_file_one_tree(tmp_path):
    how = (Repeating(), LINES, PROMPTS)
    seen = []
    for trees in iter_search(*how, SearchSpec(4, 1, chunk=2)):
        seen += map(weakref.ref, trees)
        assert alive(seen) == 2
        del trees
    path = search_to_file(tmp_path / "trees.jsonl", *how, SearchSpec(4, 1, chunk=5))
    seen = []
    for tree in TreeFile(path):
        seen.append(weakref.ref(tree))
        assert alive(seen) == 1
        del tree
    assert list(TreeFile(path)) == search(*how, SearchSpec(4, 1, chunk=5))


def test_a_prompt_of_1500_characters_is_searched():
    """Longer than any that a from-scratch model is made for: it is read whole."""
    tokenizer = build_tokenizer(TASK.pieces)
    steps = StepTokenizer(tokenizer, TASK.step_end)
    model = build_model(tokenizer, 16, 1, 2, seed=0)
    numbers = ", ".join(str(n % 90 + 10) for n in range(362))
    prompt = f"###Question: numbers [{numbers}]->target 62\n###Response:\n"
    assert 1_490 < len(prompt) < 1_510
    sampler = make_sampler(model, steps, 12)
    (tree,) = search(sampler, steps, [prompt], SearchSpec(4, 1, 1.0, 1))
    assert tree.prompt == prompt and sum(leaf.visits for leaf in tree.leaves()) >= 4
    assert SearchTree.from_json(tree.to_json()) == tree
    (ids,) = steps.encode_prompts([prompt])
    assert tokenizer.decode(ids) == prompt and tokenizer.unk_token_id not in ids
