"""A run's figures and pages in Markdown, from its results: its own page, the README's section.

Takes a manifest and the rows of lib/evaluation/results.py; gives text and figures, the same for the
same results. A run's page, beside its figures, has every table, figure and remark; what each study
shows is in its own file (`title`, `text`, `figures`). The README has one figure, eight rows and one
line for each claim, between two markers. Knows nothing of how a row was measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from lib.base.checked import build
from lib.base.errors import UserError
from lib.drawing.markdown import accuracy, markdown_table, methods_table
from lib.drawing.style import METHODS, save_figure
from lib.evaluation.claims import NOT_TESTED, RULE, claims_table
from lib.evaluation.decomposition import beside_paper
from lib.evaluation.results import headline
from lib.profiles.settings import TaskSettings
from lib.tasks.task import load_task
from studies import catalogue
from studies.beyond import two_tasks
from studies.report.publish import NOTEBOOKS
from studies.report.seeds import seeds_markdown, seeds_named


def render(
    manifest: Mapping,
    rows: pd.DataFrame,
    outcomes: pd.DataFrame | None = None,
    tasks: pd.DataFrame | None = None,
) -> str:
    """The page of these results; outcomes: problem by problem, of this run and other seeds'; tasks:
    the rows of studies/beyond/two_tasks.py, where the page shows both."""
    profile = manifest.get("profile", "cpu")
    kind = "Ablations" if manifest.get("command") == "ablations" else "Results"
    seed = f", seed {manifest['seed']}" if manifest.get("seed") else ""
    title = f"# {kind} of the profile `{profile}`{seed}"
    parts = [title, terms(manifest), made_by(manifest)]
    if headlines := headline_table(rows):
        parts += [
            "## Every method",
            "Accuracy in % by the strict checker, with its 95% interval, and the paper's number.",
            headlines,
        ]
    if seeds := seeds_markdown(outcomes):
        parts.append(seeds)
    if manifest.get("command", "reproduce") == "reproduce":  # ablations test no claim
        claims = claims_markdown(rows, outcomes)
        parts.append("## The paper's claims")
        if several := seeds_named(outcomes):
            parts.append(f"Judged by {several} together.")
        parts += [claims, f"The rule: {RULE}"]
    if tasks is not None:
        image = f"![{two_tasks.CAPTION}]({two_tasks.NAME}.png)\n\n*{two_tasks.CAPTION}*"
        parts += ["## Both tasks", two_tasks.remark(tasks), image]
    for study in catalogue.STUDIES:
        shown = [figure for figure in study.figures if figure.has_rows(rows)]
        words = [say(rows) for say in (study.remark, study.text) if say]
        if not (shown or any(words)):
            continue
        parts += [f"## {study.title or study.name}", *filter(None, words)]
        parts += [f"![{each.caption}]({each.name}.png)\n\n*{each.caption}*" for each in shown]
    return "\n\n".join(parts) + "\n"


TERMS = (
    "**S** and **L** are the smaller and the larger model; they stand where the paper has its 1B "
    "and its 3B. **N** (breadth) is how many continuations of a question are sampled; **b** "
    "(depth) is how often the search rolls back; b=0 never does. {task}**SFT** learns right "
    "solutions only (*D_op*); **backtracking data** is half of them, half right steps and a wrong "
    "one, then `<backtrack>` (*D_back*): its model without search has the rows of that name, and "
    "with search it is **Self-Backtracking**. **DPO** and **KTO** train SFT further on right and "
    "wrong paths. The **ceiling** (pass@N) counts a problem as solved if any of the finished paths "
    "is right. Bars and brackets are 95% intervals over problems (the claims' also count which "
    "targets were drawn); hollow diamonds are the paper's own numbers."
)


def terms(manifest: Mapping) -> str:
    """The words that the page uses, some of which its task defines."""
    found = manifest.get("settings", {}).get("task")
    if not found:
        return TERMS.format(task="")
    settings = build(TaskSettings, found, "task")
    words = load_task(settings.module, settings.settings).terms
    return TERMS.format(task=f"{words} " if words else "")


def made_by(manifest: Mapping) -> str:
    """What made these results: command, processor, time, seed, commit and data."""
    profile = manifest.get("profile", "cpu")
    hardware = manifest.get("hardware") or {}
    settings, command = f"PROFILE={profile}", manifest.get("command", "reproduce")
    if seed := manifest.get("seed"):  # that of 0 is the default
        settings += f" SEED={seed}"
    sentence = f"Made by `make {command} {settings}`"
    if hardware.get("processor"):
        sentence += f" on {hardware['processor']}"
        sentence += f" ({hardware['cores']} cores)" if hardware.get("cores") else ""
    if durations := manifest.get("durations_s"):
        sentence += f" in {duration(sum(durations.values()))}"
    labels = (("seed", "seed"), ("commit", "commit"), ("data_hash", "data"))
    known = ", ".join(f"{name} {manifest[k]}" for k, name in labels if manifest.get(k) is not None)
    sentence += f"; {known}" if known else ""
    if command != "reproduce":  # its folder is called after it
        settings = f"PROFILE={command}"
    return (
        f"{sentence}. This page and its figures are drawn from [results.json](results.json) "
        f"by `make figures {settings}`."
    )


def duration(seconds: float) -> str:
    """`45 s`, `5 min` or `2 h 5 min`."""
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
    model = found["model"].max()  # S, where there is one

    def tokens(group: pd.DataFrame) -> str:
        mean = group.loc[group["model"] == model, "tokens_per_problem"].mean()
        return "" if pd.isna(mean) else f"{mean:.0f}"

    return methods_table(found, "method", accuracy, last={f"tokens a problem ({model})": tokens})


def in_a_line(rows: pd.DataFrame) -> str:
    """Table 1 in a line for each model: SFT greedy, and the deepest search at its largest N."""
    lines = []
    for model, found in headline(rows, ["table_1"]).groupby("model"):
        search = found[found["method"] == "self_backtracking"]
        search = search[search["b"] == search["b"].max()]
        search = search[search["N"] == search["N"].max()]
        kept = pd.concat([found[found["method"] == "sft_greedy"], search])
        shown = []
        for row in kept.sort_values(["method", "split"], ascending=False).to_dict("records"):
            shown.append(f"{METHODS[row['method']]} {100 * row['accuracy']:.1f} ({row['split']})")
        lines.append(f"{model}: {', '.join(shown)}")
    return "\n".join(lines)


def claims_markdown(rows: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> str:
    """The claims, this run's evidence and the verdicts, as a table."""
    lines = []
    for claim in claims_table(rows, outcomes).to_dict("records"):
        # A bare <backtrack> would be taken for an HTML tag and vanish.
        text = claim["text"].replace("<backtrack>", "`<backtrack>`")
        judged = claim["verdict"]
        shown = judged if judged == NOT_TESTED else f"**{judged}**"
        lines.append([str(claim["claim"]), text, claim["evidence"].replace("; ", "<br>"), shown])
    return markdown_table(["", "claim", "measured", "verdict"], lines)


