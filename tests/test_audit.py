"""The audit: each switch does what it names, alone, and nothing when off."""

import dataclasses

import numpy as np
import pytest
import torch
from test_measurements import small

from lib.evaluation.results import row, table
from lib.models.llama import build_model
from lib.models.tokenizer import PIECES, build_tokenizer
from lib.profiles.load import load_profile
from lib.profiles.recipe import PaddingLossRecipe, Recipe
from lib.search.rollout import Sample
from lib.search.sampler import CacheSampler
from lib.search.search import roll_backs
from lib.search.selection import SELECTION_RULES, summed_mean_logprob
from lib.search.tree import Node, SearchTree
from lib.search.variants import BeamSampler, CutSampler, PublishedSampling, published_sampler
from lib.training.batches import collate, collator
from studies.beyond import audit, audit_report
from studies.paper import tables_3_and_4


class Fixed:
    """Two samples of every prefix, one of which ends after five tokens, the other after two."""

    def sample(self, prefixes, counts, temperature, seed):
        long = Sample((5, 6, 5, 6, 1), (-0.1,) * 5, (1, 3), (0.2, 0.3), "goal", 3)
        short = Sample((5, 3), (-0.1,) * 2, (), (), "backtrack", 1)
        return [[long, short] for _ in prefixes]


def test_a_cut_counts_the_prompt_and_keeps_what_fits():
    sampler = CutSampler(Fixed(), 6)
    one, two, none = sampler.sample([(9,), (9, 9, 9, 9), (9,) * 6], [4, 4, 4], 1.0, 0)
    assert [s.stop for s in one] == ["goal", "backtrack"]  # 1 + 5 tokens just fit
    assert [(s.tokens, s.stop, s.step_ends, s.count) for s in two] == [
        ((5, 6), "limit", (1,), 3),
        ((5, 3), "backtrack", (), 1),
    ]
    assert none == []


def test_samples_that_are_equal_once_cut_are_one():
    [cut] = CutSampler(Fixed(), 3).sample([(9, 9)], [4], 1.0, 0)
    assert [(s.tokens, s.stop, s.count) for s in cut] == [((5,), "limit", 4)]


@pytest.fixture(scope="module")
def sampler():
    tokenizer = build_tokenizer([*"0123456789+=", "\n"])
    model = build_model(tokenizer, 16, 1, 1, 0).eval()
    return CacheSampler(model, 1, 3, (16,), 6, 0)


def test_beams_have_the_models_own_log_probabilities(sampler):
    beams = published_sampler(PublishedSampling(beams=True), sampler)
    assert isinstance(beams, BeamSampler)
    prefixes, counts = [(7, 8), (9,), (7, 8, 9)], [4, 4, 0]
    found = beams.sample(prefixes, counts, 1.0, 5)
    assert found == beams.sample(prefixes, counts, 1.0, 5)
    assert [sum(s.count for s in samples) for samples in found] == counts
    model = sampler.rules.model
    for prefix, samples in zip(prefixes, found, strict=True):
        for sample in samples:
            ids = torch.tensor([[*prefix, *sample.tokens]])
            logprobs = torch.log_softmax(model(ids).logits[0].float(), -1)
            for place, (token, logprob) in enumerate(
                zip(sample.tokens, sample.logprobs, strict=True), len(prefix)
            ):
                assert logprobs[place - 1, token].item() == pytest.approx(logprob, abs=2e-5)
            doubt = logprobs[len(prefix) - 1, 3].exp().item()
            assert doubt == pytest.approx(sample.p_backtrack_start, abs=2e-5)
            for end, known in zip(sample.step_ends, sample.p_backtrack, strict=True):
                after = logprobs[len(prefix) + end, 3].exp().item()
                assert after == pytest.approx(known, abs=2e-5)
            ended = [t in (1, 3) for t in sample.tokens]
            assert sum(ended[:-1]) == 0 and (sample.stop == "limit") == (not ended[-1])


def test_beams_and_a_cut_together(sampler):
    beams = published_sampler(PublishedSampling(True, 4), sampler)
    [two, none] = beams.sample([(7, 8), (7, 8, 9, 9)], [4, 4], 1.0, 0)
    assert max(len(sample.tokens) for sample in two) <= 2 and none == []


def test_no_switch_is_the_sampler_itself(sampler):
    assert published_sampler(PublishedSampling(), sampler) is sampler
    assert audit.Switches().sampling is None and not Recipe().padding_loss
    assert [roll_backs(depth) for depth in (0, 1, 2)] == [0, 1, 2]
    assert [roll_backs(depth, from_one=True) for depth in (0, 1, 2)] == [0, 0, 1]


