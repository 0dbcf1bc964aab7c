"""`make ablations`: the study studies/beyond/ablations.py on a profile, over several seeds.

Leaves figures/ablations/results.json; `make figures PROFILE=ablations` draws its figure and page.
Everything is made once: a stopped call goes on where it was.
"""

from __future__ import annotations

import argparse
import sys

from lib.base.errors import UserError, exit_status
from lib.base.files import ROOT
from studies.beyond.ablations import COMMITTED, SEEDS, ablate, quick, shortened, summary
from studies.catalogue import load_profile


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m commands.ablations", description=__doc__)
    parser.add_argument("--profile", default="cpu", help="whose task, sizes and recipe")
    parser.add_argument(
        "--quick", action="store_true", help="one seed, a twentieth of the examples"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="which seeds")
    parser.add_argument("--share", type=float, default=1.0, help="of its examples and problems")
    options = parser.parse_args(arguments)

    def work() -> None:
        profile = load_profile(options.profile)
        if profile.models["S"].path:
            raise UserError(f"PROFILE={options.profile}: ablations train from scratch")
        if not 0 < options.share <= 1 or min(options.seeds) < 0:
            raise UserError(
                f"--share {options.share} --seeds {' '.join(map(str, options.seeds))}: a share is"
                " more than 0 and at most 1, a seed at least 0"
            )
        seeds = sorted(set(options.seeds))
        runs = ROOT / "runs" / f"ablations-{profile.name}"
        profile = shortened(profile, options.share)
        output = COMMITTED / "results.json"
        if options.quick:
            profile, seeds, runs = quick(profile), [0], runs.with_name(f"{runs.name}-quick")
            output = runs / "results.json"
        print(summary(ablate(profile, options.profile, seeds, runs, output)).to_string())
        print(f"written to {output.relative_to(ROOT)}")

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
