"""DeepSpeed for real, on processors: the losses of one process, kills, resuming, one error."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from test_trainer import TOKENIZER, TRACES, tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib.base import hardware
from lib.base.errors import UserError
from lib.base.files import ROOT
from lib.base.processes import GRANTED, settle
from lib.models.tokenizer import TokenizedTraces
from lib.profiles.recipe import Recipe
from lib.profiles.settings import DeepSpeedSettings, check
from lib.training import deepspeed
from lib.training.batches import EvenSampler, FilledTraces, collate
from lib.training.deepspeed import explain, prepare
from lib.training.trainer import TrainingSpec, read_curve, train

RECIPE = Recipe(
    "adamw", 1e-2, batch_size=8, epochs=1, save_steps=5, verdict_weight=4.0, schedule="linear"
)
SPEC = TrainingSpec(RECIPE, seed=0, log_steps=1)
TWO = DeepSpeedSettings(devices=2)
#: The last batch holds 3 of 8 examples: one process has two, the other one.
FEW = TokenizedTraces(TRACES.ids, TRACES.codes, TRACES.starts[: 91 + 1])
needs_deepspeed = pytest.mark.skipif(sys.platform != "linux", reason="DeepSpeed needs Linux")


def launched(folder, traces=FEW, progress=None):
    deepspeed.train_in_processes(
        lambda: (tiny(), TOKENIZER), lambda _: traces, SPEC, folder, TWO, progress
    )


@pytest.mark.slow
@needs_deepspeed
def test_two_processes_train_as_one_does_also_when_one_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "has_bfloat16", lambda device: False)
    alone = train(tiny(), TOKENIZER, FEW, SPEC, tmp_path / "one")
    assert alone.step.tolist() == list(range(1, 13))

    folder, seen = tmp_path / "two", []
    others = set(psutil.Process().children(recursive=True))  # Python's own helper, perhaps

    def kill(step, last, loss):
        seen.append((step, loss))
        if step == 8:
            children = psutil.Process().children(recursive=True)
            ranks = [
                child
                for child in children
                if child.cmdline()[2:4] == ["-m", "lib.training.deepspeed_worker"]
            ]
            assert len(ranks) == 2
            ranks[1].send_signal(signal.SIGKILL)

    with pytest.raises(
        UserError, match=r"failed: process 1 was ended (by SIGKILL|without an error): killed"
    ):
        launched(folder, progress=kill)
    left = set(psutil.Process().children(recursive=True)) - others
    assert not [child for child in left if child.is_running()]
    assert (folder / "checkpoints" / "checkpoint-5").is_dir()
    half = folder / "checkpoints" / "checkpoint-10"  # killed between a checkpoint's files
    half.mkdir(exist_ok=True)
    (half / "trainer_state.json").unlink(missing_ok=True)

    resumed = []
    launched(folder, progress=lambda step, last, loss: resumed.append(step))
    assert resumed == list(range(6, 13))
    curve = read_curve(folder)
    np.testing.assert_allclose(curve.loss, alone.loss, rtol=1e-5)
    np.testing.assert_allclose([loss for _, loss in seen[:8]], alone.loss[:8], rtol=1e-5)
    assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "tokenizer.json"}
    assert not (folder / "job").exists() and not (folder / "checkpoints").exists()
    model, other = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name) for name in ("two", "one")
    )
    assert len(AutoTokenizer.from_pretrained(folder)) == model.config.vocab_size
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(
            ours, theirs, atol=2e-3
        )  # Adam: the gradient's sign where it is small
    launched(folder, progress=lambda *_: pytest.fail("trained again"))


@pytest.mark.slow
@needs_deepspeed
def test_a_failing_process_is_named_with_its_error(tmp_path):
    broken = FEW.ids.copy()
    broken[FEW.starts[3] + 5] = 10_000  # no such token
    with pytest.raises(UserError) as error:
        launched(tmp_path, TokenizedTraces(broken, FEW.codes, FEW.starts))
    first, *rest = str(error.value).splitlines()
    assert first.startswith("training with DeepSpeed failed: process ")
    assert first.endswith("IndexError: index out of range in self")
    assert any("embedding" in line for line in rest) and len(rest) <= deepspeed.LAST_LINES
    assert (tmp_path / "job" / "rank0.log").exists()  # the whole of it stays to be read


def test_several_processes_see_the_batches_of_one():
    sampler = EvenSampler(FEW, 8, seed=3)
    order = list(sampler)
    assert len(order) == len(sampler) == 96 and sorted(order[:91]) == list(range(91))
    assert order[91:] == [91] * 5
    sampler.set_epoch(1)
    assert list(sampler)[:91] != order[:91]
    filled = FilledTraces(FEW)
    assert len(filled) == 91 and (filled[7]["input_ids"] == FEW[7]["input_ids"]).all()
    batch = collate([filled[91], filled[0]], TOKENIZER.pad_token_id, 4.0)
    assert batch["loss_weights"][0].sum() == 0 < batch["loss_weights"][1].sum()


def test_what_cannot_be_trained_is_said_at_once(tmp_path):
    with pytest.raises(UserError, match='optimizer = "adamw"'):
        check(TWO, replace(RECIPE, optimizer="muon"))
    with pytest.raises(UserError, match="batch_size = 9: must be a multiple of the 2 processes"):
        check(TWO, replace(RECIPE, batch_size=9))
    with pytest.raises(UserError, match="devices = 0"):
        DeepSpeedSettings(devices=0)
    with pytest.raises(UserError, match=r"none\.json: no such file"):
        check(replace(TWO, config="none.json"), RECIPE)
    none = TokenizedTraces(TRACES.ids, TRACES.codes, TRACES.starts[:1])
    with pytest.raises(UserError, match="no traces"):
        launched(tmp_path, none)


def test_hostfiles(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text("# ours\nworker-1 slots=4\n\nworker-2 slots=4\n")
    settings = DeepSpeedSettings(devices=4, hostfile=str(hosts))
    assert settings.processes() == 8
    found = deepspeed.command(tmp_path / "job", settings)
    assert found[found.index("--hostfile") + 1] == str(hosts)
    assert "TRAINJOB_WATCH" not in deepspeed.environment(settings)
    for text in ("", "worker-1\n", "worker-1 slots=2\n"):
        hosts.write_text(text)
        with pytest.raises(UserError, match=r"hostfile = .*worker-1 slots=4"):
            settings.processes()
    with pytest.raises(UserError, match=r"hostfile = .*No such file"):
        replace(settings, hostfile=str(tmp_path / "none")).processes()


def test_the_gpus_that_were_granted_are_those_that_train(monkeypatch, tmp_path):
    """DeepSpeed's launcher numbers GPUs from 0, whatever it was granted."""
    for granted in ("2,3", "GPU-5ae7a3f1,GPU-9c1d"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", granted)
        variables = deepspeed.environment(TWO)
        assert "CUDA_VISIBLE_DEVICES" not in variables
        variables["CUDA_VISIBLE_DEVICES"] = "0,1"  # as the launcher sets it for its processes
        settle(variables, ROOT, ("-m", "lib.training.deepspeed_worker"))
        assert variables["CUDA_VISIBLE_DEVICES"] == granted and GRANTED not in variables
    hosts = tmp_path / "hosts"
    hosts.write_text("worker-1 slots=2\n")
    several = deepspeed.environment(replace(TWO, hostfile=str(hosts)))
    assert several["CUDA_VISIBLE_DEVICES"] == granted
    monkeypatch.setattr(hardware, "device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="devices = 2: 1 GPUs can be seen here"):
        launched(tmp_path)


def test_a_job_is_written_once_and_again_for_other_settings(tmp_path):
    calls = []

    def start():
        calls.append(1)
        return tiny(), TOKENIZER

    for processes in (2, 2, 4):
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
        prepare(tmp_path / "job", start, lambda _: FEW, {"processes": processes})
        assert (tmp_path / "checkpoints").exists() == (processes == 2)
    assert len(calls) == 2
    with np.load(tmp_path / "job" / "traces.npz", allow_pickle=False) as arrays:
        assert (arrays["ids"] == FEW.ids).all()
    assert json.loads((tmp_path / "job" / "job.json").read_text()) == {"processes": 4}


def test_the_first_failure_is_the_one_that_is_told(tmp_path):
    late = {"rank": 0, "time": 2.0, "error": "RuntimeError: Connection closed", "lines": ["a"]}
    early = {"rank": 1, "time": 1.0, "error": "data.x: missing", "lines": []}
    assert explain(tmp_path, TWO, [late, early], 1, ["tail"]) == [
        "training with DeepSpeed failed: process 1: data.x: missing"
    ]
    lost = late | {"error": "RuntimeError: Connection closed by peer"}
    for failure in (late, lost):
        killed, last = explain(tmp_path, TWO, [failure], -9, ["tail"])
        assert "process 1 was ended by SIGKILL: killed, or too little memory?" in killed
        assert last == "tail"
    assert "process 1 was ended without an error" in explain(tmp_path, TWO, [lost], 1, [])[0]
    first, last = explain(tmp_path, TWO, [], 2, ["tail"])
    assert first.endswith("status 2") and last == "tail"


def test_nothing_outlives_an_interrupt():
    script = "import subprocess, time; subprocess.Popen(['sleep', '99']); time.sleep(99)"
    with (
        pytest.raises(KeyboardInterrupt),
        deepspeed.launched([sys.executable, "-c", script], dict(os.environ)) as process,
    ):
        while not (children := psutil.Process(process.pid).children()):
            time.sleep(0.05)
        raise KeyboardInterrupt
    psutil.wait_procs(children, 5)
    assert process.poll() is not None and not any(child.is_running() for child in children)


def test_processes_end_with_the_one_that_launched_them():
    script = "import lib.base.processes as p; print('up', flush=True); p.end_with_parent()"
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout.readline() == b"up\n"
    child.stdin.close()
    assert child.wait(20) == 1
    child.stdout.close()


def test_curves_are_tables(tmp_path):
    (tmp_path / "loss.json").write_text("[]")
    assert list(read_curve(tmp_path).columns) == ["step", "examples", "loss"]
    assert isinstance(read_curve(tmp_path), pd.DataFrame)


def test_the_notebooks_table():
    found = deepspeed.describe(TWO)["setting"]
    assert found["processes"] == 2 and found["ZeRO stage"] == 2
    assert deepspeed.describe(None).empty
