"""Whether a pretrained model can be had from here, and what to do where it cannot.

Takes a profile's model path; gives one line. Downloads nothing.
"""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

from lib.errors import UserError

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
