"""The README's results section and its figures, made from results.json with no training.

Where a profile has a finished run, copies its results and executed notebooks into
figures/<profile>/ (into figures/<profile>-<seed>/ where that is there). Then takes the results.json
there, redraws the figures beside it, and writes the text between two of the README's markers (those
of `cpu`; a short one of each of `BRIEF` between two of its own) and the links to executed
notebooks. `--check` changes nothing and exits with 1 when the README differs from what the results
give. Knows nothing of how they came about.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.base.errors import UserError
from lib.base.files import ROOT, read_json, write_atomic
from lib.commands.reproduce import NOTEBOOKS
from lib.evaluation.results import read_results
from lib.experiment.artifacts import Run
from lib.experiment.experiment import Experiment
from lib.report.gallery import draw_all
from lib.report.page import brief, render
from lib.report.publish import finished_experiment, publish, ship
from lib.studies.sections import load_profile

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
README_PROFILE = "cpu"
#: Folders of figures that have a short section of their own; others are shown nowhere.
BRIEF = {name: (f"<!-- {name}:begin -->", f"<!-- {name}:end -->") for name in ("gpu", "gpu-1")}
PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


def updated(
    readme: str,
    section: str,
    path: Path | str = "README.md",
    markers: tuple[str, str] = (BEGIN, END),
) -> str:
    """The README's text with this section between its markers."""
    begin, end = markers
    if (
        readme.count(begin) != 1
        or readme.count(end) != 1
        or readme.index(begin) > readme.index(end)
    ):
        raise UserError(f"{path}: it must have the line {begin} once, and {end} once after it")
    before, rest = readme.split(begin)
    return f"{before}{begin}\n\n{section}\n\n{end}{rest.split(end)[1]}"


def linked(readme: str, folder: Path, root: Path) -> str:
    """The README's text, in which each notebook's link has one to the executed one in `folder`.

    A notebook that is not there has none.
    """
    for name in NOTEBOOKS:
        plain = f"[{name}](notebooks/{name}.ipynb)"
        path = folder / f"{name}.ipynb"
        link = f" ([executed]({path.relative_to(root).as_posix()}))" if path.exists() else ""
        before = re.compile(re.escape(plain) + r"(?: \(\[executed\]\([^)]*\)\))?")
        readme = before.sub(plain + link, readme)
    return readme


def figures_folder(root: Path, name: str, seed: int) -> Path:
    """Where a run's figures belong: the profile's folder, or one of this seed's own if there is."""
    own = root / "figures" / f"{name}-{seed}"
    return own if own.exists() else root / "figures" / name


def publish_run(source: str, seed: int, run: Path, folder: Path, root: Path) -> None:
    """Copy what the finished run of a profile left into the repository; `UserError` if it is not.

    For the README's own profile that is S's checkpoint too.
    """
    profile = load_profile(source)
    with Run(run).lock():
        experiment = finished_experiment(Experiment(profile, source, seed, Run(run)))
        publish(experiment, folder, root)
        if folder.name == README_PROFILE:
            manifest, _ = read_results(folder / "results.json")
            ship(experiment, manifest, root / "models" / f"{experiment.task.name}-s")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; -> its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.report.readme", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--profile", default="cpu", help="whose results to show (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="which run of it (default: 0)")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if the README differs"
    )
    chosen = parser.parse_args(arguments)
    try:
        is_file = chosen.profile.endswith(".toml")
        name = Path(chosen.profile).stem if is_file else chosen.profile
        if not PROFILE_NAME.fullmatch(name):
            raise UserError(f"PROFILE={chosen.profile}: not a profile's name")
        folder, path = figures_folder(root, name, chosen.seed), root / "README.md"
        run = root / "runs" / f"{name}-{chosen.seed}"
        if not chosen.check and run.exists():
            publish_run(chosen.profile, chosen.seed, run, folder, root)
        manifest, rows = read_results(folder / "results.json")
        if chosen.seed and manifest.get("seed") != chosen.seed:
            raise UserError(
                f"{folder}: these are results of seed {manifest.get('seed')}, and there is no run "
                f"{run}; `make reproduce PROFILE={chosen.profile} SEED={chosen.seed}` makes it"
            )
        if (folder / "timings.json").exists():
            manifest["durations_s"] = read_json(folder / "timings.json")
        try:
            readme = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        if folder.name in BRIEF:
            text = updated(readme, brief(manifest, rows, folder.name), path, BRIEF[folder.name])
        else:
            text = updated(readme, render(manifest, rows), path)
        text = linked(text, root / "figures" / README_PROFILE / "notebooks", root)
        if chosen.check:
            if text != readme:
                command = f"make figures PROFILE={chosen.profile} SEED={manifest.get('seed', 0)}"
                raise UserError(f"{path}: not what results.json gives; run `{command}`")
            return 0
        draw_all(rows, manifest, folder)
        if text != readme and folder.name in (README_PROFILE, *BRIEF):
            write_atomic(path, text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
