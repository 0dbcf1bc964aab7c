"""`make figures`: a run's results in the repository, and all pages drawn from them, untrained.

Where a profile has a finished run, copies its results and executed notebooks into
figures/<profile>/ (into figures/<profile>-<seed>/ where that is there). Then takes the results.json
there, redraws the figures beside it, and writes their page (README.md) there; of the profile `cpu`
also the short results in the repository's README and its links to executed notebooks; the page of
`sudoku` shows both tasks, as far as the results of `cpu` are there. Where
figures/<profile>-<seed>/ has other seeds, the profile's page says what all have together. `--check`
changes nothing and exits with 1 when a page differs from what the results give.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lib.base.errors import UserError
from lib.base.files import ROOT, read_json, write_atomic
from lib.drawing.style import save_figure
from lib.evaluation.results import read_results
from studies.beyond import two_tasks
from studies.catalogue import experiment_in, load_profile
from studies.report.page import draw_all, linked, render, short_results, updated
from studies.report.publish import finished_experiment, publish, ship
from studies.report.seeds import read_seeds, seed_folders

README_PROFILE = "cpu"
#: Whose S goes to models/, under its task's name, for the explorer.
SHIPPED = (README_PROFILE, "sudoku")
PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


def figures_folder(root: Path, name: str, seed: int) -> Path:
    """Where a run's figures belong: the profile's folder, or one of this seed's own if there is."""
    own = root / "figures" / f"{name}-{seed}"
    return own if own.exists() else root / "figures" / name


def publish_run(source: str, seed: int, runs: Path, folder: Path, root: Path) -> None:
    """Copy what the finished run of a profile left into the repository; `UserError` if it is not.

    For each task's own profile that is S's checkpoint too.
    """
    made = experiment_in(runs, load_profile(source), source, seed)
    with made.run.lock():
        experiment = finished_experiment(made)
        publish(experiment, folder, root)
        if folder.name in SHIPPED:
            manifest, _ = read_results(folder / "results.json")
            ship(experiment, manifest, root / "models" / f"{experiment.task.name}-s")


def pages(root: Path, folder: Path, manifest: dict, rows: pd.DataFrame) -> dict[Path, str]:
    """What this run's pages have to say, by file."""
    outcomes = read_seeds(seed_folders(root, folder.name))
    found = {folder / "README.md": render(manifest, rows, outcomes, tasks_of(root, folder, rows))}
    if folder.name == README_PROFILE:
        path = root / "README.md"
        try:
            readme = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        place = folder.relative_to(root).as_posix()
        section = short_results(manifest, rows, place, outcomes)
        found[path] = linked(updated(readme, section, path), folder / "notebooks", root)
    return found


def tasks_of(root: Path, folder: Path, rows: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of both tasks, for the page of the second one; None elsewhere, or without either."""
    return two_tasks.both(rows, root) if folder.name == two_tasks.PAGE else None


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; -> its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m commands.figures", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--profile", default="cpu", help="whose results to show (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="which run of it (default: 0)")
    parser.add_argument(
        "--runs", default="", help="the folder of runs (default: runs/, which need not have it)"
    )
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if a page differs"
    )
    chosen = parser.parse_args(arguments)
    try:
        show(chosen.profile, chosen.seed, root, chosen.check, chosen.runs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(profile: str, seed: int, root: Path, check: bool, runs: str = "") -> None:
    """See above; `UserError` where a page differs, or where there are no such results.

    runs: the folder of runs; one that is named must have this one.
    """
    name = Path(profile).stem if profile.endswith(".toml") else profile
    if not PROFILE_NAME.fullmatch(name):
        raise UserError(f"PROFILE={profile}: not a profile's name")
    folder = figures_folder(root, name, seed)
    run = (Path(runs).expanduser().resolve() if runs else root / "runs") / f"{name}-{seed}"
    if runs and not run.exists():
        raise UserError(f"{run}: no such run; `make reproduce PROFILE={profile} SEED={seed}` first")
    if not check and run.exists():
        publish_run(profile, seed, run.parent, folder, root)
    manifest, rows = read_results(folder / "results.json")
    if seed and manifest.get("seed") != seed:
        raise UserError(
            f"{folder}: these are results of seed {manifest.get('seed')}, and there is no run "
            f"{run}; `make reproduce PROFILE={profile} SEED={seed}` makes it"
        )
    if (folder / "timings.json").exists():
        manifest["durations_s"] = read_json(folder / "timings.json")
    for path, text in pages(root, folder, manifest, rows).items():
        if check and not (path.exists() and path.read_text(encoding="utf-8") == text):
            command = f"make figures PROFILE={name} SEED={manifest.get('seed', 0)}"
            raise UserError(f"{path}: not what results.json gives; run `{command}`")
        if not check:
            write_atomic(path, text)
    if not check:
        draw_all(rows, manifest, folder)
        if (tasks := tasks_of(root, folder, rows)) is not None:
            save_figure(two_tasks.against_tokens(tasks), folder, two_tasks.NAME, manifest)


if __name__ == "__main__":
    sys.exit(main())
