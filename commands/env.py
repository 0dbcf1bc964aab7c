"""`make env`: an environment with every pinned package, made or checked; nobody's own is changed
that does not fit, and none is ever wiped that was not made here.

Takes its folder and a file of pins; leaves the pins installed, this checkout on its path, and a
stamp that names this checkout. Runs before any package is there, so it imports none.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from lib.base.errors import UserError, exit_status

VERSIONS = ("3.11", "3.12", "3.13")
PINS, VLLM_PINS = "requirements.txt", "requirements-vllm.txt"
MORE = ("requirements-vllm-gpu.txt",)  # versions that a file of pins leaves open
#: Written first into an environment that is made here, and last: every pin was installed.
BEGUN, STAMP = ".made-by-make-env", ".pins-installed"
PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-compile")


def python_of(folder: Path) -> Path:
    """An environment's Python."""
    return folder / "bin" / "python"


def answer(python: Path | str, code: str) -> str | None:
    """What a Python prints for some code; None where it fails, or is not there."""
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def version_of(python: Path | str) -> str | None:
    """`3.12`; None where it is no Python that works."""
    return answer(python, "import sys; print('%d.%d' % sys.version_info[:2])")


def maker(folder: Path) -> str:
    """Which tool made an environment, as far as it says so."""
    if (folder / "conda-meta").is_dir():
        return "conda"
    try:
        text = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    keys = {line.split("=")[0].strip() for line in text.splitlines()}
    return next((tool for tool in ("uv", "virtualenv") if tool in keys), "")


def prepare(folder: Path, wanted: str) -> None:
    """Make the environment where there is none; `UserError` where one cannot be used as it is.

    `wanted` is the Python that was asked for; empty where nobody asked.
    """
    asked = version_of(wanted) if wanted else None
    if wanted and asked is None:
        raise UserError(f"PYTHON={wanted}: no Python that works")
    ours = (folder / BEGUN).exists() or (folder / STAMP).exists()
    other = f"remove it (rm -r {folder}) or name another folder: make env VENV=.venv-own"
    if folder.exists() and any(folder.iterdir()):
        found, by = version_of(python_of(folder)), maker(folder)
        named = f"{folder}{f', made by {by},' if by else ''}"
        if found is None or answer(python_of(folder), "import pip") is None:
            if not ours or by:
                what = "has no Python that works" if found is None else "has no pip"
                raise UserError(f"{named} {what}; {other}")
            print(f"{folder}: begun and not finished, or its Python is gone; made anew", flush=True)
        elif found not in VERSIONS:
            raise UserError(f"{named} is of Python {found}, not 3.11, 3.12 or 3.13; {other}")
        elif asked not in (None, found):
            raise UserError(
                f"PYTHON={wanted} is Python {asked}, and {folder} is of Python {found}; {other}"
            )
        else:
            return
    print(f"Making {folder} with {sys.executable}; packages take a few minutes, once.", flush=True)
    make(folder)


def make(folder: Path) -> None:
    """An empty environment of the Python that runs this; what was in the folder goes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BEGUN).touch()
    for old in folder.iterdir():
        if old.name != BEGUN:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    # Where it runs this, its own Python has just gone.
    run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(folder))


def install(folder: Path, pins: str) -> None:
    """Install a file of pins; this checkout's packages are then found from anywhere."""
    python = str(python_of(folder))
    if pins == VLLM_PINS:  # which packages depends on the machine
        run("sh", "scripts/install_vllm", python)
        return
    run(python, *PIP, "-r", pins)
    if pins == PINS:
        run(python, *PIP, "-qq", "--no-deps", "--no-build-isolation", "-e", ".")


def run(*command: str) -> None:
    """Run a command that tells about itself; `UserError` where it fails."""
    if subprocess.run(command).returncode:
        raise UserError(f"this failed: {' '.join(command)}")


def fresh(stamp: Path, *files: Path) -> bool:
    """Whether a stamp is of this checkout, and newer than these files."""
    try:
        return stamp.read_text(encoding="utf-8").strip() == str(Path.cwd()) and all(
            stamp.stat().st_mtime >= path.stat().st_mtime for path in files
        )
    except OSError:
        return False


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commands.env", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pins", default=PINS, help="a file of pins")
    parser.add_argument("--stamp", default=STAMP, help="the stamp's name")
    parser.add_argument("--python", default="", help="the Python that was asked for, if any")
    options = parser.parse_args(arguments)

    def work() -> None:
        prepare(options.folder, options.python)
        stamp = options.folder / options.stamp
        if not fresh(stamp, *map(Path, (options.pins, "pyproject.toml", *MORE))):
            install(options.folder, options.pins)
            stamp.write_text(f"{Path.cwd()}\n", encoding="utf-8")
        stamp.touch()

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
