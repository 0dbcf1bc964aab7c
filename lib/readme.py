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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lib import (
    auditplots,
    auditreport,
    casestudy,
    causeplots,
    computeplots,
    expansionplots,
    leniency,
    plots,
    ratios,
    rewardplots,
    targets,
)
from lib.analysis import NOT_TESTED, RULE, beside_paper, claims_table, headline
from lib.drawing import METHODS, save_figure
from lib.errors import UserError
from lib.experiment import Experiment, open_experiment
from lib.results import read_results
from lib.store import MADE, read_json, write_atomic

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
README_PROFILE = "cpu"  # other profiles have their figures and results.json alone
PROFILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Drawing:
    """A figure: its file name, what draws it, its caption, and the rows that it needs."""

    name: str
    draw: Callable[[pd.DataFrame], Figure]
    caption: str
    artifacts: tuple[str, ...]
    methods: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    checkers: tuple[str, ...] = ()

    def has_rows(self, rows: pd.DataFrame) -> bool:
        if not set(self.columns) <= set(rows.columns):
            return False
        found = rows[rows["artifact"].isin(self.artifacts)].dropna(subset=list(self.columns))
        if self.methods:
            found = found[found["method"].isin(self.methods)]
        return not found.empty and set(self.checkers) <= set(found["checker"])


