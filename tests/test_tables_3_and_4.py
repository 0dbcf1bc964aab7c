"""Tables 3 and 4: the mix is what it says, and one search serves b = 0 and b = 1."""

import dataclasses

import pytest
from test_measurements import small

from lib.evaluation.results import table
from lib.search.tree import at_depth
from studies.paper import tables_3_and_4
from studies.paper.tables_3_and_4 import RatioSettings, ratio_branch


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    settings = RatioSettings((0.5, 2.0), 192, 6, (4,), (0, 1))
    made.profile = made.profile.with_sections(ratios=settings)
    return made


def test_a_ratio_is_of_examples(experiment):
    kinds = experiment.mixture(0, 300, 0.5)["kind"]
    assert len(kinds) == 300 and (kinds == "optimal").sum() == 200
    assert (experiment.mixture(0, 300, 4.0)["kind"] == "optimal").sum() == 60


def test_a_deeper_search_begins_with_the_one_without_roll_backs(experiment):
    checkpoint = ratio_branch(experiment, "S", 2.0, 192)
    problems = experiment.problems("seen", 0, 6)
    found = [
        experiment.read_trees(
            experiment.search(checkpoint, problems, experiment.spec(4, depth, temperature=1.0))
        )
        for depth in (0, 1)
    ]
    assert sum(len(tree.nodes) for tree in found[1]) > sum(len(tree.nodes) for tree in found[0])
    for plain, deep in zip(*found, strict=True):
        first = at_depth(deep, 0)
        assert (first.depth, first.expanded) == (0, plain.expanded)
        assert first.tokens_generated == plain.tokens_generated
        assert [dataclasses.replace(n, visits=0, p_backtrack=None) for n in first.nodes] == [
            dataclasses.replace(n, visits=0, p_backtrack=None) for n in plain.nodes
        ]


def test_rows_and_figure(experiment):
    rows = tables_3_and_4.rows(experiment)
    assert set(rows["artifact"]) == {"table_3", "table_4"}
    chosen = rows[(rows["method"] == "self_backtracking") & (rows["checker"] == "strict")]
    cells = chosen[["artifact", "split", "ratio", "N", "b"]].drop_duplicates()
    assert len(cells) == len(chosen) == 8 and set(chosen["problems"]) == {6}
    tables_3_and_4.accuracy_against_ratio(rows)
    assert "1:0.5" in tables_3_and_4.ratio_table(rows)


def test_without_the_section(experiment, monkeypatch):
    monkeypatch.setattr(experiment, "profile", experiment.profile.with_sections(ratios=None))
    assert not tables_3_and_4.STUDY.wanted(experiment)
    assert tables_3_and_4.ratio_table(table([])) == ""
