"""The studies from end to end, on two models so small that they train in a second."""

import dataclasses

import numpy as np
import pytest
import torch
from test_measurements import small

from lib.evaluation.results import dumps, table
from lib.training.logprobs import response_logprobs
from studies.beyond import equal_compute
from studies.beyond.bfloat16 import BFloat16Settings
from studies.beyond.equal_compute import ComputeSettings
from studies.beyond.larger_model import LargerModelSettings
from studies.beyond.search_loss import InstrumentSettings
from studies.catalogue import wanted


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    made = small(tmp_path_factory.mktemp("run"))
    replace = dataclasses.replace
    improvement = replace(made.profile.improvement, rounds=0)
    made.profile = replace(made.profile, improvement=improvement).with_sections(
        instruments=InstrumentSettings(problems=6),
        compute=ComputeSettings(("S",), 4, (1, 4), ((4, 1), (8, 0))),
        larger_model=LargerModelSettings(384, 1e-2, 4, 4, (0, 1)),
        bfloat16=BFloat16Settings(192, 1e-3, 8),
    )
    return made


@pytest.mark.slow
def test_compute_measures_everything_on_the_same_problems(experiment):
    rows = equal_compute.rows(experiment)
    assert set(rows["model"]) == {"S"}  # L was not asked for
    assert set(rows["artifact"]) == {"compute"} and set(rows["problems"]) == {4}
    assert set(rows["method"]) == {"sft_sampled", "self_backtracking"}
    sampled = rows[(rows["method"] == "sft_sampled") & (rows["temperature"] == 0.7)]
    cost = sampled[sampled["split"] == "seen"].sort_values("N")["tokens_per_problem"].tolist()
    assert cost == sorted(cost) and len(cost) == 2
    wide = rows[(rows["N"] == 8) & (rows["b"] == 0).fillna(False)]
    assert set(wide["method"]) == {"self_backtracking"}
    assert len(equal_compute.equal_tokens(rows)) == 2  # b = 1 at the usual temperature, two splits


def test_a_response_s_log_probability_by_hand(experiment):
    model, tokenizer = experiment.load(experiment.checkpoint("S", "backtracking"))
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
