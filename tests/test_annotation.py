from hand_made_tree import PROBLEM, TASK, make_tree

from lib.explorer.annotation import annotate, judge_answer


def test_states():
    notes = annotate(make_tree(), PROBLEM, TASK)
    assert [note.state for note in notes] == [
        *("2, 3, 4", "4, 6", "10", "10", "2, 1", "2, 1", "4, 5", "4, 5"),
        *(None, None),
    ]
    assert notes[8].reason == "2*3 is 6, not 7"


def test_truth_and_wrong_verdicts():
    notes = annotate(make_tree(), PROBLEM, TASK)
    assert [note.reachable for note in notes] == [True] * 4 + [False] * 6
    # Node 2 can reach the target (it is there) yet P(<backtrack>) is 0.75; node 7 claims a goal.
    assert [id_ for id_, note in enumerate(notes) if note.wrong] == [2, 7]


def test_strict_check_of_finished_paths_only():
    notes = annotate(make_tree(), PROBLEM, TASK)
    checked = {id_: (n.correct, n.error) for id_, n in enumerate(notes) if n.correct is not None}
    assert checked == {3: (True, None), 7: (False, "not reached target")}
    assert notes[7].reason == "stops with 4 and 5 left" and notes[3].reason == ""


def test_truth_in_words():
    notes = annotate(make_tree(), PROBLEM, TASK)
    assert notes[0].truth == "10 is in reach"
    assert notes[2].truth == "10 is in reach, and the model would rather step back"
    assert notes[5].truth == "right to go back" and notes[4].truth == "10 is out of reach"
    tree = make_tree()
    object.__setattr__(tree.nodes[5], "parent", 1)
    assert annotate(tree, PROBLEM, TASK)[5].truth == "gave up too early: 10 was in reach"
    object.__setattr__(tree.nodes[5], "tokens", (52, 1))
    unfinished = annotate(tree, PROBLEM, TASK)[5]
    assert unfinished.truth == "took back an unfinished step" and not unfinished.wrong


def test_an_answer_and_where_it_lost_the_target():
    right = judge_answer(TASK, PROBLEM, "2*3=6\n6+4=10\nGoal Reached!")
    assert right == {"steps": ["2*3=6", "6+4=10"], "correct": True, "note": "✓ right"}
    lost = judge_answer(TASK, PROBLEM, "4-3=1\n2*1=2\nGoal Reached!")
    assert lost["note"] == "✕ ends at 2, not 10; from 4-3=1 on, 10 was out of reach"
    illegal = judge_answer(TASK, PROBLEM, "2*3=7\n7+4=11\nGoal Reached!")
    assert illegal["note"] == "✕ 2*3 is 6, not 7" and not illegal["correct"]
