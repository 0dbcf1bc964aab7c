"""Files: written whole or not at all, read with one clear error, and digests of their content.

Takes paths and plain data; gives bytes on disk and short hashes. Knows nothing of runs or
artifacts.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from lib.base.errors import UserError

#: The repository: the folder that holds lib/, notebooks/ and profiles/.
ROOT = Path(__file__).resolve().parents[2]
TEMPORARY = ".tmp"
#: How long to wait for another process that makes the same artifact. The notebook of a run that was
#: killed lives on for a second.
PATIENCE_S = 20.0
#: Errors that mean the disk or folder, not what was written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
UNWRITABLE += (errno.EIO, errno.ENOTDIR)
SHARED_MEMORY = "shared memory"  # torch's name of what lies in /dev/shm
SYNCHRONIZE = "multiprocessing/synchronize.py"  # and what makes Python's locks there
TORCH_WRITING = ("file write failed", "unexpected pos", "iostream error")


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(TEMPORARY, f".{path.name}.", path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def remove_temporary(folder: Path) -> None:
    """Remove what killed processes were writing (`write_atomic`) anywhere in a folder."""
    for left in folder.rglob(f".*{TEMPORARY}"):
        left.unlink(missing_ok=True)


def unwritable(error: BaseException, place: Path) -> str | None:
    """What cannot be written, and why, where that is what an error means.

    It is `place` where the error names no file, or one in there; a file elsewhere is named itself.
    safetensors and torch raise errors of their own, with the system's reason as text or without.
    """
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen)
        for number in UNWRITABLE:
            if (
                f"os error {number})" in text
                or (isinstance(seen, OSError) and seen.errno == number)
                or (SHARED_MEMORY in text and text.endswith(f"({number})"))
            ):
                return _cannot_be_written(os.strerror(number), culprit(seen), place)
        if isinstance(seen, RuntimeError) and any(mark in text for mark in TORCH_WRITING):
            return _cannot_be_written("is the disk full?", None, place)
        seen = seen.__cause__ or seen.__context__
    return None


def culprit(error: BaseException) -> str | None:
    """The file that an error of the system is about; None where it does not say."""
    if name := getattr(error, "filename", None):
        return os.fsdecode(name)
    frames = traceback.extract_tb(error.__traceback__)
    if SHARED_MEMORY in str(error) or any(Path(at.filename).match(SYNCHRONIZE) for at in frames):
        return "/dev/shm"
    return None


def _cannot_be_written(reason: str, file: str | None, place: Path) -> str:
    if file is None:
        return f"{place}: cannot be written ({reason})"
    if os.path.isabs(file) and not file.startswith(str(place.absolute())):
        return f"{file}: cannot be written ({reason}), which {place} needs"
    return f"{place}: cannot be written ({reason}: {file})"


def read_json(path: Path) -> Any:
    """A JSON file's content; `UserError` names a missing or broken file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({error}); delete it and run again"
        ) from error


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table whole or not at all."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomic(path, buffer.getvalue())


def read_parquet(path: Path) -> pd.DataFrame:
    """A parquet file's table; `UserError` names a missing or broken file."""
    try:
        return pd.read_parquet(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except Exception as error:  # a damaged description of its columns can raise anything
        raise UserError(f"{path}: not a whole parquet file; delete it and run again") from error


def digest(value: Any) -> str:
    """A short hash of JSON-like data; equal data in any key order gives the same."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def file_digest(path: Path) -> str:
    """A short hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; `UserError` where one keeps it for too long.

    The lock is the folder's own and the system's: a killed process leaves none, and no file.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    what = folder.name.removesuffix(".partial")
                    raise UserError(f"{what}: another process is making it; wait for it") from error
                time.sleep(0.1)
            except OSError:  # some network file systems lock no folder
                break
        yield
    finally:
        os.close(handle)
