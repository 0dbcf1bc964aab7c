from lib.explorer.engine import Controls, checkpoint_choices
from lib.tasks.countdown.rules import Problem


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


def test_fields():
    controls = Controls({"a": "/a", "b": "/b"}, Problem((3, 4, 5), 17), seed=5)
    assert (controls.numbers.value, controls.target.value) == ("3, 4, 5", "17")
    assert controls.checkpoint.value == "/a"
    expected = {"breadth": 16, "depth": 1, "temperature": 0.7, "seed": 5}
    assert controls.search_settings() == expected
    controls.breadth.value = 10**9
    assert controls.breadth.value <= 512
    assert Controls({}, Problem((3, 4), 7), seed=0).checkpoint.value is None


def test_typed_fields_are_sent_whole():
    """Or Run, pressed while the kernel is busy, would overtake the last letters."""
    controls = Controls({}, Problem((3, 4), 7), seed=0)
    assert not controls.numbers.continuous_update and not controls.target.continuous_update
