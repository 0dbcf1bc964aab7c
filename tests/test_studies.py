"""The studies from end to end, on two models so small that they train in a second."""

import dataclasses

import numpy as np
import pytest
import torch
from test_measurements import small

from lib.evaluation.results import dumps, table
from lib.training.logprobs import mean_loss, response_logprobs
from studies.beyond import equal_compute, larger_model
from studies.beyond.equal_compute import ComputeSettings
from studies.beyond.larger_model import HypothesisSettings
from studies.beyond.step_coverage import InstrumentSettings
from studies.catalogue import wanted


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    replace = dataclasses.replace
    improvement = replace(made.profile.improvement, rounds=0)
    made.profile = replace(made.profile, improvement=improvement).with_sections(
        instruments=InstrumentSettings(problems=6, validation_problems=4),
        compute=ComputeSettings(("S",), 4, (1, 4), ((4, 1), (8, 0)), (1.5,), 4, (2,)),
        hypotheses=HypothesisSettings(4, 4, 4, 1, (2.0,), 3, (-1.0, 1.0), 32),
    )
    return made


@pytest.mark.slow
def test_compute_measures_everything_on_the_same_problems(experiment):
    rows = equal_compute.rows(experiment)
    assert set(rows["model"]) == {"S"}  # L was not asked for
    assert set(rows["artifact"]) == {"compute"} and set(rows["problems"]) == {4}
    methods = {"sft_sampled", "self_consistency", "self_backtracking", "sft_beam"}
    assert set(rows["method"]) == methods
    sampled = rows[(rows["method"] == "sft_sampled") & (rows["temperature"] == 0.7)]
    cost = sampled[sampled["split"] == "seen"].sort_values("N")["tokens_per_problem"].tolist()
    assert cost == sorted(cost) and len(cost) == 2
    wide = rows[(rows["N"] == 8) & (rows["b"] == 0).fillna(False)]
    assert set(wide["method"]) == {"self_backtracking"}
    assert len(equal_compute.equal_tokens(rows)) == 2  # b = 1 at the usual temperature, two splits


@pytest.mark.slow
def test_hypotheses(experiment):
    rows = larger_model.rows(experiment)
    remedies = rows[rows["artifact"] == "remedy"]
    assert set(remedies["model"]) == {"S", "L"} and set(remedies["problems"]) == {4}
    base = remedies[remedies["remedy"] == larger_model.BASE]
    assert set(base["gain"]) == {0.0}
    gaps = rows[rows["artifact"] == "gap"]
    assert set(gaps["remedy"]) == {larger_model.BASE, *larger_model.LETTERS}
    assert np.allclose(gaps["gap"], gaps["accuracy_S"] - gaps["accuracy_L"])
    for _, cell in gaps.groupby("split"):
        before = cell.loc[cell["remedy"] == larger_model.BASE, "gap"].item()
        assert np.allclose(before - cell["gap"], cell["moved"])
    memory = rows[rows["artifact"] == "memorisation"]
    assert (memory["train_loss"] > 0).all() and len(memory) == 2


def test_the_own_judge_agrees_with_the_search(experiment):
    found = larger_model.judged_paths(experiment, "S", "S", "seen")
    assert np.allclose(found["judged"], found["mean_logprob"], atol=1e-4)
    swapped = larger_model.judged_paths(experiment, "S", "L", "seen")
    assert swapped["text"].tolist() == found["text"].tolist()


def test_losses_by_hand(experiment):
    model, tokenizer = experiment.load(experiment.checkpoint("S", "backtracking"))
    traces = experiment.traces("S", "backtracking").iloc[[0, -1]]
    one, two = (mean_loss(model, tokenizer, traces.iloc[[i]]) for i in (0, 1))
    loss = mean_loss(model, tokenizer, traces)
    assert min(one, two) <= loss <= max(one, two)
    prompt, response = experiment.task.prompts(experiment.problems("seen", 0, 1))[0], "1+1=2\n"
    ids = tokenizer.base(prompt + response, add_special_tokens=False)["input_ids"]
    ids += [tokenizer.eos_id]
    start = len(tokenizer.base(prompt, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    logprobs = torch.log_softmax(logits, -1)
    exact = np.mean([float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids))])
    assert response_logprobs(model, tokenizer, [prompt], [response])[0] == pytest.approx(
        exact, abs=1e-5
    )


def section_rows(experiment):
    """Every row of the studies that a profile asks for by a section."""
    parts = [study.rows(experiment) for study in wanted(experiment) if study.section]
    return table([record for part in parts for record in part.to_dict("records")])


@pytest.mark.slow
def test_nothing_asked_nothing_done(experiment, tmp_path):
    bare = small(tmp_path)
    assert section_rows(bare).empty and not bare.run.made
    rows = section_rows(experiment)
    assert dumps({}, rows) == dumps({}, section_rows(experiment))
    assert not table(rows).empty
