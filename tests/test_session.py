from hand_made_tree import make_tree

from lib.explorer.session import (
    FURTHER,
    PLAYED,
    Reading,
    first_search,
    one_step_back,
    play_step,
    search_further,
    state_steps,
)
from lib.search.tree import Node, SearchTree


def branch_from_node_1() -> SearchTree:
    nodes = (
        Node(0, None, "root", 0, "", (), (), 0.25, 4),
        Node(1, 0, "step", 0, "6+4=10", (20, 21, 22, 23, 24, 25), (-0.25,) * 6, 0.75, 3),
        Node(2, 1, "backtrack", 0, "<backtrack>", (1,), (-1.0,), None, 1),
        Node(3, 0, "step", 1, "6-4=2", (60,), (-1.0,), 0.9, 1),
    )
    return SearchTree(7, "", 4, 1, 0.7, 0, nodes, ((0, 0), (1, 1)), 10, 12, "\n")


def test_a_further_search_keeps_old_ids_and_merges_equal_steps():
    tree = make_tree()
    session = search_further(first_search(tree), 1, branch_from_node_1())
    grown = session.tree
    assert [node.id for node in grown.nodes] == list(range(12))
    assert [(n.parent, n.kind, n.level) for n in grown.nodes[10:]] == [
        (2, "backtrack", 0),
        (1, "step", 1),
    ]
    assert session.part_of == (0,) * 10 + (1,) * 2
    part = session.parts[1]
    assert (part.kind, part.start, part.expanded) == (FURTHER, 1, ((1, 0), (2, 1)))
    assert (grown.tokens_generated, grown.tokens_sampled) == (50, 72)
    assert tree == make_tree()


def test_votes_count_the_first_search_alone():
    session = search_further(first_search(make_tree()), 1, branch_from_node_1())
    assert [session.tree.nodes[node].visits for node in (1, 2, 10, 11)] == [2, 2, 0, 0]
    assert [session.further_samples(node) for node in (1, 2, 10, 11)] == [0, 3, 1, 1]


def test_continuations_of_a_state():
    session = search_further(first_search(make_tree()), 1, branch_from_node_1())
    assert session.continuations(0, 0) == 5  # four of the first expansion, one of the roll-back
    assert session.continuations(1, 0) == 0  # samples passed through; none was its own
    assert session.continuations(1, 1) == 4


def test_a_step_is_played_once_and_is_nobodys_sample():
    reading = Reading((60,), (-0.5,), 0.9)
    session, added = play_step(first_search(make_tree()), 1, "6-4=2", reading)
    node = session.tree.nodes[added]
    assert (added, node.level, node.visits, node.logprobs) == (10, 0, 0, (-0.5,))
    assert session.parts[session.part_of[added]].kind == PLAYED
    assert play_step(session, 1, "6-4=2", reading) == (session, 10)
    assert play_step(session, 1, "6+4=10", reading) == (session, 2)


def test_one_step_back():
    session = first_search(make_tree())
    assert one_step_back(session, session.tree.nodes[5]) == 0
    object.__setattr__(session.tree.nodes[5], "tokens", (52, 1))
    assert one_step_back(session, session.tree.nodes[5]) == 4


def test_state_steps():
    assert state_steps(make_tree(), 3) == ["2*3=6", "6+4=10"]
    assert state_steps(make_tree(), 0) == []
