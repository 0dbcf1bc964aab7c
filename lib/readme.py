"""The README's results section and its figures, made from results.json with no training.

Takes figures/<profile>/results.json; redraws figures/<profile>/*.png and *.svg and writes the text
between the README's two markers. `python -m lib.readme --profile cpu` does both, `--check` changes
nothing and exits with 1 when the README differs from what the results give.
Knows nothing of how the results were made.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.errors import UserError
from lib.experiment import Experiment, open_experiment
from lib.gallery import draw_all
from lib.results import read_results
from lib.section import render
from lib.store import MADE, read_json, write_atomic

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
README_PROFILE = "cpu"  # other profiles have their figures and results.json alone
PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


def updated(readme: str, section: str, path: Path | str = "README.md") -> str:
    """The README's text with this section between its markers."""
    if (
        readme.count(BEGIN) != 1
        or readme.count(END) != 1
        or readme.index(BEGIN) > readme.index(END)
    ):
        raise UserError(f"{path}: it must have the line {BEGIN} once, and {END} once after it")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{rest.split(END)[1]}"


def collect(run: Path, folder: Path) -> None:
    """Copy a finished run's results and durations into `folder`, where there is such a run."""
    for source in (run / "figures" / "results.json", run / "timings.json"):
        if source.exists():
            write_atomic(folder / source.name, source.read_bytes())


def ship(experiment: Experiment, folder: Path) -> None:
    """Copy a finished run's backtracking checkpoint of S, and how it was made, into `folder`."""
    made = experiment.checkpoint("S", "backtracking")
    for source in made.path.iterdir():
        if source.suffix in (".safetensors", ".json") and source.name not in (MADE, "loss.json"):
            write_atomic(folder / source.name, source.read_bytes())
    manifest = {**experiment.manifest(), "checkpoint": read_json(made.path / MADE)}
    write_atomic(folder / "manifest.json", json.dumps(manifest, indent=1, default=str))


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """The command; -> its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.readme", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--profile", default="cpu", help="whose results to show (default: cpu)")
    parser.add_argument("--seed", type=int, default=0, help="which run of it (default: 0)")
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit with 1 if the README differs"
    )
    chosen = parser.parse_args(arguments)
    try:
        if not PROFILE_NAME.fullmatch(chosen.profile):
            raise UserError(f"PROFILE={chosen.profile}: not a profile's name")
        folder, path = root / "figures" / chosen.profile, root / "README.md"
        run = root / "runs" / f"{chosen.profile}-{chosen.seed}"
        if not chosen.check:
            collect(run, folder)
            if chosen.profile == README_PROFILE and (run / "figures" / "results.json").exists():
                ship(open_experiment(chosen.profile, chosen.seed), root / "models" / "countdown-s")
        manifest, rows = read_results(folder / "results.json")
        if (folder / "timings.json").exists():
            manifest["durations_s"] = read_json(folder / "timings.json")
        try:
            readme = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        text = updated(readme, render(manifest, rows), path)
        if chosen.check:
            if text != readme:
                command = f"make figures PROFILE={chosen.profile}"
                raise UserError(f"{path}: not what results.json gives; run `{command}`")
            return 0
        draw_all(rows, manifest, folder)
        if text != readme and chosen.profile == README_PROFILE:
            write_atomic(path, text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
