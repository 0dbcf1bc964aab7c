"""What a run will ask for, counted by hand; what is there, or asked for before, counts nothing."""

import shutil
from dataclasses import replace

import pytest
from test_measurements import small

from commands.estimate import spent
from lib.base.errors import UserError
from lib.experiment.artifacts import MADE, Run
from lib.experiment.planner import Planner
from lib.experiment.work import LONG_RESPONSE_COST, Work, decoded_tokens, search_tokens
from studies import catalogue
from studies.beyond import audit
from studies.beyond.audit import AuditSettings
from studies.beyond.bfloat16 import BFloat16Settings
from studies.beyond.equal_compute import ComputeSettings
from studies.beyond.expansions import ExpansionSettings
from studies.beyond.larger_model import LargerModelSettings
from studies.beyond.rollback_gain import RollbackSettings
from studies.beyond.search_loss import InstrumentSettings
from studies.catalogue import load_profile, sections
from studies.paper import figure_3, figure_4, figure_13, table_1
from studies.paper.paper_recipe import RecipeSettings
from studies.paper.tables_3_and_4 import RatioSettings

SMOKE = load_profile("smoke")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Everything that a profile can ask for, on two tiny models; only the problems are made."""
    made = small(tmp_path_factory.mktemp("run"))
    known = SMOKE.sections
    made.profile = made.profile.with_sections(
        baselines=replace(
            known["baselines"], breadths=(2, 4), test_problems=5, problems=10, samples=2, pairs=6
        ),
        stream=replace(known["stream"], examples=30, max_tokens=64),
        dfs=replace(known["dfs"], budgets=(3, 6), samples=4),
        ratios=RatioSettings((0.5, 1.0), 40, 5, (4,), (0, 1)),
        audit=AuditSettings(5, 4, 1, 40, 0.9),
        instruments=InstrumentSettings(6),
        compute=ComputeSettings(("S",), 4, (1, 4), ((4, 1), (8, 0))),
        expansions=ExpansionSettings(
            ("S",), ("sample", "beam_sample"), 5, (2, 4), (0, 1), ("sqrt",)
        ),
        paper_recipe=RecipeSettings(("S",)),
        self_improvement=replace(SMOKE.sections["self_improvement"], evaluated=4, fresh=4),
        rollback_gain=RollbackSettings((2, 4)),
        larger_model=LargerModelSettings(60, 1e-3, 3, 4, (0, 1)),
        bfloat16=BFloat16Settings(30, 1e-3, 8),
    )
    _ = made.data
    return made


def works_of(planner):
    """What each section's studies ask for, and those that have none, in the order of a run."""
    found = {}
    for study in catalogue.wanted(planner):
        name = study.section or study.name
        found.setdefault(name, Work()).add(planner.work_of(study.requests(planner)))
    return found


@pytest.fixture
def found(experiment):
    """The work of each section, after the checkpoints that all of them need."""
    planner = Planner.of(experiment)
    for model in ("S", "L"):
        for stage in planner.stages(model):
            planner.checkpoint(model, stage)
    planner.work_of(())
    return works_of(planner)


def test_every_section_of_a_profile_is_some_studys():
    known = {study.section for study in catalogue.STUDIES} - {""}
    assert known == set(sections()) == set(SMOKE.studies())


def test_checkpoints_and_the_tables_of_every_run(experiment):
    planner = Planner.of(experiment)
    for stage in ("trunk", "sft", "backtracking"):
        assert planner.work_of([planner.checkpoint("S", stage)]).examples == {"S": 384}
    # Figure 13 at the middle N = 1 and T = 1; decoding with 1 and 2 beams, of two checkpoints.
    works = [planner.work_of(study.requests(planner)) for study in (table_1, figure_4, figure_13)]
    tokens = [search_tokens(12, n, b) for n in (1, 4, 1) for b in (0, 1)]
    decoded = sum(decoded_tokens(12, beams) for beams in (1, 2))
    asked = sum(work.tokens["S"] for work in works)
    assert asked == pytest.approx(sum(tokens) + 2 * decoded)
    # The round's own search, and greedy decoding after it and after its control.
    work = planner.work_of(figure_3.requests(planner))
    searched = search_tokens(8, 4, 1) + 2 * decoded_tokens(12, 1)
    assert work.tokens["S"] == pytest.approx(searched)
    assert work.examples["S"] == 2 * 8 * 3
    again = [planner.work_of(each.requests(planner)) for each in (table_1, figure_4, figure_3)]
    assert not any(work.examples or work.tokens for work in again)
    assert not list(experiment.run.folder.glob("models*"))