SEARCH = ("self_backtracking",)
DRAWINGS = (
    Drawing(
        "table_1",
        plots.accuracy_bars,
        "Accuracy on seen and new targets (Table 1).",
        ("table_1",),
        ("sft_greedy", "sft_beam", *SEARCH),
    ),
    Drawing(
        "methods",
        plots.accuracy_by_method,
        "Every method (Tables 1 and 2).",
        ("table_1", "table_2"),
        tuple(METHODS),
    ),
    Drawing(
        "targets",
        targets.accuracy_by_target,
        "Self-Backtracking target by target: those held out beside those seen.",
        ("targets",),
        SEARCH,
        ("target",),
    ),
    Drawing(
        "figure_4",
        plots.accuracy_against_breadth,
        "Accuracy against the breadth N (figure 4).",
        ("figure_4",),
        (*SEARCH, "pass_at_n"),
        ("N", "b"),
    ),
    Drawing(
        "best_of_n",
        rewardplots.best_of_n,
        "Best-of-N: who chooses among the SFT model's samples, and Self-Backtracking at the same N "
        "(Table 1, claim 3).",
        ("best_of_n",),
        columns=("N",),
    ),
    Drawing(
        "tokens",
        plots.accuracy_against_tokens,
        "Accuracy against the tokens that a problem costs.",
        ("table_1", "table_2", "figure_4"),
        tuple(method for method in METHODS if method != "pass_at_n"),
        ("tokens_per_problem",),
    ),
    Drawing(
        "figure_3",
        plots.self_improvement,
        "Self-improvement: accuracy without search after each round (figures 3 and 8).",
        ("figure_3",),
        columns=("round",),
    ),
    Drawing(
        "figure_5",
        plots.error_types,
        "What the failures are (figures 5 and 9 to 12).",
        ("figure_5",),
        columns=("error", "share"),
    ),
    Drawing(
        "figure_7",
        casestudy.draw_case,
        "A case study (figure 7): a problem that greedy decoding fails and search solves after a "
        "roll-back. Orange: the model doubts the state; struck out: `<backtrack>`; green: the "
        "chosen path; a cross: the exact solver disagrees.",
        ("figure_7",),
        columns=("case",),
    ),
    Drawing(
        "table_3",
        plots.accuracy_against_ratio,
        "Accuracy against D_op : D_back (Tables 3 and 4).",
        ("table_3", "table_4"),
        SEARCH,
        ("ratio", "N", "b"),
    ),
    Drawing(
        "audit",
        auditplots.audit,
        "The audit: what each point in which the published code differs costs or gains, alone and "
        "together, on the same problems. Grey: the loss that its users report.",
        ("audit",),
        columns=("switch", "difference"),
    ),
    Drawing(
        "checkers",
        auditplots.checkers,
        "Each method by the strict checker and by the published one, and the difference in points.",
        ("table_1", "table_2"),
        tuple(METHODS),
        checkers=("strict", "published"),
    ),
    Drawing(
        "figure_13",
        plots.accuracy_against_temperature,
        "Accuracy against the temperature (figure 13).",
        ("figure_13",),
        SEARCH,
        ("temperature", "b"),
    ),
    Drawing(
        "coverage",
        causeplots.coverage_by_step,
        "Step by step (b=0, largest N): of the samples whose steps before were sound, which steps "
        "are legal, computed right, and leave the target within reach of the exact solver.",
        ("step_coverage",),
        columns=("step", "quantity"),
    ),
    Drawing(
        "where_lost",
        causeplots.where_lost,
        "Where each problem's search is lost (largest N): the first step after which no sample can "
        "reach the target, a solution that is not finished, or one that is not chosen.",
        ("search_loss",),
        columns=("quantity",),
    ),
    Drawing(
        "verdict",
        causeplots.verdict_curves,
        "P(`<backtrack>`) as a judge of every state met in search, against the exact solver.",
        ("verdict_roc",),
        columns=("false_positive",),
    ),
    Drawing(
        "hypotheses",
        causeplots.remedies,
        "What each hypothesis' remedy does, with the setting that validation chose.",
        ("gap", "remedy"),
        columns=("remedy",),
    ),
    Drawing(
        "sweep",
        causeplots.sweep_map,
        "Two small sizes over data, epochs and learning rate. A frame: L computes better and loses "
        "(solid: by corrected intervals; dashed: by the two numbers alone).",
        ("sweep",),
        columns=("epochs", "computed"),
    ),
    Drawing(
        "compute_tokens",
        computeplots.against_tokens,
        "At equal compute: accuracy against the tokens generated, on the same problems.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_breadth",
        computeplots.against_breadth,
        "The same against N.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_temperature",
        computeplots.against_temperature,
        "The same against the temperature.",
        ("compute",),
        columns=("temperature",),
    ),
    Drawing(
        "compute_depth",
        computeplots.against_depth,
        "Self-Backtracking against b, on the same problems.",
        ("compute",),
        ("self_backtracking",),
        columns=("temperature",),
    ),
    Drawing(
        "expansions",
        expansionplots.accuracy_against_generated,
        "Independent samples against beams: accuracy (solid) and pass@N (dashed) at the tokens "
        "generated, lost beams' tokens included; a point for each N.",
        ("expansions",),
        columns=("expansion",),
    ),
    Drawing(
        "figure_6",
        plots.loss_curves,
        "Training loss (figure 6).",
        ("figure_6",),
        columns=("loss", "stage"),
    ),
)


def draw_all(rows: pd.DataFrame, manifest: Mapping, folder: Path) -> list[Path]:
    """Draw every figure that has rows into `folder`, as PNG and SVG -> their paths."""
    paths: list[Path] = []
    for drawing in DRAWINGS:
        if drawing.has_rows(rows):
            paths += save_figure(drawing.draw(rows), Path(folder), drawing.name, manifest)
    return paths


def render(manifest: Mapping, rows: pd.DataFrame) -> str:
    """The results section in Markdown, without its markers."""
    profile = manifest.get("profile", "cpu")
    parts = [_made_by(manifest)]
    if headlines := headline_table(rows):
        parts += [
            "Accuracy in % by the strict checker, with its 95% interval, and the paper's number "
            "(S stands where the paper has its 1B model, L where it has its 3B):",
            headlines,
        ]
    parts += ["### The paper's claims", _claims(rows), f"The rule: {RULE}"]
    if audited := auditreport.audit_table(rows):
        parts += ["### Why users of the published code get less", auditreport.audit_text(rows)]
        parts += [f"Points of accuracy gained or lost by each switch:\n\n{audited}"]
    if by_ratio := ratios.ratio_table(rows):
        parts += ["### D_op : D_back (Tables 3 and 4)", by_ratio]
    if both := leniency.leniency_table(rows):
        parts += ["### Both checkers", leniency.leniency_text(rows), both]
    figures = [drawing for drawing in DRAWINGS if drawing.has_rows(rows)]
    if figures:
        parts.append("### Figures")
        bars = "Bars are 95% intervals; hollow diamonds are the paper's own numbers."
        parts.append(bars)
    for drawing in figures:
        path = f"figures/{profile}/{drawing.name}.png"
        parts.append(f"![{drawing.caption}]({path})\n\n*{drawing.caption}*")
    return "\n\n".join(parts)


