import json
from pathlib import Path

import pytest

from lib.base.errors import UserError
from lib.explorer.checkpoints import checkpoint_choices, profile_task, trained_on
from lib.explorer.widget import read_settings, setting_fields

ROOT = Path(__file__).resolve().parents[1]


def make_checkpoint(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (folder / "model.safetensors").touch()


def test_checkpoints_in_order_of_preference(tmp_path):
    for name in (
        "runs/cpu-0/models/S-trunk-1",
        "runs/cpu-0/models/S-backtracking-2",
        "runs/cpu-0/models/L-sft-3.partial",
        "runs/smoke-0/models/S-backtracking-4",
        "models/countdown-s",
    ):
        make_checkpoint(tmp_path / name)
    (tmp_path / "models" / "empty").mkdir()
    make_checkpoint(tmp_path / "runs/cpu-0/models/S-reward-5")
    config = tmp_path / "runs/cpu-0/models/S-reward-5/config.json"
    config.write_text('{"architectures": ["LlamaForSequenceClassification"]}')
    assert list(checkpoint_choices(tmp_path, "cpu-0")) == [
        "models/countdown-s",
        "runs/cpu-0/models/S-backtracking-2",
        "runs/cpu-0/models/S-trunk-1",
        "runs/smoke-0/models/S-backtracking-4",
    ]
    chosen = checkpoint_choices(tmp_path, "cpu-0", "elsewhere")
    assert next(iter(chosen.items())) == ("elsewhere", str(tmp_path / "elsewhere"))
    assert checkpoint_choices(tmp_path / "nowhere") == {}


def test_a_checkpoint_of_another_task_is_not_offered(tmp_path):
    for name in ("models/mine", "models/other", "models/unknown", "runs/adds-0/models/S-5"):
        make_checkpoint(tmp_path / name)
    for name, module in (("mine", "lib.countdown"), ("other", "adding")):
        table = {"settings": {"task": {"module": module, "settings": {}}}}
        (tmp_path / "models" / name / "manifest.json").write_text(json.dumps(table))
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "adds.toml").write_text('[task]\nmodule = "adding"\nsettings = {}\n')
    found = checkpoint_choices(tmp_path, task=profile_task(ROOT, "cpu"))
    assert list(found) == ["models/mine", "models/unknown"]


def test_fields_of_a_search():
    fields = {field["name"]: field for field in setting_fields(["a", "b"])}
    assert list(fields) == ["breadth", "depth", "temperature", "seed", "per_state", "checkpoint"]
    assert fields["checkpoint"]["options"] == ["a", "b"]
    assert all(field["tip"] and field["label"] for field in fields.values())
    assert setting_fields([])[-1]["options"] == ["none yet"]


def test_settings_are_read_and_bounded():
    texts = {
        "breadth": "16",
        "depth": "1",
        "temperature": "0.7",
        "seed": "5",
        "per_state": "N each",
    }
    expected = {"breadth": 16, "depth": 1, "temperature": 0.7, "seed": 5, "per_state": "breadth"}
    assert read_settings(texts) == expected
    for name, text, said in [
        ("breadth", "1000000000", "Breadth N: '1000000000' is not a whole number from 1 to 512"),
        ("breadth", "", "Breadth N: '' is not"),
        ("breadth", "2.5", "Breadth N: '2.5' is not a whole number"),
        ("depth", "-1", "Depth b: '-1' is not"),
        ("temperature", "nan", "Temperature: 'nan' is not a number from 0 to 5"),
        ("temperature", "warm", "Temperature: 'warm' is not"),
        ("per_state", "N", "Roll back with: 'N' is not one of √N each, N each"),
        ("seed", "9" * 99, "Seed: '99999999999999999999' is not"),
    ]:
        with pytest.raises(UserError) as error:
            read_settings(texts | {name: text})
        assert str(error.value).startswith(said)


def test_the_task_of_a_profile_and_of_a_checkpoint(tmp_path):
    task = profile_task(ROOT, "cpu")
    shipped = trained_on(ROOT, str(ROOT / "models" / "countdown-s"), task)
    assert shipped.settings.numbers == 4 and shipped.settings.target_high == 75
    of_a_run = trained_on(ROOT, str(ROOT / "runs/smoke-0/models/S"), task)
    assert of_a_run == profile_task(ROOT, "smoke")
    assert trained_on(ROOT, str(tmp_path), task) is None and trained_on(ROOT, None, task) is None
    with pytest.raises(UserError, match=r"profile 'cup': .* choose one of .*cpu"):
        profile_task(ROOT, "cup")
    (tmp_path / "mine.toml").write_text("[task]\nmodule = 'other'\n")
    with pytest.raises(UserError, match="no readable profile"):
        profile_task(ROOT, str(tmp_path / "mine.toml"))
    (tmp_path / "adding.toml").write_text('[task]\nmodule = "adding"\nsettings.most = 9\n')
    with pytest.raises(UserError, match="adding: it has no form"):
        profile_task(ROOT, str(tmp_path / "adding.toml"))