def test_a_path_found_often_is_punished():
    def path(step, number, logprob, visits):
        state = Node(number, 0, "step", 0, step, (5, 6), (logprob, logprob), 0.1, visits)
        text = "Goal Reached!"
        return [state, Node(number + 1, number, "goal", 0, text, (1,), (logprob,), None, visits)]

    root = Node(0, None, "root", 0, "", (), (), None, 9)
    nodes = (root, *path("1+1=2", 1, -0.1, 5), *path("2+2=4", 3, -0.3, 1))
    tree = SearchTree(0, "?", 6, 0, 1.0, 0, nodes, ((0, 0),), 9, 9, "\n")
    assert SELECTION_RULES["mean_logprob"](tree) == 2  # -0.1 against -0.3
    assert summed_mean_logprob(tree) == 4  # 5 x -0.1 against -0.3
    assert summed_mean_logprob(dataclasses.replace(tree, nodes=(root,))) is None


def test_padding_with_and_without_loss():
    examples = [
        {"input_ids": np.array([4, 5, 6]), "loss_codes": np.array([0, 1, 2])},
        {"input_ids": np.arange(4, 14), "loss_codes": np.ones(10, int)},
    ]
    off, on = collate(examples, 0, 4.0), collate(examples, 1, 4.0, padding_loss=True)
    assert off["loss_weights"][0].tolist() == [0, 1, 4] + [0] * 13
    assert on["loss_weights"][0].tolist() == [0, 1, 4] + [1] * 13
    assert torch.equal(on["loss_weights"][1, :10], off["loss_weights"][1, :10])
    tokenizer = build_tokenizer(["1"])
    for recipe, pad in ((Recipe(), "<pad>"), (PaddingLossRecipe(), "<eos>")):
        batch = collator(recipe, tokenizer, None, 2, None)(examples)
        assert batch["input_ids"][0, 3].item() == tokenizer.convert_tokens_to_ids(pad)


def test_the_cut_in_our_tokens():
    # Llama's pieces hold up to three digits: 50 tokens are as many as the longest problem has.
    task = load_profile("paper").load_task()
    texts = task.optimal_traces(task.make_problems({"train": 2_000}, 0))["text"]
    longest = max(len(PIECES[3].findall(text)) for text in texts)
    assert 2 + longest == audit.PAPER_LONGEST == 50


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    made.profile = made.profile.with_sections(
        ratios=tables_3_and_4.RatioSettings((1.0,), 192, 6, (4,), (0, 1)),
        audit=audit.AuditSettings(6, 4, 1, 192, 0.8),
    )
    return made


@pytest.mark.slow
def test_rows(experiment):
    rows = audit.rows(experiment)
    assert set(rows["artifact"]) == {"audit"}
    assert set(rows["switch"]) == {*audit.variants(1, 1), "text_roll_back"}
    pooled = rows[rows["split"].isna()]
    assert set(pooled["problems"]) == {12} and (pooled["difference"].abs() <= 1).all()
    assert (rows["difference_low"] <= rows["difference"]).all()
    same = rows[rows["switch"] == "text_roll_back"]
    assert (same["difference"] == 0).all() and (same["states"] > 0).all()
    assert np.allclose(rows["accuracy"] - rows["base"], rows["difference"])
    assert audit.STUDY.figures[0].draw(rows).axes
    assert "All at once (loss on padding too): " in audit.STUDY.remark(rows)
    assert audit.STUDY.text(rows).count("\n|") == 2 + rows["switch"].nunique()


def test_without_the_section(experiment, monkeypatch):
    profile = experiment.profile.with_sections(audit=None)
    monkeypatch.setattr(experiment, "profile", profile)
    assert not audit.STUDY.wanted(experiment)


def test_a_task_without_a_published_checker_is_audited_without_it():
    known = audit.variants(1, 1, published=False)
    assert set(audit.variants(1, 1)) - set(known) == {"published_checker"}
    assert not any(switches.published_checker for _, switches in known.values())


def switched(name, split, base, difference, half=0.02, **more):
    values = {"base": base, "difference": difference, "accuracy": base + difference}
    values |= {"difference_low": difference - half, "difference_high": difference + half}
    return row("audit", model="S", switch=name, split=split, problems=100) | values | more


def test_the_remark_follows_the_stated_rule():
    pooled = [
        switched("depth_from_one", None, 0.8, -0.05),
        switched("beam_sampling", None, 0.8, 0.1),
        switched("summed_selection", None, 0.8, -0.01),
        switched("published_checker", None, 0.8, -0.2),
        switched("padding_loss", None, 0.1, -0.05),
    ]
    rows = table(pooled)
    remark, text = audit_report.audit_remark(rows), audit_report.audit_text(rows)
    assert "alone, in this run: the published checker (-20.0 [-22.0, -18.0])." in remark
    assert "In part: depth counted from one (-5.0 [-7.0, -3.0])." in remark
    assert "no loss is shown: selection (-1.0 [-3.0, +1.0])." in remark
    assert "it gains: beams of one beam sampling, not N independent samples (+10.0" in remark
    assert "solves too little: padding carries loss" in remark
    verdicts = [line.split(" | ")[-1].removesuffix(" |") for line in text.split("\n")[4:9]]
    assert verdicts == ["in part", "no: gains", "no", "alone", "not tested"]
    assert audit_report.audit_remark(table([])) == audit_report.audit_text(table([])) == ""
