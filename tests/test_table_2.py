"""Table 2's searches on a model of seconds: rows of each study, and Self-Backtracking's once."""

import dataclasses

import pytest
from test_measurements import small

from lib.experiment.artifacts import Run
from lib.experiment.planner import Planner
from lib.experiment.work import LONG_RESPONSE_COST, search_tokens
from studies.catalogue import load_profile
from studies.paper import table_2

DFS, STREAM = table_2.STUDIES
SMOKE = load_profile("smoke")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    smoke = SMOKE.sections
    made.profile = made.profile.with_sections(
        dfs=dataclasses.replace(smoke["dfs"], budgets=(3, 6), samples=4),
        stream=dataclasses.replace(smoke["stream"], examples=60, max_tokens=64),
    )
    return made


def with_sections(experiment, **sections):
    profile = experiment.profile.with_sections(**sections)
    return dataclasses.replace(experiment, profile=profile)


@pytest.mark.slow
def test_rows(experiment):
    rows = DFS.rows(experiment)
    rows = rows[rows["checker"] == "strict"]
    assert set(rows["artifact"]) == {"table_2"} and set(rows["problems"]) == {6}
    found = rows[rows["method"] == "dfs"]
    assert sorted(found[["N", "split"]].values.tolist()) == [
        [3, "new"], [3, "seen"], [6, "new"], [6, "seen"],
    ]  # fmt: skip
    assert (found["visits"] <= found["N"]).all() and (found["tokens_per_problem"] > 0).all()
    own = rows[rows["method"] == "self_backtracking"]
    assert own[["N", "b"]].drop_duplicates().values.tolist() == [[4, 1]] and len(own) == 2
    symbolic = rows[rows["method"] == "symbolic_dfs"]
    assert symbolic["N"].tolist() == [3, 3, 6, 6] and symbolic["tokens_per_problem"].isna().all()
    assert len(rows) == 10

    rows = STREAM.rows(experiment)
    rows = rows[rows["checker"] == "strict"]
    assert set(rows["method"]) == {"stream_of_search"} and set(rows["split"]) == {"seen", "new"}
    assert (rows["moves_back"] >= 0).all()
    # Self-Backtracking's rows stand beside those of the only other search.
    alone = STREAM.rows(with_sections(experiment, dfs=None))
    assert set(alone["method"]) == {"stream_of_search", "self_backtracking"}


def test_symbolic_dfs_by_budget(experiment, monkeypatch):
    found = table_2.symbolic(experiment)
    problems = experiment.test_problems("S")
    assert found["N"].tolist() == [3] * len(problems) + [6] * len(problems)
    few, many = (part["response"].notna() for _, part in found.groupby("N"))
    assert many.to_numpy()[few.to_numpy()].all() and many.sum() > few.sum()
    said = zip(problems.itertuples(), found["response"][many.index], strict=True)
    assert all(experiment.task.check(*each).correct for each in said if isinstance(each[1], str))
    monkeypatch.setattr(type(experiment.task), "symbolic_dfs", None)
    assert table_2.symbolic(experiment).empty


def test_a_planner_counts_both(experiment):
    planner = Planner(experiment.profile, "smoke", 0, Run(experiment.run.folder / "planned"))
    for stage in ("sft", "backtracking"):
        _ = planner.checkpoint("S", stage)
    planner.work_of(())
    work = planner.work_of(DFS.requests(planner))
    drawn = 2  # half of six states, a sixth of four proposals in each
    tokens = search_tokens(12, drawn, 0) + 2 * search_tokens(6, 4, 1)
    assert not work.examples and work.tokens == {"S": pytest.approx(tokens)}
    work = planner.work_of(STREAM.requests(planner))
    assert work.examples == {"S": 3 * 60}
    assert work.tokens == {"S": LONG_RESPONSE_COST * 12 * 32}


def test_a_profile_without_the_sections(experiment):
    bare = with_sections(experiment, dfs=None, stream=None)
    assert not DFS.wanted(bare) and not STREAM.wanted(bare)
