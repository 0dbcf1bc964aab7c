"""Files that try to run code or to reach out: refused in one line, or read without harm.

Only safetensors, JSON, TOML, parquet and (Trainer's own state, without code) tensors are ever read.
"""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_house import HOUSE

from lib.base.errors import UserError
from lib.base.files import read_parquet
from lib.models.llama import build_model, load_model, load_tokenizer
from lib.models.tokenizer import StepTokenizer, build_tokenizer
from lib.search import vllm
from lib.tasks.countdown import problems
from lib.tasks.countdown.public_rows import read_public
from lib.tasks.countdown.task import CountdownTask
from lib.training import reward_model
from lib.training.trainer import TrainingSpec, train
from studies.catalogue import load_profile

ROOT = Path(__file__).parents[1]
TASK = CountdownTask(problems.Settings(4, 25, 10, 75, 99, 0.1))
TOKENIZER = build_tokenizer(TASK.pieces)
LOADERS = (load_model, load_tokenizer, reward_model.load_reward_model, vllm._max_positions)
ROW = {"nums": [3, 4], "target": 7, "search_path": "3+4=7\nGoal Reached!"}


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.write_text, (self.marker, "unpickled")


@pytest.fixture
def marker(tmp_path):
    """The file that code would write, had it run."""
    path = tmp_path / "it-ran"
    yield path
    assert not path.exists()


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    build_model(TOKENIZER, 16, 1, 2, seed=0).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return folder


def refused(read, *arguments, match=""):
    with pytest.raises(UserError, match=match) as error:
        read(*arguments)
    assert "\n" not in str(error.value)


# Models ------------------------------------------------------------------------------------------


def test_a_pickle_is_never_a_model(checkpoint, marker):
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(marker)))
    load_model(checkpoint)  # beside safetensors it is not looked at
    (checkpoint / "model.safetensors").unlink()
    refused(load_model, checkpoint, match="no model can be loaded")
    refused(reward_model.load_reward_model, checkpoint, match="no reward model can be loaded")
    (checkpoint / "model.safetensors").write_bytes(pickle.dumps(Bomb(marker)))
    refused(load_model, checkpoint, match="no model can be loaded")


