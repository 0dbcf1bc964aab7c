import pytest
from hand_made_tree import PROBLEM, TASK, make_tree

from lib.explorer.annotation import annotate
from lib.explorer.session import Reading, first_search, play_step
from lib.explorer.story import Story
from lib.explorer.tree_view import score_rules


def tell(session):
    return Story(session, annotate(session.tree, PROBLEM, TASK), "Numbers left", "2, 3, 4 → 10")


@pytest.fixture
def story():
    return tell(first_search(make_tree()))


def test_phases_and_their_steps(story):
    phases = [(each["title"], each["kind"], each["first"], each["count"]) for each in story.phases]
    assert phases == [
        ("Expand", "expand", 0, 8),
        ("Roll-back 1", "rollback", 8, 3),
        ("Select", "select", 11, 1),
    ]
    assert [step["phase"] for step in story.steps] == [0] * 8 + [1] * 3 + [2]


def test_sentences(story):
    told = {step["node"]: step["text"] for step in story.steps}
    assert told[1] == (
        "Sampled from the question: 2*3=6 (2 samples). Numbers left: 4, 6; the model gives "
        "<backtrack> 25% there."
    )
    assert told[2].startswith("Sampled after 2*3=6: 6+4=10 (2 samples).")
    assert told[5] == (
        "After 4-3=1, <backtrack> is sampled (1 sample). The model gives it 54% there; this branch "
        "ends."
    )
    assert told[3] == "After 6+4=10, the model stops. Right."
    assert told[7] == "After 3+2=5, the model stops. Wrong: stops with 4 and 5 left."
    assert told[8].startswith("Sampled anew from the question: 2*3=7 (1 sample). Not legal: 2*3 is")
    assert told[9] == "After 2*3=7, the sample is cut off: it reached the limit of tokens."


def test_a_backtrack_that_came_by_chance(story):
    tree = make_tree()
    object.__setattr__(tree.nodes[5], "logprobs", (-2.0,))
    told = {step["node"]: step["text"] for step in tell(first_search(tree)).steps}
    assert "gives it 14% there, so it came by chance; this branch ends" in told[5]


def test_a_roll_back_is_announced_with_its_states(story):
    [step] = [step for step in story.steps if step.get("states")]
    assert step["states"] == [0]
    assert step["text"].startswith("1 state, one step back from a <backtrack>, is expanded again")
    assert story.returns == [{"phase": 1, "from": 5, "to": 0, "main": True}]


def test_the_first_right_path_after_a_roll_back_is_announced():
    tree = make_tree()
    for node in (1, 2, 3):
        object.__setattr__(tree.nodes[node], "level", 1)
    told = {step["node"]: step["text"] for step in tell(first_search(tree)).steps}
    assert told[3].endswith("Right. The first right path, and it took a roll-back to find it.")


def test_what_was_chosen_and_why(story):
    paper, *_, vote = sorted(score_rules(story.session.tree), key=lambda rule: rule.name == "vote")
    assert story.choice(paper) == (
        "Chosen: 2*3=6, 6+4=10, because its mean log-probability, -0.292, is the highest of 2 "
        "finished paths. Found in the first expansion. It is right."
    )
    assert "its number of samples, 2, is the highest" in story.choice(vote)


def test_a_step_of_ones_own():
    session, added = play_step(first_search(make_tree()), 1, "6-4=2", Reading((60,), (-0.5,), 0.9))
    story = tell(session)
    assert [phase["title"] for phase in story.phases][-2:] == ["Your step", "Select"]
    assert story.steps[-2]["node"] == added
    assert story.steps[-2]["text"].startswith("Your own step, after 2*3=6: 6-4=2. Numbers left: 2;")
    assert story.found(session.tree.nodes[added]) == "a step of your own"
