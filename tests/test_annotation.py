from hand_made_tree import PROBLEM, make_tree

from lib.tasks.countdown.interactive import annotate


def test_numbers_and_labels():
    notes = annotate(make_tree(), PROBLEM)
    assert [note.numbers for note in notes[:3]] == [(2, 3, 4), (4, 6), (10,)]
    assert [note.label for note in notes] == [
        *("2, 3, 4", "4, 6", "10", "goal", "2, 1", "backtrack", "4, 5", "goal"),
        *("not legal", "cut off"),
    ]
    assert notes[8].numbers is None


def test_truth_and_wrong_verdicts():
    notes = annotate(make_tree(), PROBLEM)
    assert [note.reachable for note in notes] == [True] * 4 + [False] * 6
    # Node 2 can reach the target (it is there) yet P(<backtrack>) is 0.75; node 7 claims a goal.
    assert [id_ for id_, note in enumerate(notes) if note.wrong] == [2, 7]


def test_strict_check_of_finished_paths_only():
    notes = annotate(make_tree(), PROBLEM)
    checked = {id_: (n.correct, n.error) for id_, n in enumerate(notes) if n.correct is not None}
    assert checked == {3: (True, None), 7: (False, "not reached target")}
