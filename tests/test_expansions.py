"""Expansions measured: rows for every kind, N and b; b = 0 out of the deeper search; the figure."""

import dataclasses

import pytest
from test_measurements import small

from lib.base.errors import UserError
from lib.drawing.markdown import shown
from lib.evaluation.results import table
from lib.search.tree import SearchTree, at_depth
from studies.beyond import expansions
from studies.beyond.expansions import ExpansionSettings

SETTINGS = ExpansionSettings(
    ("S",), ("sample", "stochastic_beam", "beam_sample"), 5, (4, 5), (0, 1), ("breadth", "sqrt")
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    made.profile = made.profile.with_sections(expansions=SETTINGS)
    return made


@pytest.mark.slow
def test_rows_and_figure(experiment):
    rows = expansions.rows(experiment)
    assert set(rows["model"]) == {"S"}  # L was not asked for
    assert set(rows["artifact"]) == {"expansions"} and set(rows["problems"]) == {5}
    strict = rows[rows["checker"] == "strict"]
    keys = ["expansion", "per_state", "N", "b", "split", "method"]
    cells = strict.groupby(keys, as_index=False).size()
    # b = 0 once, b = 1 with N and with √N continuations of a rolled-back state
    assert len(cells) == len(strict) == 3 * 2 * 3 * 2 * 2
    again = strict.pivot_table("tokens_per_problem", keys[:1] + keys[2:], "per_state").dropna()
    assert (again["breadth"] >= again["sqrt"]).all() and len(again) == 3 * 2 * 2 * 2
    strict = strict[strict["per_state"] == "breadth"]
    deep = strict.pivot_table("tokens_per_problem", ["expansion", "N", "split", "method"], "b")
    assert (deep[1] >= deep[0]).all()
    expansions.accuracy_against_generated(rows)


@pytest.mark.slow
@pytest.mark.parametrize("expansion", ["beam_sample", "stochastic_beam"])
def test_a_tree_cut_at_a_depth_is_the_tree_of_that_depth(experiment, expansion):
    checkpoint = experiment.checkpoint("S", "backtracking")
    problems = experiment.problems("seen", 0, 6)
    plain, deep = (
        experiment.read_trees(
            experiment.search(
                checkpoint,
                problems,
                experiment.spec(9, depth, temperature=1.0, expansion=expansion),
            )
        )
        for depth in (0, 2)
    )
    assert sum(len(tree.expanded) for tree in deep) > len(problems)
    for right, tree in zip(plain, deep, strict=True):
        found = at_depth(tree, 0)
        assert (found.depth, found.expanded) == (0, right.expanded)
        assert found.tokens_generated == right.tokens_generated
        assert [(n.parent, n.kind, n.tokens) for n in found.nodes] == [
            (n.parent, n.kind, n.tokens) for n in right.nodes
        ]
        assert at_depth(tree, 2) == dataclasses.replace(
            tree, tokens_sampled=at_depth(tree, 2).tokens_sampled
        )
        assert SearchTree.from_json(tree.to_json()) == tree
        assert sum(tree.tokens_by_level) == tree.tokens_generated
        with pytest.raises(UserError, match="no depth 3"):
            at_depth(tree, 3)


def test_a_profile_without_the_section_has_no_rows(experiment):
    profile = experiment.profile.with_sections(expansions=None)
    bare = dataclasses.replace(experiment, profile=profile)
    assert expansions.STUDY.wanted(experiment) and not expansions.STUDY.wanted(bare)
    assert "no rows" in shown(expansions.accuracy_against_generated, table([]))
    assert expansions.ARTIFACT == "expansions"


def test_settings_are_checked():
    with pytest.raises(UserError, match="choose from sample, beam_sample, stochastic_beam"):
        dataclasses.replace(SETTINGS, kinds=("beam",))
    with pytest.raises(UserError, match="breadths"):
        dataclasses.replace(SETTINGS, breadths=())
