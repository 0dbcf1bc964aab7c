"""What a run will ask for, counted by hand; what is there, or asked for before, counts nothing."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
from test_measurements import small

from lib.experiment.artifacts import MADE, Run
from lib.experiment.planner import LONG_RESPONSE_COST, Ahead, decoded_tokens, search_tokens
from lib.studies.beyond import audit, sweep
from lib.studies.sections import (
    SECTIONS,
    AuditSettings,
    ComputeSettings,
    ExpansionSettings,
    HypothesisSettings,
    InstrumentSettings,
    RatioSettings,
    SweepModel,
    SweepSettings,
    load_profile,
)
from lib.studies.work import STUDIES, main_parts, spent, work_of

SMOKE = load_profile("smoke")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Everything that a profile can ask for, on two tiny models; only the problems are made."""
    made = small(tmp_path_factory.mktemp("run"))
    size = SweepModel(16, 1, 1)
    made.profile = made.profile.with_sections(
        baselines=replace(
            SMOKE.baselines, breadths=(2, 4), test_problems=5, problems=10, samples=2, pairs=6
        ),
        stream=replace(SMOKE.stream, examples=30, max_tokens=64),
        dfs=replace(SMOKE.dfs, budgets=(3, 6), samples=4),
        mining=replace(SMOKE.mining, problems=7, breadth=3, examples=20, test_problems=5),
        ratios=RatioSettings((0.5, 1.0), 40, 5, (4,), (0, 1)),
        audit=AuditSettings(5, 4, 1, 40, 0.9),
        instruments=InstrumentSettings(6, 4),
        compute=ComputeSettings(("S",), 4, (1, 4), ((4, 1), (8, 0)), (1.5,), 4, (1, 3)),
        expansions=ExpansionSettings(("S",), ("sample", "beam_sample"), 5, (2, 4), (0, 1)),
        hypotheses=HypothesisSettings(4, 3, 4, 1, (2.0,), 3, (-1.0, 1.0), 32),
        sweep=SweepSettings(
            task=dict(SMOKE.task.settings),
            models={"S": size, "L": size},
            trunk_examples=100,
            examples=(20, 30),
            epochs=(1, 2),
            rates=(1.0, 0.5),
            batch_size=8,
            test_problems=8,
            breadth=4,
            depth=1,
        ),
    )
    _ = made.data
    return made


@pytest.fixture
def ahead(experiment):
    looks = Ahead.of(experiment)
    for model in ("S", "L"):
        for ask in main_parts(looks, model).values():
            work_of(looks, ask)
    return looks


def test_every_study_of_a_profile_is_counted():
    assert set(STUDIES) == set(SECTIONS) == set(SMOKE.studies())


def test_the_main_parts(experiment):
    ahead = Ahead.of(experiment)
    found = {name: work_of(ahead, ask) for name, ask in main_parts(ahead, "S").items()}
    assert found["trunk"].examples == found["sft branch"].examples == {"S": 384}
    assert found["backtracking branch"].examples == {"S": 384}
    # Figure 13 at the middle N = 1 and T = 1; decoding with 1 and 2 beams, of two checkpoints.
    tokens = [search_tokens(12, n, b) for n in (1, 4, 1) for b in (0, 1)]
    decoded = sum(decoded_tokens(12, beams) for beams in (1, 2))
    assert found["search"].tokens == {"S": pytest.approx(sum(tokens) + 2 * decoded)}
    # The round's own search, and both splits before and after it.
    searched = search_tokens(8, 4, 1) + 2 * 2 * search_tokens(3, 4, 1)
    assert found["self-improvement"].tokens == {"S": pytest.approx(searched)}
    assert found["self-improvement"].examples == {"S": 2 * 8 * 3}
    again = [work_of(ahead, ask) for ask in main_parts(ahead, "S").values()]
    assert not any(work.examples or work.tokens for work in again[:4])
    assert not list(experiment.run.folder.glob("models*"))