def test_each_study_by_hand(found):
    both = [search_tokens(5, 4, b) for b in (0, 1)]
    assert found["ratios"].examples == {"S": 2 * 40}
    assert found["ratios"].tokens == {"S": pytest.approx(2 * 2 * both[1])}
    # One branch more, of loss on padding: the other is the ratios', and so is its search. Two of
    # the switches alter no search.
    assert found["audit"].examples == {"S": 40}
    searched = 2 * (5 * both[1] + 3 * both[0])
    assert found["audit"].tokens == {"S": pytest.approx(searched)}
    assert not found["instruments"].tokens  # the tables have them
    # Reward models of D_op and D_back, and of samples; both score; both sources' pairs.
    learned = 800 + 20 + 2 * 2 * 5 * 4 / 3 + 2 * 6 * (2 + 2 / 3) + 2 * 6 * 4
    assert found["baselines"].examples == {"S": pytest.approx(learned)}
    sampled = search_tokens(10, 2, 0) + 2 * search_tokens(5, 4, 0) + 4 * decoded_tokens(12, 1)
    assert found["baselines"].tokens == {"S": pytest.approx(sampled)}
    # Five branches of each model, of which two see a third of the examples three times.
    assert found["larger_model"].examples == {m: 5 * 60 for m in ("S", "L")}
    searched = 5 * 2 * search_tokens(3, 4, 1)
    assert found["larger_model"].tokens == {m: pytest.approx(searched) for m in ("S", "L")}
    assert found["bfloat16"].examples == {"S": 2 * 30} and not found["bfloat16"].tokens
    # Both recipes at N = 2 (at N = 4 the tables have them); SFT's samples, which two models judge.
    searched = search_tokens(12, 4, 0) + 2 * search_tokens(12, 2, 1)
    assert found["rollback_gain"].tokens == {"S": pytest.approx(searched)}
    assert found["rollback_gain"].examples == {"S": pytest.approx(2 * 12 * 4 / 3)}
    assert found["stream"].examples == {"S": 3 * 30}
    assert found["stream"].tokens == {"S": LONG_RESPONSE_COST * 12 * 32}
    assert found["dfs"].tokens == {"S": search_tokens(12, 2, 0)}
    # N = 8 without roll-backs; SFT's samples at N = 4 are of fewer problems than others'.
    tokens = search_tokens(4, 8, 0) + search_tokens(4, 4, 0)
    assert found["compute"].tokens == {"S": pytest.approx(2 * tokens)}
    # Independent samples at N = 2, and beams at both N.
    wide = [search_tokens(5, 2, b) for b in (0, 1)]
    wide += [search_tokens(5, n, 1, "beam_sample") for n in (2, 4)]
    assert found["expansions"].tokens == {"S": pytest.approx(2 * sum(wide))}


def test_more_samples_cost_less_each_and_beams_share_less():
    assert search_tokens(10, 1, 0) < search_tokens(10, 8, 0) < 8 * search_tokens(10, 1, 0)
    assert search_tokens(10, 8, 0) < search_tokens(10, 8, 1) < search_tokens(10, 8, 3)
    assert search_tokens(1, 8, 1, "beam_sample") > 2 * search_tokens(1, 8, 1)


def our_longest(experiment):
    """As the audit's, of a checkpoint that has no tokenizer."""
    if not experiment.checkpoint("S", "backtracking").path.exists():
        raise UserError("not there")
    return 30


def test_what_is_there_counts_nothing(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(audit, "our_longest", our_longest)
    monkeypatch.setattr(audit, "PAPER_LONGEST", 60)
    shutil.copytree(experiment.run.folder, tmp_path / "run")
    finished = replace(experiment, run=Run(tmp_path / "run"))
    counted = []
    for _ in range(3):
        planner = Planner.of(finished)
        works = works_of(planner)
        counted.append({name for name, work in works.items() if work.examples or work.tokens})
        for place in planner.places:
            place.mkdir(parents=True, exist_ok=True)
            if not (place / MADE).exists():
                (place / MADE).write_text('{"duration_s": 1}')
    # The audit's cuts are not known before the first time.
    own = set(sections()) - {"instruments"}  # which takes the tables' searches apart
    assert [each & set(sections()) for each in counted] == [own, {"audit"}, set()]
    assert counted[2] == set()
    took = spent(finished)
    assert {f"[{name}]" for name in own} <= set(took)
    assert took["[ratios]"] == 2 + 4  # branches, searches: a second each
