import json
from collections import defaultdict
from itertools import pairwise

import pytest
from hand_made_tree import PROBLEM, TASK, make_tree
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.explorer.annotation import annotate
from lib.explorer.layout import BOX_HEIGHT, layout_rows, place, shorten
from lib.explorer.session import first_search
from lib.explorer.story import Rule, Story
from lib.explorer.tree_view import NO_COLOUR, Labels, colour, describe, struck_nodes


@pytest.fixture
def view():
    tree = make_tree()
    rules = [Rule("vote", "Vote", {3: 2.0, 7: 1.0}, 3), Rule("other", "Other", {}, None)]
    return describe(tree, annotate(tree, PROBLEM, TASK), rules, labels=Labels("2, 3, 4 → 10"))


def test_view_is_json_with_every_node(view):
    data = json.loads(json.dumps(view.data, allow_nan=False))
    assert [node["id"] for node in data["nodes"]] == list(range(10))
    assert data["nodes"][1]["edge"] == "2*3=6" and data["nodes"][3]["edge"] == ""
    assert data["nodes"][1]["tokens"] == [[f"#{10 + i}", -0.125] for i in range(5)]
    assert data["nodes"][1]["logprob"] == -0.625 and data["nodes"][0]["logprob"] is None
    assert data["prompt"] == PROBLEM.prompt() and data["title"] == "2, 3, 4 → 10"


def test_paths_and_rules(view):
    assert [path["leaf"] for path in view.data["paths"]] == [3, 7]
    first = view.data["paths"][0]
    assert first["steps"] == ["2*3=6", "6+4=10"] and first["visits"] == 2 and first["correct"]
    assert first["scores"] == {"vote": 2.0, "other": None}
    assert [rule["chosen"] for rule in view.data["rules"]] == [3, None]


def test_infinities_become_null():
    tree = make_tree()
    rules = [Rule("r", "R", {3: float("-inf"), 7: float("nan")}, 3)]
    view = describe(tree, annotate(tree, PROBLEM, TASK), rules)
    assert [path["scores"]["r"] for path in view.data["paths"]] == [None, None]


def test_struck_out_steps():
    assert struck_nodes(make_tree()) == {4, 5}


def test_backtrack_in_the_middle_of_a_step_strikes_only_itself():
    tree = make_tree()
    nodes = list(tree.nodes)
    object.__setattr__(nodes[5], "tokens", (52, 1))
    assert struck_nodes(tree) == {5}


def story_order(tree):
    story = Story(first_search(tree), annotate(tree, PROBLEM, TASK))
    return [step["node"] for step in story.steps]


def test_samples_are_revealed_side_by_side_and_a_roll_back_is_announced():
    assert story_order(make_tree()) == [0, 1, 4, 6, 2, 5, 7, 3, None, 8, 9, None]


def test_boxes_stand_right_of_their_parents_and_apart(view):
    columns = defaultdict(list)
    for node in view.nodes:
        edge_x, x, y = place(view.data, node)
        columns[node["depth"]].append(y)
        if node["parent"] is not None:
            parent = view.nodes[node["parent"]]
            assert edge_x > place(view.data, parent)[1] + parent["width"]
        assert x + node["width"] <= view.data["layouts"]["wide"]["width"]
    for rows in columns.values():
        assert all(b - a > BOX_HEIGHT for a, b in pairwise(sorted(rows)))


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_a_note_covers_nothing(view, name):
    """What stands beside a leaf reaches into no other node's place."""
    layout = view.data["layouts"][name]
    boxes = defaultdict(list)
    for node in view.nodes:
        edge, x = layout["columns"][node["depth"]]
        leaf = node["kind"] in ("goal", "backtrack", "limit")
        start = edge if leaf else x
        text = node["note"] if name == "wide" else node["short_note"]
        beside = node["width"] if name == "wide" else 0
        end = start + max(node["width"], beside + 6.3 * len(text))
        boxes[round(node["row"], 3)].append((edge, end))
        assert end <= layout["width"]
    for row, spans in boxes.items():
        spans.sort()
        assert all(a[1] <= b[0] for a, b in pairwise(spans)), row


def test_collapsed_branches_take_no_room():
    nodes = [{"id": node.id, "parent": node.parent} for node in make_tree().nodes]
    assert set(layout_rows(nodes, {0})) == {0}
    shown = {0, 1, 4, 5, 6, 7, 8}
    assert set(layout_rows(nodes, shown)) == shown
    assert max(layout_rows(nodes).values()) >= max(layout_rows(nodes, shown).values())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**6), max_size=120))
def test_layout_never_overlaps(choices):
    parents = [None, *(choice % (i + 1) for i, choice in enumerate(choices))]
    rows = layout_rows([{"id": i, "parent": parent} for i, parent in enumerate(parents)])
    depths, columns = [], defaultdict(list)
    for id_, parent in enumerate(parents):
        depths.append(0 if parent is None else depths[parent] + 1)
        columns[depths[id_]].append(rows[id_])
    assert min(rows.values()) == 0
    for column in columns.values():
        column.sort()
        assert all(b - a > 0.999 for a, b in pairwise(column))


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0, "#6baed6"), (0.5, "#f2f2f2"), (1, "#fd8d3c"), (2, "#fd8d3c"), (None, NO_COLOUR)],
)
def test_colour(p, expected):
    assert colour(p) == expected


def test_labels_are_one_short_line():
    assert shorten("45-39=6") == "45-39=6"
    assert shorten("a\nb\x00") == "a·b·"
    assert shorten("x" * 50) == "x" * 21 + "…"