def test_each_study_by_hand(ahead, experiment):
    found = {name: work_of(ahead, partial(ask, ahead)) for name, ask in STUDIES.items()}
    both = [search_tokens(5, 4, b) for b in (0, 1)]
    assert found["ratios"].examples == {"S": 2 * 40}
    assert found["ratios"].tokens == {"S": pytest.approx(2 * 2 * both[1])}
    # One branch more, of loss on padding: the other is the ratios', and so is its search. Two of
    # the switches alter no search. A round on the validation problems.
    assert found["audit"].examples == {"S": 40 + 4 * 3}
    searched = 2 * (5 * both[1] + 3 * both[0]) + search_tokens(4, 4, 1)
    assert found["audit"].tokens == {"S": pytest.approx(searched)}
    assert found["instruments"].tokens == {"L": search_tokens(4, 4, 1)}  # S's is that round's
    learned = 20 + 2 * 5 * 4 / 3 + 6 * (2 + 2 / 3) + 6 * 4
    assert found["baselines"].examples == {"S": pytest.approx(learned)}
    sampled = search_tokens(10, 2, 0) + 2 * search_tokens(5, 4, 0) + 2 * decoded_tokens(12, 1)
    assert found["baselines"].tokens == {"S": pytest.approx(sampled)}
    # Four settings on validation; on test two of them, and three samples for each one kept.
    tried = 4 * search_tokens(3, 4, 1)
    tried += 2 * (2 * search_tokens(4, 4, 1) + search_tokens(4, 3 * 4, 1))
    assert found["hypotheses"].tokens == {m: pytest.approx(tried) for m in ("S", "L")}
    read = (2 * 32 + 2 * 2 * 4 * 4) / 3
    assert found["hypotheses"].examples == {m: pytest.approx(read) for m in ("S", "L")}
    assert found["stream"].examples == {"S": 3 * 30}
    assert found["stream"].tokens == {"S": LONG_RESPONSE_COST * 12 * 32}
    assert found["dfs"].tokens == {"S": search_tokens(12, 2, 0)}
    assert found["sweep"].examples == {
        "sweep S": 100 + (20 + 30) * (1 + 2),
        "sweep L": 100 + 2 * (20 + 30) * (1 + 2),
    }
    cell = search_tokens(16, 4, 1) + decoded_tokens(16, 1)
    assert found["sweep"].tokens == pytest.approx({"sweep S": 4 * cell, "sweep L": 8 * cell})
    # N = 4 of the SFT model, and N = 8; at T = 1.5 both models' samples and b = 1; three beams.
    tokens = [search_tokens(4, n, b) for n, b in ((4, 0), (8, 0), (4, 0), (4, 0), (4, 1))]
    assert found["compute"].tokens == {"S": pytest.approx(2 * (sum(tokens) + decoded_tokens(4, 3)))}
    # Independent samples at N = 2, and beams at both N.
    wide = [search_tokens(5, 2, b) for b in (0, 1)]
    wide += [search_tokens(5, n, 1, "beam_sample") for n in (2, 4)]
    assert found["expansions"].tokens == {"S": pytest.approx(2 * sum(wide))}
    assert found["mining"].examples == {"S": 2 * 20 * experiment.profile.mining.recipe.epochs}


def test_more_samples_cost_less_each_and_beams_share_less():
    assert search_tokens(10, 1, 0) < search_tokens(10, 8, 0) < 8 * search_tokens(10, 1, 0)
    assert search_tokens(10, 8, 0) < search_tokens(10, 8, 1) < search_tokens(10, 8, 3)
    assert search_tokens(1, 8, 1, "beam_sample") > 2 * search_tokens(1, 8, 1)


def test_what_is_there_counts_nothing(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "our_longest", lambda *_: 30)
    monkeypatch.setattr(audit, "paper_longest", lambda: 60)
    shutil.copytree(experiment.run.folder, tmp_path / "run")
    finished = replace(experiment, run=Run(tmp_path / "run"))
    _ = sweep.small_experiment(finished, 20).data
    counted = []
    for _ in range(3):
        looks = Ahead.of(finished)
        works = {name: work_of(looks, partial(ask, looks)) for name, ask in STUDIES.items()}
        counted.append({name for name, work in works.items() if work.examples or work.tokens})
        for place in looks.run.missing:
            place.mkdir(parents=True)
            (place / MADE).write_text('{"duration_s": 1}')
    # The audit's cuts are not known before the first time.
    assert counted == [set(STUDIES), {"audit"}, set()]
    took = spent(finished)
    assert {f"[{name}]" for name in STUDIES} <= set(took)
    assert took["[ratios]"] == 2 + 4  # branches, searches: a second each
