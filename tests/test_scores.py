from hand_made_tree import make_tree

from lib.explorer.tree_view import score_rules
from lib.explorer.words import SCORES
from lib.search.selection import SELECTION_RULES


def test_every_rule_has_a_score_and_its_choice_scores_highest():
    rules = score_rules(make_tree())
    assert [rule.name for rule in rules] == list(SELECTION_RULES) == list(SCORES)
    for rule in rules:
        assert set(rule.scores) == {3, 7} and rule.title and rule.phrase and rule.tip
        assert rule.scores[rule.chosen] == max(rule.scores.values())


def test_the_papers_score_exactly():
    [paper] = [rule for rule in score_rules(make_tree()) if rule.name == "mean_logprob"]
    # Tokens: 5 at -1/8, 6 at -2/8, 13 at -3/8; and 5 at -6/8, 13 at -7/8.
    assert paper.scores == {3: -(5 + 12 + 39) / 8 / 24, 7: -(30 + 91) / 8 / 18}
    assert paper.chosen == 3
