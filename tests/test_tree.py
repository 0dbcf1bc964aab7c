"""What is asked of a tree, and what is added to one; its tokens against a search's own counts."""

from hand_made_tree import make_tree
from sampled_trees import TASK, TREE

from lib.evaluation.states import sample_order
from lib.models.llama import build_model
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.search_spec import SearchSpec
from lib.search.sampler import make_sampler
from lib.search.search import search
from lib.search.tree import (
    Node,
    SearchTree,
    add_step,
    insert_branch,
    path_tokens,
    state_steps,
    tokens_after,
)


def branch_from_node_1() -> SearchTree:
    nodes = (
        Node(0, None, "root", 0, "", (), (), 0.25, 4),
        Node(1, 0, "step", 0, "6+4=10", (20, 21, 22, 23, 24, 25), (-0.25,) * 6, 0.75, 3),
        Node(2, 1, "backtrack", 0, "<backtrack>", (1,), (-1.0,), None, 1),
        Node(3, 0, "step", 1, "6-4=2", (60,), (-1.0,), 0.9, 1),
    )
    return SearchTree(7, "", 4, 1, 0.7, 0, nodes, ((0, 0), (1, 1)), 10, 12, "\n")


def test_inserting_a_branch_keeps_old_ids_and_merges_equal_steps():
    tree = make_tree()
    grown = insert_branch(tree, 1, branch_from_node_1())
    assert [node.id for node in grown.nodes] == list(range(12))
    assert grown.nodes[2].visits == 5 and grown.nodes[1].visits == 2
    assert [(n.parent, n.kind, n.level) for n in grown.nodes[10:]] == [
        (2, "backtrack", 2),
        (1, "step", 3),
    ]
    assert grown.expanded == ((0, 0), (0, 1), (1, 2), (2, 3))
    assert (grown.tokens_generated, grown.tokens_sampled) == (50, 72)
    assert tree == make_tree()


def test_add_step_once():
    tree, added = add_step(make_tree(), 1, "6-4=2", (60,), 0.9)
    assert added == 10 and tree.nodes[10].level == 2 and tree.nodes[10].visits == 0
    assert add_step(tree, 1, "6-4=2", (60,), 0.9) == (tree, 10)
    assert add_step(tree, 1, "6+4=10", (), 0.1) == (tree, 2)


def test_state_steps():
    assert state_steps(make_tree(), 3) == ["2*3=6", "6+4=10"]
    assert state_steps(make_tree(), 0) == []


def test_shared_tokens_count_once():
    # 5 6 7 1; again; 5 8 1 shares 5; 9 1 shares nothing.
    assert tokens_after(TREE, [2, 2, 4, 6, 6]) == [4, 4, 6, 8, 8]


def test_tokens_of_all_samples_are_what_the_search_generated():
    tokenizer = StepTokenizer(build_tokenizer(TASK.pieces), TASK.step_end)
    model = build_model(tokenizer.base, 16, 1, 2, seed=1).eval()
    table = TASK.make_problems({"seen": 6}, 0)
    sampler = make_sampler(model, tokenizer, 12)
    for found in search(sampler, tokenizer, TASK.prompts(table), SearchSpec(16, 0, 0.7, 3)):
        order = sample_order(found, 0)
        assert tokens_after(found, order)[-1] == found.tokens_generated
        assert sum(len(path_tokens(found, leaf)) for leaf in order) == found.tokens_sampled