def plant_code(folder: Path, marker: Path, model_type: str) -> None:
    code = f"open({str(marker)!r}, 'w').write('ran')\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code)
    (folder / "__init__.py").write_text(code)
    names = ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": model_type}
    config |= {"auto_map": {name: "evil.Evil" for name in names}, "trust_remote_code": True}
    (folder / "config.json").write_text(json.dumps(config))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "Evil", "trust_remote_code": True}
    settings |= {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize("model_type", ["evil", "llama"])
@pytest.mark.parametrize("loader", LOADERS)
def test_a_model_s_own_code_is_never_run(checkpoint, marker, model_type, loader, monkeypatch):
    """Where the type is one that the library knows, its own class is taken."""
    plant_code(checkpoint, marker, model_type)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # an answer to its question
    try:
        loader(checkpoint)
    except UserError as error:
        assert "\n" not in str(error) and str(checkpoint) in str(error)
    else:
        assert model_type == "llama" or loader is load_tokenizer


def test_a_pickle_in_interrupted_training_is_not_run(checkpoint, marker, tmp_path):
    traces = TASK.optimal_traces(TASK.make_problems({"train": 8}, 1))
    traces = StepTokenizer(TOKENIZER, TASK.step_end).encode_traces(traces)
    recipe = replace(load_profile("smoke").training.branch, batch_size=4, save_steps=1, epochs=1.0)
    recipe = replace(recipe, compile=False, packing=False)
    spec, folder = TrainingSpec(recipe, 0, 2), tmp_path / "training"

    def stop(step, last, loss):
        raise KeyboardInterrupt

    model = load_model(checkpoint)
    with pytest.raises(KeyboardInterrupt):
        train(model, TOKENIZER, traces, spec, folder, stop)
    saved = sorted((folder / "checkpoints").glob("checkpoint-*"))
    assert saved
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        kept = (saved[-1] / name).read_bytes()
        (saved[-1] / name).write_bytes(pickle.dumps(Bomb(marker)))
        model = load_model(checkpoint)
        refused(train, model, TOKENIZER, traces, spec, folder, match="not read: it may hold code")
        (saved[-1] / name).write_bytes(kept)


# Data --------------------------------------------------------------------------------------------


def test_only_parquet_and_json_are_data(tmp_path, marker):
    folder = tmp_path / "data"
    folder.mkdir()
    pickled = pickle.dumps(Bomb(marker))
    torch.save({"a": 1}, tmp_path / "tensors.pth")
    files = {"train.pkl": pickled, "train.arrow": pickled, "train.csv": b"nums\n1\n"}
    files |= {"train.txt": b"3+4=7\n", "train.h5": pickled, "train.zip": pickled}
    files |= {"train.npy": pickled, "data.py": f"open({str(marker)!r}, 'w')".encode()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
        refused(read_public, folder, "honest", match=r"only parquet and json are read|cannot be re")
        (folder / name).unlink()
    (folder / "train.jsonl").write_text(json.dumps(ROW))
    (folder / "other.py").write_bytes(files["data.py"])
    assert len(read_public(folder, "honest")[0]) == 1
    (folder / "data.py").write_bytes(files["data.py"])  # once the way to a data set's own code
    refused(read_public, folder, "honest", match="scripts are no longer supported")


def test_a_folder_called_as_a_reader_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "train.jsonl").write_text(json.dumps(ROW))
    monkeypatch.chdir(tmp_path)
    assert len(read_public("json", "honest")[0]) == 1


@pytest.mark.parametrize(
    "file", ["../outside.jsonl", "https://example.com/x.jsonl", "hf://datasets/a/b/x.jsonl"]
)
def test_a_folder_reads_no_file_but_its_own(tmp_path, file, monkeypatch):
    def connect(*_):
        raise AssertionError("it reached out")

    monkeypatch.setattr("socket.getaddrinfo", connect)
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside.jsonl").write_text(json.dumps(ROW))
    (folder / "train.jsonl").write_text(json.dumps(ROW))
    listed = f"---\nconfigs:\n- config_name: default\n  data_files: {file!r}\n---\n"
    (folder / "README.md").write_text(listed)
    refused(read_public, folder, "honest", match=r"not its own|cannot be read")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "outside.jsonl").write_text(json.dumps(ROW))
    (folder / "train.jsonl").symlink_to(tmp_path / "outside.jsonl")
    refused(read_public, folder, "honest", match="names a file that is not its own")