def draw_all(rows: pd.DataFrame, manifest: Mapping, folder: Path) -> list[Path]:
    """Draw every figure that has rows into `folder`, as PNG and SVG -> their paths."""
    paths: list[Path] = []
    for figure in catalogue.figures():
        if figure.has_rows(rows):
            paths += save_figure(figure.draw(rows), Path(folder), figure.name, manifest)
    return paths


BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
#: The table's rows: method, b, and how it is called here.
ROWS = (
    ("sft_greedy", None, "SFT, greedy decoding"),
    ("sft_beam", None, "SFT, beam search"),
    ("best_of_n", None, "SFT, best of N by a reward model"),
    ("dpo", None, "DPO, greedy"),
    ("backtracking_data_greedy", None, "Self-Backtracking's model, greedy (no search)"),
    ("paper_recipe", 1, "Self-Backtracking by the paper's recipe, b=1"),
    ("self_backtracking", 0, "**Self-Backtracking, b=0**"),
    ("self_backtracking", 1, "**Self-Backtracking, b=1**"),
    ("pass_at_n", 1, "its ceiling: some path found is right"),
)
CELLS = [(model, split) for model in ("S", "L") for split in ("seen", "new")]


def short_results(
    manifest: Mapping, rows: pd.DataFrame, folder: str, outcomes: pd.DataFrame | None = None
) -> str:
    """The results between the README's markers; `folder` is that of the run's page."""
    parts = [f"![{METHODS['self_backtracking']} beside SFT]({folder}/table_1.png)"]
    if table := short_table(rows):
        breadth = headline(rows, ["table_1"])["N"].max()
        parts.append(
            "Accuracy in % on test problems, by the strict checker"
            + ("" if pd.isna(breadth) else f", N={breadth}")
            + "; in brackets the paper's number (its 1B model beside S, its 3B beside L):"
        )
        parts.append(table)
    who = f"{several} say together" if (several := seeds_named(outcomes)) else "this run says"
    parts += [f"What the paper claims, and what {who}:", claim_lines(rows, outcomes)]
    made = made_by(manifest).replace("(results.json)", f"({folder}/results.json)")
    made = made.replace("This page and its figures are", "This section is")
    parts.append(f"{made} Every table, figure and interval: [{folder}]({folder}/README.md).")
    return "\n\n".join(parts)


def short_table(rows: pd.DataFrame) -> str:
    """`ROWS` that the results have, each at its largest N; empty without any."""
    found = beside_paper(headline(rows, ["table_1"]))
    lines = []
    for method, depth, name in ROWS:
        here = found[found["method"] == method]
        if depth is not None:
            here = here[(here["b"] == depth).fillna(False)]
        if len(here) and here["N"].notna().any():
            here = here[here["N"] == here["N"].max()]
        cells = {(row["model"], row["split"]): row for row in here.to_dict("records")}
        if cells:
            lines.append([name, *(_cell(cells.get(cell)) for cell in CELLS)])
    return markdown_table(["", *(f"{m}, {split}" for m, split in CELLS)], lines) if lines else ""


def _cell(row: Mapping | None) -> str:
    if row is None:
        return ""
    paper = "" if pd.isna(row["paper"]) else f" ({100 * row['paper']:.1f})"
    return f"{100 * row['accuracy']:.1f}{paper}"


def claim_lines(rows: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> str:
    """One line a claim: its text, the first two numbers of its evidence, its verdict."""
    lines = []
    for claim in claims_table(rows, outcomes).to_dict("records"):
        text = claim["text"].replace("<backtrack>", "`<backtrack>`")
        judged = claim["verdict"]
        shown = "; ".join(claim["evidence"].split("; ")[:2]) if judged != NOT_TESTED else ""
        verdict = judged if judged == NOT_TESTED else f"**{judged}**"
        lines.append([str(claim["claim"]), text, shown, verdict])
    return markdown_table(["", "claim", "measured", "verdict"], lines)


def updated(readme: str, section: str, path: Path | str = "README.md") -> str:
    """The README's text with this section between its markers; `UserError` without them."""
    ordered = BEGIN in readme and readme.index(BEGIN) < readme.find(END)
    if not (readme.count(BEGIN) == readme.count(END) == 1 and ordered):
        raise UserError(f"{path}: it must have the line {BEGIN} once, and {END} once after it")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section}\n\n{END}{rest.split(END)[1]}"


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
