"""The paper's recipe beside ours: what each branch learns from, its rows, the control's ends."""

import dataclasses

import pytest
from hand_made_tree import TASK, make_tree
from test_measurements import small

from lib.evaluation.decomposition import beside_paper
from lib.tasks.task import BACKTRACK
from studies import measurements
from studies.paper import paper_recipe
from studies.paper.paper_recipe import CONTROL, GREEDY, RECIPE, RecipeSettings


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    search = dataclasses.replace(
        made.profile.search, breadths=(2, 8), expansion="beam_sample", per_state="breadth"
    )
    profile = dataclasses.replace(made.profile, search=search)
    made.profile = profile.with_sections(paper_recipe=RecipeSettings(("S",)))
    return made


def test_both_branches_ask_one_set_of_questions_and_differ_in_their_ends_alone(experiment):
    parts = paper_recipe.branches(experiment)
    recipe, control = (parts[name].traces("S", "backtracking") for name in (RECIPE, CONTROL))
    wrong = recipe["text"].str.endswith(BACKTRACK)
    assert 0.4 < wrong.mean() < 0.6
    asked = recipe["text"].str.split("\n").str[0]
    assert set(asked[wrong]) == set(asked[~wrong])
    assert not control["text"].str.contains(BACKTRACK).any()
    assert (control["text"] == recipe["text"].str.replace(BACKTRACK, "")).all()
    assert (control["text"].str.len() == control["mask"].str.len()).all()
    assert not set(recipe["kind"]) & {"near_miss"}
    # The erroneous step is masked whole, and the verdict after it is not.
    masks = recipe["mask"][wrong]
    assert masks.str.endswith("0" + "2" * len(BACKTRACK)).all()
    weights = {parts[name].profile.training.branch.verdict_weight for name in parts}
    assert weights == {1.0}


def test_the_kinds_of_error_are_the_papers(experiment):
    recipe = paper_recipe.branches(experiment)[RECIPE]
    problems = experiment.problems("train", 0, 3000)
    traces = recipe.task.backtracking_traces(problems, 0, recipe.profile.traces, experiment.tests)
    shares = traces["kind"].value_counts(normalize=True)
    assert shares["exploration"] == pytest.approx(0.2, abs=0.06)
    assert shares["computation"] == pytest.approx(0.4, abs=0.06)


def test_a_path_without_its_goal_line_is_not_answered_with():
    tree = make_tree()
    assert [leaf.id for leaf in tree.leaves() if leaf.kind == "goal"]
    for node in tree.leaves():
        if node.kind != "goal":
            continue
        nodes = list(tree.nodes)
        nodes[node.id] = dataclasses.replace(node, text="")  # the end of the sequence alone
        found = paper_recipe.claimed(dataclasses.replace(tree, nodes=tuple(nodes)), TASK.goal)
        assert found.nodes[node.id].kind == "limit"
        assert found.nodes[: node.id] == tree.nodes[: node.id]
    assert paper_recipe.claimed(tree, TASK.goal) == tree


@pytest.mark.slow
def test_rows_stand_in_table_1_beside_the_papers_numbers(experiment):
    rows = paper_recipe.rows(experiment)
    assert set(rows["artifact"]) == {"table_1"}
    strict = rows[rows["checker"] == "strict"]
    recipe = strict[strict["method"] == RECIPE]
    assert len(recipe) == 2 * 2  # N = 8, the largest; b = 0 and 1; two splits
    assert set(strict[strict["method"] == CONTROL]["b"]) == {0}
    assert (strict["method"] == GREEDY).sum() == 2
    assert beside_paper(recipe)["paper"].max() == 0.6802
    assert paper_recipe.remark(rows) != ""
    trunks = {
        part.checkpoint("S", "trunk").key
        for part in [experiment, *paper_recipe.branches(experiment).values()]
    }
    assert len(trunks) == 1


@pytest.mark.slow
def test_tables_show_beams_and_samples(experiment):
    from studies.paper import figure_4, table_1

    rows = table_1.model_rows(experiment, "S")
    found = rows[rows["method"].isin([measurements.SEARCH, measurements.SAMPLES])]
    assert found.groupby("method").size().nunique() == 1 and found["method"].nunique() == 2
    known = figure_4.rows(experiment)
    figure_4.accuracy_against_breadth(known)
    figure_4.of_samples(known)
    assert set(figure_4.gains(known)["method"]) == {measurements.SEARCH, measurements.SAMPLES}