def test_columns_that_name_a_file_are_not_opened(tmp_path, monkeypatch):
    """A parquet file may say that its column is of pictures, to be read from where they lie."""
    folder = tmp_path / "data"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("3+4=7")
    features = {"nums": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "List"}}
    features |= {"target": {"dtype": "int64", "_type": "Value"}, "search_path": {"_type": "Image"}}
    picture = pa.array([{"bytes": None, "path": str(secret)}], pa.struct(
        [("bytes", pa.binary()), ("path", pa.string())]))  # fmt: skip
    table = pa.table({"nums": [[3, 4]], "target": [7], "search_path": picture})
    known = {"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pa.parquet.write_table(table.replace_schema_metadata(known), folder / "a.parquet")
    refused(read_public, folder, "honest", match=r"search_path is not a text|cannot be read")


def test_objects_in_tables_and_arrays_stay_bytes(tmp_path, marker):
    """What older versions of these libraries unpickled."""
    pickled = pickle.dumps(Bomb(marker))
    extension = {"ARROW:extension:name": "arrow.py_extension_type"}
    extension |= {"ARROW:extension:metadata": pickled}
    field = pa.field("a", pa.binary(), metadata=extension)
    table = pa.table([pa.array([pickled])], schema=pa.schema([field]))
    pa.parquet.write_table(table, tmp_path / "table.parquet")
    assert read_parquet(tmp_path / "table.parquet")["a"].tolist() == [pickled]
    pd.DataFrame({"a": [pickled]}).to_parquet(tmp_path / "bytes.parquet")
    assert read_parquet(tmp_path / "bytes.parquet")["a"].tolist() == [pickled]
    np.savez(tmp_path / "traces.npz", ids=np.array([Bomb(marker)], dtype=object))
    with (
        np.load(tmp_path / "traces.npz", allow_pickle=False) as arrays,
        pytest.raises(ValueError, match="allow_pickle=False"),
    ):
        arrays["ids"]


def test_nothing_here_unpickles_or_evaluates():
    words = ("pickle.load", "eval(", "exec(", "allow_pickle=True", "trust_remote_code=True")
    words += (
        "weights_only=False",
        "read_pickle",
        "joblib.load",
        "joblib import",
        "yaml.load(",
        "shell=True",
        "os.system",
    )
    found = []
    paths = [path for folder in HOUSE for path in (ROOT / folder).rglob("*.py")]
    for path in [*paths, *(ROOT / "notebooks").glob("*.ipynb")]:
        text = path.read_text(encoding="utf-8").replace(".eval()", "")
        found += [f"{path.name}: {word}" for word in words if word in text]
    assert not found


# Notebooks and JupyterLab ------------------------------------------------------------------------


def test_a_committed_notebook_with_an_output_fails_the_linter(tmp_path):
    source = json.loads((ROOT / "notebooks" / "06_explorer.ipynb").read_text(encoding="utf-8"))
    cell = next(cell for cell in source["cells"] if cell["cell_type"] == "code")
    evil = {"text/html": "<script>document.title = 'hacked'</script>"}
    cell["outputs"] = [{"output_type": "display_data", "data": evil, "metadata": {}}]
    path = tmp_path / "evil.ipynb"
    path.write_text(json.dumps(source))
    check = [sys.executable, "-m", "nbstripout", "--verify", "--keep-id"]
    done = subprocess.run([*check, str(path)], capture_output=True, text=True)
    assert done.returncode == 1
    shutil.copy(ROOT / "notebooks" / "06_explorer.ipynb", path)
    assert subprocess.run([*check, str(path)], capture_output=True).returncode == 0


def test_jupyterlab_is_for_this_machine_only_and_keeps_its_token():
    command = subprocess.run(
        ["make", "-n", "lab", "MAKEFLAGS="], cwd=ROOT, capture_output=True, text=True
    ).stdout
    words = command[command.index("jupyterlab.labapp") :].split()
    options = {word.rstrip(")") for word in words if word.startswith("--")}
    rooted = f'--ServerApp.root_dir="{ROOT}"'
    assert options <= {"--ip=127.0.0.1", "--allow-root", rooted} and "--ip=127.0.0.1" in options
    # Its default is a random token; only a setting could take it away.
    from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider

    for provider in (IdentityProvider(), PasswordIdentityProvider()):
        assert len(provider.token) >= 40 and provider.auth_enabled


# Packages ----------------------------------------------------------------------------------------


def test_every_package_that_a_package_needs_is_pinned_and_installed_so():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    asked = [Requirement(line) for line in lines if line and not line.startswith("#")]
    asked = [pin for pin in asked if not pin.marker or pin.marker.evaluate()]
    here = {canonicalize_name(pin.name): pin for pin in asked}
    # torch pins its own CUDA libraries, which a machine without a GPU does not have.
    own = ("nvidia-", "triton", "cuda-")
    missing = set()
    for name, pin in here.items():
        # A local part says which build it is: `+cpu`.
        assert version(name).split("+")[0] == next(iter(pin.specifier)).version, name
        for line in requires(name) or []:
            need = Requirement(line)
            wanted = not need.marker or any(
                need.marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)
            )
            needed = canonicalize_name(need.name)
            if wanted and needed not in here and not needed.startswith(own):
                missing.add(f"{name} needs {needed}")
    assert not missing - {"jupyterlab needs setuptools"}