def _made_by(manifest: Mapping) -> str:
    profile = manifest.get("profile", "cpu")
    hardware = manifest.get("hardware") or {}
    sentence = f"Made by `make reproduce PROFILE={profile}`"
    if hardware.get("processor"):
        sentence += f" on {hardware['processor']}"
        sentence += f" ({hardware['cores']} cores)" if hardware.get("cores") else ""
    if durations := manifest.get("durations_s"):
        sentence += f" in {_duration(sum(durations.values()))}"
    known = [
        f"{label} {manifest[key]}"
        for key, label in (("seed", "seed"), ("commit", "commit"), ("data_hash", "data"))
        if manifest.get(key) is not None
    ]
    sentence += f"; {', '.join(known)}" if known else ""
    return (
        f"{sentence}. This section and its figures are drawn from "
        f"[results.json](figures/{profile}/results.json) by `make figures PROFILE={profile}`."
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def headline_table(rows: pd.DataFrame) -> str:
    """Tables 1 and 2 in Markdown, ours beside the paper's; empty where there are no such rows."""
    found = headline(rows, ["table_1", "table_2"])
    found = found[found["model"].isin(["S", "L"]) & found["split"].isin(["seen", "new"])]
    if found.empty:
        return ""
    found = beside_paper(found).drop_duplicates(["method", "N", "b", "model", "split"])
    place = {name: number for number, name in enumerate(METHODS)}
    found = found.assign(place=found["method"].map(place).fillna(len(place)))
    cells = [(m, s) for m in ("S", "L") for s in ("seen", "new")]
    cells = [c for c in cells if ((found["model"] == c[0]) & (found["split"] == c[1])).any()]
    lines = []
    keys = ["place", "method", "b", "N"]
    for (_, method, depth, breadth), group in found.groupby(keys, dropna=False, sort=True):
        name = METHODS.get(method, method.replace("_", " "))
        setting = (("b", depth), ("N", breadth))
        name += "".join(f" {key}={value:.0f}" for key, value in setting if not pd.isna(value))
        shown = [name]
        for model, split in cells:
            cell = group[(group["model"] == model) & (group["split"] == split)]
            shown.append(_cell(cell.iloc[0]) if len(cell) else "")
        small = group.loc[group["model"] == cells[0][0], "tokens_per_problem"].mean()
        shown.append("" if pd.isna(small) else f"{small:.0f}")
        lines.append(shown)
    head = ["method", *(f"{model}, {split}" for model, split in cells)]
    return _markdown_table([*head, f"tokens a problem ({cells[0][0]})"], lines)


def _cell(row: pd.Series) -> str:
    text = f"**{100 * row['accuracy']:.1f}**"
    if not pd.isna(row["low"]):
        text += f" [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
    return text if pd.isna(row["paper"]) else f"{text} (paper {100 * row['paper']:.1f})"


def _claims(rows: pd.DataFrame) -> str:
    lines = []
    for claim in claims_table(rows).to_dict("records"):
        # A bare <backtrack> would be taken for an HTML tag and vanish.
        text = claim["text"].replace("<backtrack>", "`<backtrack>`")
        judged = claim["verdict"]
        shown = judged if judged == NOT_TESTED else f"**{judged}**"
        lines.append([str(claim["claim"]), text, claim["evidence"].replace("; ", "<br>"), shown])
    return _markdown_table(["", "claim", "this run", "verdict"], lines)


def _markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    made = [head, ["---"] * len(head), *lines]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in made
    )


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
