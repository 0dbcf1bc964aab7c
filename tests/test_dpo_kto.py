"""DPO and KTO: the rows of an experiment, and a killed run that resumes to the same weights."""

import json
from dataclasses import replace

import pytest
import torch
from sampled_trees import lenient_checks, small_experiment  # noqa: F401
from transformers import AutoModelForCausalLM, Trainer

from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.profiles.recipe import Recipe
from studies.paper import dpo_kto

FEW = Recipe("adamw", 1e-3, 1e-3, batch_size=2, epochs=6, save_steps=3)


@pytest.mark.slow
@pytest.mark.usefixtures("lenient_checks")
def test_the_rows_of_an_experiment_and_a_killed_run(tmp_path, monkeypatch):
    whole = small_experiment(tmp_path / "whole", dpo=FEW, kto=FEW)
    rows = dpo_kto.rows(whole)
    strict = rows[rows.checker == "strict"]
    assert sorted(strict[["method", "split"]].itertuples(index=False, name=None)) == [
        (method, split)
        for method in ("dpo", "dpo_own", "kto", "kto_own")
        for split in ("new", "seen")
    ]
    assert set(strict.problems) == {6} and (strict.artifact == "table_1").all()
    assert set(rows.model) == {"S"}
    logs = json.loads(
        (dpo_kto.preferred(whole, "S", "kto", "own").path / "preferences.json").read_text()
    )
    assert logs and all("rewards/margins" in log for log in logs)
    assert not any(key.startswith("train_") and key != "train_loss" for log in logs for key in log)

    killed = small_experiment(tmp_path / "killed", dpo=FEW, kto=FEW)
    step = Trainer.training_step

    def cut(self, *arguments, **named):
        if "DPO" in type(self).__name__ and self.state.global_step == 4:
            raise KeyboardInterrupt
        return step(self, *arguments, **named)

    with monkeypatch.context() as context:
        context.setattr(Trainer, "training_step", cut)
        with pytest.raises(KeyboardInterrupt):
            dpo_kto.preferred(killed, "S", "dpo", "own")
    assert list((killed.run.folder / "models").glob("S-dpo_own*.partial/checkpoints/checkpoint-3"))
    first, second = (
        AutoModelForCausalLM.from_pretrained(dpo_kto.preferred(each, "S", "dpo", "own").path)
        for each in (whole, killed)
    )
    kept = second.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in first.state_dict().items())


def test_the_papers_paths_are_of_the_questions_that_sft_learned(tmp_path):
    experiment = small_experiment(tmp_path)
    learned = dpo_kto.learned_paths(experiment, "S", "paper", 12)
    tokenizer = StepTokenizer(build_tokenizer(experiment.task.pieces), experiment.task.step_end)
    paths = learned.read(tokenizer)
    asked = experiment.task.prompts(learned.problems)
    assert [*experiment.traces("S", "sft")["text"].iloc[:12]] == [
        asked[path.problem] + path.response for path in paths[paths["correct"]].itertuples()
    ]
    assert paths["problem"].tolist() == [*range(12)] * 2
    rows = list(learned.problems.itertuples(index=False))
    for path in paths.itertuples():
        verdict = experiment.task.check(rows[path.problem], path.response)
        assert verdict.correct == path.correct and "<backtrack>" not in path.response
        assert tokenizer.decode(path.tokens) == path.response + "<eos>"
    near = replace(experiment.profile.traces, near_miss=1.0)
    other = replace(experiment.profile, traces=near)
    again = dpo_kto.learned_paths(replace(experiment, profile=other), "S", "paper", 12)
    assert again.read(tokenizer).equals(paths)
